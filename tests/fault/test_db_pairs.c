/* links: litefs_store sqlite3 */
/* Every part of the daemon that works on a database against every other one, on one database, in threads.
 *
 * Nothing here takes SQLite's locks, which keep most of these pairs apart in a mount: what lib/db promises must hold
 * without them. Each actor does its work again and again, and takes "busy" and "it is not what you thought" for an
 * answer; what no actor may ever see is an I/O error, a checksum that is wrong or a database that has stopped. When both
 * have ended, the image is what its checksums say, the log leads to it, and opening it anew finds the same.
 *
 * The argument is the length of each pair in milliseconds. The races as such are for the thread sanitizer. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "db/apply.h"
#include "db/remote_commit.h"
#include "db/rename.h"
#include "db/import.h"
#include "db/snapshot.h"
#include "ltx/checksum.h"
#include "sqlite/wal_format.h"
#include "tests/lib/db_driver.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/os_fault.h"
#include "tests/lib/received.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

#define PAGE_SIZE 1024
#define SEGMENT_BYTES (64u << 10) /* so that the base moves and retention has something to drop */
#define MIN_TURNS 3

static int pair_ms = 30;

struct pair {
        char *dir;
        char plain[300], other[300];
        struct os_fault os;
        struct db_driver *d;
        struct db *db;
        struct db_driver *beside_driver;
        struct db *beside;             /* of another name: what renames go to and come from */
        struct received other_history; /* a snapshot of another node's state */
        pthread_mutex_t file_lock;     /* the plain file that is adopted: one adopter at a time */
};

struct player {
        struct pair *p;
        const struct actor *actor;
        pthread_t thread;
        struct timespec until;
        unsigned seed;
        unsigned n_turns;
        int bad; /* a result that nobody may see */
        struct err e;
};

struct actor {
        const char *name;
        int (*turn)(struct player *pl);
};

/* --- calls that end later --- */

struct waiting {
        pthread_mutex_t lock;
        pthread_cond_t changed;
        bool is_done;
        int result;
};

static void
note_done(void *arg, int result)
{
        struct waiting *w = arg;

        pthread_mutex_lock(&w->lock);
        w->result = result;
        w->is_done = true;
        pthread_cond_signal(&w->changed);
        pthread_mutex_unlock(&w->lock);
}

static int
await(struct waiting *w, int r)
{
        if (r == DB_PENDING) {
                pthread_mutex_lock(&w->lock);
                while (!w->is_done)
                        pthread_cond_wait(&w->changed, &w->lock);
                r = w->result;
                pthread_mutex_unlock(&w->lock);
        }
        pthread_mutex_destroy(&w->lock);
        pthread_cond_destroy(&w->changed);
        return r;
}

#define AWAIT(call) \
        ({ \
                struct waiting w_ = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0 }; \
                struct db_done done = { note_done, &w_ }; \
                int r_ = (call); \
                await(&w_, r_); \
        })

/* A WAL write behind one that was taken back, and a checkpoint's whose WAL has gone while it waited, have to fail. */
static int
as_refused(int r)
{
        return r == -EIO ? -EAGAIN : r;
}

/* --- what they do --- */

static int
turn_adopt(struct player *pl)
{
        struct pair *p = pl->p;
        int r;

        pthread_mutex_lock(&p->file_lock);
        if (access(p->plain, F_OK) < 0)
                db_driver_make_plain(p->plain, 20);
        r = db_adopt_file(p->db, p->plain, &pl->e);
        pthread_mutex_unlock(&p->file_lock);
        return r;
}

static int
apply_once(struct player *pl, struct received *rx)
{
        struct db_changes ch;
        int r = db_apply_direct(pl->p->db, rx, &ch, &pl->e);

        db_apply_shown(pl->p->db);
        os_close(os_host(), "", ch.old_fd);
        os_close(os_host(), "", ch.old_wal_fd);
        free(ch.pgnos);
        return r;
}

static int
turn_import(struct player *pl)
{
        struct pair *p = pl->p;
        struct import_file file;
        struct received rx;
        int fd = open(p->other, O_RDONLY | O_CLOEXEC);
        int r = import_check(os_host(), fd, &file, &pl->e);

        received_init(&rx, &(struct db_env){ .os = os_host(), .tmp_dir = p->dir });
        if (r == 0)
                r = import_build(p->db, fd, &file, &rx, &pl->e);
        if (r == 0)
                r = apply_once(pl, &rx);
        received_release(&rx);
        close(fd);
        return r;
}

