/* lib/backup/dest_s3.h - a bucket as a destination; for dest_s3.c, s3_put.c, s3_get.c and s3_remove.c. */
#ifndef LITEFS_BACKUP_DEST_S3_H
#define LITEFS_BACKUP_DEST_S3_H

#include "backup/dest.h"
#include "s3/s3.h"

struct dest_s3 {
        struct dest base;
        struct s3 s3;
        bool removes_singly; /* it knows no request by which several go */
};

static inline struct s3 *
s3_of(struct dest *d)
{
        return &((struct dest_s3 *)d)->s3;
}

/* --- s3_put.c, s3_get.c: dest.h's objects --- */
int s3_put_begin(struct dest *dest, const char *key, const struct dest_put_options *options,
                 struct dest_put **ret, struct err *e);
int s3_put_finish(struct dest_put *put, char ret_etag[DEST_ETAG_SIZE], struct err *e);
void s3_put_abort(struct dest_put *put);
int s3_get_begin(struct dest *dest, const char *key, uint64_t off, uint64_t max_bytes,
                 struct dest_get **ret, struct err *e);
void s3_get_end(struct dest_get *get);
/* --- s3_remove.c --- */
int s3_remove_all(struct dest *dest, char (*keys)[DEST_KEY_SIZE], size_t n, struct err *e);

#endif
