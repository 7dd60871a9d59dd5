/* lib/backup/range.h - consecutive transactions of a log as one LTX file in the form that Litestream reads.
 *
 * No checksums (flags 0x2), but ours in the header's spare bytes; of each page its last image; the time of the last
 * transaction. A range ends before a transaction that is a whole database (another page size, an import) or a deletion:
 * neither can be a part of a file that follows another.
 *
 * Order: gather, and when it gave 1 write. Reusable. Pages are kept in at most 4 MiB of memory, more in an unlinked file;
 * the index costs 16 bytes a page. One thread at a time; the log may be appended to meanwhile. */
#ifndef LITEFS_BACKUP_RANGE_H
#define LITEFS_BACKUP_RANGE_H

#include "base/err.h"
#include "base/os.h"
#include "base/stream.h"
#include "ltx/header.h"
#include "ltx/pos.h"
#include "txlog/txlog.h"

struct backup_range;

#define BACKUP_RANGE_BREAK 2

int backup_range_new(const struct os *os, const char *tmp_dir, bool is_compressed,
                     struct backup_range **ret);
/* Takes up the transactions behind @from up to @max_txid, no more once @max_bytes of log were read. 1: there are some; 0:
 * there are none; BACKUP_RANGE_BREAK: the next one is a whole database or a deletion, and is *@ret_break. E_NOT_FOUND: the
 * log does not reach back to @from; E_POS_MISMATCH: @from is not in its history. */
int backup_range_gather(struct backup_range *rg, struct txlog *log, struct ltx_pos from,
                        uint64_t max_txid, uint64_t max_bytes, struct txlog_record *ret_break,
                        struct err *e);
/* Of the file; its chain_post with its max_txid is the position that it leads to. */
const struct ltx_header *backup_range_header(const struct backup_range *rg);
int backup_range_write(struct backup_range *rg, struct byte_sink *sink, struct err *e);
void backup_range_free(struct backup_range *rg); /* NULL is fine */

#endif
