#include "workers.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_OPS (1UL << 20) /* of a worker in one run */
#define NS 1000000000ULL

/* In shared memory: written by the worker, read by the parent after it exited. */
struct record {
        uint64_t begin_ns, end_ns, n_ops, sum_ns;
        uint64_t latency_ns[MAX_OPS]; /* untouched pages cost nothing */
};

/* A worker that is set up writes one byte to `ready` and waits for the end of `go`. */
struct gate {
        int ready[2], go[2];
};

static uint64_t
now_ns(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

static int
one_op(const struct workload *load, struct worker *w, uint64_t *ret_begin, uint64_t *ret_end)
{
        if (load->before && load->before(w) < 0)
                return -1;
        *ret_begin = now_ns();
        if (load->op(w) < 0)
                return -1;
        *ret_end = now_ns();
        return 0;
}

static int
timed_ops(const struct workload *load, struct worker *w, struct record *rec)
{
        uint64_t limit_ns = (uint64_t)(w->opt->seconds * (double)NS);
        uint64_t max_ops = w->opt->count && w->opt->count < MAX_OPS ? w->opt->count : MAX_OPS;
        uint64_t begin, end = rec->begin_ns = now_ns();

        while (rec->n_ops < max_ops && (w->opt->count || end - rec->begin_ns < limit_ns)) {
                if (one_op(load, w, &begin, &end) < 0)
                        return -1;
                rec->latency_ns[rec->n_ops++] = end - begin;
                rec->sum_ns += end - begin;
        }
        rec->end_ns = end;
        return 0;
}

static int
worker_main(const struct workload *load, struct worker *w, struct gate *gate, struct record *rec)
{
        uint64_t ignored;
        char byte = 'k';
        int r = load->setup(w);

        for (unsigned i = 0; r == 0 && i < w->opt->warmup; i++)
                r = one_op(load, w, &ignored, &ignored);
        if (r < 0)
                byte = 'x';
        close(gate->go[1]);
        if (write(gate->ready[1], &byte, 1) != 1 || r < 0)
                return 1;
        if (read(gate->go[0], &byte, 1) != 0)
                return 1;
        r = timed_ops(load, w, rec);
        load->finish(w);
        return r < 0;
}

static int
compare_u64(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return (x > y) - (x < y);
}

static double
percentile_us(const uint64_t *sorted, uint64_t n, double p)
{
        return n ? (double)sorted[(uint64_t)(p * (double)(n - 1))] / 1000.0 : 0;
}

static int
summarize(const struct record *recs, unsigned n, bool of_ops, struct result *ret)
{
        uint64_t first = UINT64_MAX, last = 0, sum = 0, at = 0;

        for (unsigned i = 0; i < n; i++) {
                first = recs[i].begin_ns < first ? recs[i].begin_ns : first;
                last = recs[i].end_ns > last ? recs[i].end_ns : last;
                sum += recs[i].sum_ns;
                ret->n_ops += recs[i].n_ops;
        }
        uint64_t *all = calloc(ret->n_ops + 1, sizeof(*all));
        if (!all)
                return -1;
        for (unsigned i = 0; i < n; at += recs[i++].n_ops)
                memcpy(all + at, recs[i].latency_ns, recs[i].n_ops * sizeof(*all));
        qsort(all, ret->n_ops, sizeof(*all), compare_u64);
        ret->seconds = (double)(of_ops ? sum : last - first) / (double)NS;
        ret->p50_us = percentile_us(all, ret->n_ops, 0.50);
        ret->p99_us = percentile_us(all, ret->n_ops, 0.99);
        free(all);
        return 0;
}

/* Opens the gate when all are ready, or when one failed, and waits for all. */
static int
release_and_reap(struct gate *gate, unsigned n_started, unsigned n_wanted)
{
        int r = n_started == n_wanted ? 0 : -1;
        char byte;

        close(gate->ready[1]);
        for (unsigned i = 0; i < n_started; i++)
                if (read(gate->ready[0], &byte, 1) != 1 || byte != 'k')
                        r = -1;
        close(gate->go[1]);
        for (unsigned i = 0; i < n_started; i++) {
                int status;
                if (wait(&status) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
                        r = -1;
        }
        close(gate->ready[0]);
        close(gate->go[0]);
        return r;
}

int
workers_run(const struct workload *load, const struct options *opt, char **paths, unsigned n_paths,
            struct result *ret)
{
        unsigned n = opt->procs * n_paths, n_started = 0;
        struct gate gate;
        struct record *recs = mmap(NULL, n * sizeof(*recs), PROT_READ | PROT_WRITE,
                                   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (recs == MAP_FAILED || pipe(gate.ready) < 0 || pipe(gate.go) < 0) {
                perror("bench: workers");
                return -1;
        }
        for (; n_started < n; n_started++) {
                pid_t pid = fork();
                if (pid < 0)
                        break;
                if (pid == 0) {
                        struct worker w = { .opt = opt,
                                            .path = paths[n_started % n_paths],
                                            .random = now_ns() | 1 };
                        _exit(worker_main(load, &w, &gate, &recs[n_started]));
                }
        }
        int r = release_and_reap(&gate, n_started, n);
        ret->n_warmup = (uint64_t)n * opt->warmup;
        if (r == 0)
                r = summarize(recs, n, load->before != NULL, ret);
        munmap(recs, n * sizeof(*recs));
        return r;
}

int
fdatasync_run(const char *path, const struct options *opt, struct result *ret)
{
        static const char zeros[1 << 16];
        struct record *rec = calloc(1, sizeof(*rec));
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), r = -1;

        if (!rec || fd < 0 || write(fd, zeros, sizeof(zeros)) != sizeof(zeros) || fsync(fd) < 0)
                goto out;
        rec->begin_ns = now_ns();
        for (unsigned long i = 0; i < opt->count && i < MAX_OPS; i++) {
                uint64_t begin = now_ns();
                if (pwrite(fd, zeros, 4096, 4096) != 4096 || fdatasync(fd) < 0)
                        goto out;
                rec->end_ns = now_ns();
                rec->latency_ns[rec->n_ops++] = rec->end_ns - begin;
        }
        r = summarize(rec, 1, false, ret);
out:
        if (r < 0)
                perror("bench: fdatasync");
        if (fd >= 0) {
                close(fd);
                unlink(path);
        }
        free(rec);
        return r;
}
