/* lib/db/received.h - the bytes of one transaction that another node has committed, or of one made for this node.
 *
 * Order: received_init, bytes into .ltx, received_verify, then whatever reads its pages. The spool is owned; strings of the
 * env are borrowed. One thread at a time. */
#ifndef LITEFS_DB_RECEIVED_H
#define LITEFS_DB_RECEIVED_H

#include "base/err.h"
#include "db/db.h"
#include "db/ownership.h"
#include "db/image/spool.h"
#include "ltx/decoder.h"

#define RECEIVED_FILL_MAX (256u << 20) /* bytes of pages that another node has left out */
#define RECEIVED_CAP (1u << 20)        /* memory for the bytes of one transaction before they spill */

struct received {
        struct txlog_record record;   /* filled in by received_verify */
        uint32_t n_pages;             /* likewise: that are in it */
        struct ltx_mark mark;         /* likewise */
        uint32_t last_missing;        /* likewise: the highest page that is not in it; 0: all are */
        const atomic_bool *is_ending; /* as in struct db_env */
        enum txlog_history history;   /* of a snapshot: where this node is, to the one that made it */
        struct spool ltx;             /* the LTX v3 file */
        bool is_local; /* made on this node (db/import.h): it needs the lease, and is made durable */
        struct path_ownership *ownership; /* no transaction: who may open it from now on; made by malloc */
        bool is_absent; /* no transaction: the cluster does not have the database, and this node no more after it */
};

void received_init(struct received *rx, const struct db_env *env);
void received_release(struct received *rx);
/* Reads all of it: E_FORMAT, E_CHECKSUM. That it has the pages by which it grows a database is for whoever knows how large
 * that is: last_missing is none of them. -ECANCELED: the node ends. */
int received_verify(struct received *rx, struct err *e);
/* To a verified one, zero pages for those beyond @n_pages that it lacks, up to RECEIVED_FILL_MAX (E_FORMAT). LiteFS leaves
 * out pages of the free list that SQLite has never written. Its checksum stays: whether it is of that image is found
 * when it is applied. */
int received_fill(struct received *rx, uint32_t n_pages, const struct db_env *env, struct err *e);

/* Reads the pages of a received transaction one after the other. */
struct page_reader {
        struct spool_src src;
        const atomic_bool *is_ending;
        struct ltx_decoder *decoder;
        struct ltx_header header;
};

/* Then page_reader_next, and ltx_decoder_finish of .decoder. Close it also after a failure. */
int page_reader_open(struct page_reader *pr, const struct received *rx, struct err *e);
/* As ltx_decoder_next; -ECANCELED. */
int page_reader_next(struct page_reader *pr, uint8_t *page, uint32_t *ret_pgno, struct err *e);
void page_reader_close(struct page_reader *pr);

#endif
