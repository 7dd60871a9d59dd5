#include "history/keep.h"

#include <errno.h>
#include <stdio.h>
#include <sys/statvfs.h>

#include "db/snapshot.h"
#include "history/images.h"

#define CHUNK (256u << 10) /* between two questions whether to go on */

typedef unsigned long long ull;

/* What there is of a database. */
struct keeping {
        const struct keep_policy *policy;
        struct db *db;
        const char *dir;
        struct db_info info;
        struct history_images images;
        bool has_log_base; /* the log's first record is a base, older than all images */
        struct history_image log_base;
        size_t n_gone; /* of the oldest bases, which need not stay */
};

/* --- what has to stay --- */

static size_t
count_bases(const struct keeping *k)
{
        return k->images.n + k->has_log_base;
}

/* The @i-th base, the oldest first. */
static const struct history_image *
base_at(const struct keeping *k, size_t i)
{
        return k->has_log_base && i == 0 ? &k->log_base : &k->images.items[i - k->has_log_base];
}

static int
look_for_bases(struct keeping *k, struct err *e)
{
        struct txlog_record first;
        int r = history_images_list(k->policy->os, k->dir, &k->images, e);

        db_get_info(k->db, &k->info);
        if (r == 0 && txlog_first(db_log(k->db), &first) && first.min_txid == 1) {
                k->log_base = (struct history_image){ { first.max_txid, first.post_apply_checksum },
                                                      first.timestamp_ms,
                                                      0 };
                k->has_log_base = k->images.n == 0 || k->images.items[0].pos.txid > first.max_txid;
        }
        return r;
}

static bool
has_base(const struct keeping *k)
{
        return count_bases(k) > k->n_gone;
}

/* The log behind that transaction has to stay with the @i-th base: what is in the log itself is part of it. */
static uint64_t
log_needed_after(const struct keeping *k, size_t i)
{
        return base_at(k, i)->pos.txid - (base_at(k, i) == &k->log_base);
}

/* False: the log went on without it, as after a time in which nothing was kept, and no state begins with it. */
static bool
is_led_on_from(const struct keeping *k, const struct history_image *base)
{
        struct txlog_record first;

        return !txlog_first(db_log(k->db), &first) || first.min_txid <= base->pos.txid + 1;
}

/* With the bases from the @i-th on, and the log behind that. */
static uint64_t
bytes_from(const struct keeping *k, size_t i)
{
        uint64_t bytes = txlog_bytes_behind(db_log(k->db), log_needed_after(k, i));

        for (; i < count_bases(k); i++)
                bytes += base_at(k, i)->size_bytes;
        return bytes;
}

/* The last one goes when no state begins with it, or for the space that it takes with the log behind it. */
static bool
is_unwanted(const struct keeping *k, size_t i, int64_t cutoff_ms)
{
        return !is_led_on_from(k, base_at(k, i)) ||
               (i + 1 < count_bases(k) && base_at(k, i + 1)->time_ms <= cutoff_ms) ||
               bytes_from(k, i) > k->policy->max_bytes;
}

/* How many of the oldest bases go. */
static size_t
count_unwanted(const struct keeping *k)
{
        int64_t cutoff_ms = clock_wall_ms(k->policy->clock) - k->policy->keep_ms;
        size_t n = 0;

        /* A database that was deleted so long ago has no state in that time. */
        if (k->info.page_count == 0 && k->info.timestamp_ms < cutoff_ms)
                return count_bases(k);
        while (n < count_bases(k) && is_unwanted(k, n, cutoff_ms))
                n++;
        return n;
}

static int
let_bases_go(struct keeping *k, struct err *e)
{
        int r = 0;

        k->n_gone = count_unwanted(k);
        for (size_t i = 0; i < k->n_gone && r == 0; i++)
                if (base_at(k, i) != &k->log_base)
                        r = history_image_remove(k->policy->os, k->dir, base_at(k, i), e);
        if (r < 0)
                return r;
        /* One without a transaction is about to get its first, which is a base. */
        db_keep_log(k->db, has_base(k)             ? log_needed_after(k, k->n_gone)
                           : k->info.pos.txid == 0 ? 0
                                                   : UINT64_MAX);
        return 0;
}

/* Whatever has failed, no log grows beyond what all may take. */
static void
bound_log(const struct keeping *k)
{
        if (txlog_bytes_behind(db_log(k->db), db_kept_log(k->db)) > k->policy->max_bytes)
                db_keep_log(k->db, UINT64_MAX);
}

/* --- the next one --- */

