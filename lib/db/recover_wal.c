/* Commits that only the WAL has: applications wrote it without us (passed.h), and did not sync, or litefs was killed before
 * it had seen them. They are the log's next, if the log ends where the WAL says, by this node's own hand; SQLite's own
 * recovery would find the same. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/log.h"
#include "db/db_internal.h"
#include "ltx/decoder.h"
#include "sqlite/wal_format.h"

#define CHAINS_BACK \
        65536u /* a chain whose salt is as little below another's is older; one that is drawn seldom is */

/* The headers of the log's records, from the one that follows @after_txid. */
struct header_walk {
        struct txlog_reader *reader;
        struct ltx_decoder *decoder;
};

static int
header_walk_open(struct db *db, uint64_t after_txid, struct header_walk *ret, struct err *e)
{
        int r = ltx_decoder_new(&ret->decoder);

        return r == 0 ? txlog_reader_open(db->log, after_txid, &ret->reader, e) : r;
}

/* 1; 0: there is no more; <0. */
static int
header_walk_next(struct header_walk *hw, struct ltx_header *ret, struct err *e)
{
        struct txlog_record record;
        struct byte_src *src;
        int r = txlog_reader_next(hw->reader, &record, &src, e);

        if (r <= 0)
                return r;
        r = ltx_decoder_begin(hw->decoder, LTX_V3, src, ret, e);
        return r < 0 ? r : 1;
}

static void
header_walk_close(struct header_walk *hw)
{
        txlog_reader_close(hw->reader);
        ltx_decoder_free(hw->decoder);
}

static int
read_last_header(struct db *db, struct ltx_header *ret, struct err *e)
{
        struct header_walk hw = { 0 };
        int r = header_walk_open(db, db->pos.txid - 1, &hw, e);

        if (r == 0)
                r = header_walk_next(&hw, ret, e);
        header_walk_close(&hw);
        return r > 0 ? 0 : r < 0 ? r : -ENOENT;
}

static bool
is_of_chain(const struct ltx_header *h, const struct wal_state *ws)
{
        return h->wal_size > 0 && h->wal_salt1 == ws->salt1 && h->wal_salt2 == ws->salt2;
}

/* 1: a record is of this chain; 0. */
static int
log_knows_chain(struct db *db, const struct wal_state *ws, struct err *e)
{
        struct header_walk hw = { 0 };
        struct txlog_record first;
        struct ltx_header h;
        int r = txlog_first(db->log, &first) ? header_walk_open(db, first.max_txid - 1, &hw, e) : 0;

        while (r == 0 && hw.reader != NULL && (r = header_walk_next(&hw, &h, e)) > 0) {
                if (is_of_chain(&h, ws))
                        break;
                r = 0;
        }
        header_walk_close(&hw);
        return r;
}

/* How many frames of the WAL the log has, of which the last record is @last. -ESTALE: all of them, and what came after; a
 * power cut can bring a removed WAL back. -ENOENT: the one does not follow the other. */
static int
count_logged_frames(struct db *db, const struct ltx_header *last, int64_t *ret, struct err *e)
{
        uint32_t frame_size = WAL_FRAME_HEADER_SIZE + db->image.page_size;
        struct wal_state ws;
        int r;

        *ret = 0;
        wal_get_state(db->wal, &ws);
        if (is_of_chain(last, &ws)) {
                *ret = (last->wal_offset + last->wal_size - WAL_HEADER_SIZE) / frame_size;
                return last->node_id == db->env->node_id ? 0 : -ENOENT;
        }
        r = log_knows_chain(db, &ws, e);
        if (r > 0)
                return -ESTALE;
        if (r == -ENOMEM)
                return r;
        if (r < 0) /* an old record that cannot be read is no reason to do without the database */
                return -ENOENT;
        if (last->node_id != db->env->node_id)
                return -ENOENT;
        /* It has begun since, for which all of the one before must have been in the log. The first salt counts up: this is an
         * older one, of which retention has taken the records. */
        return last->wal_size > 0 && last->wal_salt1 - ws.salt1 - 1 < CHAINS_BACK ? -ENOENT : 0;
}

/* Commits behind the first @n_logged frames, one after the other: how many; negative, and those before it stand. */
static int
capture_tail(struct db_access *a, int64_t n_logged, int *ret_n, struct err *e)
{
        struct db *db = a->db;
        uint32_t commit;
        int r = wal_skip_logged(db->wal, (uint32_t)n_logged, a->room);

        while (r == 0 && (r = wal_find_commit(db->wal, a->room, &commit)) > 0) {
                r = capture_frames(a, commit, NULL, e);
                *ret_n += r >= 0;
        }
        return r;
}

static void
keep_wal_beside(struct db *db, const char *path, const char *why)
{
        char to[PATH_MAX];

        if (db_path(db, "wal.left", to, sizeof to) == 0 &&
            os_rename(db->env->os, "recover:wal", path, to) == 0)
                log_event(
                        LOG_WARN, db->name,
                        "the WAL of an earlier run may have commits that the log lacks, and is kept as %s: %s",
                        to, why);
}

static int
take_tail(struct db_access *a, const char *path, struct err *e)
{
        struct db *db = a->db;
        struct ltx_header last;
        int64_t n_logged;
        int n = 0, r;

        r = wal_take_file(db->wal, path, path);
        if (r < 0 || !wal_is_live(db->wal))
                return r;
        r = read_last_header(db, &last, e);
        if (r < 0)
                return r;
        r = count_logged_frames(db, &last, &n_logged, e);
        if (r == -ESTALE)
                return 0;
        if (r < 0 && r != -ENOENT)
                return r;
        if (r < 0 || !db->env->takes_wal_tail) {
                keep_wal_beside(db, path,
                                r < 0 ? "it does not follow the log's end"
                                      : "another node may have led meanwhile");
                return 0;
        }
        r = capture_tail(a, n_logged, &n, e);
        if (r < 0)
                keep_wal_beside(db, path, e->text);
        if (n > 0)
                log_event(LOG_INFO, db->name, "recovered: %d transactions that only the WAL had", n);
        return n > 0 ? txlog_sync(db->log, db->last.lsn, e) : 0;
}

bool
recover_has_wal_tail(struct db *db)
{
        char path[PATH_MAX];
        struct stat st;

        return db_path(db, "passed", path, sizeof path) == 0 &&
               os_lstat(db->env->os, "recover:wal", path, &st) == 0;
}

int
recover_wal_tail(struct db_access *a, struct err *e)
{
        struct db *db = a->db;
        char path[PATH_MAX];
        int r = db_path(db, "wal", path, sizeof path);

        if (r < 0 || db->pos.txid == 0 || db->image.page_count == 0)
                return r;
        db->last.lsn = txlog_end_lsn(db->log);
        access_lock(a);
        db->is_recovering = true;
        r = take_tail(a, path, e);
        db->is_recovering = db->last.is_unconfirmed = db->has_news = false;
        os_close(db->env->os, "recover:close", wal_detach(db->wal));
        access_unlock(a);
        return r == -ENOENT ? 0 : r;
}
