/* The state at open, from what the disk holds.
 *
 * The base says which transaction the database file durably holds; the log is replayed from there over the
 * file. Replaying writes whole pages, so it may be cut short and begun again at any point. The wal-index and
 * the WAL are dropped: each commit in the WAL is in the log, and what is not is not committed. There is no
 * journal to roll back, because no uncommitted page ever enters the file.
 *
 * Where applications go on with a WAL (env->is_resumed), both stay, and the file is not written: a reader of an older
 * state would find newer pages in it. Then the log says what each page is, and that is where it must be found. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "db/adopt_litefs.h"
#include "db/image/base_file.h"
#include "db/db_internal.h"
#include "ltx/checksum.h"
#include "ltx/decoder.h"
#include "sqlite/dbheader.h"
#include "sqlite/wal_format.h"

struct replay {
        struct db *db;
        struct ltx_decoder *decoder;
        uint64_t n_records, n_bytes;
        bool has_tail;   /* the WAL may have commits that the log lacks */
        bool writes;     /* into the file; else: */
        uint32_t *pgnos; /* that the transactions have, in any order */
        size_t n_pgnos, capacity;
};

static int
remove_file(struct db *db, const char *file)
{
        char path[PATH_MAX];
        int r = db_path(db, file, path, sizeof path);

        if (r == 0)
                r = os_unlink(db->env->os, "recover:unlink", path);
        return r == -ENOENT ? 0 : r;
}

/* --- replay --- */

static int
note_page(struct replay *rp, uint32_t pgno)
{
        if (rp->n_pgnos == rp->capacity) {
                size_t capacity = rp->capacity == 0 ? 256 : rp->capacity * 2;
                uint32_t *pgnos = realloc(rp->pgnos, capacity * sizeof *pgnos);

                if (pgnos == NULL)
                        return -ENOMEM;
                rp->pgnos = pgnos;
                rp->capacity = capacity;
        }
        rp->pgnos[rp->n_pgnos++] = pgno;
        return 0;
}

static int
apply_page(struct replay *rp, uint32_t pgno, uint32_t page_size)
{
        struct db *db = rp->db;
        int r;

        if (rp->writes)
                r = os_pwrite_all(db->env->os, "recover:apply", db->image.fd, db->image.page_buf,
                                  page_size, (off_t)(pgno - 1) * page_size);
        else
                r = note_page(rp, pgno);
        if (r == 0)
                pagesum_set(&db->image.sums, pgno,
                            ltx_page_checksum(pgno, db->image.page_buf, page_size));
        return r;
}

static int
apply_pages(struct replay *rp, const struct ltx_header *h, struct err *e)
{
        struct db *db = rp->db;
        struct ltx_trailer trailer;
        uint32_t pgno = 0;
        int r;

        if (ltx_header_is_snapshot(h) || h->page_size != db->image.page_size)
                (void)pagesum_resize(&db->image.sums, 0);
        r = pagesum_resize(&db->image.sums, h->commit);
        if (r < 0)
                return err_set(e, r, "make room for %u page checksums", h->commit);
        while ((r = ltx_decoder_next(rp->decoder, db->image.page_buf, &pgno, e)) > 0) {
                r = apply_page(rp, pgno, h->page_size);
                if (r < 0)
                        return err_set(e, r, "write page %u to %s/database", pgno, db->dir);
        }
        if (r < 0)
                return r;
        return ltx_decoder_finish(rp->decoder, &trailer, e);
}

static int
apply_record(struct replay *rp, const struct txlog_record *record, struct byte_src *src, struct err *e)
{
        struct db *db = rp->db;
        struct ltx_header h;
        int r;

        r = ltx_decoder_begin(rp->decoder, LTX_V3, src, &h, e);
        if (r == 0)
                r = apply_pages(rp, &h, e);
        if (r < 0) {
                err_prefix(e, "replay transaction %016llx", (unsigned long long)record->max_txid);
                return r;
        }
        db->image.page_size = h.page_size;
        db->image.page_count = h.commit;
        db->timestamp_ms = h.timestamp_ms;
        db->pos = (struct ltx_pos){ record->max_txid, record->post_apply_checksum };
        rp->n_records++;
        rp->n_bytes += record->size_bytes;
        return 0;
}

