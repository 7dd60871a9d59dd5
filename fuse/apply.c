#include "fuse/apply.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "db/forward.h"
#include "fuse/fuse_internal.h"
#include "fuse/notify.h"
#include "sqlite/lockbytes.h"
#include "sqlite/wal_format.h"
#include "sqlite/wal_index.h"

#define CHECKPOINT_FRAMES 1000u /* SQLite's own default */

/* How long a reader that stays keeps others out: longer from one attempt to the next, for it may be several that overlap,
 * of whom none stays long. In between others come in, whose application need not be willing to wait. */
#define PENDING_FIRST_MS 50
#define PENDING_MAX_MS 1000
#define RESTS 4 /* times as long */

#define REPLACE_WAIT_MS 2000 /* for those who have a database open that is to be replaced */

enum hold { HOLD_NOTHING, HOLD_SHARED, HOLD_EXCLUSIVE };

struct apply {
        struct session *s;
        struct db *db;
        int db_fd;  /* through the mount; -1 until needed */
        int shm_fd; /* likewise */
        enum hold hold;
        bool is_reserved; /* WRITE is ours until the end */
        bool is_pending;  /* PENDING is ours: no new reader gets in */
        int64_t pending_since_ms;
        int64_t pending_ms;       /* how long this time */
        int64_t rest_until_ms;    /* for readers to come in, who would starve else */
        int64_t replace_since_ms; /* 0: nothing is to be replaced */
        struct detached detached;
        void *index;
        size_t index_size;
};

/* --- locks --- */

/* 0, or -EAGAIN when another has it. */
static int
set_lock(int fd, short type, off_t start, off_t len)
{
        struct flock fl = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len };

        if (fcntl(fd, F_OFD_SETLK, &fl) == 0)
                return 0;
        return errno == EACCES || errno == EAGAIN ? -EAGAIN : -errno;
}

static int
open_through(struct apply *a, const char *suffix, int flags, mode_t mode)
{
        char path[PATH_MAX];
        int fd;

        if (snprintf(path, sizeof path, "%s/%s%s", a->s->mount_dir, db_name(a->db), suffix) >=
            (int)sizeof path)
                return -ENAMETOOLONG;
        fd = open(path, O_RDWR | O_CLOEXEC | flags, mode);
        return fd < 0 ? -errno : fd;
}

static void
release_exclusive(struct apply *a)
{
        (void)set_lock(a->db_fd, F_UNLCK, SQLITE_SHARED_FIRST, SQLITE_SHARED_SIZE);
        (void)set_lock(a->db_fd, F_UNLCK, SQLITE_PENDING_BYTE, 1);
        a->is_pending = false;
        a->hold = HOLD_NOTHING;
}

/* Keeps SQLite's last connection from taking the WAL away. */
static int
take_shared(struct apply *a)
{
        int r;

        if (a->hold == HOLD_SHARED)
                return 0;
        if (a->hold == HOLD_EXCLUSIVE || a->is_pending)
                release_exclusive(a);
        r = set_lock(a->db_fd, F_RDLCK, SQLITE_SHARED_FIRST, SQLITE_SHARED_SIZE);
        if (r == 0)
                a->hold = HOLD_SHARED;
        return r;
}

static int
take_exclusive(struct apply *a)
{
        int64_t now_ms = clock_boot_ms(clock_host());
        int r = 0;

        if (a->hold == HOLD_EXCLUSIVE)
                return 0;
        if (a->is_pending && now_ms - a->pending_since_ms > a->pending_ms) {
                release_exclusive(a);
                a->rest_until_ms = now_ms + RESTS * a->pending_ms;
                a->pending_ms = a->pending_ms * 2 > PENDING_MAX_MS ? PENDING_MAX_MS : a->pending_ms * 2;
                return -EAGAIN;
        }
        if (!a->is_pending)
                a->pending_since_ms = now_ms;
        if (!a->is_pending)
                r = set_lock(a->db_fd, F_WRLCK, SQLITE_PENDING_BYTE, 1);
        if (r < 0)
                return r;
        a->is_pending = true;
        r = set_lock(a->db_fd, F_WRLCK, SQLITE_SHARED_FIRST, SQLITE_SHARED_SIZE);
        if (r == 0)
                a->hold = HOLD_EXCLUSIVE;
        else if (now_ms < a->rest_until_ms)
                release_exclusive(a); /* a moment without readers would have done */
        return r;
}

