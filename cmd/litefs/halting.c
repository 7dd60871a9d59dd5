#include "cmd/litefs/halting.h"

#include "fuse/session.h"
#include "repl/node.h"

static void
halting_on_role_changed(void *arg)
{
        struct halting *halting = arg;

        halt_grants_role_changed(halting->given);
        halt_holder_role_changed(halting->taken);
}

static int
open_halt(void *arg, struct db *db, struct db_done done)
{
        return halt_holder_open(arg, db, done);
}

static void
close_halt(void *arg, struct db *db)
{
        halt_holder_close(arg, db);
}

int
halting_open(struct halting *halting, const struct halt_grants_config *given,
             const struct halt_holder_config *taken, struct node *node, struct session *session,
             struct err *e)
{
        struct node_watcher watcher = { .role_changed = halting_on_role_changed, .arg = halting };
        struct session_halts mount = { .open = open_halt, .close = close_halt };
        int r = halt_grants_new(given, &halting->given, e);

        if (r == 0)
                r = halt_holder_new(taken, &halting->taken, e);
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
        halt_holder_stop(halting->taken);
}

void
halting_stop(struct halting *halting)
{
        halt_grants_stop(halting->given);
}

void
halting_release(struct halting *halting)
{
        halt_holder_free(halting->taken);
        halt_grants_free(halting->given);
}
