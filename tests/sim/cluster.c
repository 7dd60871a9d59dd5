#include "tests/sim/cluster.h"

#include <stdio.h>
#include <string.h>

#define DRIFT_PPM 30000 /* far more than real clocks: the fence's margin covers 10 % between two */

bool
cluster_is_cut(const struct cluster *c, const struct node *a, const struct node *b)
{
        return c->is_cut[a->index][b->index];
}

static int64_t
delay(struct cluster *c)
{
        if (!c->is_calm && sim_chance(c->sim, c->spike_permille))
                return sim_between(c->sim, 0, c->ttl_ms) * SIM_MS;
        return sim_between(c->sim, c->latency_us / 2, c->latency_us * 2);
}

int64_t
cluster_delay_us(struct cluster *c)
{
        return delay(c);
}

static bool
is_cut_off(void *arg, const struct sim_host *h)
{
        (void)arg;
        return ((const struct node *)h)->is_cut_off;
}

static int64_t
consul_delay_us(void *arg, const struct sim_host *h)
{
        struct cluster *c = arg;

        (void)h;
        if (!c->is_calm && sim_chance(c->sim, c->loss_permille))
                return -1;
        return delay(c);
}

static void
draw_conditions(struct cluster *c)
{
        static const int64_t ttls[] = { 1000, 2000, 5000, 10000 };
        static const int64_t lock_delays[] = { 1, 100, 1000, 15000 };
        static const int laziness[] = { 0, 500, 1000, 1000 };
        struct sim *s = c->sim;

        c->n_nodes = (int)sim_between(s, 3, N_NODES_MAX);
        c->ttl_ms = ttls[sim_between(s, 0, 3)];
        c->lock_delay_ms = lock_delays[sim_between(s, 0, 3)];
        c->consul.laziness_permille = laziness[sim_between(s, 0, 3)];
        c->latency_us = sim_between(s, 100, 20000);
        c->commit_ms = c->ttl_ms / sim_between(s, 3, 30);
        c->trouble_ms = c->ttl_ms * sim_between(s, 1, 8) / 2;
        c->spike_permille = (int)sim_between(s, 0, 1) * (int)sim_between(s, 0, 60);
        c->consul.stale_permille = sim_chance(s, 250) ? 100 : 0;
        c->loss_permille = (int)sim_between(s, 0, 1) * (int)sim_between(s, 0, 100);
}

static void
init_node(struct cluster *c, int index)
{
        struct node *n = &c->nodes[index];
        char name[16];

        snprintf(name, sizeof name, "node%d", index);
        host_init(&n->host, c->sim, name);
        n->host.rate_ppm = (int)sim_between(c->sim, -DRIFT_PPM, DRIFT_PPM);
        n->host.boot_offset_ms = sim_between(c->sim, 1000, 100000000);
        n->c = c;
        n->index = index;
        n->is_candidate = index < 2 || sim_chance(c->sim, 700);
        snprintf(n->url, sizeof n->url, "http://node%d:20202", index);
        sim_trace(c->sim, &n->host, "rate %+d ppm%s", n->host.rate_ppm,
                  n->is_candidate ? "" : ", no candidate");
}

void
cluster_init(struct cluster *c, struct sim *s)
{
        memset(c, 0, sizeof *c);
        c->sim = s;
        c->consul.sim = s;
        c->net = (struct consul_net){ .sim = s,
                                      .consul = &c->consul,
                                      .is_cut = is_cut_off,
                                      .delay_us = consul_delay_us,
                                      .arg = c };
        consul_net_use(&c->net);
        draw_conditions(c);
        sim_trace(s, NULL, "%d nodes, ttl %lld ms, lock-delay %lld ms, latency %lld us", c->n_nodes,
                  (long long)c->ttl_ms, (long long)c->lock_delay_ms, (long long)c->latency_us);
        for (int i = 0; i < c->n_nodes; i++)
                init_node(c, i);
}

void
cluster_release(struct cluster *c)
{
        for (int i = 0; i < c->n_nodes; i++)
                node_crash(&c->nodes[i], false);
        sim_release(c->sim);
        for (int i = 0; i < c->n_nodes; i++)
                host_release(&c->nodes[i].host);
}