/* --- the wal-index ---
 *
 * Worked on in a copy, written back by calls; why not in a mapping: mount_access.c. */

static int
write_index(struct apply *a, size_t from, size_t to)
{
        ssize_t n = from < to ? pwrite(a->shm_fd, (uint8_t *)a->index + from, to - from, (off_t)from)
                              : 0;

        return n < 0 ? -errno : n < (ssize_t)(to - from) ? -EIO : 0;
}

/* One word, which other processes change at other times. */
static void
write_word(struct apply *a, size_t at)
{
        if (write_index(a, at, at + sizeof(uint32_t)) < 0)
                log_event(LOG_WARN, db_name(a->db), "the wal-index could not be written");
}

/* The copy's first @size bytes are the file's, from @from on read anew. */
static int
read_index(struct apply *a, size_t from, size_t size)
{
        ssize_t n = pread(a->shm_fd, (uint8_t *)a->index + from, size - from, (off_t)from);

        return n < 0 ? -errno : n < (ssize_t)(size - from) ? -EIO : 0;
}

/* Readers and checkpoints of other processes move its marks. */
static int
refresh_index(struct apply *a)
{
        return read_index(a, 0, WAL_INDEX_HEADER_SIZE);
}

static int
grow_index(struct apply *a, uint32_t n_frames)
{
        size_t want = wal_index_size(n_frames), had = a->index_size;
        struct stat st;
        void *p;

        if (want <= had)
                return 0;
        if (fstat(a->shm_fd, &st) < 0 ||
            ((size_t)st.st_size < want && ftruncate(a->shm_fd, (off_t)want) < 0))
                return -errno;
        p = realloc(a->index, want);
        if (p == NULL)
                return -ENOMEM;
        a->index = p;
        a->index_size = want;
        return read_index(a, had, want);
}

/* The file as SQLite would make it: whoever may use the database may use it. */
static int
open_shm(struct apply *a)
{
        struct stat st;
        int r;

        if (a->shm_fd >= 0)
                return 0;
        r = db_stat(a->db, &st);
        if (r < 0)
                return r;
        a->shm_fd = open_through(a, "-shm", 0, 0);
        if (a->shm_fd == -ENOENT) {
                a->shm_fd = open_through(a, "-shm", O_CREAT, st.st_mode & 0777);
                if (a->shm_fd >= 0 && geteuid() == 0)
                        (void)!fchown(a->shm_fd, st.st_uid, st.st_gid);
        }
        if (a->shm_fd < 0) {
                r = a->shm_fd;
                a->shm_fd = -1;
                return r;
        }
        /* Whoever gets this byte for itself alone takes the content for that of a crashed process. */
        r = set_lock(a->shm_fd, F_RDLCK, SQLITE_WAL_DMS_LOCK, 1);
        if (r == 0)
                r = grow_index(a, 1);
        if (r < 0) {
                close(a->shm_fd);
                a->shm_fd = -1;
        }
        return r;
}

static int
publish(struct apply *a, const struct db_wal_applied *w, uint32_t mx_frame)
{
        struct wal_index_commit commit = {
                .page_size = w->page_size,
                .mx_frame = mx_frame,
                .n_pages = w->n_pages,
                .frame_cksum = { w->cksum[0], w->cksum[1] },
                .salt = { w->salt[0], w->salt[1] },
                .is_big_endian_cksum = w->is_big_endian_cksum,
        };

        wal_index_publish(a->index, &commit);
        return write_index(a, 0, WAL_INDEX_PUBLISHED);
}