static uint64_t
database_bytes(const struct keeping *k)
{
        return (uint64_t)k->info.page_count * k->info.page_size;
}

static bool
is_due(const struct keeping *k)
{
        uint64_t every = k->policy->every > 0 ? k->policy->every : HISTORY_EVERY;
        const struct history_image *last;

        if (k->info.page_count == 0 || k->info.is_failed)
                return false;
        if (!has_base(k))
                return true;
        if (database_bytes(k) > every)
                every = database_bytes(k);
        last = base_at(k, count_bases(k) - 1);
        return txlog_bytes_behind(db_log(k->db), last->pos.txid) >= every;
}

static uint64_t
free_bytes(const struct keeping *k)
{
        char path[PATH_MAX];
        struct statvfs v;

        if (k->policy->free_bytes > 0)
                return k->policy->free_bytes;
        if (snprintf(path, sizeof path, "%s/..", k->dir) >= (int)sizeof path || statvfs(path, &v) < 0)
                return UINT64_MAX;
        return (uint64_t)v.f_bavail * v.f_frsize;
}

static int
check_room(const struct keeping *k, struct err *e)
{
        uint64_t need = database_bytes(k);

        if (need > k->policy->max_bytes / 2)
                return err_text(e, -EFBIG,
                                "data.history-size allows %llu bytes for each database, and this one "
                                "has %llu: it needs twice that, and better four times",
                                (ull)k->policy->max_bytes, (ull)need);
        if (free_bytes(k) >= 2 * need)
                return 0;
        return err_text(e, -ENOSPC,
                        "a whole database of %llu bytes is due, and less than twice that is free",
                        (ull)need);
}

static int
copy_snapshot(const struct keeping *k, struct db_snapshot *snap, struct history_image_writer *w,
              struct err *e)
{
        int r;

        while ((r = db_snapshot_read(snap, CHUNK, &w->sink, e)) > 0)
                if (!k->policy->goes_on(k->policy->arg))
                        return err_set(e, -ECANCELED, "a whole database for the history");
        return r;
}

/* Only what nobody can take back any more is a past state. 1: it is. */
static int
is_settled(const struct keeping *k, uint64_t txid, struct err *e)
{
        int r = txlog_sync(db_log(k->db), txlog_end_lsn(db_log(k->db)), e);

        return r < 0 ? r : db_replicable_txid(k->db) >= txid;
}

/* The snapshot, of which a database has one at a time, is there for the copy alone. 1: @ret_record is what was copied. */
static int
copy_database(const struct keeping *k, struct history_image_writer *w, struct txlog_record *ret_record,
              struct err *e)
{
        struct db_snapshot *snap = NULL;
        int r = db_snapshot_open(k->db, &snap, ret_record, e);

        if (r < 0)
                return r;
        /* What is committed until the base is there leads on from it. */
        if (!has_base(k))
                db_keep_log(k->db, ret_record->max_txid);
        if (ret_record->commit > 0) {
                r = copy_snapshot(k, snap, w, e);
                r = r == 0 ? 1 : r;
        }
        db_snapshot_close(snap);
        return r;
}

static int
write_base(const struct keeping *k, struct err *e)
{
        struct history_image_writer w;
        struct txlog_record rec;
        int r = history_image_begin(k->policy->os, k->dir, &w, e);

        if (r == 0)
                r = copy_database(k, &w, &rec, e);
        if (r > 0 && (r = is_settled(k, rec.max_txid, e)) > 0) {
                r = history_image_finish(&w, rec.timestamp_ms, k->policy->goes_on, k->policy->arg, e);
                r = r == 0 ? 1 : r;
        }
        history_image_end(&w);
        return r;
}

static int
make_base(const struct keeping *k, struct err *e)
{
        int r = check_room(k, e);

        /* The next base may be long in coming, and no disk is filled for the sake of the past. */
        if (r == -ENOSPC)
                db_keep_log(k->db, UINT64_MAX);
        if (r < 0)
                return r;
        r = write_base(k, e);
        return r == -EAGAIN || r == -ENOENT ? 0 : r;
}

int
history_keep(const struct keep_policy *p, struct db *db, const char *dir, struct err *e)
{
        struct keeping k = { .policy = p, .db = db, .dir = dir };
        int r = look_for_bases(&k, e);

        if (r == 0)
                r = let_bases_go(&k, e);
        if (r == 0 && is_due(&k))
                r = make_base(&k, e);
        if (r < 0)
                bound_log(&k);
        history_images_release(&k.images);
        return r;
}
