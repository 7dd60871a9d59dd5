#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "db/apply.h"
#include "repl/node_internal.h"
#include "repl/survey.h"
#include "tests/lib/fetch_all.h"
#include "tests/sim/world.h"

#define HANDOFF_MS 1000
#define RECONNECT_MS 1000
#define READER_MAX_TTLS 2

/* --- applying, as fuse/apply.c, with readers and writers that may be in the way --- */

struct applying {
        struct machine *m;
        struct db *db;
};

static int
begin_apply(void *arg, struct db *db, void **ret)
{
        struct applying *a = malloc(sizeof *a);

        if (a == NULL)
                return -ENOMEM;
        *a = (struct applying){ arg, db };
        *ret = a;
        return 0;
}

static void
meet_reader(struct machine *m, int i)
{
        struct world *w = m->w;

        if (!w->is_calm && sim_chance(w->sim, w->reader_permille))
                m->reader_until_us[i] = w->sim->now_us +
                                        sim_between(w->sim, 0, READER_MAX_TTLS * w->ttl_ms) * SIM_MS;
}

/* Nobody has it open. */
static void
detach(void *arg, int fd, int wal_fd)
{
        struct machine *m = arg;

        os_close(&m->disk.os, "sim:close", fd);
        os_close(&m->disk.os, "sim:close", wal_fd);
}

static int
apply(void *handle, const struct received *rx, struct err *e)
{
        struct applying *a = handle;
        struct machine *m = a->m;
        int i = world_db_index(a->db), r;
        struct db_changes ch = { .old_fd = -1, .old_wal_fd = -1 };

        meet_reader(m, i);
        if (m->is_locked[i] || m->w->sim->now_us < m->reader_until_us[i])
                return err_set(e, -EAGAIN, "in the way");
        r = db_needs_replacing(a->db, rx) ? db_replace(a->db, rx, detach, m, e)
            : rx->is_absent               ? 0
                                          : db_apply_direct(a->db, rx, &ch, e);
        free(ch.pgnos);
        detach(m, ch.old_fd, ch.old_wal_fd);
        db_apply_shown(a->db);
        sim_trace(m->w->sim, &m->host, "applies %s %llu..%llu: %d %s", world_db_names[i],
                  (unsigned long long)rx->record.min_txid, (unsigned long long)rx->record.max_txid, r,
                  r < 0 && e != NULL ? e->text : "");
        if (r == 0) {
                m->w->n_applied++;
                m->w->n_snapshots += rx->record.min_txid == 1 && rx->record.max_txid > 1;
        }
        return r;
}

static void
end_apply(void *handle)
{
        free(handle);
}

static int
reserve(void *handle, struct err *e)
{
        (void)handle;
        (void)e;
        return 0;
}

static const struct apply_ops apply_ops = { begin_apply, apply, end_apply, NULL, reserve };

/* --- life --- */

int
machine_state(struct machine *m, int db)
{
        struct db *d = m->store != NULL ? store_find(m->store, world_db_names[db]) : NULL;
        struct db_info info;
        int i;

        if (d == NULL)
                return -1;
        db_get_info(d, &info);
        if (info.is_failed)
                sim_fail(m->w->sim, "%s: %s has failed", m->host.name, world_db_names[db]);
        if (info.pos.txid == 0)
                return -1;
        i = history_find(&m->w->history, db, info.pos);
        if (i < 0)
                sim_fail(m->w->sim, "%s: %s is at %llu/%016llx, where nobody ever was", m->host.name,
                         world_db_names[db], (unsigned long long)info.pos.txid,
                         (unsigned long long)info.pos.checksum);
        return i;
}

static void
on_shown(void *arg, struct db *db)
{
        struct machine *m = arg;

        if (!m->leads)
                judge_applied(m, world_db_index(db));
}

bool
machine_may_commit(const struct machine *m)
{
        return m->host.is_up && m->is_ready && store_may_commit(m->store) == 0;
}

static void
watch_role(struct machine *m)
{
        struct node_status st;

        node_get_status(m->node, &st);
        if (st.is_primary && !m->leads) {
                m->leads = true;
                m->term = m->node->held.term;
                judge_takes_over(m);
        }
        m->leads = st.is_primary;
}

static void
on_role(void *arg)
{
        struct machine *m = arg;

        if (m->node != NULL)
                watch_role(m);
}

static int
open_node(struct machine *m, struct err *e)
{
        struct node_config config = { .store = m->store,
                                      .lease = &m->lease.base,
                                      .clock = &m->host.clock,
                                      .data_dir = m->node_data,
                                      .listen_address = ":20202",
                                      .hostname = m->host.name,
                                      .advertise_url = m->url,
                                      .is_candidate = m->is_candidate,
                                      .reconnect_ms = RECONNECT_MS,
                                      .apply_ops = &apply_ops,
                                      .apply_arg = m,
                                      .appliers = m->appliers };
        struct node_watcher watcher = { .committed = on_shown, .role_changed = on_role, .arg = m };
        int r = node_open(&config, &m->node, e);

        if (r == 0) {
                node_watch(m->node, &watcher);
                store_set_listener(m->store, m, application_committed);
                r = node_listen(m->node, NULL, NULL, e);
        }
        return r;
}