/* The next transaction as a primary would send it: page 2 anew. */
static int
turn_apply(struct player *pl)
{
        struct pair *p = pl->p;
        struct received rx;
        uint8_t page[PAGE_SIZE], old[PAGE_SIZE];
        struct db_info info;
        int r = E_POS_MISMATCH;

        db_get_info(p->db, &info);
        if (info.page_count < 2 || info.page_size != PAGE_SIZE ||
            db_read(p->db, old, sizeof old, PAGE_SIZE) != PAGE_SIZE)
                return r;
        memcpy(page, old, sizeof page);
        page[PAGE_SIZE - 1] = (uint8_t)rand_r(&pl->seed);
        received_page(&rx, &info, 2, old, page, p->dir);
        if (rand_r(&pl->seed) % 2 == 0) {
                struct db_wal_applied applied;

                r = db_apply_wal(p->db, &rx, &applied, &pl->e);
                db_apply_shown(p->db);
                free(applied.pgnos);
        } else {
                r = apply_once(pl, &rx);
        }
        received_release(&rx);
        /* Made from an image that had changed before the position was read: its checksum is not what comes of it. */
        return r == E_CHECKSUM ? E_POS_MISMATCH : r;
}

static void
close_both(void *arg, int fd, int wal_fd)
{
        os_close(arg, "", fd);
        os_close(arg, "", wal_fd);
}

static int
turn_replace(struct player *pl)
{
        struct pair *p = pl->p;
        int r = db_replace(p->db, &p->other_history, close_both, (void *)os_host(), &pl->e);

        db_apply_shown(p->db);
        return r;
}

static int
turn_drop(struct player *pl)
{
        int fd = -1, wal_fd = -1, r = db_drop(pl->p->db, &fd, &wal_fd, &pl->e);

        os_close(os_host(), "", fd);
        os_close(os_host(), "", wal_fd);
        return r;
}

/* Away and back again. */
static int
turn_rename(struct player *pl)
{
        struct pair *p = pl->p;
        bool is_away = pl->n_turns % 2 == 0;
        struct db_rename rn;
        int r;

        db_rename_init(&rn, is_away ? p->db : p->beside, is_away ? p->beside : p->db);
        r = db_access_begin(rn.from, DB_BY_RENAME, &rn.from_access, &pl->e);
        if (r == 0)
                r = db_access_begin(rn.to, DB_BY_RENAME, &rn.to_access, &pl->e);
        if (r == 0)
                r = db_rename_check(&rn, &pl->e);
        if (r == 0)
                r = db_rename_prepare(&rn, &pl->e);
        if (r == 0)
                r = db_rename_put(&rn, NULL, &pl->e);
        if (r == 0)
                r = db_rename_drop(&rn, NULL, &pl->e);
        db_rename_end(&rn);
        return r;
}

static int
turn_snapshot(struct player *pl)
{
        struct txlog_record record;
        struct db_snapshot *snap;
        struct received rx = { 0 };
        int r = db_snapshot_open(pl->p->db, &snap, &record, &pl->e);

        if (r < 0)
                return r;
        r = received_read(&rx, snap, pl->p->dir, &pl->e);
        if (r == 0 && rx.record.post_apply_checksum != record.post_apply_checksum)
                r = E_CHECKSUM;
        received_release(&rx);
        return r;
}

static bool
no_rest(void *arg)
{
        (void)arg;
        return true;
}

static int
turn_verify(struct player *pl)
{
        return db_verify(pl->p->db, &(struct db_pace){ NULL, no_rest }, &pl->e);
}

static int
turn_housekeep(struct player *pl)
{
        struct db_retention retention = { 1 };
        struct err e = ERR_INIT;

        (void)db_housekeep(pl->p->db, &retention, &e);
        pl->e = e;
        return e.code;
}

static int
turn_rest(struct player *pl)
{
        (void)db_rest(pl->p->db);
        (void)db_rest(pl->p->db); /* was not used since, perhaps */
        return 0;
}

/* A page as it is, but for one byte at its end. */
static int
change_page(struct player *pl, uint32_t pgno, uint8_t *page)
{
        ssize_t n = db_read(pl->p->db, page, PAGE_SIZE, (pgno - 1) * PAGE_SIZE);

        if (n != PAGE_SIZE)
                return -ENOENT;
        page[PAGE_SIZE - 1] = (uint8_t)rand_r(&pl->seed);
        return 0;
}

