/* An application: transactions of a few pages, as SQLite makes them in mode DELETE. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "db/db_internal.h"
#include "tests/sim/world.h"

/* Something that waits for the end of a call. */
struct call {
        struct machine *m;
        struct fiber *fiber;
        int result;
        bool is_done;
};

static void
wake_call(void *arg, bool is_lost)
{
        struct call *call = arg;

        if (!is_lost && call->fiber != NULL)
                fiber_wake(call->m->w->sim, call->fiber);
}

static void
end_call(void *arg, int result)
{
        struct call *call = arg;

        call->result = result;
        call->is_done = true;
        sim_post(call->m->w->sim, &call->m->host, 0, wake_call, call);
}

static int
await(struct call *call, int r)
{
        if (r != DB_PENDING)
                return r;
        call->fiber = fiber_current(call->m->w->sim);
        fiber_wait(call->m->w->sim);
        return call->result;
}

/* As the mount does: what finds the database somebody's is put aside, and made again. */
#define WHILE_BUSY(m, r, call) \
        do { \
                (r) = (call); \
                if ((r) == E_BUSY) \
                        fiber_sleep((m)->w->sim, 1); \
        } while ((r) == E_BUSY)

static void
fill_page_1(uint8_t page[PAGE_SIZE], uint32_t n_pages, uint32_t counter)
{
        memset(page, 0, 100);
        memcpy(page, "SQLite format 3", 16);
        put_be16(page + 16, PAGE_SIZE);
        page[18] = page[19] = 1;
        page[21] = 64;
        page[22] = page[23] = 32;
        put_be32(page + 24, counter);
        put_be32(page + 28, n_pages);
        put_be32(page + 92, counter);
        put_be32(page + 96, 3040001);
}

static void
begin_commit(struct machine *m, int i)
{
        m->parent[i] = machine_state(m, i);
        m->made[i] = -1;
        m->is_committing[i] = true;
}

/* The transaction that was made, or -1. */
static int
end_commit(struct machine *m, int i)
{
        m->is_committing[i] = false;
        return m->made[i];
}

/* With the database's lock, at the moment of the commit; later also of others'. */
void
application_committed(void *arg, struct db *db)
{
        struct machine *m = arg;
        int i = world_db_index(db);
        struct txn t = {
                .db = i, .parent = m->parent[i], .machine = m->index, .pos = db->pos, .term = m->term
        };

        if (m->is_committing[i] && m->made[i] < 0 && history_find(&m->w->history, i, db->pos) < 0) {
                m->made[i] = history_add(&m->w->history, &t);
                judge_commit(m, m->made[i]);
        }
        if (m->node != NULL)
                node_committed(m->node, db);
}

/* Its first transaction: a file of one page. */
static void
create_db(struct machine *m, int i)
{
        uint8_t page[PAGE_SIZE] = { 0 };
        char path[400];
        struct err e = ERR_INIT;
        struct db *db;
        int fd, r, txn;

        if (store_may_commit(m->store) < 0 ||
            store_create_db(m->store, world_db_names[i], &db, &e) < 0 || db_exists(db))
                return;
        snprintf(path, sizeof path, "%s/files/%s", m->data, world_db_names[i]);
        fill_page_1(page, 1, (uint32_t)sim_random(m->w->sim));
        fd = os_open(&m->disk.os, "sim:create", path, O_RDWR | O_CREAT | O_TRUNC, 0644);
        if (fd < 0)
                return;
        r = os_pwrite_all(&m->disk.os, "sim:create", fd, page, sizeof page, 0);
        os_close(&m->disk.os, "sim:create", fd);
        m->is_locked[i] = true;
        begin_commit(m, i);
        if (r == 0)
                WHILE_BUSY(m, r, db_adopt_file(db, path, &e));
        txn = end_commit(m, i);
        sim_trace(m->w->sim, &m->host, "creates %s: %d %s", world_db_names[i], r, e.text);
        if (r == 0 && db_may_confirm(db) == 0)
                judge_confirmed(m, txn, true);
        m->is_locked[i] = false;
}

static void
pause_a_little(struct machine *m)
{
        fiber_sleep(m->w->sim, sim_between(m->w->sim, 0, 3));
}

