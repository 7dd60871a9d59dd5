#include "db/group.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "db/db_internal.h"
#include "sqlite/journal_reader.h"

struct group {
        struct db_access *accesses;
        struct capture *captures;
        uint64_t *txids;
        unsigned n;
        const struct db_group_note *note;
};

static void
stop_all(struct group *g, const char *why)
{
        for (unsigned i = 0; i < g->n; i++) {
                access_lock(&g->accesses[i]);
                db_fail(g->accesses[i].db, why);
                access_unlock(&g->accesses[i]);
        }
}

static int
sync_logs(struct group *g, struct err *e)
{
        int r = 0;

        for (unsigned i = 0; i < g->n && r == 0; i++)
                r = sync_or_fail(&g->accesses[i], txlog_end_lsn(g->accesses[i].db->log), e);
        return r;
}

/* As it was before, and durably so; where that cannot be had the note stays, and the next start goes by it. */
static void
undo(struct group *g, unsigned n_appended)
{
        struct err e = ERR_INIT;
        int r = 0, undone;

        for (unsigned i = 0; i < n_appended; i++) {
                undone = capture_undo(&g->captures[i], r == 0 ? &e : NULL);
                if (r == 0)
                        r = undone;
        }
        if (r == 0)
                r = sync_logs(g, &e);
        if (r == 0)
                r = g->note->remove(g->note->arg, &e);
        if (r < 0)
                stop_all(g, e.text);
}

static int
append_all(struct group *g, struct err *e)
{
        unsigned n = 0;
        int r = 0;

        while (n < g->n && r == 0)
                r = capture_append(&g->captures[n++], e);
        if (r == 0)
                r = sync_logs(g, e);
        if (r < 0)
                undo(g, n);
        return r;
}

/* Committed: what fails now has stopped its database, and a restart goes on from the logs. */
static int
publish_one(struct capture *c, struct err *e)
{
        struct db *db = c->a->db;
        int r = capture_publish(c, e);

        if (r == 0)
                (void)flush_writeback(c->a); /* what does not go now goes later: it is in the log */
        access_lock(c->a);
        db->transaction.wants_sync = false;
        db->sync.replicable_txid = db->pos.txid;
        if (db->env->committed != NULL)
                db->env->committed(db->env->arg, db);
        if (r == 0)
                r = confirm_commit(db, NULL);
        access_unlock(c->a);
        return r;
}

static int
publish_all(struct group *g, struct err *e)
{
        struct err local;
        int r = 0, one;

        for (unsigned i = 0; i < g->n; i++) {
                local = (struct err)ERR_INIT;
                one = publish_one(&g->captures[i], &local);
                if (one < 0 && r == 0) {
                        r = one;
                        *e = local;
                }
        }
        /* Nobody is to roll back what may be the cluster's: see confirm_commit. */
        for (unsigned i = 0; i < g->n && r == E_UNCONFIRMED; i++) {
                access_lock(&g->accesses[i]);
                db_leave_empty_journal(g->accesses[i].db);
                access_unlock(&g->accesses[i]);
        }
        return r;
}

static int
commit_parts(struct group *g, struct err *e)
{
        int r;

        for (unsigned i = 0; i < g->n; i++) {
                g->captures[i].a = &g->accesses[i];
                g->txids[i] = g->accesses[i].db->pos.txid + 1;
        }
        r = g->note->write(g->note->arg, g->txids, g->n, e);
        if (r == 0)
                r = append_all(g, e);
        if (r < 0)
                return r;
        r = g->note->remove(g->note->arg, e);
        if (r < 0) {
                for (unsigned i = 0; i < g->n; i++)
                        capture_forget(&g->captures[i]);
                stop_all(g,
                         "whether a transaction over several databases stands is decided by a restart");
                return r;
        }
        return publish_all(g, e);
}

int
db_group_commit(struct db_access *accesses, unsigned n, const struct db_group_note *note, struct err *e)
{
        struct group g = { .accesses = accesses, .n = n, .note = note };
        int r;

        g.captures = calloc(n, sizeof *g.captures);
        g.txids = calloc(n, sizeof *g.txids);
        if (g.captures == NULL || g.txids == NULL)
                r = err_set(e, -ENOMEM, "commit over %u databases", n);
        else
                r = commit_parts(&g, e);
        free(g.captures);
        free(g.txids);
        return r;
}

void
db_group_tell_failed(struct db_access *a, unsigned n, int r, const struct err *e)
{
        struct err all = *e;

        (void)err_prefix(&all, "over %u databases", n);
        capture_tell_failed(a, r, &all);
}

bool
db_commits_remotely(struct db *db)
{
        return db_remote_commit_of(db) != NULL;
}

static ssize_t
read_part_journal(void *arg, void *buf, size_t n, uint64_t off)
{
        return spool_read(arg, buf, n, off);
}

size_t
db_journal_super(struct db *db, char *buf, size_t size)
{
        struct journal_reader r = { .pread = read_part_journal, .arg = &db->journal.content };
        ssize_t n = 0;

        db_lock(db);
        r.size_bytes = db->journal.content.size_bytes;
        if (db->journal.is_hot && db->journal.is_active)
                n = journal_reader_super(&r, buf, size);
        pthread_mutex_unlock(&db->lock);
        return n > 0 ? (size_t)n : 0;
}
