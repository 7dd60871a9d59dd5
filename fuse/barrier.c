/* A planned change of the primary, or the planned end of one, and the transactions that are under way.
 *
 * In WAL mode SQLite commits a transaction over attached databases one database after the other, and holds the WRITE lock of
 * each until all are done: to refuse writes between two of them leaves half of it. So before a pause begins nobody may be
 * there. Who would begin is kept out: the barrier takes WRITE of each WAL that somebody has open as soon as it is free, which
 * applications see as SQLITE_BUSY and wait for, and the first write to a rollback journal is put aside (authority.h). Those
 * that have begun get SETTLE_MS to end.
 *
 * A transaction that takes longer is refused as a whole when it comes to its commit. One of whose databases the commit has
 * been seen by then (the WAL's position has moved, and WRITE is still held) is let go on for at most LATE_MS more. It is
 * looked at with the gate closed, so that the next write to a WAL comes either before the look or after the pause.
 *
 * What has no lock to see is not waited for: a WAL under locking_mode=EXCLUSIVE, pages that are written without a journal, a
 * database that is made meanwhile.
 *
 * Where the mount does not answer, nobody is waited for: the lease must go.
 *
 * On the thread that hands over, or ends the node; the mount is entered by visitors. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/monotonic.h"
#include "base/thread.h"
#include "db/remote_commit.h"
#include "fuse/fuse_internal.h"
#include "fuse/own_mount.h"
#include "sqlite/lockbytes.h"

#define SETTLE_MS 1000
#define LATE_MS 1000
#define REST_MS 100
#define VISIT_MS 1000 /* without one more look at a database: the mount does not answer */
#define LOOK_NS 2000000
#define ROUND_MS 100 /* of tries for locks, */
#define TRY_NS 50000 /* as often: one that commits without a pause gives them free for no longer */

/* A database, and the lock that writers of its WAL take. */
struct gate {
        struct db *db;
        struct own_file index; /* none: nobody has the WAL open */
        bool is_ours;          /* WRITE */
        uint64_t txid;         /* when the barrier began, or when WRITE became ours */
};

struct barrier {
        struct session *s;
        struct gate *gates;
        unsigned n, capacity;
        unsigned n_left;    /* transactions under way */
        unsigned n_between; /* of which are in their commit */

        /* One visit at a time; while it lasts all the above is its. */
        struct work visit;
        void (*look)(struct barrier *b);
        atomic_uint n_looks; /* at a database, or its file */
        bool is_out;         /* by visit_lock */
        bool is_over;        /* whoever would have waited has gone: the visit frees it. Likewise */
};

static pthread_mutex_t visit_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t visit_ended; /* by the monotonic clock */
static pthread_once_t visit_once = PTHREAD_ONCE_INIT;

static int64_t
barrier_now_ms(void)
{
        return clock_boot_ms(clock_host());
}

static void
barrier_sleep_ns(long ns)
{
        struct timespec ts = { 0, ns };

        nanosleep(&ts, NULL);
}

static uint64_t
gate_txid(struct db *db)
{
        struct db_info info;

        db_get_info(db, &info);
        return info.pos.txid;
}

static int
barrier_add_gate(void *arg, struct db *db)
{
        struct barrier *b = arg;

        if (b->n == b->capacity) {
                unsigned want = b->capacity == 0 ? 64 : b->capacity * 2;
                struct gate *p = realloc(b->gates, want * sizeof *p);

                if (p == NULL)
                        return -ENOMEM;
                b->gates = p;
                b->capacity = want;
        }
        b->gates[b->n++] = (struct gate){ db, OWN_FILE_NONE, false, gate_txid(db) };
        return 0;
}

/* --- one look at all of them, by a visitor --- */

static void
gate_open(struct session *s, struct gate *g)
{
        struct db_info info;

        db_get_info(g->db, &info);
        if (!info.is_wal || !shm_exists(s, g->db) || own_open(s, g->db, "-shm", 0, 0, &g->index) < 0)
                g->index = OWN_FILE_NONE;
}

/* A commit past our lock: the last connection took the wal-index away, and the next one has made another. */
static void
gate_drop_replaced(struct session *s, struct gate *g)
{
        if (!g->is_ours || gate_txid(g->db) == g->txid)
                return;
        own_close(s, &g->index);
        g->is_ours = false;
        g->txid = 0;
}

static void
gate_look(struct barrier *b, struct gate *g)
{
        gate_drop_replaced(b->s, g);
        if (g->index.fd < 0)
                gate_open(b->s, g);
        if (g->index.fd < 0 || g->is_ours)
                return;
        g->is_ours = own_lock(&g->index, F_WRLCK, SQLITE_WAL_WRITE_LOCK, 1) == 0;
        if (g->is_ours) {
                g->txid = gate_txid(g->db);
        } else if (own_is_locked_by_process(&g->index, SQLITE_WAL_WRITE_LOCK)) {
                b->n_left++;
                b->n_between += gate_txid(g->db) != g->txid;
        }
}

static void
barrier_look(struct barrier *b)
{
        b->n_left = b->n_between = 0;
        for (unsigned i = 0; i < b->n; i++) {
                gate_look(b, &b->gates[i]);
                atomic_fetch_add(&b->n_looks, 1);
                b->n_left += db_journal_is_active(b->gates[i].db);
        }
}

static void
barrier_look_for_a_while(struct barrier *b)
{
        int64_t end_ms = barrier_now_ms() + ROUND_MS;

        for (barrier_look(b); b->n_left > 0 && barrier_now_ms() < end_ms; barrier_look(b))
                barrier_sleep_ns(TRY_NS);
}

