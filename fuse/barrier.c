/* A planned change of the primary, and the transactions that are under way.
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
 * On the thread that hands over; the mount is entered by visitors. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "db/remote_commit.h"
#include "fuse/fuse_internal.h"
#include "fuse/own_mount.h"
#include "sqlite/lockbytes.h"

#define SETTLE_MS 1000
#define LATE_MS 1000
#define REST_MS 100
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
};

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
                b->n_left += db_journal_is_active(b->gates[i].db);
        }
}

static int
barrier_look_once(void *arg)
{
        barrier_look(arg);
        return 0;
}

static int
barrier_look_for_a_while(void *arg)
{
        struct barrier *b = arg;
        int64_t end_ms = barrier_now_ms() + ROUND_MS;

        for (barrier_look(b); b->n_left > 0 && barrier_now_ms() < end_ms; barrier_look(b))
                barrier_sleep_ns(TRY_NS);
        return 0;
}

static int
barrier_let_go(void *arg)
{
        struct barrier *b = arg;

        for (unsigned i = 0; i < b->n; i++) {
                own_close(b->s, &b->gates[i].index);
                b->gates[i].is_ours = false;
        }
        return 0;
}

/* --- the order of things --- */

static void
barrier_set_gate(struct barrier *b, enum authority_gate gate)
{
        store_set_gate(b->s->store, gate);
        session_resume(b->s);
}

static void
barrier_wait_until_settled(struct barrier *b)
{
        int64_t end_ms = barrier_now_ms() + SETTLE_MS;

        for (;;) {
                (void)workers_call(b->s->config.visitors, barrier_look_for_a_while, b);
                if (b->n_left == 0 || barrier_now_ms() + REST_MS >= end_ms)
                        return;
                /* One may wait for the lock of another database that is ours. */
                (void)workers_call(b->s->config.visitors, barrier_let_go, b);
                barrier_sleep_ns(REST_MS * 1000000L);
        }
}

/* Who has passed the gate is answered: what is looked at stays as it is while the gate is closed. */
static void
barrier_look_behind_gate(struct barrier *b, int64_t end_ms)
{
        barrier_set_gate(b, AUTHORITY_CLOSED);
        while (!store_is_quiet(b->s->store) && barrier_now_ms() < end_ms)
                barrier_sleep_ns(LOOK_NS);
        (void)workers_call(b->s->config.visitors, barrier_look_once, b);
}

static void
barrier_wait_for_late(struct barrier *b)
{
        int64_t end_ms = barrier_now_ms() + LATE_MS;

        for (;;) {
                barrier_look_behind_gate(b, end_ms);
                if (b->n_between == 0 || barrier_now_ms() >= end_ms)
                        return;
                barrier_set_gate(b, AUTHORITY_CLOSING);
                (void)workers_call(b->s->config.visitors, barrier_look_for_a_while, b);
        }
}

static void
barrier_begin(struct session *s)
{
        struct barrier *b = calloc(1, sizeof *b);

        s->barrier = b;
        if (b != NULL)
                b->s = s;
        if (b == NULL || store_each(s->store, barrier_add_gate, b) < 0) {
                store_pause_writes(s->store, true);
                return;
        }
        barrier_set_gate(b, AUTHORITY_CLOSING);
        barrier_wait_until_settled(b);
        barrier_wait_for_late(b);
        store_pause_writes(s->store, true);
        barrier_set_gate(b, AUTHORITY_OPEN); /* what was put aside is refused */
        if (b->n_left > 0)
                log_warn(
                        "%u write transactions that did not end within %d ms are refused, for another node "
                        "to lead",
                        b->n_left, SETTLE_MS);
}

static void
barrier_end(struct session *s)
{
        store_pause_writes(s->store, false);
        if (s->barrier != NULL) {
                (void)workers_call(s->config.visitors, barrier_let_go, s->barrier);
                free(s->barrier->gates);
        }
        free(s->barrier);
        s->barrier = NULL;
}

void
session_pause_writes(struct session *s, bool is_paused)
{
        if (is_paused)
                barrier_begin(s);
        else
                barrier_end(s);
}