static void
roll_back(struct machine *m, struct db *db, const uint8_t *pages, uint32_t n_pages)
{
        struct call call = { .m = m };
        struct db_done done = { end_call, &call };
        int r;

        for (uint32_t pgno = 1; pgno <= n_pages; pgno++)
                WHILE_BUSY(m, r,
                           db_write(db, pages + (pgno - 1) * PAGE_SIZE, PAGE_SIZE,
                                    (pgno - 1) * PAGE_SIZE, done));
        WHILE_BUSY(m, r, db_truncate(db, (uint64_t)n_pages * PAGE_SIZE));
        WHILE_BUSY(m, r, db_journal_unlink(db, done));
        (void)await(&call, r);
}

/* What SQLite does of it: some pages, now and then a page more or fewer. */
static int
write_pages(struct machine *m, struct db *db, uint8_t *pages, uint32_t n_old)
{
        struct sim *s = m->w->sim;
        struct call call = { .m = m };
        struct db_done done = { end_call, &call };
        uint32_t n = n_old, pgno;
        int r = 0;

        if (sim_chance(s, 200) && n < PAGES_MAX)
                n++;
        else if (sim_chance(s, 100) && n > 1)
                n--;
        pgno = (uint32_t)sim_between(s, 1, n);
        for (uint32_t at = 100; at < PAGE_SIZE; at += 8)
                put_be64(pages + (pgno - 1) * PAGE_SIZE + at, sim_random(s));
        fill_page_1(pages, n, get_be32(pages + 24) + 1);
        if (n > n_old)
                put_be64(pages + (n - 1) * PAGE_SIZE, sim_random(s));
        for (uint32_t i = 1; i <= n && r == 0; i++)
                if (i == 1 || i == pgno || i > n_old) {
                        WHILE_BUSY(m, r,
                                   db_write(db, pages + (i - 1) * PAGE_SIZE, PAGE_SIZE,
                                            (i - 1) * PAGE_SIZE, done));
                        pause_a_little(m);
                }
        if (r == 0 && n < n_old)
                WHILE_BUSY(m, r, db_truncate(db, (uint64_t)n * PAGE_SIZE));
        return r;
}

/* One transaction in mode DELETE, holding SQLite's locks. */
static void
transact(struct machine *m, struct db *db, int i)
{
        static const uint8_t header[PAGE_SIZE] = { 0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7 };
        uint8_t old[PAGES_MAX * PAGE_SIZE] = { 0 }, pages[PAGES_MAX * PAGE_SIZE];
        uint32_t n_old = (uint32_t)(db_size_bytes(db) / PAGE_SIZE);
        struct call call = { .m = m };
        struct db_done done = { end_call, &call };
        bool is_full = sim_chance(m->w->sim, 600);
        int r, txn;

        if (db_journal_exists(db) || db_journal_create(db) < 0)
                return;
        r = db_read(db, old, n_old * PAGE_SIZE, 0) == (ssize_t)(n_old * PAGE_SIZE) ? 0 : -EIO;
        memcpy(pages, old, sizeof pages);
        if (r == 0)
                WHILE_BUSY(m, r, db_journal_write(db, header, sizeof header, 0, done));
        if (r == 0)
                r = write_pages(m, db, pages, n_old);
        if (r == 0 && is_full)
                WHILE_BUSY(m, r, db_journal_fsync(db, done));
        if (r < 0) {
                roll_back(m, db, old, n_old);
                return;
        }
        begin_commit(m, i);
        WHILE_BUSY(m, r, db_journal_unlink(db, done));
        r = await(&call, r);
        txn = end_commit(m, i);
        sim_trace(m->w->sim, &m->host, "commits %s %llu: %d", world_db_names[i],
                  txn < 0 ? 0 : (unsigned long long)m->w->history.v[txn].pos.txid, r);
        if (txn < 0 && r < 0)
                roll_back(m, db, old, n_old);
        else if (r == 0 && txn >= 0)
                judge_confirmed(m, txn, is_full);
        else if (r == E_UNCONFIRMED)
                WHILE_BUSY(m, r, db_journal_unlink(db, done)); /* which is empty */
}

void
application_run(struct machine *m)
{
        struct world *w = m->w;

        for (;;) {
                int i = (int)sim_between(w->sim, 0, w->n_dbs - 1);
                struct db *db;

                fiber_sleep(w->sim, sim_between(w->sim, 1, 2 * w->commit_ms));
                if (w->is_read_only || m->is_stopping || store_may_commit(m->store) < 0)
                        continue;
                db = store_find(m->store, world_db_names[i]);
                if (db == NULL || !db_exists(db)) {
                        create_db(m, i);
                        continue;
                }
                if (m->is_locked[i])
                        continue;
                m->is_locked[i] = true;
                transact(m, db, i);
                m->is_locked[i] = false;
        }
}