static int
enter_frames(struct apply *a, const struct db_wal_applied *w)
{
        struct wal_index_range pgnos = { 0, 0 }, slots = { 0, 0 };
        int r = grow_index(a, w->first_frame + w->n_frames);

        for (uint32_t i = 0; i < w->n_frames && r == 0; i++) {
                uint32_t frame = w->first_frame + i;

                wal_index_enter(a->index, frame, w->pgnos[i], &pgnos, &slots);
                if (i + 1 < w->n_frames && wal_index_size(frame + 1) == wal_index_size(frame))
                        continue;
                /* The last one of its block. */
                r = write_index(a, pgnos.from, pgnos.to);
                if (r == 0)
                        r = write_index(a, slots.from, slots.to);
                pgnos = slots = (struct wal_index_range){ 0, 0 };
        }
        return r;
}

/* Whether it says what the WAL holds, of which frames were captured up to @mark (NULL: there are none). */
static bool
is_index_right(struct apply *a, const struct db_wal_mark *mark)
{
        struct wal_index_header h;

        if (wal_index_read_header(a->index, &h) < 0)
                return false;
        if (mark == NULL)
                return h.mx_frame == 0;
        return h.salt[0] == mark->salt1 && h.salt[1] == mark->salt2 && h.mx_frame == mark->n_frames;
}

/* From what we know of the WAL, under the locks that SQLite's own recovery takes. */
static int
rebuild_index(struct apply *a, struct err *e)
{
        struct db_wal_applied w;
        int r;

        r = set_lock(a->shm_fd, F_WRLCK, SQLITE_WAL_CKPT_LOCK, 7);
        if (r < 0)
                return err_set(e, r, "rebuild the wal-index");
        r = db_wal_frames(a->db, &w, e);
        if (r == 0) {
                r = enter_frames(a, &w);
                if (r < 0)
                        err_set(e, r, "rebuild the wal-index");
        }
        if (r == 0) {
                wal_index_restart(a->index);
                r = write_index(a, WAL_INDEX_AT_BACKFILL, WAL_INDEX_HEADER_SIZE);
                if (r == 0)
                        r = publish(a, &w, w.n_frames);
                if (r < 0)
                        err_set(e, r, "rebuild the wal-index");
        }
        free(w.pgnos);
        (void)set_lock(a->shm_fd, F_UNLCK, SQLITE_WAL_CKPT_LOCK, 7);
        return r;
}

/* --- checkpoint --- */

/* The last frame that no reader stands before: SQLite's rule. With CKPT. */
static uint32_t
safe_frame(struct apply *a, uint32_t mx_frame)
{
        uint32_t safe = mx_frame;

        for (int i = 1; i < WAL_READ_MARKS; i++) {
                uint32_t mark = wal_index_read_mark(a->index, i);

                if (safe <= mark)
                        continue;
                if (set_lock(a->shm_fd, F_WRLCK, SQLITE_WAL_READ_LOCK(i), 1) == 0) {
                        wal_index_set_read_mark(a->index, i, i == 1 ? safe : WAL_READ_MARK_NOT_USED);
                        write_word(a, WAL_INDEX_AT_READ_MARK(i));
                        (void)set_lock(a->shm_fd, F_UNLCK, SQLITE_WAL_READ_LOCK(i), 1);
                } else {
                        safe = mark;
                }
        }
        return safe;
}

/* Runs of neighbours go together. */
static void
notify_pages(struct apply *a, const struct db_changes *ch)
{
        uint32_t i = 0;

        while (i < ch->n_pages) {
                uint32_t from = i++;

                while (i < ch->n_pages && ch->pgnos[i] == ch->pgnos[i - 1] + 1)
                        i++;
                notify_content(a->s, a->db, "", (int64_t)(ch->pgnos[from] - 1) * ch->page_size,
                               (int64_t)(i - from) * ch->page_size);
        }
}

