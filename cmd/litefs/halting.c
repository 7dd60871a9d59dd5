#include "cmd/litefs/halting.h"

#include "fuse/session.h"
#include "repl/node.h"

static void
on_role_changed(void *arg)
{
        struct halting *halting = arg;

        halts_role_changed(halting->given);
        remote_halts_role_changed(halting->taken);
}

static int
open_halt(void *arg, struct db *db, struct db_done done)
{
        return remote_halts_open(arg, db, done);
}

static void
close_halt(void *arg, struct db *db)
{
        remote_halts_close(arg, db);
}

int
halting_open(struct halting *halting, const struct halts_config *given,
             const struct remote_halts_config *taken, struct node *node, struct session *session,
             struct err *e)
{
        struct node_watcher watcher = { .role_changed = on_role_changed, .arg = halting };
        struct session_halts mount = { .open = open_halt, .close = close_halt };
        int r = halts_new(given, &halting->given, e);

        if (r == 0)
                r = remote_halts_new(taken, &halting->taken, e);
        if (r < 0)
                return r;
        mount.arg = halting->taken;
        session_set_halts(session, &mount);
        node_watch(node, &watcher);
        return 0;
}

void
halting_stop_own(struct halting *halting)
{
        remote_halts_stop(halting->taken);
}

void
halting_stop(struct halting *halting)
{
        halts_stop(halting->given);
}

void
halting_release(struct halting *halting)
{
        remote_halts_free(halting->taken);
        halts_free(halting->given);
}