static int
replay_after(struct replay *rp, uint64_t txid, struct err *e)
{
        struct txlog_reader *reader;
        struct txlog_record record;
        struct byte_src *src;
        int r;

        r = txlog_reader_open(rp->db->log, txid, &reader, e);
        if (r < 0)
                return r;
        while ((r = txlog_reader_next(reader, &record, &src, e)) > 0) {
                r = apply_record(rp, &record, src, e);
                if (r < 0)
                        break;
        }
        txlog_reader_close(reader);
        return r;
}

/* --- what there is to start from --- */

/* The file can stand on the base when it is there and as long as the base's image was; else all of it has
 * to come from the log. */
static bool
can_use_base(const struct base_info *base, off_t size)
{
        return base->txid > 0 && (size > 0 || base->page_count == 0);
}

static int
refuse_without_log(struct db *db, bool is_there, struct err *e)
{
        if (is_there)
                return err_text(
                        e, E_CORRUPT_DB,
                        "%s/database is there but its log is empty: nothing tells what state it is "
                        "in. To keep the file, move it out, start litefs, and copy it into the mount",
                        db->dir);
        return err_text(e, E_CORRUPT_DB,
                        "%s/database is missing and its log is empty, but %s/base says that there was "
                        "one; restore the file from a backup",
                        db->dir, db->dir);
}

/* The last record that needs nothing before it: a deletion, or a snapshot. 1 and the transaction before it, 0, or an
 * error. */
static int
find_restart(struct db *db, const struct txlog_record *first, uint64_t *ret_txid, struct err *e)
{
        struct txlog_reader *reader;
        struct txlog_record record;
        struct byte_src *src;
        int r, found = 0;

        r = txlog_reader_open(db->log, first->max_txid - 1, &reader, e);
        if (r < 0)
                return r;
        while ((r = txlog_reader_next(reader, &record, &src, e)) > 0)
                if (record.commit == 0 || record.min_txid == 1) {
                        *ret_txid = record.max_txid - 1;
                        found = 1;
                }
        txlog_reader_close(reader);
        return r < 0 ? r : found;
}

static int
start_from(struct db *db, struct base_info *base, struct err *e)
{
        bool had_pages = base->page_count > 0;
        struct txlog_record first;
        struct stat st;
        int r;

        r = os_fstat(db->env->os, "recover:stat", db->image.fd, &st);
        if (r < 0)
                return err_set(e, r, "stat %s/database", db->dir);
        if (can_use_base(base, st.st_size)) {
                db->image.page_size = base->page_size;
                db->image.page_count = base->page_count;
                return 0;
        }
        pagesum_release(&db->image.sums);
        *base = (struct base_info){ 0 };
        if (!txlog_first(db->log, &first))
                return st.st_size > 0 || had_pages ? refuse_without_log(db, st.st_size > 0, e) : 0;
        if (first.min_txid == 1)
                return 0;
        /* The file of a database that was deleted and made anew may not have got its name. */
        r = find_restart(db, &first, &base->txid, e);
        if (r == 0)
                return err_set(e, E_CORRUPT_DB,
                               "%s/database or base is missing and the log begins at transaction "
                               "%016llx, so the database cannot be rebuilt from it; restore the file "
                               "from a backup",
                               db->dir, (unsigned long long)first.min_txid);
        return r < 0 ? r : 0;
}