/* Without a journal; then the probe, or an fsync. */
static int
turn_unjournaled(struct player *pl)
{
        struct db *db = pl->p->db;
        uint8_t page[PAGE_SIZE];
        int r = change_page(pl, 2, page);

        if (r == 0)
                r = as_refused(AWAIT(db_write(db, page, sizeof page, PAGE_SIZE, done)));
        if (r < 0)
                return r;
        return rand_r(&pl->seed) % 2 == 0 ? AWAIT(db_capture_unjournaled(db, done))
                                          : AWAIT(db_fsync(db, done));
}

/* A rollback-mode transaction of one page, or of as many as make it a worker's. */
static int
turn_journal(struct player *pl)
{
        static const uint8_t header[PAGE_SIZE] = { 0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7 };
        struct db *db = pl->p->db;
        uint32_t n = rand_r(&pl->seed) % 8 == 0 ? 600 : 1;
        uint64_t size = db_size_bytes(db);
        uint8_t page[PAGE_SIZE];
        int r = change_page(pl, 2, page);

        if (r == 0)
                r = db_journal_create(db);
        if (r == 0)
                r = AWAIT(db_journal_write(db, header, sizeof header, 0, done));
        for (uint32_t i = 0; i < n && r == 0; i++)
                r = AWAIT(db_write(db, page, sizeof page,
                                   i == 0 ? PAGE_SIZE : size + (i - 1) * PAGE_SIZE, done));
        if (r == 0 && rand_r(&pl->seed) % 2 == 0)
                r = AWAIT(db_journal_fsync(db, done));
        (void)AWAIT(db_journal_unlink(db, done));
        return r;
}

/* A WAL of its own, with a frame or a worker's many, and what is in it copied to the file by write and truncation. */
static int
turn_wal(struct player *pl)
{
        struct db *db = pl->p->db;
        struct wal_header h = { .page_size = PAGE_SIZE, .salt1 = (uint32_t)rand_r(&pl->seed) };
        uint32_t n = rand_r(&pl->seed) % 8 == 0 ? 600 : 1, sum[2];
        uint8_t buf[WAL_HEADER_SIZE], frame[WAL_FRAME_HEADER_SIZE], page[PAGE_SIZE];
        uint64_t off = WAL_HEADER_SIZE;
        struct db_info info, now;
        int r, fd = -1;

        db_get_info(db, &info);
        r = change_page(pl, 2, page);
        if (r < 0 || info.page_count < 2)
                return -ENOENT;
        r = db_wal_create(db, 0600);
        wal_header_encode(&h, buf);
        if (r == 0 || r == -EEXIST)
                r = AWAIT(db_wal_write(db, buf, sizeof buf, 0, done));
        wal_header_decode(buf, &h);
        memcpy(sum, h.cksum, sizeof sum);
        for (uint32_t i = 0; i < n && r == 0; i++) {
                put_be32(page + PAGE_SIZE - 4, i + h.salt1);
                wal_frame_encode(&h, 2, i + 1 == n ? info.page_count : 0, page, sum, frame);
                r = AWAIT(db_wal_write(db, frame, sizeof frame, off, done));
                if (r == 0)
                        r = AWAIT(db_wal_write(db, page, sizeof page, off + sizeof frame, done));
                off += sizeof frame + sizeof page;
        }
        if (r == 0 && rand_r(&pl->seed) % 2 == 0)
                r = AWAIT(db_wal_fsync(db, done));
        if (r == 0)
                (void)AWAIT(db_write(db, page, sizeof page, PAGE_SIZE, done)); /* the checkpoint */
        if (r == 0)
                (void)db_truncate(db, (uint64_t)info.page_count * PAGE_SIZE);
        if (db_wal_unlink(db, &fd) == 0)
                os_close(os_host(), "", fd);
        /* An image that the other one has made smaller meanwhile would grow by pages that the frame does not have. */
        db_get_info(db, &now);
        if (r == E_FORMAT && now.page_count != info.page_count)
                return -EAGAIN;
        return as_refused(r);
}

