#include "db/snapshot.h"

#include <errno.h>
#include <stdlib.h>

#include "db/db_internal.h"
#include "db/image/snapshot.h"
#include "ltx/checksum.h"

struct db_snapshot {
        struct db *db;
        struct image_snapshot *pages;
        struct ltx_encoder *encoder;
        struct ltx_header header;
        uint64_t post_apply_checksum;
        uint32_t read_pgno; /* what is read next */
        bool has_begun;
        struct counting_sink {
                struct byte_sink base;
                struct byte_sink *out;
                size_t n;
        } sink;
};

static int
write_counted(struct byte_sink *sink, const void *buf, size_t n)
{
        struct counting_sink *s = (struct counting_sink *)sink;

        s->n += n;
        return s->out->write(s->out, buf, n);
}

/* --- the state at the position --- */

/* With the database's lock. */
static int
begin_snapshot(struct db_snapshot *snap)
{
        struct db *db = snap->db;
        struct image_wal_pages wal;
        int r = db_wake(db);

        if (r < 0)
                return r;
        if (db->use.state != DB_READY || image_has_snapshot(&db->image))
                return db->use.state == DB_FAILED ? -EIO : -EAGAIN;
        if (db->pos.txid == 0)
                return -ENOENT;
        snap->header = (struct ltx_header){ .page_size = db->image.page_size,
                                            .commit = db->image.page_count,
                                            .min_txid = 1,
                                            .max_txid = db->pos.txid,
                                            .timestamp_ms = db->timestamp_ms,
                                            .node_id = db->env->node_id,
                                            .mark.hides_past = true }; /* for all that it can tell */
        snap->post_apply_checksum = db->pos.checksum;
        if (db->image.page_count == 0) { /* deleted: no page has a size */
                snap->header.page_size = 4096;
                return 0;
        }
        r = wal_map_pending(db->wal, &wal);
        return r < 0 ? r : image_snapshot_begin(snap->pages, &wal);
}

int
db_snapshot_open(struct db *db, struct db_snapshot **ret, struct txlog_record *ret_record, struct err *e)
{
        struct db_snapshot *snap = calloc(1, sizeof *snap);
        int r = snap == NULL ? -ENOMEM : 0;

        if (r < 0)
                return err_set(e, r, "snapshot %s", db->name);
        snap->db = db;
        snap->read_pgno = 1;
        snap->sink.base.write = write_counted;
        r = image_snapshot_new(&db->image, db->env->tmp_dir, &snap->pages);
        if (r == 0)
                r = ltx_encoder_new(db->env->is_compressed, &snap->encoder);
        if (r == 0) {
                db_lock(db);
                r = begin_snapshot(snap);
                pthread_mutex_unlock(&db->lock);
        }
        if (r < 0) {
                db_snapshot_close(snap);
                return err_set(e, r, "snapshot %s", db->name);
        }
        *ret_record = (struct txlog_record){ .min_txid = 1,
                                             .max_txid = snap->header.max_txid,
                                             .post_apply_checksum = snap->post_apply_checksum,
                                             .timestamp_ms = snap->header.timestamp_ms,
                                             .page_size = snap->header.page_size,
                                             .commit = snap->header.commit };
        *ret = snap;
        return 0;
}

void
db_snapshot_chain(struct db_snapshot *snap)
{
        snap->header.flags |= LTX_FLAG_NO_CHECKSUM;
        snap->header.node_id = 0;
        snap->header.chain_post = snap->post_apply_checksum;
        snap->post_apply_checksum = 0;
}

void
db_snapshot_close(struct db_snapshot *snap)
{
        if (snap == NULL)
                return;
        image_snapshot_free(snap->pages);
        ltx_encoder_free(snap->encoder);
        free(snap);
}

/* --- reading --- */

static int
encode_snapshot_pages(struct db_snapshot *snap, size_t want, struct err *e)
{
        uint32_t lock_pgno = ltx_lock_pgno(snap->header.page_size);
        const uint8_t *page;
        int r = 0;

        while (r == 0 && snap->read_pgno <= snap->header.commit && snap->sink.n < want) {
                uint32_t pgno = snap->read_pgno++;

                if (pgno == lock_pgno)
                        continue;
                r = image_snapshot_read(snap->pages, pgno, &page);
                if (r < 0)
                        return err_set(e, r, "read page %u of %s", pgno, snap->db->name);
                r = ltx_encoder_page(snap->encoder, pgno, page, e);
        }
        return r;
}

int
db_snapshot_read(struct db_snapshot *snap, size_t want, struct byte_sink *sink, struct err *e)
{
        int r = 0;

        snap->sink.out = sink;
        snap->sink.n = 0;
        if (!snap->has_begun) {
                r = ltx_encoder_begin(snap->encoder, &snap->header, &snap->sink.base, e);
                snap->has_begun = r == 0;
        }
        if (r == 0)
                r = encode_snapshot_pages(snap, want, e);
        if (r < 0)
                return r;
        if (snap->read_pgno <= snap->header.commit)
                return 1;
        return ltx_encoder_finish(snap->encoder, snap->post_apply_checksum, NULL, e);
}
