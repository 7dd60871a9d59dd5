#include "tests/sim/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/sim/threads.h"

#define DRIFT_PPM 30000 /* far more than real clocks: the fence's margin covers 10 % between two */

const char *const world_db_names[DBS_MAX] = { "a.db", "b.db" };

int
world_db_index(const struct db *db)
{
        for (int i = 0; i < DBS_MAX; i++)
                if (strcmp(db_name((struct db *)(uintptr_t)db), world_db_names[i]) == 0)
                        return i;
        abort();
}

static bool
is_cut(void *arg, const struct sim_host *from, const struct sim_host *to)
{
        const struct world *w = arg;

        return w->is_cut[((const struct machine *)from)->index][((const struct machine *)to)->index];
}

int64_t
world_delay_us(struct world *w)
{
        if (!w->is_calm && sim_chance(w->sim, w->spike_permille))
                return sim_between(w->sim, 0, w->ttl_ms) * SIM_MS;
        return sim_between(w->sim, w->latency_us / 2, w->latency_us * 2);
}

static int64_t
net_delay_us(void *arg)
{
        return world_delay_us(arg);
}

static struct sim_host *
find_host(void *arg, const char *address)
{
        struct world *w = arg;

        return &w->machines[atoi(address + strlen("node"))].host;
}

static bool
is_cut_off(void *arg, const struct sim_host *h)
{
        (void)arg;
        return ((const struct machine *)h)->is_cut_off;
}

static int64_t
service_delay_us(void *arg, const struct sim_host *h)
{
        struct world *w = arg;

        (void)h;
        if (!w->is_calm && sim_chance(w->sim, w->loss_permille))
                return -1;
        return world_delay_us(w);
}

static void
draw_conditions(struct world *w)
{
        static const int64_t ttls[] = { 1000, 2000, 5000, 10000 };
        static const int64_t lock_delays[] = { 1, 100, 1000, 15000 };
        static const int laziness[] = { 0, 500, 1000, 1000 };
        static const size_t highs[] = { 2000, 64000, 1 << 20 };
        struct sim *s = w->sim;

        w->n_machines = (int)sim_between(s, 3, MACHINES_MAX);
        w->n_dbs = (int)sim_between(s, 1, DBS_MAX);
        w->ttl_ms = ttls[sim_between(s, 0, 3)];
        w->lock_delay_ms = lock_delays[sim_between(s, 0, 3)];
        w->service.consul.laziness_permille = w->service.etcd.laziness_permille =
                laziness[sim_between(s, 0, 3)];
        if (w->service.kind != SERVICE_CONSUL)
                w->lock_delay_ms = 0; /* they have none */
        w->latency_us = sim_between(s, 100, 20000);
        w->commit_ms = w->ttl_ms / sim_between(s, 3, 30);
        w->trouble_ms = w->ttl_ms * sim_between(s, 1, 8) / 2;
        w->spike_permille = (int)sim_between(s, 0, 1) * (int)sim_between(s, 0, 60);
        w->reader_permille = (int)sim_between(s, 0, 1) * (int)sim_between(s, 0, 60);
        w->service.consul.stale_permille = sim_chance(s, 250) ? 100 : 0;
        if (w->service.kind == SERVICE_BUCKET) {
                w->service.bucket.fault_permille = (int)sim_between(s, 0, 1) * 30;
                w->service.bucket.wants_unquoted = sim_chance(s, 250);
        }
        w->loss_permille = (int)sim_between(s, 0, 1) * (int)sim_between(s, 0, 100);
        w->net.flip_permille = sim_chance(s, 200) ? 5 : 0;
        w->loses_power = sim_chance(s, 300);
        w->net.limits.high = highs[sim_between(s, 0, 2)];
        w->net.limits.low = w->net.limits.high / 4;
        w->net.limits.max = 8 << 20;
}

static void
init_machine(struct world *w, int index)
{
        struct machine *m = &w->machines[index];
        char name[16];

        snprintf(name, sizeof name, "node%d", index);
        host_init(&m->host, w->sim, name);
        m->host.rate_ppm = (int)sim_between(w->sim, -DRIFT_PPM, DRIFT_PPM);
        m->host.boot_offset_ms = sim_between(w->sim, 1000, 100000000);
        m->w = w;
        m->index = index;
        m->is_candidate = index < 2 || sim_chance(w->sim, 700);
        snprintf(m->url, sizeof m->url, "http://node%d:20202", index);
        snprintf(m->dir, sizeof m->dir, "%s/node%d", w->dir, index);
        snprintf(m->data, sizeof m->data, "%s/node%d/data", w->dir, index);
        snprintf(m->node_data, sizeof m->node_data, "%s/node%d/node", w->dir, index);
        if (mkdir(m->dir, 0700) < 0 || mkdir(m->data, 0700) < 0 || mkdir(m->node_data, 0700) < 0)
                abort();
        for (int db = 0; db < DBS_MAX; db++)
                m->acked[db] = m->confirmed[db] = m->durable[db] = -1;
        sim_trace(w->sim, &m->host, "rate %+d ppm%s", m->host.rate_ppm,
                  m->is_candidate ? "" : ", no candidate");
}

void
world_init(struct world *w, struct sim *s, enum service_kind kind, const char *dir)
{
        static const char *const names[] = { "consul", "etcd", "bucket" };

        memset(w, 0, sizeof *w);
        w->sim = s;
        w->dir = dir;
        service_init(&w->service, s, kind);
        w->service_net = (struct service_net){ .sim = s,
                                               .service = &w->service,
                                               .is_cut = is_cut_off,
                                               .delay_us = service_delay_us,
                                               .arg = w,
                                               .find = find_host,
                                               .is_cut_between = is_cut,
                                               .get_answer = machine_get_answer };
        service_net_use(&w->service_net);
        w->net = (struct net){
                .sim = s, .arg = w, .is_cut = is_cut, .delay_us = net_delay_us, .find = find_host
        };
        net_use(&w->net);
        threads_use(s);
        draw_conditions(w);
        sim_trace(s, NULL, "%d nodes, %s, ttl %lld ms, lock-delay %lld ms, latency %lld us%s",
                  w->n_machines, names[kind], (long long)w->ttl_ms, (long long)w->lock_delay_ms,
                  (long long)w->latency_us, w->loses_power ? ", power fails" : "");
        for (int i = 0; i < w->n_machines; i++)
                init_machine(w, i);
}
