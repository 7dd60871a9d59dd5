#include <stdio.h>
#include <unistd.h>

#include "tests/sim/world.h"

static void
restart(void *arg, bool is_lost)
{
        struct machine *m = arg;

        if (is_lost || m->is_gone)
                return;
        m->w->trouble_us = m->w->sim->now_us;
        machine_boot(m);
}

static void
wake_up(void *arg, bool is_lost)
{
        struct machine *m = arg;

        if (is_lost || m->is_gone || !m->host.is_up || !m->host.is_paused)
                return;
        sim_trace(m->w->sim, &m->host, "goes on");
        m->w->trouble_us = m->w->sim->now_us;
        host_resume(&m->host);
}

/* From an instant to several TTLs. */
static int64_t
some_time_us(struct world *w)
{
        int64_t ms = sim_between(w->sim, 1, w->ttl_ms);

        return sim_chance(w->sim, 500) ? ms * SIM_MS : ms * 4 * SIM_MS;
}

static void
pause_node(struct machine *m)
{
        if (!m->host.is_up || m->host.is_paused)
                return;
        sim_trace(m->w->sim, &m->host, "is stopped");
        host_pause(&m->host);
        sim_post(m->w->sim, NULL, some_time_us(m->w), wake_up, m);
}

static void
crash_node(struct machine *m)
{
        machine_crash(m, sim_chance(m->w->sim, 400));
        sim_post(m->w->sim, NULL, some_time_us(m->w), restart, m);
}

static void
stop_node(struct machine *m)
{
        machine_stop(m);
        sim_post(m->w->sim, NULL, some_time_us(m->w), restart, m);
}

static void
cut(struct machine *m, bool is_cut)
{
        struct world *w = m->w;
        int other = (int)sim_between(w->sim, 0, w->n_machines - 1);

        if (sim_chance(w->sim, 500)) {
                sim_trace(w->sim, &m->host,
                          is_cut ? "is cut off from the service" : "reaches the service again");
                m->is_cut_off = is_cut;
        }
        if (sim_chance(w->sim, 500)) {
                sim_trace(w->sim, &m->host, is_cut ? "is cut off from node %d" : "reaches node %d again",
                          other);
                w->is_cut[m->index][other] = is_cut;
                if (sim_chance(w->sim, 600)) /* else one way only */
                        w->is_cut[other][m->index] = is_cut;
        }
}

static void
heal_network(struct world *w)
{
        for (int i = 0; i < w->n_machines; i++) {
                w->machines[i].is_cut_off = false;
                for (int j = 0; j < w->n_machines; j++)
                        w->is_cut[i][j] = false;
        }
        sim_trace(w->sim, NULL, "the network is whole");
}

/* The primary more often than the others. */
static struct machine *
choose(struct world *w)
{
        if (sim_chance(w->sim, 400))
                for (int i = 0; i < w->n_machines; i++)
                        if (w->machines[i].leads && w->machines[i].host.is_up)
                                return &w->machines[i];
        return &w->machines[sim_between(w->sim, 0, w->n_machines - 1)];
}

/* A node without data would found a cluster of its own. */
static bool
has_newcomer(const struct world *w)
{
        char path[300];

        for (int i = 0; i < w->n_machines; i++) {
                snprintf(path, sizeof path, "%s/clusterid", w->machines[i].node_data);
                if (access(path, F_OK) != 0)
                        return true;
                snprintf(path, sizeof path, "%s/term", w->machines[i].node_data);
                if (access(path, F_OK) != 0)
                        return true;
        }
        return false;
}

static void
end_lease_early(struct world *w)
{
        enum service_trouble what = (enum service_trouble)sim_between(w->sim, 0, SERVICE_TROUBLES - 1);

        if ((what == SERVICE_LOSES_TREE || service_forgets(&w->service, what)) && has_newcomer(w))
                what = SERVICE_LOSES_KEY;
        if (what == SERVICE_IS_RESTORED && !service_has_backup(&w->service))
                what = SERVICE_ENDS_SESSION;
        w->is_restored |= service_forgets(&w->service, what);
        service_strike(&w->service, what);
}

static void
end_lease_again(void *arg, bool is_lost)
{
        struct world *w = arg;

        if (!is_lost && !w->is_calm)
                end_lease_early(w);
}

/* Once, or two and three times in a row. */
static void
strike_service(struct world *w)
{
        int64_t after_ms = 0;

        end_lease_early(w);
        while (sim_chance(w->sim, 300)) {
                after_ms += sim_between(w->sim, 1, sim_chance(w->sim, 500) ? 200 : 2 * w->ttl_ms);
                sim_post(w->sim, NULL, after_ms * SIM_MS, end_lease_again, w);
        }
}

static void
strike(void *arg, bool is_lost)
{
        struct world *w = arg;
        struct machine *m;

        if (is_lost || w->is_calm)
                return;
        service_back_up(&w->service, 3 * w->ttl_ms * SIM_MS);
        w->trouble_us = w->sim->now_us;
        m = choose(w);
        switch (sim_between(w->sim, 0, 11)) {
        case 10:
        case 11:
                strike_service(w);
                break;
        case 0:
                crash_node(m);
                break;
        case 1:
                stop_node(m);
                break;
        case 2:
        case 3:
                pause_node(m);
                break;
        case 4:
        case 5:
                cut(m, true);
                break;
        case 6:
                cut(m, false);
                break;
        case 7:
                heal_network(w);
                break;
        case 8:
                machine_hand_over(m);
                break;
        case 9:
                conns_break_one();
                break;
        }
        sim_post(w->sim, NULL, sim_between(w->sim, 1, w->trouble_ms) * SIM_MS, strike, w);
}

void
trouble_start(struct world *w)
{
        sim_post(w->sim, NULL, sim_between(w->sim, 1, 2 * w->ttl_ms) * SIM_MS, strike, w);
}

/* False: it would be one too many. */
static bool
is_needed(const struct machine *m)
{
        const struct world *w = m->w;

        for (int i = 0; i < w->n_machines; i++)
                if (&w->machines[i] != m && w->machines[i].is_candidate)
                        return false;
        return true;
}

static void
leave_one_behind(struct world *w)
{
        struct machine *m = choose(w);
        int64_t how = sim_between(w->sim, 0, 5);

        if (how > 3 || is_needed(m))
                return;
        m->is_gone = true;
        if (how < 2)
                machine_crash(m, how == 0);
        else if (how == 2)
                host_pause(&m->host);
        else
                m->is_cut_off = true;
        sim_trace(w->sim, &m->host, "is left in trouble");
}

void
trouble_revive(struct world *w)
{
        for (int i = 0; i < w->n_machines; i++)
                if (!w->machines[i].is_gone)
                        machine_boot(&w->machines[i]);
}

void
trouble_heal(struct world *w)
{
        w->is_calm = true;
        w->net.flip_permille = 0;
        w->service.consul.stale_permille = w->service.bucket.fault_permille = 0;
        heal_network(w);
        for (int i = 0; i < w->n_machines; i++)
                wake_up(&w->machines[i], false);
        leave_one_behind(w);
        trouble_revive(w);
}

bool
trouble_ends(struct world *w)
{
        bool was_needed = false;

        for (int i = 0; i < w->n_machines; i++) {
                struct machine *m = &w->machines[i];

                was_needed |= m->is_gone;
                m->is_gone = false;
                m->is_cut_off = false;
                wake_up(m, false);
                machine_boot(m);
        }
        return was_needed;
}
