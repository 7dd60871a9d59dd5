/* lib/history/images.h - whole databases that are kept beside a log, so that past states are there which the log alone does
 * not lead to.
 *
 * dbs/NAME/history/TXID-CHECKSUM-MS.ltx: position and time of its transaction, 16 hex digits each. In the file is the database
 * as LTX, and behind that the checksum of each page (docs/on-disk.md): their sum is the position's, which proves them, and
 * they prove each page when it is read. So one is opened without reading all of it. What has that name is whole and durable.
 *
 * Any thread; one at a time makes images of a database. */
#ifndef LITEFS_HISTORY_IMAGES_H
#define LITEFS_HISTORY_IMAGES_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/os.h"
#include "base/stream.h"
#include "ltx/page_frame.h"
#include "ltx/pos.h"
#include "store/store.h"

#define HISTORY_DIR "history" /* in a database's directory */

/* Where they are, in @buf; NULL: its path would be too long. */
const char *history_images_dir(struct store *s, const struct db *db, char buf[PATH_MAX]);

struct history_image {
        struct ltx_pos pos;
        int64_t time_ms;     /* of its transaction */
        uint64_t size_bytes; /* of the file */
};

struct history_images {
        struct history_image *items; /* by TXID */
        size_t n;
};
/* No such directory: none. @ret is the caller's to release, also after an error. */
int history_images_list(const struct os *os, const char *dir, struct history_images *ret, struct err *e);
void history_images_release(struct history_images *l);
/* The TXID of the oldest, with which states begin that the log leads on to; UINT64_MAX: there is none. */
uint64_t history_images_begin(const struct os *os, const char *dir);
/* It may be gone already. Those before it have to be removed first, each durably, or a power loss could leave a gap. */
int history_image_remove(const struct os *os, const char *dir, const struct history_image *image,
                         struct err *e);

/* --- reading one --- */

struct history_image_reader {
        int fd;
        uint32_t page_size, page_count;
        uint64_t ltx_bytes;
        uint8_t *index;
        struct ltx_index_cursor cursor; /* at the beginning of the index */
        uint64_t *sums;                 /* [pgno - 1], proved; 0 for the lock page */
};
/* E_CHECKSUM, E_FORMAT: it is damaged. */
int history_image_open(const struct os *os, const char *dir, const struct history_image *image,
                       struct history_image_reader *ret, struct err *e);
void history_image_close(const struct os *os, struct history_image_reader *r);

/* --- making one --- */

struct history_image_writer {
        struct byte_sink sink; /* takes the database as an LTX file with checksums, that of a snapshot */
        const struct os *os;
        char path[PATH_MAX]; /* while it is being written */
        const char *dir;
        int fd;
        uint64_t off, synced;
};
/* Removes what was left half written. @dir is borrowed until the end. */
int history_image_begin(const struct os *os, const char *dir, struct history_image_writer *ret,
                        struct err *e);
/* All has been written: reads it again, proves it, and gives it its name. @goes_on is asked now and then; false: -ECANCELED. */
int history_image_finish(struct history_image_writer *w, int64_t time_ms, bool (*goes_on)(void *arg),
                         void *arg, struct err *e);
/* Whatever finish returned. What was not finished is removed. */
void history_image_end(struct history_image_writer *w);

#endif