static int
check_recovered_end(struct db *db, const struct base_info *base, struct err *e)
{
        uint64_t base_txid = base->txid;
        struct txlog_record last;
        uint64_t sum = pagesum_total(&db->image.sums);

        if (!txlog_last(db->log, &last)) {
                if (base_txid == 0)
                        return 0;
                /* All records are gone by retention or a take-over: the base alone is the state. */
                db->pos = (struct ltx_pos){ base->txid, sum };
                db->timestamp_ms = base->timestamp_ms;
                return 0;
        }
        if (last.max_txid < base_txid)
                return err_set(e, E_CORRUPT_DB,
                               "the log ends at transaction %016llx, before the base %016llx",
                               (unsigned long long)last.max_txid, (unsigned long long)base_txid);
        db->pos = (struct ltx_pos){ last.max_txid, last.post_apply_checksum };
        db->timestamp_ms = last.timestamp_ms;
        db->image.page_size = last.page_size;
        db->image.page_count = last.commit;
        if (db->image.sums.n_pages != last.commit && pagesum_resize(&db->image.sums, last.commit) < 0)
                return err_set(e, -ENOMEM, "page checksums");
        sum = pagesum_total(&db->image.sums);
        if (sum != last.post_apply_checksum)
                return err_set(e, E_CORRUPT_DB,
                               "checksum %016llx at transaction %016llx, the log says %016llx; "
                               "`litefs ltx verify %s` shows whether the log is whole",
                               (unsigned long long)sum, (unsigned long long)last.max_txid,
                               (unsigned long long)last.post_apply_checksum, db->name);
        return 0;
}

/* --- the result --- */

static void
read_page_one_header(struct db *db)
{
        struct sqlite_dbheader h;
        ssize_t n;

        n = os_pread_all(db->env->os, "recover:read", db->image.fd, db->image.page_buf, 100, 0);
        if (n == 100 && sqlite_dbheader_parse(db->image.page_buf, 100, &h) == 0)
                db->is_wal = h.is_wal;
}

/* The base has to follow: retention goes by db->base.txid, and a base on disk that is older, with the file of the next
 * database of this name beside it, would have recovery look for transactions that retention has taken. */
static int
settle_without_file(struct db_access *a, uint64_t base_txid, struct err *e)
{
        struct db *db = a->db;
        int r;

        os_close(db->env->os, "recover:close", db->image.fd);
        db->image.fd = -1;
        db->image.page_size = 0;
        r = remove_file(db, "database");
        if (r < 0)
                return err_set(e, r, "remove %s/database", db->dir);
        return db->pos.txid > base_txid ? base_write_empty(a, db->pos.txid, e) : 0;
}

/* As db_close leaves it. */
static bool
is_base_near(const struct replay *rp)
{
        return rp->db->env->is_resumed && rp->n_bytes <= DB_REPLAYED_SOON;
}

static int
settle_base(struct db_access *a, uint64_t base_txid, const struct replay *rp, struct err *e)
{
        struct db *db = a->db;
        int r;

        if (db->image.page_count == 0)
                return settle_without_file(a, base_txid, e);
        r = os_ftruncate(db->env->os, "recover:cut", db->image.fd,
                         (off_t)db->image.page_count * db->image.page_size);
        if (r < 0)
                return err_set(e, r, "cut %s/database", db->dir);
        read_page_one_header(db);
        return db->pos.txid > base_txid && !is_base_near(rp) ? base_write(a, db->pos.txid, e) : 0;
}

static int
replay_log(struct replay *rp, uint64_t base_txid, struct err *e)
{
        struct db *db = rp->db;
        struct txlog_record last;
        int r;

        if (!txlog_last(db->log, &last) || last.max_txid <= base_txid)
                return 0;
        r = ltx_decoder_new(&rp->decoder);
        if (r < 0)
                return err_set(e, r, "replay the log");
        r = replay_after(rp, base_txid, e);
        ltx_decoder_free(rp->decoder);
        if (r == 0 && rp->n_records > 0 && rp->writes)
                log_event(LOG_INFO, db->name, "recovered: %llu transactions replayed from the log",
                          (unsigned long long)rp->n_records);
        return r;
}

/* --- a WAL that goes on --- */

static int
compare_replayed_pgno(const void *a, const void *b)
{
        uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

        return x < y ? -1 : x > y;
}

