#include "tests/sim/cluster.h"

static void
restart(void *arg, bool is_lost)
{
        struct node *n = arg;

        if (!is_lost && !n->is_gone)
                node_boot(n);
}

static void
wake_up(void *arg, bool is_lost)
{
        struct node *n = arg;

        if (is_lost || n->is_gone || !n->host.is_up || !n->host.is_paused)
                return;
        sim_trace(n->c->sim, &n->host, "goes on");
        host_resume(&n->host);
}

/* From an instant to several TTLs. */
static int64_t
some_time_us(struct cluster *c)
{
        int64_t ms = sim_between(c->sim, 1, c->ttl_ms);

        return sim_chance(c->sim, 500) ? ms * SIM_MS : ms * 4 * SIM_MS;
}

static void
pause_node(struct node *n)
{
        if (!n->host.is_up || n->host.is_paused)
                return;
        sim_trace(n->c->sim, &n->host, "is stopped");
        host_pause(&n->host);
        sim_post(n->c->sim, NULL, some_time_us(n->c), wake_up, n);
}

static void
crash_node(struct node *n)
{
        node_crash(n, sim_chance(n->c->sim, 400));
        sim_post(n->c->sim, NULL, some_time_us(n->c), restart, n);
}

static void
stop_node(struct node *n)
{
        node_stop(n);
        sim_post(n->c->sim, NULL, some_time_us(n->c), restart, n);
}

static void
cut(struct node *n, bool is_cut)
{
        struct cluster *c = n->c;
        int other = (int)sim_between(c->sim, 0, c->n_nodes - 1);

        if (sim_chance(c->sim, 500)) {
                sim_trace(c->sim, &n->host, is_cut ? "is cut off from consul" : "reaches consul again");
                n->is_cut_off = is_cut;
        }
        if (sim_chance(c->sim, 500)) {
                sim_trace(c->sim, &n->host, is_cut ? "is cut off from node %d" : "reaches node %d again",
                          other);
                c->is_cut[n->index][other] = c->is_cut[other][n->index] = is_cut;
        }
}

static void
heal_network(struct cluster *c)
{
        for (int i = 0; i < c->n_nodes; i++) {
                c->nodes[i].is_cut_off = false;
                for (int j = 0; j < c->n_nodes; j++)
                        c->is_cut[i][j] = false;
        }
        sim_trace(c->sim, NULL, "the network is whole");
}

/* The primary more often than the others. */
static struct node *
choose_node(struct cluster *c)
{
        if (sim_chance(c->sim, 400))
                for (int i = 0; i < c->n_nodes; i++)
                        if (c->nodes[i].is_primary && c->nodes[i].host.is_up)
                                return &c->nodes[i];
        return &c->nodes[sim_between(c->sim, 0, c->n_nodes - 1)];
}

static void
strike(void *arg, bool is_lost)
{
        struct cluster *c = arg;
        struct node *n;

        if (is_lost || c->is_calm)
                return;
        n = choose_node(c);
        switch (sim_between(c->sim, 0, 9)) {
        case 0:
                crash_node(n);
                break;
        case 1:
                stop_node(n);
                break;
        case 2:
        case 3:
                pause_node(n);
                break;
        case 4:
        case 5:
                cut(n, true);
                break;
        case 6:
                cut(n, false);
                break;
        case 7:
                heal_network(c);
                break;
        case 8:
                node_handoff(n);
                break;
        case 9:
                stream_break_one(c);
                break;
        }
        sim_post(c->sim, NULL, sim_between(c->sim, 1, c->trouble_ms) * SIM_MS, strike, c);
}

void
nemesis_start(struct cluster *c)
{
        sim_post(c->sim, NULL, sim_between(c->sim, 1, 2 * c->ttl_ms) * SIM_MS, strike, c);
}

/* False: it would be one too many. */
static bool
is_needed(const struct node *n)
{
        const struct cluster *c = n->c;

        for (int i = 0; i < c->n_nodes; i++)
                if (&c->nodes[i] != n && c->nodes[i].is_candidate)
                        return false;
        return true;
}

static void
leave_one_behind(struct cluster *c)
{
        struct node *n = choose_node(c);
        int64_t how = sim_between(c->sim, 0, 5);

        if (how > 3 || is_needed(n))
                return;
        n->is_gone = true;
        if (how < 2)
                node_crash(n, how == 0);
        else if (how == 2)
                host_pause(&n->host);
        else
                n->is_cut_off = true;
        sim_trace(c->sim, &n->host, "is left in trouble");
}

void
nemesis_revive(struct cluster *c)
{
        for (int i = 0; i < c->n_nodes; i++)
                if (!c->nodes[i].is_gone)
                        node_boot(&c->nodes[i]);
}

void
nemesis_heal(struct cluster *c)
{
        c->is_calm = true;
        c->consul.stale_permille = 0;
        heal_network(c);
        for (int i = 0; i < c->n_nodes; i++)
                wake_up(&c->nodes[i], false);
        leave_one_behind(c);
        nemesis_revive(c);
}

bool
nemesis_ends(struct cluster *c)
{
        bool was_needed = false;

        for (int i = 0; i < c->n_nodes; i++) {
                struct node *n = &c->nodes[i];

                was_needed |= n->is_gone;
                n->is_gone = false;
                n->is_cut_off = false;
                wake_up(n, false);
                node_boot(n);
        }
        return was_needed;
}
