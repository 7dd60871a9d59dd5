#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "db/remote_commit.h"
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
        if (a->file.fd >= 0 && rx->record.commit > 0)
                apply_settle_size(a);
        free(ch.pgnos);
        return r;
}

int
apply_open_database(struct apply *a, struct err *e)
{
        int r = a->file.fd >= 0 ? 0 : own_open(a->s, a->db, "", 0, 0, &a->file);

        return r < 0 ? err_set(e, r, "open %s through the mount", db_name(a->db)) : 0;
}

/* --- another history --- */

static void
close_files(struct apply *a)
{
        free(a->index);
        a->index = NULL;
        a->index_size = 0;
        memset(a->index_seen, 0, sizeof a->index_seen);
        own_close(a->s, &a->shm);
        own_close(a->s, &a->file); /* and with them the locks */
        a->hold = HOLD_NOTHING;
        a->is_pending = a->is_reserved = false;
}

static void
apply_detach(void *arg, int fd, int wal_fd)
{
        struct apply *a = arg;

        a->detached.is_replaced = true;
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
apply_replace_image(struct apply *a, const struct received *rx, struct err *e)
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
        r = db_replace(a->db, rx, apply_detach, a, e);
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

/* What only a WAL has that its writer left behind goes into the file, for pages of another size cannot go behind it. With
 * EXCLUSIVE, so nobody reads it. */
static int
empty_wal(struct apply *a, struct err *e)
{
        struct db_wal_mark mark;
        struct db_changes ch;
        int r;

        if (!db_wal_captured(a->db, &mark))
                return err_set(e, -EBUSY, "copy the WAL of %s back", db_name(a->db));
        r = db_wal_checkpoint(a->db, 0, mark.n_frames, &ch, e);
        apply_notify_pages(a, &ch);
        free(ch.pgnos);
        if (r == 0)
                apply_settle_size(a);
        return r;
}

static int
apply_under_locks(struct apply *a, const struct received *rx, struct err *e)
{
        struct db_info info;
        int r;

        if (db_needs_replacing(a->db, rx))
                return apply_replace_image(a, rx, e);
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
        db_get_info(a->db, &info);
        if (r == 0 && rx->record.page_size != info.page_size && db_wal_has_pending(a->db) &&
            (r = empty_wal(a, e)) < 0)
                return r;
        if (r == 0 && !db_wal_has_pending(a->db))
                return directly(a, rx, e);
        if (!db_wal_exists(a->db))
                return r < 0 ? err_set(e, r, "wait for readers of %s", db_name(a->db)) : r;
        return apply_by_wal(a, rx, e);
}

/* Whether this node made it, and has it back from the primary, which has committed it for us. */
static bool
is_our_own_back(struct apply *a, const struct received *rx)
{
        return !rx->is_local && !rx->is_absent && db_has_transaction(a->db, rx);
}

int
apply_transaction(struct apply *a, const struct received *rx, struct err *e)
{
        int r = is_our_own_back(a, rx) ? 0 : apply_under_locks(a, rx, e);

        if (r == E_POS_MISMATCH && is_our_own_back(a, rx)) /* by now */
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
        *a = (struct apply){ .s = s,
                             .db = db,
                             .file = OWN_FILE_NONE,
                             .shm = OWN_FILE_NONE,
                             .pending_ms = PENDING_FIRST_MS };
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
