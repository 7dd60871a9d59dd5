#include "tests/sim/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long ull;

/* One writer at any instant, whatever the nodes' clocks say. */
void
check_step(struct cluster *c)
{
        struct node *writer = NULL;

        for (int i = 0; i < c->n_nodes; i++) {
                struct node *n = &c->nodes[i];

                if (!node_may_commit(n))
                        continue;
                if (writer != NULL)
                        sim_fail(c->sim, "%s (term %llu) and %s (term %llu) may both commit",
                                 writer->host.name, (ull)writer->held.term, n->host.name,
                                 (ull)n->held.term);
                writer = n;
        }
}

void
check_commit(struct node *n)
{
        struct cluster *c = n->c;

        if (n->held.term < c->commit_term)
                sim_fail(c->sim, "%s commits in term %llu, after commits in term %llu", n->host.name,
                         (ull)n->held.term, (ull)c->commit_term);
        if (!n->leads || !stream_is_drained(n))
                sim_fail(c->sim, "%s commits before what it received", n->host.name);
        c->commit_term = n->held.term;
}

void
check_granted(struct node *n, const struct lease_state *s, const char *token)
{
        struct cluster *c = n->c;

        if (s->term == 0 || s->term >= TERMS_MAX || c->owners[s->term] != 0)
                sim_fail(c->sim, "%s was granted term %llu, which was node %d's", n->host.name,
                         (ull)s->term, s->term < TERMS_MAX ? c->owners[s->term] - 1 : -1);
        else
                c->owners[s->term] = (uint8_t)(n->index + 1);
        n->has_offer = token[0] != '\0' && strcmp(token, c->offered_token) == 0;
}

/* A node that got as far under the same primary or a later one has what the other acknowledged. One that is behind
 * loses it, and others forget it when they follow. */
static void
check_acknowledged(struct node *n, struct node *other)
{
        struct txn_pos pos = txn_log_pos(&n->log), *acked = &other->acked;
        bool is_advanced = pos.term > acked->term ||
                           (pos.term == acked->term && pos.txid >= acked->txid);

        if (txn_log_has(&n->log, acked->txid, acked->sum))
                return;
        if (is_advanced)
                sim_fail(
                        n->c->sim,
                        "%s takes over at %u of term %llu without %u of term %llu, which %s acknowledged",
                        n->host.name, pos.txid, (ull)n->synced_term, acked->txid, (ull)acked->term,
                        other->host.name);
        n->c->n_lost++;
        *acked = (struct txn_pos){ 0 };
}

void
check_takes_over(struct node *n)
{
        struct cluster *c = n->c;

        c->n_take_overs++;
        if (n->held.term < n->highest_term)
                sim_fail(c->sim, "%s leads in term %llu, after %llu", n->host.name, (ull)n->held.term,
                         (ull)n->highest_term);
        n->highest_term = n->held.term;
        if (n->has_offer && !txn_log_has(&n->log, c->offered.txid, c->offered.sum))
                sim_fail(c->sim, "%s was handed the lease over at %u but is at %u", n->host.name,
                         c->offered.txid, n->log.n);
        n->has_offer = false;
        c->leader = n;
        for (int i = 0; i < c->n_nodes; i++)
                check_acknowledged(n, &c->nodes[i]);
        n->synced_term = n->held.term;
}

/* What comes from an earlier primary when another has already begun without it is lost already. */
void
check_ack(struct node *n, uint64_t term)
{
        const struct node *leader = n->c->leader;

        n->acked = txn_log_pos(&n->log);
        n->acked.term = term;
        if (leader != NULL && !txn_log_has(&leader->log, n->acked.txid, n->acked.sum))
                n->acked = (struct txn_pos){ 0 };
}

void
check_follow(struct node *n, uint64_t term)
{
        if (term < n->highest_term)
                sim_fail(n->c->sim, "%s follows term %llu after %llu", n->host.name, (ull)term,
                         (ull)n->highest_term);
        n->highest_term = term;
}

void
check_apply(struct node *n, const struct item *it)
{
        if (n->leads)
                sim_fail(n->c->sim, "%s applies %u.. as the primary", n->host.name, it->first_txid);
        if (it->term < n->highest_term)
                sim_fail(n->c->sim, "%s applies what came in term %llu after term %llu", n->host.name,
                         (ull)it->term, (ull)n->highest_term);
        if (it->is_snapshot)
                n->acked = (struct txn_pos){ 0 };
        n->synced_term = it->term;
}

bool
check_has_heir(const struct cluster *c)
{
        uint64_t last = strtoull(c->consul.last_term, NULL, 10);

        for (int i = 0; i < c->n_nodes; i++)
                if (!c->nodes[i].is_gone && c->nodes[i].is_candidate && c->nodes[i].whole_term >= last)
                        return true;
        return false;
}

bool
check_converged(struct cluster *c, char *ret_why, size_t size)
{
        struct node *primary = NULL;

        ret_why[0] = '\0';
        for (int i = 0; i < c->n_nodes; i++)
                if (node_may_commit(&c->nodes[i]) && !c->nodes[i].is_gone)
                        primary = &c->nodes[i];
        if (primary == NULL) {
                snprintf(ret_why, size, "nobody is the primary");
                return false;
        }
        for (int i = 0; i < c->n_nodes; i++) {
                struct node *n = &c->nodes[i];
                struct txn_pos pos = txn_log_pos(&n->log);

                if (n == primary || n->is_gone)
                        continue;
                if (!stream_is_connected(n, primary))
                        snprintf(ret_why, size, "%s does not follow %s", n->host.name,
                                 primary->host.name);
                else if (pos.txid != primary->log.n || !txn_log_has(&primary->log, pos.txid, pos.sum))
                        snprintf(ret_why, size, "%s is at %u, %s at %u", n->host.name, pos.txid,
                                 primary->host.name, primary->log.n);
        }
        return ret_why[0] == '\0';
}
