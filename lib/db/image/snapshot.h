/* lib/db/image/snapshot.h - the committed pages of a database as of one moment, while writers and checkpoints go on.
 *
 * Whoever is about to overwrite bytes of the database file or the WAL that the snapshot has yet to read saves the old
 * ones first, in a spool. So a snapshot costs writers one read and one memory copy for each page that they change before
 * it has passed, and nothing after.
 *
 * One snapshot of an image at a time. Threads: one uses the snapshot, any that may change the image calls the rest. */
#ifndef LITEFS_DB_IMAGE_SNAPSHOT_H
#define LITEFS_DB_IMAGE_SNAPSHOT_H

#include <stdint.h>

#include "db/image/image.h"

/* The newest frame of each page that only the WAL has. */
struct image_wal_pages {
        int fd;           /* the WAL; until image_save_wal */
        uint32_t *frames; /* [pgno - 1], 0: the file has it; NULL: the file has all. By malloc */
};

/* Without locks; the image outlives it. */
int image_snapshot_new(struct db_image *img, const char *tmp_dir, struct image_snapshot **ret);
void image_snapshot_free(struct image_snapshot *snap); /* NULL is fine */
/* With the database's lock: another one is being read. */
bool image_has_snapshot(struct db_image *img);
/* The moment. With the database's lock, when there is no other. Takes @wal->frames, also when it fails. */
int image_snapshot_begin(struct image_snapshot *snap, const struct image_wal_pages *wal);
/* Pages come in rising order. The memory lives until the next call. */
int image_snapshot_read(struct image_snapshot *snap, uint32_t pgno, const uint8_t **ret);

/* Before bytes [from, to) of the database file are overwritten or cut. */
void image_save_file(struct db_image *img, uint64_t from, uint64_t to);
/* Before the WAL begins anew, is cut, or goes. */
void image_save_wal(struct db_image *img);
/* Before and after a checkpoint writes @frame into the file as @pgno. */
void image_save_frame(struct db_image *img, uint32_t pgno, uint32_t frame);
void image_note_copied(struct db_image *img, uint32_t pgno, uint32_t frame);

#endif