/* The daemon's own. */
static int
turn_checkpoint(struct player *pl)
{
        struct db *db = pl->p->db;
        struct db_wal_mark mark;
        struct db_changes ch;
        int r;

        if (!db_wal_captured(db, &mark) || mark.n_frames == 0)
                return -ENOENT;
        r = db_wal_checkpoint(db, 0, mark.n_frames, &ch, &pl->e);
        free(ch.pgnos);
        if (r == 0) {
                db_wal_cut_file(db);
                db_wal_backfilled(db, &mark, mark.n_frames);
                r = db_wal_restart(db, &pl->e);
        }
        return r == -EIO && !pl->e.code ? -EAGAIN : r;
}

static int
turn_handoff(struct player *pl)
{
        db_driver_fence(pl->p->d, true);
        nanosleep(&(struct timespec){ 0, 200000 }, NULL);
        db_driver_fence(pl->p->d, false);
        nanosleep(&(struct timespec){ 0, 200000 }, NULL);
        return 0;
}

static int
turn_halt(struct player *pl)
{
        struct db *db = pl->p->db;
        int r;

        db_set_halted(db, true);
        r = db_abandon(db);
        nanosleep(&(struct timespec){ 0, 200000 }, NULL);
        db_set_halted(db, false);
        return r;
}

static int
turn_attributes(struct player *pl)
{
        struct db *db = pl->p->db;
        struct stat st;
        int r = db_stat(db, &st);

        if (r == 0)
                r = db_chmod(db, 0600 + (mode_t)(rand_r(&pl->seed) % 2) * 044);
        if (r == 0)
                r = db_wal_stat(db, &st);
        (void)db_replicable_txid(db);
        (void)db_exists(db);
        return r;
}

static const struct actor actors[] = {
        { "adopt", turn_adopt },
        { "import", turn_import },
        { "apply", turn_apply },
        { "replace", turn_replace },
        { "drop", turn_drop },
        { "rename", turn_rename },
        { "snapshot", turn_snapshot },
        { "verify", turn_verify },
        { "housekeeping", turn_housekeep },
        { "rest", turn_rest },
        { "unjournaled", turn_unjournaled },
        { "journal", turn_journal },
        { "wal", turn_wal },
        { "checkpoint", turn_checkpoint },
        { "handoff", turn_handoff },
        { "halt", turn_halt },
        { "attributes", turn_attributes },
};

#define N_ACTORS COUNT(actors)
#define N_PAIRS (N_ACTORS * (N_ACTORS + 1) / 2)

/* --- a pair --- */

/* Answers that say "not now" or "not this". */
static bool
is_an_answer(int r)
{
        switch (r) {
        case 0:
        case E_BUSY:
        case -EAGAIN:
        case -EBUSY:
        case -EEXIST:
        case -ENOENT:
        case -ESTALE:
        case E_POS_MISMATCH:
        case E_FENCED:
        case E_NOT_PRIMARY:
        case E_BUSY_DB:
        case E_UNCONFIRMED:
                return true;
        default:
                return false;
        }
}

static bool
is_over(const struct player *pl)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return pl->n_turns >= MIN_TURNS &&
               (now.tv_sec > pl->until.tv_sec ||
                (now.tv_sec == pl->until.tv_sec && now.tv_nsec >= pl->until.tv_nsec));
}

static void *
play(void *arg)
{
        struct player *pl = arg;
        struct db_info info;

        while (!is_over(pl) && pl->bad == 0) {
                int r = pl->actor->turn(pl);

                db_get_info(pl->p->db, &info);
                if (!is_an_answer(r) || info.is_failed)
                        pl->bad = r != 0 ? r : -EIO;
                pl->n_turns++;
        }
        return NULL;
}

