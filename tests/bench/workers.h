/* tests/bench/workers.h - runs a workload in several processes that start together, and times it. */
#ifndef LITEFS_BENCH_WORKERS_H
#define LITEFS_BENCH_WORKERS_H

#include "workload.h"

#include <stdint.h>

struct result {
        uint64_t n_ops;    /* timed, of all workers */
        uint64_t n_warmup; /* done as well, before the clock started */
        double seconds; /* from the first worker's start to the last one's end; or of op() alone with before() */
        double p50_us, p99_us;
};

/* opt->procs workers for each of the @n_paths databases. 0, or -1 with a message on stderr. */
int workers_run(const struct workload *load, const struct options *opt, char **paths, unsigned n_paths,
                struct result *ret);
/* Overwrites one allocated 4 KiB block of a new file, with fdatasync, opt->count times. */
int fdatasync_run(const char *path, const struct options *opt, struct result *ret);

#endif