static void
run_process(void *arg)
{
        struct machine *m = arg;
        struct store_config config = { .os = &m->disk.os,
                                       .clock = &m->host.clock,
                                       .data_dir = m->data,
                                       .is_compressed = true,
                                       .is_strict = true,
                                       .retention_ms = sim_chance(m->w->sim, 500) ? 1000 : 0,
                                       .retention_interval_ms = 2000 };
        struct err e = ERR_INIT;
        int r;

        lease_open(m);
        r = workers_new(2, &m->workers);
        if (r == 0)
                r = workers_new(2, &m->appliers);
        config.workers = m->workers;
        if (r == 0)
                r = store_open(&config, &m->lease.base, &m->store, &e);
        if (r < 0) {
                sim_fail(m->w->sim, "%s does not start: %s", m->host.name, e.text);
                return;
        }
        judge_booted(m);
        r = open_node(m, &e);
        if (r < 0) {
                sim_fail(m->w->sim, "%s does not start: %s", m->host.name, e.text);
                return;
        }
        m->is_ready = true;
        node_start(m->node, NULL);
        application_run(m);
}

static void
begin_process(void *arg, bool is_lost)
{
        struct machine *m = arg;

        if (!is_lost)
                fiber_start(m->w->sim, &m->host, run_process, m);
}

void
machine_boot(struct machine *m)
{
        if (m->host.is_up)
                return;
        sim_trace(m->w->sim, &m->host, "starts");
        host_start(&m->host);
        disk_start(m);
        m->node = NULL;
        m->store = NULL;
        m->is_ready = m->is_handing_over = m->is_stopping = m->leads = false;
        for (int i = 0; i < DBS_MAX; i++) {
                m->is_locked[i] = m->is_committing[i] = false;
                m->reader_until_us[i] = 0;
        }
        sim_post(m->w->sim, &m->host, 0, begin_process, m);
}

void
machine_crash(struct machine *m, bool is_silent)
{
        if (!m->host.is_up)
                return;
        is_silent = is_silent && m->w->loses_power;
        sim_trace(m->w->sim, &m->host, is_silent ? "loses power" : "ends");
        host_kill(&m->host);
        m->host.is_dark = is_silent;
        conns_host_died(&m->host, is_silent);
        disk_stop(m, is_silent);
        m->is_ready = m->leads = false;
        m->store = NULL;
        m->node = NULL;
        for (int i = 0; i < DBS_MAX && is_silent; i++) {
                m->acked[i] = -1; /* a replica need not sync */
                m->confirmed[i] = m->durable[i];
        }
        if (is_silent) /* CLOCK_BOOTTIME begins anew: it is never negative, however wrong it runs */
                m->host.boot_offset_ms += sim_between(m->w->sim, 1000, 60000) - host_now_ms(&m->host);
}

static void
end_process(void *arg, bool is_lost)
{
        if (!is_lost)
                machine_crash(arg, false);
}

static void
run_stop(void *arg)
{
        struct machine *m = arg;

        store_stop_writes(m->store);
        for (int i = 0; i < DBS_MAX; i++)
                while (m->is_locked[i])
                        fiber_sleep(m->w->sim, 1);
        node_stop(m->node);
        store_stop_housekeeping(m->store);
        node_free(m->node);
        m->node = NULL;
        m->is_ready = false;
        store_close(m->store);
        m->store = NULL;
        sim_post(m->w->sim, &m->host, 0, end_process, m);
}

static bool
can_begin(const struct machine *m)
{
        return m->host.is_up && !m->host.is_paused && m->is_ready && !m->is_handing_over &&
               !m->is_stopping;
}

void
machine_stop(struct machine *m)
{
        if (!can_begin(m))
                return;
        sim_trace(m->w->sim, &m->host, "stops");
        m->is_stopping = true;
        fiber_start(m->w->sim, &m->host, run_stop, m);
}

static void
run_handoff(void *arg)
{
        struct machine *m = arg;
        struct err e = ERR_INIT;
        int r = node_handoff(m->node, NULL, 0, HANDOFF_MS, &e);

        sim_trace(m->w->sim, &m->host, "handoff: %d %s", r, e.text);
        m->is_handing_over = false;
}

void
machine_hand_over(struct machine *m)
{
        if (!can_begin(m))
                return;
        m->is_handing_over = true;
        fiber_start(m->w->sim, &m->host, run_handoff, m);
}

static bool
get_transactions(struct machine *m, const struct frame_hello *self, const char *query, char **ret,
                 size_t *ret_n)
{
        char name[DBNAME_MAX + 1], pos[LTX_POS_TEXT_LEN + 1];
        struct ltx_pos from;

        return sscanf(query, "db=%255[^&]&pos=%33s", name, pos) == 2 && ltx_pos_parse(pos, &from) == 0 &&
               fetch_all(m->store, self, name, from, ret, ret_n) == 0;
}

bool
machine_get_answer(void *arg, struct sim_host *h, const char *path, char **ret, size_t *ret_n)
{
        static const char transactions[] = "/transactions?";
        struct machine *m = (struct machine *)h;
        struct frame_hello self;

        (void)arg;
        if (!m->is_ready)
                return false;
        node_fill_hello(m->node, m->node->role.last_complete_term, &self);
        if (strncmp(path, transactions, sizeof transactions - 1) == 0)
                return get_transactions(m, &self, path + sizeof transactions - 1, ret, ret_n);
        return strcmp(path, "/positions") == 0 && survey_answer(m->store, &self, ret, ret_n) == 0;
}
