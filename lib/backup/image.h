/* lib/backup/image.h - a database file that is made of LTX files, one after the other.
 *
 * Each file is proved before the next: its own checksum, that it follows on, and where it has litefs's checksums (header.h)
 * that of the whole database, which is kept along: 8 bytes a page. What is at @fd is of no use after an error. One thread. */
#ifndef LITEFS_BACKUP_IMAGE_H
#define LITEFS_BACKUP_IMAGE_H

#include "backup/layout.h"
#include "base/err.h"
#include "base/os.h"
#include "base/stream.h"
#include "ltx/pos.h"

struct backup_image;

/* @fd: an empty file, open for writing, the caller's. */
int backup_image_new(const struct os *os, int fd, struct backup_image **ret);
/* @o: what it is called, which is what it has to be. */
int backup_image_apply(struct backup_image *im, const struct backup_object *o, struct byte_src *src,
                       struct err *e);
struct backup_image_state {
        struct ltx_pos pos;
        bool is_proved; /* the last file said which checksum the whole is to have */
        uint32_t page_size, page_count;
        int64_t time_ms; /* of the last transaction */
};
void backup_image_get_state(const struct backup_image *im, struct backup_image_state *ret);
void backup_image_free(struct backup_image *im); /* NULL is fine */

#endif