/* The kernel learns the size here, while nobody needs it: see notify_wal. */
static void
settle_size(struct apply *a)
{
        off_t want = (off_t)db_size_bytes(a->db);
        struct stat st;

        for (int i = 0; i < 100 && fstat(a->db_fd, &st) == 0 && st.st_size != want; i++)
                notify_attr(a->s, a->db);
}

static void
copy_back(struct apply *a, const struct db_wal_mark *mark, uint32_t from, uint32_t to)
{
        struct db_changes ch;
        struct err e = ERR_INIT;

        /* READ(0) is held by those who read the file alone. */
        if (set_lock(a->shm_fd, F_WRLCK, SQLITE_WAL_READ_LOCK(0), 1) < 0)
                return;
        wal_index_set_backfill_attempted(a->index, to);
        write_word(a, WAL_INDEX_AT_BACKFILL_ATTEMPTED);
        if (db_wal_checkpoint(a->db, from, to, &ch, &e) == 0) {
                notify_pages(a, &ch);
                if (to == mark->n_frames)
                        db_wal_cut_file(a->db);
                settle_size(a);
                wal_index_set_backfill(a->index, to);
                write_word(a, WAL_INDEX_AT_BACKFILL);
                db_wal_backfilled(a->db, mark, to);
        } else {
                log_event(LOG_WARN, db_name(a->db), "checkpoint: %s", e.text);
                notify_pages(a, &ch);
        }
        free(ch.pgnos);
        (void)set_lock(a->shm_fd, F_UNLCK, SQLITE_WAL_READ_LOCK(0), 1);
}

/* Passive: whatever readers allow. */
static void
checkpoint(struct apply *a)
{
        struct db_wal_mark mark;
        uint32_t from, to;

        if (a->index == NULL || !db_wal_captured(a->db, &mark) || mark.n_frames < CHECKPOINT_FRAMES ||
            refresh_index(a) < 0 || !is_index_right(a, &mark))
                return;
        from = wal_index_backfill(a->index);
        if (from >= mark.n_frames || set_lock(a->shm_fd, F_WRLCK, SQLITE_WAL_CKPT_LOCK, 1) < 0)
                return;
        /* With CKPT: where it is now, and where readers stand. */
        to = refresh_index(a) == 0 ? safe_frame(a, mark.n_frames) : 0;
        from = wal_index_backfill(a->index);
        if (to > from)
                copy_back(a, &mark, from, to);
        (void)set_lock(a->shm_fd, F_UNLCK, SQLITE_WAL_CKPT_LOCK, 1);
}

/* --- WAL --- */

/* The WAL and its index begin anew. With WRITE, and nobody reading frames. */
static int
restart_wal(struct apply *a, struct err *e)
{
        struct db_wal_applied w;
        int r = db_wal_restart(a->db, e);

        notify_wal(a->s, a->db, 0, WAL_HEADER_SIZE);
        if (r == 0)
                r = db_wal_frames(a->db, &w, e);
        if (r < 0)
                return r;
        wal_index_restart(a->index);
        r = write_index(a, WAL_INDEX_AT_BACKFILL, WAL_INDEX_HEADER_SIZE);
        if (r == 0)
                r = publish(a, &w, 0);
        free(w.pgnos);
        return r < 0 ? err_set(e, r, "restart the wal-index") : 0;
}

/* A WAL that is copied back and unread begins anew; an empty one begins. With WRITE. */
static int
restart_if_possible(struct apply *a, struct err *e)
{
        struct db_wal_mark mark;
        bool is_live = db_wal_captured(a->db, &mark);
        int r;

        if (is_live && (mark.n_frames == 0 || wal_index_backfill(a->index) != mark.n_frames))
                return 0;
        if (set_lock(a->shm_fd, F_WRLCK, SQLITE_WAL_READ_LOCK(1), 4) < 0)
                /* Readers of an empty WAL do not mind its header. */
                return is_live ? 0 : db_wal_restart(a->db, e);
        r = restart_wal(a, e);
        (void)set_lock(a->shm_fd, F_UNLCK, SQLITE_WAL_READ_LOCK(1), 4);
        return r;
}

