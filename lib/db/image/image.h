/* lib/db/image/image.h - the pages of one database, in layers. A read takes each page from the uppermost that has it:
 *
 *   uncommitted   pages of the open transaction; what it has cut off is hidden       uncommitted.c
 *   writeback     committed, but their log record is not durable yet                 writeback.c
 *   the file      written only with committed pages whose log record is durable      image.c
 *
 * It knows no transactions, no log and no WAL: whoever owns the database says when a page may go one layer down, and
 * how long the log is. Whatever is about to change in the file is first saved for the snapshot that is being read
 * (image/snapshot.h), so the file is written and cut by the calls below alone.
 *
 * Threads: the database's lock guards all of it. A call changes what readers could see, and so needs the lock, unless it
 * says that its owner may make it without: then nothing that a reader sees changes by it, and no one else changes
 * anything meanwhile. `room` is memory for two pages of any size, the caller's. */
#ifndef LITEFS_DB_IMAGE_IMAGE_H
#define LITEFS_DB_IMAGE_IMAGE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/os.h"
#include "db/image/overlay.h"
#include "db/image/pagesum.h"

#define IMAGE_PAGE_MAX 65536u
#define IMAGE_NO_FLOOR UINT64_MAX

struct image_snapshot;

struct db_image {
        const struct os *os;
        int fd; /* the database file; -1 when there is none */
        uint32_t page_size;
        uint32_t page_count; /* committed */
        uint64_t size_bytes; /* of the file as applications see it */
        struct pagesum sums; /* of the committed pages, those that only the WAL has too */
        struct overlay uncommitted;
        uint64_t uncommitted_floor; /* bytes of the file from here on are cut by the open transaction */
        struct overlay writeback;
        uint64_t writeback_lsn; /* durable log end that allows them into the file */
        int writeback_error;    /* of the last attempt to write them */
        uint8_t *page_buf;      /* a room for whoever holds the lock; untouched parts cost nothing */
        pthread_mutex_t
                snapshot_lock; /* guards snapshot and what it points to; rank below the database's */
        struct image_snapshot *snapshot; /* that is being read, else NULL */
};

/* --- image.c --- */
/* -ENOMEM. To be released also then. */
int image_init(struct db_image *img, const struct os *os, const char *tmp_dir);
/* Closes the file. */
void image_release(struct db_image *img);
/* The overlays count pages as the image does from now on, those that are empty. */
void image_follow_page_size(struct db_image *img);
/* What @from has becomes @img's, its file too. Nothing is left over either. */
void image_take(struct db_image *img, struct db_image *from);

/* --- layers.c --- */
/* As applications see it, outside the WAL; less than @n only at the end. Zeros in holes. */
ssize_t image_read(struct db_image *img, void *buf, size_t n, uint64_t off);
/* The same of any bytes, also past the end (zeros). */
int image_read_visible(const struct db_image *img, uint8_t *buf, size_t n, uint64_t off,
                       uint8_t *scratch);
/* One page of it: in the overlay's memory, which lives until the next change, or in @room. The owner may. */
const uint8_t *image_visible_page(const struct db_image *img, uint32_t page_size, uint32_t pgno,
                                  uint8_t *room, int *ret_error);
/* The same of what is committed. */
const uint8_t *image_committed_page(const struct db_image *img, uint32_t page_size, uint32_t pgno,
                                    uint8_t *room, int *ret_error);

/* --- image.c: the file --- */
/* Into the file itself; what is there is saved for the snapshot. The owner may, where readers see the same before and
 * after. @tag: as for the calls of base/os.h. */
int image_write_file(struct db_image *img, const char *tag, const void *buf, size_t n, uint64_t off);
int image_cut_file(struct db_image *img, const char *tag, uint64_t size_bytes);

/* --- uncommitted.c --- */
static inline bool
image_is_dirty(const struct db_image *img)
{
        return !overlay_is_empty(&img->uncommitted) || img->uncommitted_floor != IMAGE_NO_FLOOR;
}
/* Any size at any offset: SQLite writes whole pages, cp and dd do not. */
int image_write(struct db_image *img, const uint8_t *p, size_t n, uint64_t off);
/* Cuts or extends what is visible. */
int image_truncate(struct db_image *img, uint64_t size_bytes);
void image_discard_uncommitted(struct db_image *img);
/* The pages that a commit to @commit pages has to look at, rising: those written, and those that a cut has turned to
 * zeros. *@ret is the caller's to free, after an error too. */
int image_list_uncommitted(const struct db_image *img, uint32_t commit, uint32_t **ret, uint32_t *ret_n);
/* Whole pages that a checkpoint has written into the file, where somebody else has written beside the WAL: SQLite counts
 * them as copied, and has readers look for them there. What is uncommitted must not hide them. */
int image_show_over_uncommitted(struct db_image *img, const uint8_t *buf, size_t n, uint64_t off);

/* --- writeback.c --- */
/* The uncommitted pages are committed: they go beside those that wait for @lsn from now on. After an error they are
 * neither here nor there. */
int image_commit_uncommitted(struct db_image *img, uint64_t lsn);
/* Room for that, so that it cannot fail. */
int image_reserve_writeback(struct db_image *img);
/* Writes them all into the file, for the caller knows that the log is durable; then image_end_writeback with the result.
 * The owner may: readers see the page here or the file's, which become the same. */
int image_write_back(struct db_image *img, uint8_t *room);
void image_end_writeback(struct db_image *img, int result);
/* Cuts what the file has past the committed end, when all of it is in the file. */
void image_trim_file(struct db_image *img);

#endif
