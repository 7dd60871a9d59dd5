/* links: litefs_db sqlite3 */
/* SQLite runs a random workload on a database whose power is cut at a random call, several times over. What was
 * acknowledged under synchronous=FULL is there afterwards, and in any case the state is one that was committed
 * and no older than one that had been seen before. SEED=n begins with that run, RUNS=n says how many; RUNS=1 shows its
 * log, too. */
#include <check.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/lib/db_driver.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/os_crash.h"
#include "tests/lib/tmpdir.h"
#include "tests/lib/run.h"

#define STATES_MAX 512
#define NO_DATABASE 0

struct world {
        uint64_t seed, rng;
        const char *root;
        char plain[PATH_MAX + 8];
        struct os_crash *oc; /* NULL: the host */
        struct db_driver *d;
        sqlite3 *c;
        uint64_t states[STATES_MAX]; /* in order of their commits */
        int n_states;
        int floor; /* the oldest that may be found */
        uint64_t segment_bytes;
        bool is_full;
        bool can_roll_back;
        char trace[8192];
        size_t n_trace;
};

static struct world *running; /* for the message of a failure */

#define REQUIRE(x, ...) \
        do { \
                if (!(x)) { \
                        fprintf(stderr, "SEED=%llu:%s\n", (unsigned long long)running->seed, \
                                running->trace); \
                        ck_abort_msg(__VA_ARGS__); \
                } \
        } while (0)

static uint64_t
random_next(struct world *w)
{
        uint64_t z = w->rng += 0x9e3779b97f4a7c15u;

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
}

static unsigned
below(struct world *w, unsigned n)
{
        return (unsigned)(random_next(w) % n);
}

__attribute__((format(printf, 2, 3))) static void
trace(struct world *w, const char *fmt, ...)
{
        va_list ap;
        int n;

        va_start(ap, fmt);
        n = vsnprintf(w->trace + w->n_trace, sizeof w->trace - w->n_trace, fmt, ap);
        va_end(ap);
        if (n > 0 && w->n_trace + (size_t)n < sizeof w->trace)
                w->n_trace += (size_t)n;
}

static bool
has_power(struct world *w)
{
        return w->oc == NULL || !os_crash_is_dead(w->oc);
}

/* --- states --- */

static void
note_state(struct world *w, uint64_t state)
{
        REQUIRE(w->n_states < STATES_MAX, "too many states");
        w->states[w->n_states++] = state;
}

/* The newest state was acknowledged. */
static void
acknowledge(struct world *w, bool is_durable)
{
        if (is_durable)
                w->floor = w->n_states - 1;
}

/* It was seen after a recovery: nothing older may come again, and nothing newer that was lost. */
static void
settle_on(struct world *w, uint64_t state)
{
        for (int i = w->n_states - 1; i >= w->floor; i--)
                if (w->states[i] == state) {
                        w->n_states = i + 1;
                        w->floor = i;
                        return;
                }
        for (int i = w->floor - 1; i >= 0; i--)
                REQUIRE(w->states[i] != state, "state %d is back, %d was durable", i, w->floor);
        REQUIRE(false, "a state that nobody committed");
}

/* --- the workload --- */

static bool
connect_db(struct world *w)
{
        static const char *const syncs[] = { "full", "full", "full", "normal", "off" };
        static const char *const modes[] = { "delete", "truncate", "persist", "memory",
                                             "off",    "wal",      "wal",     "wal" };
        const char *sync = syncs[below(w, 5)], *mode = modes[below(w, 8)];
        char sql[256];

        db_driver_set_padded(w->d, below(w, 4) == 0);
        db_driver_set_passed(w->d, below(w, 2) == 0);
        if (db_driver_connect(w->d, (int)below(w, 2) * 8, &w->c) != SQLITE_OK) {
                REQUIRE(!has_power(w), "no connection");
                return false;
        }
        w->is_full = strcmp(sync, "full") == 0;
        w->can_roll_back = strcmp(mode, "off") != 0;
        trace(w, " [%s %s]", mode, sync);
        snprintf(sql, sizeof sql,
                 "pragma synchronous=%s; pragma journal_mode=%s; pragma wal_autocheckpoint=%u", sync,
                 mode, below(w, 3) == 0 ? 5 : 1000);
        REQUIRE(db_driver_exec(w->c, sql) == SQLITE_OK || !has_power(w), "%s: %s", sql,
                sqlite3_errmsg(w->c));
        return true;
}

static void
disconnect_db(struct world *w)
{
        REQUIRE(sqlite3_close(w->c) == SQLITE_OK, "close");
        w->c = NULL;
}

