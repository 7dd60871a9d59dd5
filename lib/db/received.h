/* lib/db/received.h - the bytes of one transaction that another node has committed, or of one made for this node.
 *
 * Order: received_init, bytes into .ltx, received_verify, then whatever reads its pages. The spool is owned; strings of the
 * env are borrowed. One thread at a time. */
#ifndef LITEFS_DB_RECEIVED_H
#define LITEFS_DB_RECEIVED_H

#include "base/err.h"
#include "db/db.h"
#include "db/spool.h"
#include "ltx/decoder.h"

#define RECEIVED_CAP (1u << 20) /* memory for the bytes of one transaction before they spill */

struct received {
        struct txlog_record record; /* filled in by received_verify */
        enum txlog_history history; /* of a snapshot: where this node is, to the one that made it */
        struct spool ltx;           /* the LTX v3 file */
        bool is_local; /* made on this node (db/import.h): it needs the lease, and is made durable */
        bool is_absent; /* no transaction: the cluster does not have the database, and this node no more after it */
};

void received_init(struct received *rx, const struct db_env *env);
void received_release(struct received *rx);
/* Reads all of it: E_FORMAT, E_CHECKSUM. */
int received_verify(struct received *rx, struct err *e);

/* Reads the pages of a received transaction one after the other. */
struct page_reader {
        struct spool_src src;
        struct ltx_decoder *decoder;
        struct ltx_header header;
};

/* Then ltx_decoder_next and ltx_decoder_finish of .decoder. Close it also after a failure. */
int page_reader_open(struct page_reader *pr, const struct received *rx, struct err *e);
void page_reader_close(struct page_reader *pr);

#endif
