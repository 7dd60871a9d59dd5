/* lib/history/moment.h - a past state of a database, read from its log while the database goes on.
 *
 *   parse   what a person has written: a transaction, or a time
 *   find    which transaction that is, in a few reads
 *   open    an index of the log up to there: for each page, where its last image before lies. Reads all of that log, and
 *           proves its bytes by their checksums
 *   read    as a file, or page by page
 *
 * A moment that is open stays as it is: it has the log's segments open that it reads, also when retention lets them go. It
 * costs 8 bytes a page, 8 more for each page of the whole database that is kept beside the log where it begins with one, and a
 * descriptor for each of those files.
 *
 * Threads: any; of the reads any number at once. */
#ifndef LITEFS_HISTORY_MOMENT_H
#define LITEFS_HISTORY_MOMENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/os.h"
#include "ltx/pos.h"
#include "txlog/txlog.h"

#define MOMENT_PAGES_MAX (1u << 26) /* of a state that can be opened: 512 MiB of index */
#define MOMENT_SEGMENTS_MAX 1024u

struct moment_spec {
        uint64_t txid;   /* 0: by time */
        int64_t time_ms; /* the last transaction that is no younger */
};
/* RFC 3339 with Z; -N[smhd], before @now_ms; or 16 hex digits of a transaction. 0, or -EINVAL: it is none of them. */
int moment_spec_parse(const char *text, int64_t now_ms, struct moment_spec *ret);

struct moment_info {
        struct ltx_pos pos;
        int64_t time_ms; /* of the transaction */
        uint32_t page_size, page_count;
        bool is_hidden; /* it was deleted after that, or another database took its place: who may read what has the name now,
                           if anything does, need not be who might then */
};
/* @last_txid: what comes after it in the log is nobody's yet. E_NOT_FOUND when the log has no such state, or it is that of a
 * database which is deleted; -EAGAIN as txlog_reader_open. */
int moment_find(struct txlog *log, const struct moment_spec *spec, uint64_t last_txid,
                struct moment_info *ret, struct err *e);

/* Each transaction of the log up to @last_txid, in its order, until @fn returns other than 0, which is returned. */
int moment_each(struct txlog *log, uint64_t last_txid,
                int (*fn)(void *arg, const struct txlog_record *record), void *arg, struct err *e);

struct moment;
/* @info of moment_find. @images_dir has whole databases that are kept beside the log (images.h); NULL: none are. E_NOT_FOUND
 * also when the log does not lead there from a whole database, be it in the log or beside it; -EAGAIN as before. The log may
 * be closed while the moment is open. */
int moment_open(const struct os *os, struct txlog *log, const char *images_dir,
                const struct moment_info *info, struct moment **ret, struct err *e);
const struct moment_info *moment_get_info(const struct moment *m);
/* Of memory that it takes. */
uint64_t moment_bytes(const struct moment *m);
/* The file: bytes read, less than @n only at its end, or a negative error. The lock page is zeros. Bytes 18 and 19 are 1: SQLite opens no file in
 * WAL mode for reading that has no WAL and cannot get one. */
ssize_t moment_read(const struct moment *m, void *buf, size_t n, uint64_t off, struct err *e);
void moment_close(struct moment *m); /* NULL is fine */

#endif
