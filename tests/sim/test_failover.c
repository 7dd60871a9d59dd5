/* Nodes, their lease and their streams under crashes, pauses, cuts and hand-overs, from a seed.
 *
 *   sim_failover                    seeds 1 to 2000
 *   FIRST=N COUNT=M sim_failover    others
 *   SEED=N sim_failover             one, with a trace on stderr */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "tests/sim/cluster.h"

#define COUNT_DEFAULT 2000
#define N_TTLS 12 /* of trouble */

struct totals {
        uint64_t n_steps, n_commits, n_take_overs, n_handoffs, n_lost, n_heirless;
        int64_t longest_ms; /* until all was well again */
};

static int64_t
env_number(const char *name, int64_t otherwise)
{
        const char *text = getenv(name);

        return text != NULL ? strtoll(text, NULL, 10) : otherwise;
}

static void
run_until(struct cluster *c, int64_t at_us)
{
        struct sim *s = c->sim;

        while (!s->is_failed && s->now_us < at_us && sim_step(s))
                check_step(c);
}

/* Without trouble, all is well within this: a session lives for two TTLs and leaves the lock-delay behind; requests,
 * connecting again, applying what a reader held up, and letting a better candidate go first take their time. */
static int64_t
patience_ms(const struct cluster *c)
{
        return 6 * c->ttl_ms + c->lock_delay_ms + 25000;
}

static bool
wait_until_well(struct cluster *c, char *ret_why, size_t size)
{
        struct sim *s = c->sim;
        int64_t end_us = s->now_us + patience_ms(c) * SIM_MS;

        while (!check_converged(c, ret_why, size)) {
                if (s->is_failed || s->now_us >= end_us)
                        return false;
                run_until(c, s->now_us + 100 * SIM_MS);
                nemesis_revive(c);
        }
        return true;
}

static int64_t
converge(struct cluster *c)
{
        struct sim *s = c->sim;
        int64_t begin_us = s->now_us;
        char why[128];

        c->is_read_only = true;
        if (!wait_until_well(c, why, sizeof why)) {
                if (check_has_heir(c) || !nemesis_ends(c) ||
                    (c->n_heirless++, begin_us = s->now_us, !wait_until_well(c, why, sizeof why)))
                        sim_fail(s, "%lld ms after the last trouble: %s", (long long)patience_ms(c),
                                 why);
        }
        return (s->now_us - begin_us) / SIM_MS;
}

/* All is well, and stays so: with commits. */
static void
hold(struct cluster *c)
{
        struct node *leader = c->leader;

        c->is_read_only = false;
        run_until(c, c->sim->now_us + 2 * c->ttl_ms * SIM_MS);
        if (!c->sim->is_failed && c->leader != leader)
                sim_fail(c->sim, "the primary changed from %s to %s without need", leader->host.name,
                         c->leader->host.name);
        converge(c);
}

static bool
run_seed(uint64_t seed, bool is_tracing, struct cluster *c, struct totals *totals)
{
        struct sim s;
        int64_t ms;

        sim_init(&s, seed, is_tracing);
        cluster_init(c, &s);
        for (int i = 0; i < c->n_nodes; i++)
                node_boot(&c->nodes[i]);
        nemesis_start(c);
        run_until(c, N_TTLS * c->ttl_ms * SIM_MS);
        nemesis_heal(c);
        ms = converge(c);
        /* The last troubles may show later: requests that were lost, a process that was about to end. */
        run_until(c, s.now_us + 2 * c->ttl_ms * SIM_MS);
        converge(c);
        if (!s.is_failed)
                hold(c);
        totals->n_steps += s.n_steps;
        totals->n_commits += c->n_commits;
        totals->n_take_overs += c->n_take_overs;
        totals->n_handoffs += c->n_handoffs;
        totals->n_lost += c->n_lost;
        totals->n_heirless += c->n_heirless;
        if (ms > totals->longest_ms)
                totals->longest_ms = ms;
        cluster_release(c);
        if (s.is_failed)
                printf("SEED=%llu at %.3f s, step %llu: %s\n", (unsigned long long)seed,
                       (double)s.now_us / 1e6, (unsigned long long)s.n_steps, s.failure);
        return !s.is_failed;
}

int
main(void)
{
        int64_t first = env_number("FIRST", 1), count = env_number("COUNT", COUNT_DEFAULT);
        int64_t one = env_number("SEED", -1), n_failed = 0;
        struct log_config log = { .is_debug = one >= 0, .fd = one >= 0 ? 2 : -1 };
        struct cluster *c = malloc(sizeof *c);
        struct totals t = { 0 };

        if (c == NULL)
                return 1;
        log_configure(&log);
        if (one >= 0) {
                first = one;
                count = 1;
        }
        for (int64_t i = 0; i < count && n_failed < 10; i++)
                n_failed += !run_seed((uint64_t)(first + i), one >= 0, c, &t);
        printf("seeds %lld to %lld: %llu steps, %llu commits, %llu take-overs, %llu of them handed over, "
               "%llu times a node that was behind took over, %llu times all waited for one that was gone; at most "
               "%lld ms until all was well\n",
               (long long)first, (long long)(first + count - 1), (unsigned long long)t.n_steps,
               (unsigned long long)t.n_commits, (unsigned long long)t.n_take_overs,
               (unsigned long long)t.n_handoffs, (unsigned long long)t.n_lost,
               (unsigned long long)t.n_heirless, (long long)t.longest_ms);
        free(c);
        return n_failed > 0;
}
