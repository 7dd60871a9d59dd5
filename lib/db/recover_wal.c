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

/* Of the log's last record. */
static int
read_last_header(struct db *db, struct ltx_header *ret, struct err *e)
{
        struct txlog_reader *reader = NULL;
        struct ltx_decoder *decoder = NULL;
        struct txlog_record record;
        struct byte_src *src;
        int r = ltx_decoder_new(&decoder);

        if (r == 0)
                r = txlog_reader_open(db->log, db->pos.txid - 1, &reader, e);
        if (r == 0)
                r = txlog_reader_next(reader, &record, &src, e);
        if (r > 0)
                r = ltx_decoder_begin(decoder, LTX_V3, src, ret, e);
        else if (r == 0)
                r = -ENOENT;
        txlog_reader_close(reader);
        ltx_decoder_free(decoder);
        return r;
}

/* How many frames of the WAL the log has: -ENOENT when the one does not follow the other. */
static int64_t
count_logged_frames(struct db *db, const struct ltx_header *last)
{
        uint32_t frame_size = WAL_FRAME_HEADER_SIZE + db->image.page_size;
        struct wal_state ws;

        wal_get_state(db->wal, &ws);
        if (last->node_id != db->env->node_id)
                return -ENOENT;
        if (last->wal_size > 0 && last->wal_salt1 == ws.salt1 && last->wal_salt2 == ws.salt2)
                return (last->wal_offset + last->wal_size - WAL_HEADER_SIZE) / frame_size;
        /* It has begun anew since, for which all of it must have been in the log; or there was none before. */
        return last->wal_size == 0 || last->wal_salt1 + 1 == ws.salt1 ? 0 : -ENOENT;
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
        n_logged = count_logged_frames(db, &last);
        if (n_logged < 0 || !db->env->takes_wal_tail) {
                keep_wal_beside(db, path,
                                n_logged < 0 ? "it does not follow the log's end"
                                             : "another node may have led meanwhile");
                return 0;
        }
        r = capture_tail(a, n_logged, &n, e);
        if (r < 0)
                keep_wal_beside(db, path, e->text);
        if (n > 0)
                log_event(LOG_INFO, db->name, "recovered: %d transactions that only the WAL had", n);
        return n > 0 ? txlog_sync(db->log, db->last_lsn, e) : 0;
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
        db->last_lsn = txlog_end_lsn(db->log);
        access_lock(a);
        db->is_recovering = true;
        r = take_tail(a, path, e);
        db->is_recovering = db->is_unconfirmed = db->has_news = false;
        os_close(db->env->os, "recover:close", wal_detach(db->wal));
        access_unlock(a);
        return r == -ENOENT ? 0 : r;
}
