/* lib/db/record.h - the pages of one transaction as one record of the log. It sees the image and the log, and no more of
 * the database than that: who may commit, and who is told, is commit.c's.
 *
 * Order: record_begin, record_reserve, record_write. Only when that has returned 1: record_append, and record_move if it
 * is in the log. record_end in any case; what is not appended by then never was. Nothing of the image moves before the
 * record is in the log, and after that nothing can fail.
 *
 * Threads: one, which has the database to itself. record_reserve and record_move need its lock. */
#ifndef LITEFS_DB_RECORD_H
#define LITEFS_DB_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/stream.h"
#include "db/image/image.h"
#include "db/image/spool.h"
#include "ltx/encoder.h"
#include "ltx/pos.h"
#include "txlog/txlog.h"

/* What a transaction consists of. @pgnos rises strictly and may hold pages that turn out unchanged;
 * pages between the old and the new size that it lacks are taken as they are visible. NULL with
 * @is_snapshot: every page of the new image. */
struct commit_request {
        uint32_t page_size;
        uint32_t commit; /* new size in pages */
        bool is_snapshot;
        struct ltx_mark mark;
        const uint32_t *pgnos;
        uint32_t n_pgnos;
        /* The @i-th of them, in @room or elsewhere; NULL and *ret_error. */
        const uint8_t *(*get)(const struct commit_request *rq, uint32_t i, uint8_t *room,
                              int *ret_error);
        const void *arg;
        int64_t wal_offset, wal_size;
        uint32_t wal_salt1, wal_salt2;
};

/* What it follows, and where it goes. */
struct record_context {
        struct txlog *log;
        struct ltx_pos pos; /* before it */
        uint64_t node_id;
        int64_t timestamp_ms;
        uint8_t *room; /* for two pages */
        const struct err
                *refusal; /* NULL: it may be made. Else it is an error once something has changed: a
                                       rollback is nobody's to refuse */
        struct byte_sink *copy; /* the LTX file goes there as well; or NULL */
        const struct spool
                *given; /* the LTX file is there already, and its pages are in the image; or NULL: */
        struct txlog_record record; /* what it says of itself */
};

/* Kept from one transaction to the next. */
struct recorder {
        struct db_image *image;
        struct ltx_encoder *encoder;
        struct record_change *changes;
        uint32_t changes_capacity;
};
int recorder_init(struct recorder *rc, struct db_image *image, bool is_compressed);
void recorder_release(struct recorder *rc); /* of a zeroed one is fine */

struct record {
        struct recorder *rc;
        const struct commit_request *rq;
        const struct record_context *cx;
        struct ltx_header header;
        struct txlog_record record; /* complete after record_write */
        uint64_t lsn;               /* of its end, after record_append */
        uint32_t old_count;         /* pages that keep their place; 0 for a snapshot */
        uint32_t n_changes;
        uint64_t xor_sum;     /* of the new image, as far as walked */
        bool is_open;         /* in the log, neither appended nor aborted */
        struct pagesum fresh; /* the checksums of a snapshot */
        struct byte_sink *log;
        struct byte_sink both; /* the log, and cx->copy */
};

/* Both stay where they are until record_end. */
int record_begin(struct record *rec, struct recorder *rc, const struct commit_request *rq,
                 const struct record_context *cx, struct err *e);
/* So that record_move cannot fail. With the lock: checksums may move in memory. */
int record_reserve(struct record *rec, struct err *e);
/* 1: all of it is written, though nobody sees it; 0: nothing has changed; <0. */
int record_write(struct record *rec, struct err *e);
int record_append(struct record *rec, struct err *e);
/* After record_append, instead of record_move: 0, or why it may be there after a restart. */
int record_undo(struct record *rec, struct err *e);
/* The image is that of the transaction. With the lock. E_CHECKSUM: it is not. */
int record_move(struct record *rec);
void record_end(struct record *rec);

#endif
