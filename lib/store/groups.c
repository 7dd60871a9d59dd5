#include "store/groups.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "db/group.h"
#include "ltx/checksum.h"
#include "store/dbname.h"
#include "store/store_internal.h"

#define GROUP_MAX 1024u /* databases; SQLite attaches 125 at most */

/* --- which databases --- */

bool
groups_is_super(const char *name)
{
        size_t n = strlen(name);
        const char *p = name + n - 12;

        if (n < 13 || memcmp(p, "-mj", 3) != 0 || p[9] != '9')
                return false;
        for (int i = 3; i < 12; i++)
                if (!isxdigit((unsigned char)p[i]) || islower((unsigned char)p[i]))
                        return false;
        return true;
}

struct search {
        const char *name;
        struct db **dbs;
        unsigned n, capacity;
        bool has_halted;
};

static bool
names_super(struct db *db, const char *name)
{
        char path[PATH_MAX];
        size_t n = db_journal_super(db, path, sizeof path), len = strlen(name);

        return n >= len && memcmp(path + n - len, name, len) == 0 &&
               (n == len || path[n - len - 1] == '/');
}

static int
add_if_named(void *arg, struct db *db)
{
        struct search *f = arg;

        if (!names_super(db, f->name))
                return 0;
        if (db_commits_remotely(db))
                f->has_halted = true;
        if (f->n == GROUP_MAX)
                return -EFBIG;
        if (f->n == f->capacity) {
                unsigned want = f->capacity == 0 ? 4 : f->capacity * 2;
                struct db **p = realloc(f->dbs, want * sizeof(struct db *));

                if (p == NULL)
                        return -ENOMEM;
                f->dbs = p;
                f->capacity = want;
        }
        f->dbs[f->n++] = db;
        return 0;
}

int
groups_find(struct store *s, const char *name, struct db ***ret)
{
        struct search f = { .name = name };
        int r = store_each(s, add_if_named,
                           &f); /* in name order: nobody has what another group waits for */

        if (r < 0 || f.has_halted) {
                free(f.dbs);
                return r;
        }
        *ret = f.dbs;
        return (int)f.n;
}

/* --- notes --- */

/* A file for each group that is under way at the same time, used again and again: what is overwritten needs no sync of the
 * directory, which would cost more than all the rest. A note is there while its magic is:
 *
 * "LFSGROUP", version, number of databases and length of all (4 bytes each); for each the TXID (8 bytes) and its directory's name with a
 * NUL; the CRC-64 of all that. Big-endian. */
#define NOTE_MAGIC "LFSGROUP"
#define NOTE_HEADER 20u
#define NOTE_PART_MAX (8u + DBNAME_MAX + 1u)
#define NOTE_VERSION 1u
#define N_SLOTS 32u
#define NOTE_MAX (NOTE_HEADER + GROUP_MAX * NOTE_PART_MAX + 8u)