/* A writer whose first frame was refused has restarted the index before, over a WAL that is copied back: nobody reads
 * frames, and those who read the file do not mind. To rebuild the index would have to wait for them. */
static bool
is_restarted_index(struct apply *a)
{
        struct wal_index_header h;

        return wal_index_read_header(a->index, &h) == 0 && h.mx_frame == 0 && !db_wal_has_pending(a->db);
}

static int
repair_index(struct apply *a, struct err *e)
{
        int r;

        if (!is_restarted_index(a) || set_lock(a->shm_fd, F_WRLCK, SQLITE_WAL_READ_LOCK(1), 4) < 0)
                return rebuild_index(a, e);
        r = restart_wal(a, e);
        (void)set_lock(a->shm_fd, F_UNLCK, SQLITE_WAL_READ_LOCK(1), 4);
        return r;
}

static int
append_frames(struct apply *a, const struct received *rx, struct err *e)
{
        struct db_wal_applied w;
        struct db_wal_mark mark;
        int r = 0;

        r = refresh_index(a);
        if (r < 0)
                return err_set(e, r, "read the wal-index");
        if (!is_index_right(a, db_wal_captured(a->db, &mark) ? &mark : NULL))
                r = repair_index(a, e);
        if (r == 0)
                r = restart_if_possible(a, e);
        if (r < 0)
                return r;
        r = db_apply_wal(a->db, rx, &w, e);
        if (r == 0) {
                uint64_t frame_size = WAL_FRAME_HEADER_SIZE + (uint64_t)w.page_size;

                notify_wal(a->s, a->db,
                           w.first_frame == 1 ? 0 : WAL_HEADER_SIZE + (w.first_frame - 1) * frame_size,
                           w.n_frames * frame_size + (w.first_frame == 1 ? WAL_HEADER_SIZE : 0));
                r = enter_frames(a, &w);
                if (r == 0)
                        r = publish(a, &w, w.first_frame + w.n_frames - 1);
                if (r < 0)
                        /* Committed, but readers cannot be told: the next transaction rebuilds it. */
                        log_event(LOG_WARN, db_name(a->db), "wal-index: %s", err_code_text(r));
                r = 0;
        }
        free(w.pgnos);
        return r;
}

static int
by_wal(struct apply *a, const struct received *rx, struct err *e)
{
        int r = take_shared(a);

        if (r == 0)
                r = open_shm(a);
        if (r == 0)
                r = set_lock(a->shm_fd, F_WRLCK, SQLITE_WAL_WRITE_LOCK, 1);
        if (r < 0)
                return err_set(e, r, "take SQLite's locks");
        r = append_frames(a, rx, e);
        if (!a->is_reserved)
                (void)set_lock(a->shm_fd, F_UNLCK, SQLITE_WAL_WRITE_LOCK, 1);
        if (r == 0)
                checkpoint(a);
        return r;
}

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
                notify_pages(a, &ch); /* a failure may have shown pages, too */
        if (rx->record.commit > 0)
                notify_content(a->s, a->db, "-wal", 0, 0); /* emptied, whatever came of it then */
        if (a->db_fd >= 0 && rx->record.commit > 0)
                settle_size(a);
        free(ch.pgnos);
        return r;
}

