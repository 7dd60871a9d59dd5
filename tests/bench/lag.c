/* How long after a commit on one node its row is seen on another; prints one line of JSON.
 *
 *   lag PRIMARY-DATABASE REPLICA-DATABASE RATE SECONDS
 *
 * Both are paths in mounts of the same machine, so that one clock serves. The writer inserts a row of 100 bytes a
 * transaction, at RATE a second (0: as fast as it can); the reader asks for the highest row again and again, with a
 * pause of 50 us, so what it measures is late by up to that and a query. */
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define POLL_NS 50000
#define RATE_MAX 100000
#define GIVE_UP_NS 10000000000

struct run {
        const char *primary, *replica;
        double rate, seconds;
        int64_t first; /* the row number of committed_ns[0] */
        size_t capacity;
        int64_t *committed_ns, *seen_ns; /* by row */
        atomic_size_t n_committed;
        atomic_bool is_written, has_failed;
        size_t n_seen;
        int64_t begin_ns, end_ns;
};

static int64_t
now_ns(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void
sleep_until(int64_t at_ns)
{
        struct timespec ts = { at_ns / 1000000000, at_ns % 1000000000 };

        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static sqlite3_stmt *
prepare(const char *path, const char *sql, sqlite3 **ret)
{
        sqlite3_stmt *stmt = NULL;

        if (sqlite3_open(path, ret) != SQLITE_OK || sqlite3_busy_timeout(*ret, 10000) != SQLITE_OK ||
            sqlite3_exec(*ret, "pragma synchronous=normal", NULL, NULL, NULL) != SQLITE_OK ||
            sqlite3_prepare_v2(*ret, sql, -1, &stmt, NULL) != SQLITE_OK)
                fprintf(stderr, "lag: %s: %s\n", path, sqlite3_errmsg(*ret));
        return stmt;
}

/* The highest row, or -1. */
static int64_t
highest(sqlite3_stmt *stmt)
{
        int64_t ret = sqlite3_step(stmt) == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : -1;

        sqlite3_reset(stmt);
        return ret;
}

static void *
write_rows(void *arg)
{
        struct run *run = arg;
        sqlite3 *db;
        sqlite3_stmt *stmt = prepare(run->primary, "insert into lag(b) values(randomblob(100))", &db);
        int64_t end = run->begin_ns + (int64_t)(run->seconds * 1e9);
        size_t n = 0;

        prctl(PR_SET_TIMERSLACK, 1);
        while (stmt != NULL && n < run->capacity && now_ns() < end) {
                if (run->rate > 0)
                        sleep_until(run->begin_ns + (int64_t)((double)n * 1e9 / run->rate));
                if (sqlite3_step(stmt) != SQLITE_DONE) {
                        fprintf(stderr, "lag: %s: %s\n", run->primary, sqlite3_errmsg(db));
                        break;
                }
                sqlite3_reset(stmt);
                run->committed_ns[n++] = now_ns();
                atomic_store(&run->n_committed, n);
        }
        run->end_ns = now_ns();
        run->has_failed = n < run->capacity && run->end_ns < end;
        run->is_written = true;
        sqlite3_finalize(stmt);
        sqlite3_close(db);
        return NULL;
}

static int
read_rows(struct run *run)
{
        sqlite3 *db;
        sqlite3_stmt *stmt = prepare(run->replica, "select max(a) from lag", &db);
        int64_t give_up = INT64_MAX, top = 0;

        prctl(PR_SET_TIMERSLACK, 1);
        while (stmt != NULL && top >= 0 && now_ns() < give_up) {
                int64_t now;

                top = highest(stmt);
                now = now_ns();
                while (run->first + (int64_t)run->n_seen <= top)
                        run->seen_ns[run->n_seen++] = now;
                if (run->is_written && run->n_seen >= run->n_committed)
                        break;
                if (run->is_written && give_up == INT64_MAX)
                        give_up = now + GIVE_UP_NS;
                sleep_until(now + POLL_NS);
        }
        if (run->n_seen < run->n_committed)
                fprintf(stderr, "lag: %s: row %lld has not come: %s\n", run->replica,
                        (long long)run->first + (long long)run->n_seen, sqlite3_errmsg(db));
        sqlite3_finalize(stmt);
        sqlite3_close(db);
        return run->n_seen < run->n_committed || run->has_failed ? -1 : 0;
}

static int
compare(const void *a, const void *b)
{
        int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

        return (x > y) - (x < y);
}

static void
print(struct run *run)
{
        size_t n = run->n_seen;

        for (size_t i = 0; i < n; i++) {
                run->seen_ns[i] -= run->committed_ns[i];
                if (run->seen_ns[i] < 0) /* seen before the commit had returned */
                        run->seen_ns[i] = 0;
        }
        qsort(run->seen_ns, n, sizeof *run->seen_ns, compare);
        printf("{\"rows\": %zu, \"seconds\": %.6f, \"p50_ms\": %.4f, \"p99_ms\": %.4f, \"max_ms\": %.4f}\n",
               n, (double)(run->end_ns - run->begin_ns) / 1e9, (double)run->seen_ns[n / 2] / 1e6,
               (double)run->seen_ns[n * 99 / 100] / 1e6, (double)run->seen_ns[n - 1] / 1e6);
}

static int
set_up(struct run *run)
{
        sqlite3 *db;
        sqlite3_stmt *stmt = prepare(run->primary, "select max(a) from lag", &db);
        int64_t top = stmt == NULL ? -1 : highest(stmt);

        sqlite3_finalize(stmt);
        sqlite3_close(db);
        run->first = top + 1;
        run->capacity = (size_t)((run->rate > 0 ? run->rate : RATE_MAX) * run->seconds) + 1;
        run->committed_ns = calloc(run->capacity, sizeof *run->committed_ns);
        run->seen_ns = calloc(run->capacity, sizeof *run->seen_ns);
        run->begin_ns = now_ns();
        return top < 0 || run->committed_ns == NULL || run->seen_ns == NULL ? -1 : 0;
}

int
main(int argc, char **argv)
{
        struct run run = { 0 };
        pthread_t writer;
        int r;

        if (argc != 5) {
                fputs("usage: lag PRIMARY-DATABASE REPLICA-DATABASE RATE SECONDS\n", stderr);
                return 2;
        }
        run.primary = argv[1];
        run.replica = argv[2];
        run.rate = strtod(argv[3], NULL);
        run.seconds = strtod(argv[4], NULL);
        r = run.seconds > 0 && run.rate >= 0 && run.rate <= RATE_MAX ? set_up(&run) : -1;
        if (r == 0 && pthread_create(&writer, NULL, write_rows, &run) == 0) {
                r = read_rows(&run);
                pthread_join(writer, NULL);
                if (r == 0)
                        print(&run);
        }
        free(run.committed_ns);
        free(run.seen_ns);
        return r == 0 ? 0 : 1;
}