static void
random_sql(struct world *w, char *sql, size_t size)
{
        unsigned rows = below(w, 20) == 0 ? 900 : 1 + below(w, 6);

        switch (below(w, 4)) {
        case 0:
                snprintf(sql, size,
                         "with recursive n(i) as (values(1) union all select i+1 from n where i<%u)"
                         " insert into t(x) select randomblob(%u) from n",
                         rows, 50 + below(w, 1500));
                break;
        case 1:
                snprintf(sql, size, "delete from t where id>(select max(id)-%u from t) and id>20",
                         below(w, 200));
                break;
        default:
                snprintf(sql, size, "update t set x=randomblob(%u) where id%%%u=0", 50 + below(w, 900),
                         1 + below(w, 30));
        }
}

static void
transact(struct world *w)
{
        char sql[256];
        uint64_t state;
        int rc;

        random_sql(w, sql, sizeof sql);
        rc = db_driver_exec(w->c, "begin immediate");
        if (rc == SQLITE_OK)
                rc = db_driver_exec(w->c, sql);
        if (rc == SQLITE_OK)
                rc = db_driver_digest(w->c, &state);
        if (rc == SQLITE_OK && w->can_roll_back && below(w, 8) == 0) {
                trace(w, " rollback");
                (void)db_driver_exec(w->c, "rollback");
                return;
        }
        if (rc == SQLITE_OK) {
                note_state(w, state);
                rc = db_driver_exec(w->c, "commit");
        }
        trace(w, " %d%s", w->n_states - 1, rc == SQLITE_OK ? "" : "!");
        /* One that changed nothing is not written, and so makes nothing before it durable. */
        if (rc == SQLITE_OK)
                acknowledge(w, w->is_full && w->states[w->n_states - 2] != w->states[w->n_states - 1]);
        else
                REQUIRE(!has_power(w), "%s: %s", sql, sqlite3_errmsg(w->c));
}

/* Through the os under test, not synced: as an application that fills it with synchronous=off. */
static int
put_plain(struct world *w, const char *to)
{
        const struct os *os = w->oc != NULL ? os_crash_os(w->oc) : os_host();
        size_t size;
        uint8_t *p = db_driver_read_file(w->plain, &size);
        int fd = os_open(os, "test:plain", to, O_RDWR | O_CREAT | O_TRUNC, 0666), r = fd;

        if (fd >= 0)
                r = os_pwrite_all(os, "test:plain", fd, p, size, 0);
        os_close(os, "test:plain", fd);
        free(p);
        return r;
}

static void
adopt(struct world *w)
{
        struct err e = ERR_INIT;
        char path[PATH_MAX];
        uint64_t state;
        sqlite3 *c;
        int r;

        unlink(w->plain);
        db_driver_make_plain(w->plain, 10 + (int)below(w, 300));
        ck_assert_int_eq(sqlite3_open(w->plain, &c), SQLITE_OK);
        ck_assert_int_eq(db_driver_digest(c, &state), SQLITE_OK);
        sqlite3_close(c);
        snprintf(path, sizeof path, "%s/plain", w->root);
        r = put_plain(w, path);
        note_state(w, state);
        if (r >= 0)
                r = db_driver_adopt(w->d, path, &e);
        trace(w, " adopt%s", r < 0 ? "!" : "");
        if (r == 0)
                acknowledge(w, true);
        else
                REQUIRE(!has_power(w), "adopt: %s", e.text);
}

static void
drop_and_adopt(struct world *w)
{
        struct err e = ERR_INIT;
        int r;

        disconnect_db(w);
        note_state(w, NO_DATABASE);
        r = db_driver_drop(w->d, &e);
        trace(w, " drop%s", r < 0 ? "!" : "");
        if (r < 0) {
                REQUIRE(!has_power(w), "drop: %s", e.text);
                return;
        }
        acknowledge(w, true);
        adopt(w);
        if (has_power(w))
                (void)connect_db(w);
}

static void
step(struct world *w)
{
        switch (below(w, 20)) {
        case 0:
                trace(w, " reconnect");
                disconnect_db(w);
                (void)connect_db(w);
                break;
        case 1:
                trace(w, " vacuum");
                (void)db_driver_exec(w->c, below(w, 2) ? "pragma page_size=2048; vacuum" : "vacuum");
                break;
        case 2:
                trace(w, " checkpoint");
                (void)db_driver_exec(w->c, below(w, 2) ? "pragma wal_checkpoint(truncate)"
                                                       : "pragma wal_checkpoint");
                break;
        case 3:
        case 4:
        case 5:
                trace(w, " tick");
                (void)db_driver_tick(w->d, 1, NULL);
                break;
        case 6:
                if (below(w, 3) == 0) {
                        drop_and_adopt(w);
                        break;
                }
                /* fall through */
        default:
                transact(w);
        }
}

/* --- one life of the daemon --- */

static void
check_recovered(struct world *w)
{
        struct err e = ERR_INIT;
        uint64_t state = NO_DATABASE;
        sqlite3 *c;

        if (!has_power(w))
                return;
        REQUIRE(db_driver_check_files(w->d, w->root, NULL, 0, &e) == 0, "%s", e.text);
        if (db_exists(db_driver_db(w->d))) {
                REQUIRE(db_driver_connect(w->d, 0, &c) == SQLITE_OK, "no connection");
                REQUIRE(db_driver_digest(c, &state) == SQLITE_OK, "digest: %s", sqlite3_errmsg(c));
                REQUIRE(db_driver_is_intact(c), "integrity_check");
                sqlite3_close(c);
        }
        settle_on(w, state);
        trace(w, " found %d", w->n_states - 1);
}