/* What the transactions since the base have changed is in the file or in the WAL. */
static int
check_replayed(struct db_access *a, struct replay *rp, struct err *e)
{
        struct db *db = a->db;
        int r = 0;

        if (rp->n_pgnos > 0) /* else there is no list, and qsort wants one */
                qsort(rp->pgnos, rp->n_pgnos, sizeof *rp->pgnos, compare_replayed_pgno);
        for (size_t i = 0; i < rp->n_pgnos && r == 0; i++)
                if (rp->pgnos[i] <= db->image.page_count && (i == 0 || rp->pgnos[i] != rp->pgnos[i - 1]))
                        r = verify_read_page(db, a->room, rp->pgnos[i], e);
        return r;
}

static int
resume_wal(struct db_access *a, struct replay *rp, struct err *e)
{
        struct db *db = a->db;
        int r = wal_resume(db->wal, db->pos.txid, txlog_end_lsn(db->log), recover_has_wal_tail(db),
                           a->room);

        if (r == E_CHECKSUM)
                return err_text(e, r, "%s/wal is not what was captured", db->dir);
        if (r < 0)
                return err_set(e, r, "go on with %s/wal", db->dir);
        return check_replayed(a, rp, e);
}

/* --- what LiteFS 0.5 has left --- */

/* Its state becomes our base, and only then do its files go. A database without LTX files has no position: it
 * gets transaction 1, so that replicas and the log can speak of it. */
static int
adopt_found(struct db *db, struct err *e)
{
        struct adopted ad;
        struct base_info base = { 0 };
        const struct os *os = db->env->os;
        int r;

        r = adopt_litefs(os, db->dir, &ad, e);
        if (r == 0 && (ad.page_count > 0 || ad.pos.txid > 0)) {
                base.txid = ad.pos.txid > 0 ? ad.pos.txid : 1;
                base.page_size = ad.page_size;
                base.timestamp_ms = ad.timestamp_ms;
                r = base_file_write(os, db->dir, &base, pagesum_copy, &ad.sums, e);
                if (r == 0)
                        r = base_file_publish(os, db->dir, e);
                if (r == 0)
                        log_event(LOG_INFO, db->name, "taken over from LiteFS at transaction %016llx",
                                  (unsigned long long)base.txid);
        }
        pagesum_release(&ad.sums);
        return r;
}

/* Its leavings can go whenever our base is there: also when a crash came between. */
static int
adopt_if_wanted(struct db *db, struct err *e)
{
        int r = adopt_litefs_wanted(db->env->os, db->dir, e);

        if (r > 0)
                r = adopt_found(db, e);
        if (r >= 0)
                r = adopt_litefs_has_leavings(db->env->os, db->dir, e);
        if (r > 0)
                r = adopt_litefs_finish(db->env->os, db->dir, e);
        return r;
}

/* 1: the WAL has a header, and frames perhaps; 0: there is none, or an empty one. */
static int
keep_wal(struct db *db, struct err *e)
{
        char path[PATH_MAX];
        struct stat st;
        int r = db_path(db, "wal", path, sizeof path);

        if (r == 0)
                r = wal_keep_file(db->wal, path);
        if (r == 0)
                r = wal_stat(db->wal, &st);
        if (r < 0)
                return r == -ENOENT ? 0 : err_set(e, r, "go on with %s/wal", db->dir);
        return st.st_size >= WAL_HEADER_SIZE;
}

/* The file as applications with a WAL see it: pages may be missing at its end yet, or be there still. */
static int
settle_beside_wal(struct db *db, struct err *e)
{
        struct stat st;
        int r = os_fstat(db->env->os, "recover:stat", db->image.fd, &st);

        if (r < 0)
                return err_set(e, r, "stat %s/database", db->dir);
        db->image.size_bytes = (uint64_t)st.st_size;
        read_page_one_header(db);
        return 0;
}

