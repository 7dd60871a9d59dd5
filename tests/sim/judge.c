#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repl/node_internal.h"
#include "tests/sim/world.h"

typedef unsigned long long ull;

#define QUIET_MS 2000

static const struct txn *
txn_of(const struct machine *m, int i)
{
        return &m->w->history.v[i];
}

static bool
has(struct machine *m, int txn)
{
        return txn < 0 || history_has(&m->w->history, machine_state(m, txn_of(m, txn)->db), txn);
}

/* One writer at any instant, whatever the clocks say. */
void
judge_step(struct world *w)
{
        struct machine *writer = NULL;

        for (int i = 0; i < w->n_machines; i++) {
                struct machine *m = &w->machines[i];

                if (!machine_may_commit(m))
                        continue;
                if (writer != NULL)
                        sim_fail(w->sim, "%s (term %llu) and %s (term %llu) may both commit",
                                 writer->host.name, (ull)writer->term, m->host.name, (ull)m->term);
                writer = m;
        }
}

void
judge_granted(struct machine *m, const struct lease_state *s, const char *token)
{
        struct world *w = m->w;

        if (s->term == 0 || s->term >= TERMS_MAX || (w->owners[s->term] != 0 && !w->is_restored))
                sim_fail(w->sim, "%s was granted term %llu, which was another's", m->host.name,
                         (ull)s->term);
        else
                w->owners[s->term] = (uint8_t)(m->index + 1);
        if (s->term > w->granted_term) /* else the answer was long on its way */
                w->granted_term = s->term;
        m->has_offer = token[0] != '\0' && strcmp(token, w->offered_token) == 0;
}

void
judge_offered(struct machine *m, const char *token)
{
        struct world *w = m->w;

        snprintf(w->offered_token, sizeof w->offered_token, "%s", token);
        for (int db = 0; db < w->n_dbs; db++)
                w->offered[db] = machine_state(m, db);
}

void
judge_confirmed(struct machine *m, int txn, bool is_durable)
{
        struct world *w = m->w;
        const struct txn *t = txn_of(m, txn);

        m->confirmed[t->db] = txn;
        if (is_durable)
                m->durable[t->db] = txn;
        if (t->term >= w->granted_term)
                return;
        if (w->led_term >= w->granted_term && !has(w->leader, txn))
                sim_fail(w->sim,
                         "%s acknowledges %s %llu of term %llu, which %s, leading term %llu, lacks",
                         m->host.name, world_db_names[t->db], (ull)t->pos.txid, (ull)t->term,
                         w->leader->host.name, (ull)w->led_term);
        else if (w->led_term < w->granted_term && w->n_late < (int)(sizeof w->late / sizeof *w->late))
                w->late[w->n_late++] = (struct late_ack){ txn, w->granted_term };
}

/* Both are there and reach each other, and have for a moment: @m has asked @o what it has, and has fetched it or left the lease
 * to it, whichever database it is, and whether or not @o may lead; a service that has forgotten something is no excuse. It does not
 * ask for what @o has of an earlier term. */
static bool
must_have_fetched(const struct machine *m, const struct machine *o)
{
        const struct world *w = m->w;

        return w->spike_permille == 0 && w->loss_permille == 0 && !m->has_offer && o->is_ready &&
               o->node->last_complete_term >= w->term_before && o->host.is_up && !o->host.is_paused &&
               !o->is_cut_off && !w->is_cut[m->index][o->index] && !w->is_cut[o->index][m->index] &&
               w->sim->now_us - w->trouble_us > QUIET_MS * SIM_MS;
}

/* Whoever got as far in the same term or a later one has what another replica acknowledged to its primary. One that is
 * behind loses it, and the others forget it when they follow. (Where the service had forgotten the last term, a node that knew
 * nothing of it either may have led while those that did were down: then there are two histories, of which one is set aside.) */
