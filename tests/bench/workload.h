/* tests/bench/workload.h - what the benchmark does to a database, one operation at a time.
 *
 * A worker is one process with one connection. setup() once, then for every operation before(), which is not
 * timed and may be NULL, and op(), which is; then finish(). All return 0, or -1 with a message on stderr. */
#ifndef LITEFS_BENCH_WORKLOAD_H
#define LITEFS_BENCH_WORKLOAD_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

struct options {
        const char *mode;    /* journal mode */
        const char *sync;    /* PRAGMA synchronous */
        unsigned rows;       /* rows a transaction; in fill, all rows */
        unsigned row_bytes;  /* random bytes in each row */
        unsigned procs;      /* workers for each database */
        unsigned warmup;     /* operations before the timed ones */
        unsigned long count; /* operations of each worker; 0: as many as fit in seconds */
        double seconds;
        bool immediate; /* BEGIN IMMEDIATE, also for one row */
        bool cold;      /* drop the kernel's caches before every operation; needs root */
};

struct worker {
        const struct options *opt;
        const char *path;
        uint64_t random; /* state of the generator, never 0 */
        sqlite3 *db;
        sqlite3_stmt *begin, *main, *commit;
        int64_t n_keys; /* read, open: rows are numbered from 1 to this */
        uint8_t *row;
};

struct workload {
        const char *name;
        int (*setup)(struct worker *w);
        int (*before)(struct worker *w);
        int (*op)(struct worker *w);
        void (*finish)(struct worker *w);
        bool adds_rows;
};

extern const struct workload workloads[]; /* ends with a NULL name */

/* Creates the database in @opt's journal mode, with an empty table, unless it exists. */
int database_prepare(const char *path, const struct options *opt);
/* Adds opt->rows rows, 1,000 a transaction. */
int database_fill(const char *path, const struct options *opt);
/* The number of rows, which is the highest key as nothing is deleted, and the size; -1: failed. */
int database_measure(const char *path, int64_t *ret_rows, int64_t *ret_bytes);

#endif
