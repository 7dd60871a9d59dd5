/* tests/sim/bucket.h - a bucket with the object of one lease, as lease/object.c uses it: GET, and PUT with conditions.
 *
 * Who asks may be told of trouble (500, 503) before or after his PUT is done; one that was on its way for long is done late. An
 * object that is put back to what it was has the ETag that it had. */
#ifndef LITEFS_TESTS_SIM_BUCKET_H
#define LITEFS_TESTS_SIM_BUCKET_H

#include "tests/sim/sim.h"

#define BUCKET_TEXT_SIZE 4096
#define BUCKET_OBJECTS_MAX 16 /* the lease, and what nodes try the bucket with */

struct bucket_object {
        char name[64]; /* "": none yet */
        bool is_there;
        char text[BUCKET_TEXT_SIZE];
};

struct bucket {
        struct sim *sim;
        int fault_permille;
        bool wants_unquoted; /* its If-Match compares an ETag without quotes with what it sends with them, as some servers do */
        struct bucket_object objects[BUCKET_OBJECTS_MAX]; /* the first is the lease */
        struct bucket_object backup, old_backup, other;   /* of the lease */
        int64_t backup_us;                                /* when backup was made */
};

void bucket_init(struct bucket *b, struct sim *sim);
/* Somebody writes that nobody holds the lease. */
void bucket_lose_holder(struct bucket *b);
/* The object is an empty one, as an operator puts it whose other one is gone. */
void bucket_empty(struct bucket *b);
void bucket_restore(struct bucket *b);
void bucket_exchange(struct bucket *b);
void bucket_back_up(struct bucket *b, int64_t age_us);
/* 0: it does not say. */
uint64_t bucket_last_term(const struct bucket *b);

/* @condition is the header, or "". The status, the body in @ret and the ETag in @ret_etag. */
int bucket_request(struct bucket *b, const char *method, const char *path, const char *body,
                   const char *condition, char *ret, char ret_etag[32]);

#endif