static void
begin_pair(struct pair *p)
{
        struct err e = ERR_INIT;
        struct db_driver *theirs;
        char root[300];

        *p = (struct pair){ .dir = tmpdir_make() };
        pthread_mutex_init(&p->file_lock, NULL);
        os_fault_init(&p->os, os_host());
        p->os.skips_sync = true;
        snprintf(p->plain, sizeof p->plain, "%s/plain.db", p->dir);
        snprintf(p->other, sizeof p->other, "%s/other.db", p->dir);
        db_driver_make_plain(p->other, 40);
        snprintf(root, sizeof root, "%s/theirs", p->dir);
        db_driver_make_template(root, "delete", 30);
        ck_assert_msg(db_driver_open(os_host(), root, &theirs, &e) == 0, "%s", e.text);
        received_snapshot(&p->other_history, db_driver_db(theirs), p->dir);
        p->other_history.history = TXLOG_HISTORY_OTHER;
        db_driver_close(theirs);
        snprintf(root, sizeof root, "%s/ours", p->dir);
        db_driver_make_template(root, "delete", 60);
        ck_assert_msg(db_driver_open_with(&p->os.os, root, SEGMENT_BYTES, &p->d, &e) == 0, "%s", e.text);
        p->db = db_driver_db(p->d);
        snprintf(root, sizeof root, "%s/beside", p->dir);
        ck_assert_msg(db_driver_open_with(&p->os.os, root, SEGMENT_BYTES, &p->beside_driver, &e) == 0,
                      "%s", e.text);
        p->beside = db_driver_db(p->beside_driver);
}

static void
check_pair(struct pair *p, const char *what)
{
        struct err e = ERR_INIT;
        struct db_info before, after;
        char root[300];

        db_driver_drain(p->d);
        db_set_halted(p->db, false);
        ck_assert_msg(!db_looks_busy(p->db), "%s: somebody has the database for ever", what);
        db_get_info(p->db, &before);
        ck_assert_msg(!before.is_failed, "%s: it has stopped", what);
        ck_assert_msg(db_verify(p->db, &(struct db_pace){ NULL, no_rest }, &e) == 0, "%s: %s", what,
                      e.text);
        db_driver_drain(p->beside_driver);
        db_driver_close(p->beside_driver);
        db_driver_close(p->d);
        snprintf(root, sizeof root, "%s/ours", p->dir);
        ck_assert_msg(db_driver_open(os_host(), root, &p->d, &e) == 0, "%s: %s", what, e.text);
        p->db = db_driver_db(p->d);
        db_get_info(p->db, &after);
        ck_assert_msg(after.pos.txid == before.pos.txid && after.pos.checksum == before.pos.checksum,
                      "%s: %llx before, %llx now", what, (unsigned long long)before.pos.txid,
                      (unsigned long long)after.pos.txid);
        ck_assert_msg(db_verify(p->db, &(struct db_pace){ NULL, no_rest }, &e) == 0, "%s: %s", what,
                      e.text);
}

static void
end_pair(struct pair *p)
{
        db_driver_close(p->d);
        received_release(&p->other_history);
        os_fault_release(&p->os);
        pthread_mutex_destroy(&p->file_lock);
        tmpdir_remove(p->dir);
}

static void
play_pair(const struct actor *a, const struct actor *b)
{
        struct player players[2] = { { .actor = a, .seed = 1 }, { .actor = b, .seed = 2 } };
        struct timespec until;
        struct pair p;
        char what[64];

        snprintf(what, sizeof what, "%s against %s", a->name, b->name);
        begin_pair(&p);
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += (long)(pair_ms % 1000) * 1000000;
        until.tv_sec += pair_ms / 1000 + until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        for (int i = 0; i < 2; i++) {
                players[i].p = &p;
                players[i].until = until;
                ck_assert_int_eq(pthread_create(&players[i].thread, NULL, play, &players[i]), 0);
        }
        for (int i = 0; i < 2; i++)
                ck_assert_int_eq(pthread_join(players[i].thread, NULL), 0);
        for (int i = 0; i < 2; i++)
                ck_assert_msg(players[i].bad == 0, "%s: %s got %d (%s) in turn %u: %s", what,
                              players[i].actor->name, players[i].bad, err_code_text(players[i].bad),
                              players[i].n_turns, players[i].e.text);
        check_pair(&p, what);
        end_pair(&p);
}

START_TEST(pair_leaves_a_sound_database)
{
        int i = 0, n = _i;

        while (n >= (int)N_ACTORS - i) {
                n -= (int)N_ACTORS - i;
                i++;
        }
        play_pair(&actors[i], &actors[i + n]);
}
END_TEST

int
main(int argc, char **argv)
{
        TCase *tc = tcase_create("pairs");

        if (argc > 1)
                pair_ms = atoi(argv[1]);
        db_driver_use_memory();
        log_configure(&(struct log_config){ .fd = -1 });
        tcase_set_timeout(tc, 60 + pair_ms / 100);
        tcase_add_loop_test(tc, pair_leaves_a_sound_database, 0, (int)N_PAIRS);
        return run_tests("db_pairs", tc);
}