static int
drop_leavings(struct db *db, bool has_tail, struct err *e)
{
        int r = 0;

        if (!db->env->is_resumed &&
            ((!has_tail && (r = remove_file(db, "wal")) < 0) || (r = remove_file(db, "shm")) < 0))
                return err_set(e, r, "drop the WAL of an earlier run in %s", db->dir);
        if ((r = remove_file(db, "base.tmp")) < 0 || (r = remove_file(db, "renamed")) < 0)
                return err_set(e, r, "drop what an earlier run has left in %s", db->dir);
        return 0;
}

static int
open_log(struct db *db, uint64_t base_txid, struct err *e)
{
        struct txlog_options options = { db->env->segment_bytes };
        char log_dir[PATH_MAX];
        struct txlog *log;
        int r = db_path(db, "log", log_dir, sizeof log_dir);

        if (r == 0)
                r = txlog_open(db->env->os, log_dir, &options, base_txid, &log, e);
        if (r < 0)
                return r;
        db->log = log;
        if (txlog_torn_bytes(db->log) > 0) {
                txlog_describe_end(db->log, log_dir, sizeof log_dir);
                log_event(LOG_WARN, db->name,
                          "recovered: %llu bytes of an unfinished log record cut from %s",
                          (unsigned long long)txlog_torn_bytes(db->log), log_dir);
        }
        return 0;
}

/* Into the log, and from there into the file. Only then it goes. */
static int
add_wal_tail(struct db_access *a, struct replay *rp, struct err *e)
{
        struct db *db = a->db;
        uint64_t txid = db->pos.txid;
        int r = recover_wal_tail(a, e);

        if (r == 0 && db->pos.txid > txid)
                r = replay_log(rp, txid, e);
        db->image.size_bytes = (uint64_t)db->image.page_count * db->image.page_size;
        if (r == 0)
                r = remove_file(db, "wal");
        if (r == 0)
                r = remove_file(db, "passed");
        db->passed.is_removal_volatile = true;
        return r;
}

static int
recover_state(struct db_access *a, struct base_info *base, struct replay *rp, struct err *e)
{
        struct db *db = a->db;
        int r = start_from(db, base, e);

        if (r == 0)
                r = replay_log(rp, base->txid, e);
        if (r == 0)
                r = check_recovered_end(db, base, e);
        if (r < 0)
                return r;
        db->base.txid = base->txid;
        db->last.lsn = txlog_end_lsn(db->log);
        db->base.lsn = db->last.lsn - (rp->n_bytes < db->last.lsn ? rp->n_bytes : db->last.lsn);
        db->image.size_bytes = (uint64_t)db->image.page_count * db->image.page_size;
        if (!rp->writes)
                r = resume_wal(a, rp, e);
        else if (rp->has_tail)
                r = add_wal_tail(a, rp, e);
        if (r == 0)
                r = rp->writes ? settle_base(a, base->txid, rp, e) : settle_beside_wal(db, e);
        if (r == 0)
                db->sync.replicable_txid = db->pos.txid; /* as txlog_open left it */
        return r;
}

int
recover(struct db_access *a, struct err *e)
{
        struct db *db = a->db;
        struct replay rp = { .db = db, .writes = true };
        struct base_info base = { 0 };
        int r;

        r = adopt_if_wanted(db, e);
        rp.has_tail = !db->env->is_resumed && recover_has_wal_tail(db);
        if (r == 0)
                r = drop_leavings(db, rp.has_tail, e);
        if (r < 0)
                return r;
        if (db->env->is_resumed) {
                r = keep_wal(db, e);
                if (r < 0)
                        return r;
                rp.writes = r == 0;
        }
        r = base_file_read(db->env->os, db->dir, &base, &db->image.sums, e);
        if (r >= 0)
                r = open_log(db, base.txid, e);
        if (r < 0)
                return r;
        r = db_open_file(db);
        if (r < 0)
                return err_set(e, r, "open %s/database", db->dir);
        r = recover_state(a, &base, &rp, e);
        free(rp.pgnos);
        return r;
}