static void
check_acknowledged(struct machine *m, struct machine *o, int db, int state)
{
        int acked = o->acked[db];
        const struct txn *a, *s;

        if (acked < 0 || history_has(&m->w->history, state, acked))
                return;
        a = txn_of(m, acked);
        s = state >= 0 ? txn_of(m, state) : NULL;
        if (s != NULL && !m->w->is_restored &&
            (s->term > a->term || (s->term == a->term && s->pos.txid >= a->pos.txid)))
                sim_fail(
                        m->w->sim,
                        "%s takes over with %s at %llu of term %llu, without %llu of term %llu that %s acknowledged",
                        m->host.name, world_db_names[db], (ull)s->pos.txid, (ull)s->term,
                        (ull)a->pos.txid, (ull)a->term, o->host.name);
        if (must_have_fetched(m, o))
                sim_fail(
                        m->w->sim,
                        "%s takes over without %llu of term %llu of %s that %s, which it reaches, acknowledged",
                        m->host.name, (ull)a->pos.txid, (ull)a->term, world_db_names[db], o->host.name);
        m->w->n_lost++;
        o->acked[db] = -1;
}

static void
check_others(struct machine *m, int db, int state)
{
        for (int i = 0; i < m->w->n_machines; i++)
                if (&m->w->machines[i] != m)
                        check_acknowledged(m, &m->w->machines[i], db, state);
}

void
judge_commit(struct machine *m, int txn)
{
        struct world *w = m->w;
        const struct txn *t = txn_of(m, txn);

        w->n_commits++;
        if (m->is_unjudged[t->db])
                check_others(m, t->db, t->parent);
        m->is_unjudged[t->db] = false;
        if (t->term < w->led_term && !w->is_restored)
                sim_fail(w->sim, "%s commits in term %llu, after term %llu has begun", m->host.name,
                         (ull)t->term, (ull)w->led_term);
}

static bool
is_receiving(struct machine *m, int db)
{
        struct db *d = store_find(m->store, world_db_names[db]);

        return d != NULL && db_is_receiving(d);
}

void
judge_takes_over(struct machine *m)
{
        struct world *w = m->w;

        w->n_take_overs++;
        if (m->term <= w->led_term && !w->is_restored)
                sim_fail(w->sim, "%s leads in term %llu, after %llu", m->host.name, (ull)m->term,
                         (ull)w->led_term);
        if (m->term < TERMS_MAX && w->owners[m->term] != m->index + 1)
                sim_fail(w->sim, "%s leads in term %llu, which it was not granted", m->host.name,
                         (ull)m->term);
        w->term_before = w->led_term;
        w->led_term = m->term;
        w->leader = m;
        for (int i = 0; i < w->n_late; i++)
                if (w->late[i].term == m->term && !has(m, w->late[i].txn))
                        sim_fail(
                                w->sim,
                                "%s takes over without %s %llu, acknowledged after the lease was its own",
                                m->host.name, world_db_names[txn_of(m, w->late[i].txn)->db],
                                (ull)txn_of(m, w->late[i].txn)->pos.txid);
        w->n_late = 0;
        for (int db = 0; db < w->n_dbs && m->has_offer; db++)
                if (!is_receiving(m, db) && !has(m, w->offered[db]))
                        sim_fail(w->sim, "%s was handed the lease over without %s %llu", m->host.name,
                                 world_db_names[db], (ull)txn_of(m, w->offered[db])->pos.txid);
        m->has_offer = false;
        for (int db = 0; db < w->n_dbs; db++) {
                m->is_unjudged[db] = is_receiving(m, db);
                if (!m->is_unjudged[db])
                        check_others(m, db, machine_state(m, db));
        }
        sim_trace(w->sim, &m->host, "leads in term %llu", (ull)m->term);
}

