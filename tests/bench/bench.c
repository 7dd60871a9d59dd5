/* One run of one workload on one directory; prints one line of JSON. tests/bench/run decides what runs where. */
#include "workers.h"
#include "workload.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int
usage(void)
{
        fputs("usage: bench insert|read|scan|open|fill|fdatasync [OPTION]... PATH...\n"
              "  --mode MODE --sync SYNC --rows N --row-bytes N --procs N --warmup N --immediate --cold\n"
              "  --count N | --seconds S\n",
              stderr);
        return 2;
}

static int
parse(int argc, char **argv, struct options *opt)
{
        static const struct option names[] = {
                { "mode", required_argument, NULL, 'm' },
                { "sync", required_argument, NULL, 's' },
                { "rows", required_argument, NULL, 'r' },
                { "row-bytes", required_argument, NULL, 'b' },
                { "procs", required_argument, NULL, 'p' },
                { "warmup", required_argument, NULL, 'w' },
                { "count", required_argument, NULL, 'n' },
                { "seconds", required_argument, NULL, 't' },
                { "immediate", no_argument, NULL, 'i' },
                { "cold", no_argument, NULL, 'c' },
                { NULL, 0, NULL, 0 },
        };
        int c;

        while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
                switch (c) {
                case 'm':
                        opt->mode = optarg;
                        break;
                case 's':
                        opt->sync = optarg;
                        break;
                case 'r':
                        opt->rows = (unsigned)strtoul(optarg, NULL, 10);
                        break;
                case 'b':
                        opt->row_bytes = (unsigned)strtoul(optarg, NULL, 10);
                        break;
                case 'p':
                        opt->procs = (unsigned)strtoul(optarg, NULL, 10);
                        break;
                case 'w':
                        opt->warmup = (unsigned)strtoul(optarg, NULL, 10);
                        break;
                case 'n':
                        opt->count = strtoul(optarg, NULL, 10);
                        break;
                case 't':
                        opt->seconds = strtod(optarg, NULL);
                        break;
                case 'i':
                        opt->immediate = true;
                        break;
                case 'c':
                        opt->cold = true;
                        break;
                default:
                        return -1;
                }
        }
        return opt->rows && opt->row_bytes && opt->procs && (opt->count || opt->seconds > 0) ? 0 : -1;
}

static const struct workload *
find(const char *name)
{
        for (const struct workload *load = workloads; load->name; load++)
                if (strcmp(load->name, name) == 0)
                        return load;
        return NULL;
}

static int
fill(char **paths, unsigned n, const struct options *opt)
{
        for (unsigned i = 0; i < n; i++)
                if (database_prepare(paths[i], opt) < 0 || database_fill(paths[i], opt) < 0)
                        return -1;
        return 0;
}

static int
total(char **paths, unsigned n, int64_t *ret_rows, int64_t *ret_bytes)
{
        *ret_rows = *ret_bytes = 0;
        for (unsigned i = 0; i < n; i++) {
                int64_t rows, bytes;
                if (database_measure(paths[i], &rows, &bytes) < 0)
                        return -1;
                *ret_rows += rows;
                *ret_bytes += bytes;
        }
        return 0;
}

/* A file system that is fast because it lost rows shall not win. */
static int
measured(const struct workload *load, const struct options *opt, char **paths, unsigned n,
         struct result *ret, int64_t *ret_bytes)
{
        int64_t before, after;

        for (unsigned i = 0; load->adds_rows && i < n; i++)
                if (database_prepare(paths[i], opt) < 0)
                        return -1;
        if (total(paths, n, &before, ret_bytes) < 0 || workers_run(load, opt, paths, n, ret) < 0)
                return -1;
        if (total(paths, n, &after, ret_bytes) < 0)
                return -1;
        int64_t added = load->adds_rows ? (int64_t)(ret->n_ops + ret->n_warmup) * opt->rows : 0;
        if (after - before == added)
                return 0;
        fprintf(stderr, "bench: %s: %lld rows more, %lld were inserted\n", paths[0],
                (long long)(after - before), (long long)added);
        return -1;
}

int
main(int argc, char **argv)
{
        struct options opt = {
                .mode = "wal", .sync = "full", .rows = 1, .row_bytes = 100, .procs = 1, .seconds = 1
        };
        struct result result = { 0 };
        int64_t bytes = 0;
        int r;

        if (argc < 2 || parse(argc - 1, argv + 1, &opt) < 0 || optind + 1 >= argc)
                return usage();
        char **paths = argv + 1 + optind;
        unsigned n = (unsigned)(argc - 1 - optind);
        const struct workload *load = find(argv[1]);
        if (load)
                r = measured(load, &opt, paths, n, &result, &bytes);
        else if (strcmp(argv[1], "fill") == 0)
                r = fill(paths, n, &opt);
        else if (strcmp(argv[1], "fdatasync") == 0)
                r = fdatasync_run(paths[0], &opt, &result);
        else
                return usage();
        if (r < 0)
                return 1;
        printf("{\"ops\": %llu, \"warmup\": %llu, \"seconds\": %.9f, \"p50_us\": %.3f, \"p99_us\": %.3f, "
               "\"bytes\": %lld}\n",
               (unsigned long long)result.n_ops, (unsigned long long)result.n_warmup, result.seconds,
               result.p50_us, result.p99_us, (long long)bytes);
        return 0;
}