static void
barrier_let_go(struct barrier *b)
{
        for (unsigned i = 0; i < b->n; i++) {
                own_close(b->s, &b->gates[i].index);
                b->gates[i].is_ours = false;
                atomic_fetch_add(&b->n_looks, 1);
        }
}

static void
barrier_free(struct barrier *b)
{
        free(b->gates);
        free(b);
}

/* --- visits, which the mount may keep for ever --- */

static void
make_visit_ended(void)
{
        thread_cond_init(&visit_ended);
}

static void
barrier_run_visit(struct work *w)
{
        struct barrier *b = (struct barrier *)((char *)w - offsetof(struct barrier, visit));
        bool is_over;

        b->look(b);
        pthread_mutex_lock(&visit_lock);
        is_over = b->is_over;
        b->is_out = false;
        pthread_cond_broadcast(&visit_ended);
        pthread_mutex_unlock(&visit_lock);
        if (!is_over)
                return;
        barrier_let_go(b);
        barrier_free(b);
}

/* With visit_lock: until it has ended, or gets no further. */
static void
barrier_await_visit(struct barrier *b)
{
        unsigned before;

        do {
                struct timespec until = monotonic_after_ms(VISIT_MS);
                int r = 0;

                before = atomic_load(&b->n_looks);
                while (b->is_out && r == 0)
                        r = pthread_cond_timedwait(&visit_ended, &visit_lock, &until);
        } while (b->is_out && atomic_load(&b->n_looks) != before);
}

/* False: the mount does not answer, and the visit goes on. */
static bool
barrier_visit(struct barrier *b, void (*look)(struct barrier *b))
{
        bool is_out;

        pthread_once(&visit_once, make_visit_ended);
        pthread_mutex_lock(&visit_lock);
        if (!b->is_out) {
                b->is_out = true;
                b->look = look;
                b->visit = (struct work){ barrier_run_visit, NULL };
                workers_post(b->s->config.visitors, &b->visit);
                barrier_await_visit(b);
        }
        is_out = b->is_out;
        pthread_mutex_unlock(&visit_lock);
        return !is_out;
}

/* --- the order of things --- */

/* False: what was put aside cannot be looked at again, for a request has the mount. */
static bool
barrier_set_gate(struct barrier *b, enum authority_gate gate)
{
        store_set_gate(b->s->store, gate);
        return session_resume_within(b->s, VISIT_MS);
}

static bool
barrier_wait_until_settled(struct barrier *b)
{
        int64_t end_ms = barrier_now_ms() + SETTLE_MS;

        for (;;) {
                if (!barrier_visit(b, barrier_look_for_a_while))
                        return false;
                if (b->n_left == 0 || barrier_now_ms() + REST_MS >= end_ms)
                        return true;
                /* One may wait for the lock of another database that is ours. */
                if (!barrier_visit(b, barrier_let_go))
                        return false;
                barrier_sleep_ns(REST_MS * 1000000L);
        }
}

/* Who has passed the gate is answered: what is looked at stays as it is while the gate is closed. */
static bool
barrier_look_behind_gate(struct barrier *b, int64_t end_ms)
{
        if (!barrier_set_gate(b, AUTHORITY_CLOSED))
                return false;
        while (!store_is_quiet(b->s->store) && barrier_now_ms() < end_ms)
                barrier_sleep_ns(LOOK_NS);
        return barrier_visit(b, barrier_look);
}

static bool
barrier_wait_for_late(struct barrier *b)
{
        int64_t end_ms = barrier_now_ms() + LATE_MS;

        for (;;) {
                if (!barrier_look_behind_gate(b, end_ms))
                        return false;
                if (b->n_between == 0 || barrier_now_ms() >= end_ms)
                        return true;
                if (!barrier_set_gate(b, AUTHORITY_CLOSING) ||
                    !barrier_visit(b, barrier_look_for_a_while))
                        return false;
        }
}

static void
barrier_begin(struct session *s)
{
        struct barrier *b = calloc(1, sizeof *b);
        bool has_looked;

        s->barrier = b;
        if (b != NULL)
                b->s = s;
        if (b == NULL || store_each(s->store, barrier_add_gate, b) < 0) {
                store_pause_writes(s->store, true);
                return;
        }
        has_looked = barrier_set_gate(b, AUTHORITY_CLOSING) && barrier_wait_until_settled(b) &&
                     barrier_wait_for_late(b);
        store_pause_writes(s->store, true);
        (void)barrier_set_gate(b, AUTHORITY_OPEN); /* what was put aside is refused */
        if (!has_looked)
                log_warn("the mount does not answer: write transactions that are under way are refused");
        else if (b->n_left > 0)
                log_warn(
                        "%u write transactions that did not end within %d ms are refused: another node is to "
                        "lead, or this one ends",
                        b->n_left, SETTLE_MS);
}

static void
barrier_end(struct session *s)
{
        struct barrier *b = s->barrier;
        bool is_out;

        store_pause_writes(s->store, false);
        s->barrier = NULL;
        if (b == NULL)
                return;
        (void)barrier_visit(b, barrier_let_go);
        pthread_mutex_lock(&visit_lock);
        is_out = b->is_over = b->is_out;
        pthread_mutex_unlock(&visit_lock);
        if (!is_out)
                barrier_free(b);
}

void
session_pause_writes(struct session *s, bool is_paused)
{
        if (is_paused)
                barrier_begin(s);
        else
                barrier_end(s);
}
