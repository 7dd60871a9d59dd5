/* lib/backup/dest.h - where backups go: objects by key, put whole or not at all.
 *
 * A key is the path of an object below the destination, "PLACE/NAME": PLACE is a database's path ("" when the destination is
 * of one database alone), NAME one of layout.h. An object is written front to back, appears when it is complete, and only if
 * its condition holds at that moment.
 *
 * One thread at a time uses a destination, but for the counters. Calls wait for the disk or the network. Errors that callers
 * act on: E_NOT_FOUND (no such object), -EEXIST and -ESTALE (the condition does not hold). */
#ifndef LITEFS_BACKUP_DEST_H
#define LITEFS_BACKUP_DEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "backup/layout.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/os.h"
#include "base/stream.h"

#define DEST_KEY_SIZE 1100 /* of a key with its NUL */
#define DEST_ETAG_SIZE 128
#define DEST_URL_SIZE 1024

struct dest;

enum dest_condition {
        DEST_ALWAYS,
        DEST_IF_ABSENT, /* else -EEXIST */
        DEST_IF_MATCH,  /* it is what @etag says, else -ESTALE */
};

struct dest_put_options {
        enum dest_condition condition;
        const char *etag;
        int64_t time_ms; /* of the last transaction, for tools that list; 0: none */
};

/* An object that is being written; its sink is the first member. */
struct dest_put {
        struct byte_sink sink;
        struct dest *dest;
};

/* One that is being read. */
struct dest_get {
        struct byte_src src;
        struct dest *dest;
        char etag[DEST_ETAG_SIZE]; /* of a small one that is read from its beginning */
};

typedef int (*dest_list_fn)(void *arg, const char *name, uint64_t size_bytes, int64_t time_ms);

struct dest_ops {
        int (*put_begin)(struct dest *d, const char *key, const struct dest_put_options *options,
                         struct dest_put **ret, struct err *e);
        int (*put_finish)(struct dest_put *p, char ret_etag[DEST_ETAG_SIZE], struct err *e);
        void (*put_abort)(struct dest_put *p);
        int (*get_begin)(struct dest *d, const char *key, uint64_t off, uint64_t max_bytes,
                         struct dest_get **ret, struct err *e);
        void (*get_end)(struct dest_get *g);
        int (*list)(struct dest *d, const char *place, dest_list_fn fn, void *arg, struct err *e);
        int (*remove)(struct dest *d, const char *key, struct err *e);
        /* Several at once; -ENOTSUP: it cannot be done so. NULL: one by one. */
        int (*remove_all)(struct dest *d, char (*keys)[DEST_KEY_SIZE], size_t n, struct err *e);
        int (*probe)(struct dest *d, struct err *e); /* NULL: conditions hold */
        void (*cancel)(struct dest *d);              /* NULL: calls end by themselves */
        void (*free)(struct dest *d);
};

/* Counted by those who use it; any thread reads. */
struct dest_counters {
        atomic_uint_fast64_t n_requests, n_errors, sent_bytes, received_bytes;
};

struct dest {
        const struct dest_ops *ops;
        enum backup_layout layout;
        char url[DEST_URL_SIZE];        /* for messages: no secrets in it */
        atomic_bool ignores_conditions; /* as dest_probe has found: then nobody notices another writer */
        /* What was not to be had when it was opened, for a log; code 0: nothing. Requests try again. */
        struct err not_ready;
        struct dest_counters counters;
};

/* A directory: "/path" or "file:///path", made when something is put there. */
int dest_file_open(const struct os *os, const char *url, struct dest **ret, struct err *e);

/* A bucket, as s3_init() has it. */
struct s3_options;
int dest_s3_open(const char *url, const struct s3_options *options, struct dest **ret, struct err *e);

/* "PLACE/NAME"; -ENAMETOOLONG. */
int dest_key(const char *place, const char *name, char ret[DEST_KEY_SIZE]);

/* After finish or abort @p is gone. *@ret_etag is what the object is now known by. */
int dest_put_begin(struct dest *d, const char *key, const struct dest_put_options *options,
                   struct dest_put **ret, struct err *e);
int dest_put_finish(struct dest_put *p, char ret_etag[DEST_ETAG_SIZE], struct err *e);
void dest_put_abort(struct dest_put *p);
/* The bytes from @off on, at most @max_bytes (0: all). */
int dest_get_begin(struct dest *d, const char *key, uint64_t off, uint64_t max_bytes,
                   struct dest_get **ret, struct err *e);
void dest_get_end(struct dest_get *g); /* NULL is fine */
/* Calls @fn with the name of each object of @place, in no order, until it gives a negative result, which is returned. None
 * is no error. */
int dest_list(struct dest *d, const char *place, dest_list_fn fn, void *arg, struct err *e);
/* Ends the call that is under way, and all after it, with -ECANCELED, if that can be done. Any thread. */
void dest_cancel(struct dest *d);
/* Finds out whether conditions hold there, by the object litefs.probe at its root. */
int dest_probe(struct dest *d, struct err *e);
/* One that is not there is no error. */
int dest_remove(struct dest *d, const char *key, struct err *e);
/* The same of @n, at most DEST_REMOVE_MAX, in no order, by one request where that can be done. An error: some may be there yet. */
#define DEST_REMOVE_MAX 500
int dest_remove_all(struct dest *d, char (*keys)[DEST_KEY_SIZE], size_t n, struct err *e);
void dest_free(struct dest *d); /* NULL is fine */

/* A small object at once: the number of bytes, with a NUL behind them; -EMSGSIZE when they are @size or more. */
ssize_t dest_read(struct dest *d, const char *key, char *buf, size_t size, char ret_etag[DEST_ETAG_SIZE],
                  struct err *e);
int dest_write(struct dest *d, const char *key, const struct dest_put_options *options, const void *buf,
               size_t n, char ret_etag[DEST_ETAG_SIZE], struct err *e);

#endif