static int
note_path(const struct store *s, const char *name, char *buf, size_t size)
{
        int n = snprintf(buf, size, "%s/groups%s%s", s->config.data_dir, *name != '\0' ? "/" : "", name);

        return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

static int
slot_path(const struct store *s, unsigned slot, char *buf, size_t size)
{
        char name[12];

        snprintf(name, sizeof name, "%u", slot);
        return note_path(s, name, buf, size);
}

/* Durably. */
static int
write_slot(const struct store *s, const char *path, const void *buf, size_t n)
{
        const struct os *os = s->config.os;
        char dir[PATH_MAX];
        int r = os_write_file(os, "groups:write", path, 0, buf, n);

        if (r != -ENOENT)
                return r;
        r = os_write_file(os, "groups:write", path, O_CREAT, buf, n);
        if (r == 0)
                r = note_path(s, "", dir, sizeof dir);
        return r == 0 ? os_sync_dir(os, "groups:write", dir) : r;
}

static int
clear_slot(const struct store *s, const char *path)
{
        static const char none[8];

        return write_slot(s, path, none, sizeof none);
}

/* The lowest that is free: N_SLOTS when none is. */
static unsigned
take_slot(struct store *s)
{
        uint32_t taken = atomic_load(&s->group_slots);
        unsigned i;

        do {
                i = taken == UINT32_MAX ? N_SLOTS : (unsigned)__builtin_ctz(~taken);
        } while (i < N_SLOTS && !atomic_compare_exchange_weak(&s->group_slots, &taken, taken | 1u << i));
        return i;
}

static void
give_slot(struct store *s, unsigned slot)
{
        atomic_fetch_and(&s->group_slots, ~(1u << slot));
}

/* Its length, or -ENAMETOOLONG. */
static ssize_t
encode_group_note(struct db **dbs, const uint64_t *txids, unsigned n, uint8_t *buf)
{
        size_t at = NOTE_HEADER;

        memcpy(buf, NOTE_MAGIC, 8);
        put_be32(buf + 8, NOTE_VERSION);
        put_be32(buf + 12, n);
        for (unsigned i = 0; i < n; i++) {
                int r;

                put_be64(buf + at, txids[i]);
                r = dbname_encode(db_name(dbs[i]), (char *)buf + at + 8);
                if (r < 0)
                        return r;
                at += 8 + strlen((char *)buf + at + 8) + 1;
        }
        put_be32(buf + 16, (uint32_t)at + 8);
        put_be64(buf + at, ltx_crc64(0, buf, at));
        return (ssize_t)at + 8;
}

/* The length of the note that the @n bytes of a file begin with, 0 when it is none, or not whole. What is behind it is left
 * of a longer one before it. */
static size_t
find_note(const uint8_t *buf, size_t n)
{
        size_t len;

        if (n <= NOTE_HEADER + 8 || memcmp(buf, NOTE_MAGIC, 8) != 0 || get_be32(buf + 8) != NOTE_VERSION)
                return 0;
        len = get_be32(buf + 16);
        return len > NOTE_HEADER + 8 && len <= n && get_be64(buf + len - 8) == ltx_crc64(0, buf, len - 8)
                       ? len
                       : 0;
}

/* --- a commit --- */

struct group_job {
        struct work work;
        struct db_waiter waiter;
        struct store *s;
        struct db **dbs;
        struct db_access *accesses; /* of the first @n_had */
        unsigned n, n_had;
        unsigned slot; /* of its note */
        bool has_note; /* there, or perhaps: then the next start needs it */
        struct db_done done;
};

/* What is left of it after an error is not whole, or speaks of records that are not there. */
static int
write_group_note(void *arg, const uint64_t *txids, unsigned n, struct err *e)
{
        struct group_job *job = arg;
        uint8_t *buf = malloc(NOTE_HEADER + (size_t)n * NOTE_PART_MAX + 8);
        char path[PATH_MAX] = "";
        ssize_t len = buf == NULL ? -ENOMEM : encode_group_note(job->dbs, txids, n, buf);
        int r = len < 0 ? (int)len : slot_path(job->s, job->slot, path, sizeof path);

        if (r == 0) {
                r = write_slot(job->s, path, buf, (size_t)len);
                job->has_note = r == 0 || clear_slot(job->s, path) < 0;
        }
        free(buf);
        return r < 0 ? err_set(e, r, "note a commit over %u databases in %s", n, path) : 0;
}

static int
remove_note(void *arg, struct err *e)
{
        struct group_job *job = arg;
        char path[PATH_MAX] = "";
        int r = slot_path(job->s, job->slot, path, sizeof path);

        if (r == 0)
                r = clear_slot(job->s, path);
        job->has_note = r < 0;
        return r < 0 ? err_set(e, r, "end a commit over %u databases in %s", job->n, path) : 0;
}

static void
end_group_job(struct group_job *job, int r, const struct err *e)
{
        if (r < 0 && job->n_had > 0) /* else the first has stopped, and has said why */
                db_group_tell_failed(&job->accesses[0], job->n, r, e);
        /* Those who look at the databases next see what the application has been told. */
        job->done.fn(job->done.arg, r);
        for (unsigned i = 0; i < job->n_had; i++)
                db_access_end(&job->accesses[i]);
        free(job->accesses);
        free(job);
}

static void
run_group(struct work *w)
{
        struct group_job *job = (struct group_job *)w;
        const struct db_group_note note = { job, write_group_note, remove_note };
        struct err e = ERR_INIT;
        int r = 0;

        while (r == 0 && job->n_had < job->n) {
                r = db_access_begin_or_wait(job->dbs[job->n_had], DB_BY_GROUP,
                                            &job->accesses[job->n_had], &job->waiter, &e);
                if (r == E_BUSY)
                        return; /* and it is the waiter's by now */
                if (r == 0)
                        job->n_had++;
        }
        if (r == 0 && (job->slot = take_slot(job->s)) == N_SLOTS)
                r = err_text(&e, -EAGAIN, "%u others are under way", N_SLOTS);
        else if (r == 0) {
                r = db_group_commit(job->accesses, job->n, &note, &e);
                if (!job->has_note)
                        give_slot(job->s, job->slot);
        }
        end_group_job(job, r, &e);
}

static void
group_go_on(struct db_waiter *w)
{
        struct group_job *job = (struct group_job *)((char *)w - offsetof(struct group_job, waiter));

        workers_post(job->s->config.workers, &job->work);
}

int
groups_commit(struct store *s, struct db **dbs, unsigned n, struct db_done done)
{
        struct group_job *job = calloc(1, sizeof *job);

        if (job == NULL || (job->accesses = calloc(n, sizeof *job->accesses)) == NULL) {
                free(job);
                return -ENOMEM;
        }
        job->work.run = run_group;
        job->waiter.fn = group_go_on;
        job->s = s;
        job->dbs = dbs;
        job->n = n;
        job->done = done;
        workers_post(s->config.workers, &job->work);
        return DB_PENDING;
}

/* --- after a crash --- */

/* 0 also when the record is not there. */
static int
take_out(struct store *s, const char *dir, uint64_t txid, struct err *e)
{
        char path[PATH_MAX];
        struct txlog_record last;
        struct txlog *log;
        struct stat st;
        int n = snprintf(path, sizeof path, "%s/dbs/%s/log", s->config.data_dir, dir), r;

        if (n < 0 || (size_t)n >= sizeof path || strchr(dir, '/') != NULL)
                return err_set(e, E_FORMAT, "database directory %s", dir);
        if (os_lstat(s->config.os, "groups:settle", path, &st) == -ENOENT)
                return 0;
        r = txlog_open(s->config.os, path, NULL, txid > 0 ? txid - 1 : 0, &log, e);
        if (r < 0)
                return r;
        if (txlog_last(log, &last) && last.max_txid == txid) {
                r = txlog_undo_last(log, txid, e);
                if (r == 0)
                        r = txlog_sync(log, txlog_end_lsn(log), e);
                if (r == 0)
                        log_event(
                                LOG_WARN, dir,
                                "transaction %016llx is taken back: it was part of a commit over several "
                                "databases that a crash cut off before it was answered",
                                (unsigned long long)txid);
        }
        txlog_close(log);
        return r;
}

static int
settle_parts(struct store *s, const uint8_t *buf, size_t n, struct err *e)
{
        uint32_t parts = get_be32(buf + 12);
        size_t at = NOTE_HEADER;
        int r = 0;

        for (uint32_t i = 0; i < parts && r == 0; i++) {
                const char *dir = (const char *)buf + at + 8;

                if (at + 9 > n - 8 || memchr(dir, 0, n - 8 - at - 8) == NULL)
                        return err_set(e, E_FORMAT, "database %u", i);
                r = take_out(s, dir, get_be64(buf + at), e);
                at += 8 + strlen(dir) + 1;
        }
        return r;
}

struct settling {
        struct store *s;
        struct err *e;
};

static int
settle_note(void *arg, const char *name)
{
        struct settling *st = arg;
        const struct os *os = st->s->config.os;
        uint8_t *buf = malloc(NOTE_MAX);
        char path[PATH_MAX];
        size_t len = 0;
        ssize_t n = 0;
        int r = buf == NULL ? -ENOMEM : note_path(st->s, name, path, sizeof path);

        if (r < 0) {
                free(buf);
                return err_set(st->e, r, "read groups/%s", name);
        }
        n = os_read_file(os, "groups:settle", path, buf, NOTE_MAX);
        if (n < 0)
                r = err_set(st->e, (int)n, "read %s", path);
        else if ((len = find_note(buf, (size_t)n)) > 0) /* else nothing was done after it */
                r = settle_parts(st->s, buf, len, st->e);
        /* Durably, also where none is seen: one that a killed process had cleared, and not synced, would come back after a
         * power loss, and take back a transaction that has been seen since. */
        if (r == 0 && (r = clear_slot(st->s, path)) < 0)
                err_set(st->e, r, "clear %s", path);
        free(buf);
        return r;
}

int
groups_settle(struct store *s, struct err *e)
{
        struct settling st = { s, e };
        char dir[PATH_MAX];
        int r = note_path(s, "", dir, sizeof dir);

        if (r == 0)
                r = os_list_dir(s->config.os, "groups:settle", dir, settle_note, &st);
        return r < 0 && e->code == 0 ? err_set(e, r, "settle commits over several databases") : r;
}