void
judge_applied(struct machine *m, int db)
{
        struct node_status st;
        int state = machine_state(m, db);
        const struct world *w = m->w;

        node_get_status(m->node, &st);
        if (m->confirmed[db] >= 0 && !history_has(&w->history, state, m->confirmed[db]))
                m->confirmed[db] = m->durable[db] = -1; /* set aside */
        m->acked[db] = -1;
        if (!st.is_connected || state < 0)
                return;
        if (st.term < m->term)
                sim_fail(w->sim, "%s follows term %llu after %llu", m->host.name, (ull)st.term,
                         (ull)m->term);
        m->term = st.term;
        /* What comes from an earlier primary when another has begun without it is lost already, and what the present one lacks
         * was not told to it. */
        if (w->leader == NULL || w->leader->store == NULL || st.term > w->led_term ||
            has(w->leader, state))
                m->acked[db] = state;
}

void
judge_booted(struct machine *m)
{
        for (int db = 0; db < m->w->n_dbs; db++) {
                if (store_is_broken(m->store, world_db_names[db]))
                        sim_fail(m->w->sim, "%s: %s did not open", m->host.name, world_db_names[db]);
                if (!has(m, m->confirmed[db]))
                        sim_fail(m->w->sim, "%s: %s %llu was acknowledged before the end, and is gone",
                                 m->host.name, world_db_names[db],
                                 (ull)txn_of(m, m->confirmed[db])->pos.txid);
        }
        m->term = 0;
}

bool
judge_has_heir(const struct world *w)
{
        uint64_t last = service_last_term(&w->service);

        for (int i = 0; i < w->n_machines; i++) {
                const struct machine *m = &w->machines[i];

                if (!m->is_gone && m->is_candidate && m->node != NULL &&
                    m->node->last_complete_term >= last)
                        return true;
        }
        return false;
}

static bool
is_same(struct machine *a, struct machine *b, const char *name)
{
        uint8_t x[PAGES_MAX * PAGE_SIZE], y[PAGES_MAX * PAGE_SIZE];
        struct db *p = store_find(a->store, name), *q = store_find(b->store, name);
        ssize_t n = db_read(p, x, sizeof x, 0);

        return n == db_read(q, y, sizeof y, 0) && n >= 0 && memcmp(x, y, (size_t)n) == 0;
}

#define LAG_MAX_MS 5000 /* of one who hears every second that he has everything */

static void
compare(struct machine *primary, struct machine *m, char *ret_why, size_t size)
{
        struct node_status st = { 0 };

        if (m->is_ready)
                node_get_status(m->node, &st);
        if (!m->is_ready || !st.is_connected || !st.is_ready || st.term != primary->term) {
                snprintf(ret_why, size, "%s does not follow %s", m->host.name, primary->host.name);
                return;
        }
        if (store_lag_ms(m->store) > LAG_MAX_MS)
                snprintf(ret_why, size, "%s says that it is %lld ms behind", m->host.name,
                         (long long)store_lag_ms(m->store));
        for (int db = 0; db < m->w->n_dbs && ret_why[0] == '\0'; db++) {
                int a = machine_state(primary, db), b = machine_state(m, db);

                if (a != b)
                        snprintf(ret_why, size, "%s of %s is at %llu, that of %s at %llu",
                                 world_db_names[db], m->host.name,
                                 b < 0 ? 0 : (ull)txn_of(m, b)->pos.txid, primary->host.name,
                                 a < 0 ? 0 : (ull)txn_of(m, a)->pos.txid);
                else if (a >= 0 && !is_same(primary, m, world_db_names[db]))
                        snprintf(ret_why, size, "%s of %s has other pages than that of %s",
                                 world_db_names[db], m->host.name, primary->host.name);
        }
}

bool
judge_converged(struct world *w, char *ret_why, size_t size)
{
        struct machine *primary = NULL;

        ret_why[0] = '\0';
        for (int i = 0; i < w->n_machines; i++)
                if (machine_may_commit(&w->machines[i]) && !w->machines[i].is_gone)
                        primary = &w->machines[i];
        if (primary == NULL) {
                snprintf(ret_why, size, "nobody is the primary");
                return false;
        }
        for (int i = 0; i < w->n_machines && ret_why[0] == '\0'; i++)
                if (&w->machines[i] != primary && !w->machines[i].is_gone)
                        compare(primary, &w->machines[i], ret_why, size);
        return ret_why[0] == '\0';
}
