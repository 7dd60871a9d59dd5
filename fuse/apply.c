#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "db/forward.h"
#include "fuse/apply_internal.h"

#define REPLACE_WAIT_MS 2000 /* for those who have a database open that is to be replaced */

/* --- the database file --- */

static int
directly(struct apply *a, const struct received *rx, struct err *e)
{
        bool existed = db_exists(a->db);
        struct db_changes ch;
        int r;

        r = db_apply_direct(a->db, rx, &ch, e);
        if (ch.was_open)
                notify_abandoned(a->s, a->db);
        if (r == 0 && rx->record.commit == 0)
                notify_dropped(a->s, a->db, ch.old_fd, ch.old_wal_fd);
        else if (r == 0 && !existed)
                notify_created(a->s, a->db);
        else
                apply_notify_pages(a, &ch); /* a failure may have shown pages, too */
        if (rx->record.commit > 0)
                notify_content(a->s, a->db, "-wal", 0, 0); /* emptied, whatever came of it then */
        if (a->db_fd >= 0 && rx->record.commit > 0)
                apply_settle_size(a);
        free(ch.pgnos);
        return r;
}

int
apply_open_database(struct apply *a, struct err *e)
{
        int fd;

        if (a->db_fd >= 0)
                return 0;
        fd = apply_open_through(a, "", 0, 0);
        if (fd < 0)
                return err_set(e, fd, "open %s through the mount", db_name(a->db));
        a->db_fd = fd;
        return 0;
}

/* --- another history --- */

static void
close_files(struct apply *a)
{
        free(a->index);
        a->index = NULL;
        a->index_size = 0;
        if (a->shm_fd >= 0)
                close(a->shm_fd);
        if (a->db_fd >= 0)
                close(a->db_fd); /* and with them the locks */
        a->shm_fd = a->db_fd = -1;
        a->hold = HOLD_NOTHING;
        a->is_pending = a->is_reserved = false;
}

static void
detach(void *arg, int fd, int wal_fd)
{
        struct apply *a = arg;

        if (a->hold == HOLD_EXCLUSIVE) {
                detach_companions(a->s, a->db, wal_fd, &a->detached);
                if (fd >= 0)
                        close(fd);
        } else {
                detach_all(a->s, a->db, fd, wal_fd, &a->detached);
        }
}

/* With EXCLUSIVE those who have the database open see the new state in it. In WAL mode connections that only stay open
 * would keep that away for ever: then they keep the old files, as after a deletion, and whoever opens it anew sees the
 * new ones. */
static int
replace(struct apply *a, const struct received *rx, struct err *e)
{
        bool stays = rx->record.commit > 0, existed = db_exists(a->db);
        int64_t now_ms = clock_boot_ms(clock_host());
        int r = existed && stays ? apply_open_database(a, e) : 0;

        if (r < 0)
                return r;
        if (a->replace_since_ms == 0)
                a->replace_since_ms = now_ms;
        r = existed && stays ? apply_take_exclusive(a) : 0;
        if (r < 0 && (r != -EAGAIN || now_ms - a->replace_since_ms < REPLACE_WAIT_MS))
                return err_set(e, r, "wait for readers of %s", db_name(a->db));
        r = db_replace(a->db, rx, detach, a, e);
        notify_detached(a->s, &a->detached);
        if (r == 0 && a->hold == HOLD_EXCLUSIVE)
                notify_content(a->s, a->db, "", 0, 0);
        else if (r == 0 && db_exists(a->db))
                notify_created(a->s, a->db);
        else if (r == 0)
                notify_dropped(a->s, a->db, -1, -1);
        if (r == 0)
                a->replace_since_ms = 0;
        close_files(a);
        return r;
}

static int
apply_under_locks(struct apply *a, const struct received *rx, struct err *e)
{
        int r;

        if (db_needs_replacing(a->db, rx))
                return replace(a, rx, e);
        if (rx->is_absent)
                return 0;
        if (!db_exists(a->db) || rx->record.commit == 0)
                return directly(a, rx, e);
        r = apply_open_database(a, e);
        if (r < 0)
                return r;
        if (a->hold == HOLD_SHARED && db_wal_exists(a->db)) {
                r = apply_by_wal(a, rx, e);
                if (r != -EAGAIN)
                        return r;
        }
        r = apply_take_exclusive(a);
        if (r == 0 && !db_wal_has_pending(a->db))
                return directly(a, rx, e);
        if (!db_wal_exists(a->db))
                return r < 0 ? err_set(e, r, "wait for readers of %s", db_name(a->db)) : r;
        return apply_by_wal(a, rx, e);
}

/* Whether this node made it, and has it back from the primary, which has committed it for us. */
static bool
is_ours(struct apply *a, const struct received *rx)
{
        return !rx->is_local && !rx->is_absent && db_has_transaction(a->db, rx);
}

int
apply_transaction(struct apply *a, const struct received *rx, struct err *e)
{
        int r = is_ours(a, rx) ? 0 : apply_under_locks(a, rx, e);

        if (r == E_POS_MISMATCH && is_ours(a, rx)) /* by now */
                r = 0;
        db_apply_shown(a->db);
        return r;
}

/* --- life --- */

int
apply_new(struct session *s, struct db *db, struct apply **ret)
{
        struct apply *a = calloc(1, sizeof *a);

        if (a == NULL)
                return -ENOMEM;
        *a = (struct apply){
                .s = s, .db = db, .db_fd = -1, .shm_fd = -1, .pending_ms = PENDING_FIRST_MS
        };
        *ret = a;
        return 0;
}

void
apply_free(struct apply *a)
{
        if (a == NULL)
                return;
        close_files(a);
        free(a);
}