static void
live(struct world *w, uint64_t n_calls)
{
        struct err e = ERR_INIT;
        int r;

        w->oc = os_crash_new(w->root, random_next(w));
        /* The cut counts from the opening or only from the first transaction. */
        if (below(w, 2) == 0)
                os_crash_after(w->oc, n_calls);
        trace(w, "\n  open");
        r = db_driver_open_with(os_crash_os(w->oc), w->root, w->segment_bytes, &w->d, &e);
        if (r < 0) {
                REQUIRE(!has_power(w), "open: %s", e.text);
                w->d = NULL;
        } else {
                os_crash_after(w->oc, 0); /* a check that fails for want of power proves nothing */
                check_recovered(w);
                os_crash_after(w->oc, n_calls);
                if (has_power(w) && !db_exists(db_driver_db(w->d)))
                        adopt(w);
                if (has_power(w))
                        (void)connect_db(w);
                for (int i = 0; i < 60 && has_power(w) && w->c != NULL; i++)
                        step(w);
        }
        trace(w, " cut");
        os_crash_now(w->oc);
        if (w->c != NULL)
                disconnect_db(w);
        db_driver_close(w->d);
        w->d = NULL;
        os_crash_free(w->oc);
        w->oc = NULL;
}

static void
check_finally(struct world *w)
{
        struct err e = ERR_INIT;

        trace(w, "\n  finally");
        REQUIRE(db_driver_open(os_host(), w->root, &w->d, &e) == 0, "%s", e.text);
        check_recovered(w);
        if (db_exists(db_driver_db(w->d))) {
                REQUIRE(connect_db(w), "connect");
                transact(w);
                disconnect_db(w);
        }
        db_driver_close(w->d);
}

static void
run(uint64_t seed, const char *template, const char *root)
{
        struct world w = { .seed = seed, .rng = seed, .root = root, .floor = 0 };
        bool is_new = below(&w, 4) == 0;
        struct err e = ERR_INIT;

        running = &w;
        /* Small enough that segments are begun and dropped, or of the usual size. */
        w.segment_bytes = below(&w, 3) == 0 ? 0 : 8192u << below(&w, 4);
        trace(&w, " segments of %llu", (unsigned long long)w.segment_bytes);
        snprintf(w.plain, sizeof w.plain, "%s.plain", template);
        db_driver_remove_tree(root);
        if (is_new) {
                note_state(&w, NO_DATABASE);
                ck_assert_int_eq(mkdir(root, 0777), 0);
        } else {
                db_driver_copy_tree(template, root);
                ck_assert_int_eq(db_driver_open(os_host(), root, &w.d, &e), 0);
                ck_assert_int_eq(db_driver_connect(w.d, 0, &w.c), SQLITE_OK);
                ck_assert_int_eq(db_driver_digest(w.c, &w.states[0]), SQLITE_OK);
                w.n_states = 1;
                disconnect_db(&w);
                db_driver_close(w.d);
                w.d = NULL;
        }
        for (unsigned lives = 1 + below(&w, 3); lives > 0; lives--)
                live(&w, 1 + below(&w, below(&w, 2) ? 30 : 400));
        check_finally(&w);
}

static uint64_t
number_from(const char *name, uint64_t otherwise)
{
        const char *text = getenv(name);

        return text != NULL ? strtoull(text, NULL, 0) : otherwise;
}

START_TEST(power_is_lost)
{
        struct timespec ts;
        uint64_t seed, n = number_from("RUNS", 800);
        char *dir = tmpdir_make();
        char template[PATH_MAX], root[PATH_MAX];

        clock_gettime(CLOCK_REALTIME, &ts);
        seed = number_from("SEED", (uint64_t)ts.tv_sec * 1000003u + (uint64_t)ts.tv_nsec);
        printf("SEED=%llu\n", (unsigned long long)seed);
        fflush(stdout);
        snprintf(template, sizeof template, "%s/template", dir);
        snprintf(root, sizeof root, "%s/root", dir);
        db_driver_make_template(template, "delete", 60);
        for (uint64_t i = 0; i < n; i++)
                run(seed + i, template, root);
        tmpdir_remove(dir);
}
END_TEST

int
main(void)
{
        const struct log_config log = { .fd = number_from("RUNS", 0) == 1 ? 2 : -1 };
        TCase *tc = tcase_create("crash_db");

        log_configure(&log);
        db_driver_use_memory();
        tcase_set_timeout(tc, 3600);
        tcase_add_test(tc, power_is_lost);
        return run_tests("crash_db", tc);
}