static int
open_database(struct apply *a, struct err *e)
{
        int fd;

        if (a->db_fd >= 0)
                return 0;
        fd = open_through(a, "", 0, 0);
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
        int r = existed && stays ? open_database(a, e) : 0;

        if (r < 0)
                return r;
        if (a->replace_since_ms == 0)
                a->replace_since_ms = now_ms;
        r = existed && stays ? take_exclusive(a) : 0;
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
        r = open_database(a, e);
        if (r < 0)
                return r;
        if (a->hold == HOLD_SHARED && db_wal_exists(a->db)) {
                r = by_wal(a, rx, e);
                if (r != -EAGAIN)
                        return r;
        }
        r = take_exclusive(a);
        if (r == 0 && !db_wal_has_pending(a->db))
                return directly(a, rx, e);
        if (!db_wal_exists(a->db))
                return r < 0 ? err_set(e, r, "wait for readers of %s", db_name(a->db)) : r;
        return by_wal(a, rx, e);
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

/* --- for transactions of our own --- */

static bool
is_locked_by_another(int fd, off_t byte)
{
        struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

        return fcntl(fd, F_OFD_GETLK, &fl) == 0 && fl.l_type != F_UNLCK;
}

/* A journal whose writer died is hot only for as long as nobody holds RESERVED: with it in our hands, readers would
 * take the dead writer's pages for committed ones. */
static int
abandon_dead_writer(struct apply *a)
{
        int r;

        if (!db_journal_is_active(a->db))
                return 0;
        if (is_locked_by_another(a->db_fd, SQLITE_RESERVED_BYTE))
                return -EAGAIN;
        r = take_exclusive(a);
        if (r == 0 && db_journal_is_active(a->db)) {
                r = db_abandon(a->db);
                if (r == 0)
                        notify_abandoned(a->s, a->db);
        }
        return r;
}

static void
ignore_result(void *arg, int r)
{
        (void)arg;
        (void)r;
}

/* RESERVED, between transactions. */
static int
reserve_file(struct apply *a)
{
        int r = set_lock(a->db_fd, F_WRLCK, SQLITE_RESERVED_BYTE, 1);

        if (r < 0 || (!db_journal_is_active(a->db) && !db_has_unjournaled(a->db)))
                return r;
        (void)set_lock(a->db_fd, F_UNLCK, SQLITE_RESERVED_BYTE, 1);
        if (db_has_unjournaled(a->db)) /* a transaction that is over, and has still to be captured */
                (void)mount_probe(a->s, a->db, (struct db_done){ ignore_result, NULL });
        return -EAGAIN;
}

/* Also when nobody has the database open, so that there is no WAL: who opens it then finds the lock. */
static int
make_wal(struct apply *a)
{
        struct stat st;
        int fd, r;

        if (db_wal_exists(a->db))
                return 0;
        r = db_stat(a->db, &st);
        if (r < 0)
                return r;
        fd = open_through(a, "-wal", O_CREAT, st.st_mode & 0777);
        if (fd < 0)
                return fd;
        if (geteuid() == 0)
                (void)!fchown(fd, st.st_uid, st.st_gid);
        close(fd);
        return 0;
}

/* WRITE, and a wal-index by which readers can go while it is ours: they could not make one. */
static int
reserve_wal(struct apply *a)
{
        struct db_wal_mark mark;
        struct err e = ERR_INIT;
        int r;

        r = take_shared(a);
        if (r == 0)
                r = make_wal(a);
        if (r == 0)
                r = open_shm(a);
        if (r == 0)
                r = set_lock(a->shm_fd, F_WRLCK, SQLITE_WAL_WRITE_LOCK, 1);
        if (r < 0)
                return r;
        r = refresh_index(a);
        if (r == 0 && !is_index_right(a, db_wal_captured(a->db, &mark) ? &mark : NULL))
                r = rebuild_index(a, &e);
        a->is_reserved = r == 0;
        if (r < 0)
                (void)set_lock(a->shm_fd, F_UNLCK, SQLITE_WAL_WRITE_LOCK, 1);
        return r;
}

int
apply_reserve(struct apply *a, struct err *e)
{
        struct db_info info;
        int r = 0;

        if (!db_exists(a->db))
                return 0;
        r = open_database(a, e);
        if (r < 0)
                return r;
        r = abandon_dead_writer(a);
        if (r == 0 && (a->hold == HOLD_EXCLUSIVE || a->is_pending))
                release_exclusive(a);
        if (r == 0)
                r = reserve_file(a);
        db_get_info(a->db, &info);
        if (r == 0 && (info.is_wal || db_wal_exists(a->db)))
                r = reserve_wal(a);
        return r < 0 ? err_set(e, r, "wait for the writers of %s", db_name(a->db)) : 0;
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
