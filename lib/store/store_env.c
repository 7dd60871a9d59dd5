/* What the databases ask of their surroundings, and tell them. */
#include "store/spare.h"
#include "store/store_internal.h"

static int
env_may_commit(void *arg)
{
        return authority_may_commit(&((struct store *)arg)->authority);
}

static int
env_may_enter(void *arg, bool is_wal)
{
        return authority_may_enter(&((struct store *)arg)->authority, is_wal);
}

static uint64_t
env_term(void *arg)
{
        return authority_term(&((struct store *)arg)->authority);
}

static int
env_may_confirm(void *arg, uint64_t term, bool is_passed_on)
{
        return authority_may_confirm(&((struct store *)arg)->authority, term, is_passed_on);
}

void
store_tell_committed(struct store *s, struct db *db)
{
        if (s->config.committed != NULL)
                s->config.committed(s->config.arg, db);
        if (s->listener != NULL)
                s->listener(s->listener_arg, db);
}

static void
env_committed(void *arg, struct db *db)
{
        store_tell_committed(arg, db);
}

static void
env_idle(void *arg, struct db *db)
{
        struct store *s = arg;

        if (s->config.idle != NULL)
                s->config.idle(s->config.arg, db);
}

void
store_wants_tick(struct store *s)
{
        if (s->housekeeper != NULL)
                housekeeper_ask(s->housekeeper);
}

static void
env_wants_housekeeping(void *arg)
{
        store_wants_tick(arg);
}

static bool
env_may_wake(void *arg)
{
        bool may = spare_may_open(arg);

        spare_soon(arg);
        return may;
}

void
store_fill_env(struct store *s, uint64_t node_id)
{
        s->env = (struct db_env){
                .os = s->config.os,
                .clock = s->config.clock,
                .workers = s->config.workers,
                .remote_committers = s->config.remote_committers,
                .tmp_dir = s->tmp_dir,
                .is_compressed = s->config.is_compressed,
                .keeps_log = s->config.keeps_log,
                .is_strict = s->config.is_strict,
                .takes_wal_tail = s->config.takes_wal_tail,
                .is_resumed = s->config.is_resumed,
                .node_id = node_id,
                .meters = &s->meters,
                .is_ending = s->config.is_ending,
                .arg = s,
                .may_commit = env_may_commit,
                .may_enter = env_may_enter,
                .term = env_term,
                .may_confirm = env_may_confirm,
                .committed = env_committed,
                .idle = env_idle,
                .wants_housekeeping = env_wants_housekeeping,
                .may_wake = env_may_wake,
        };
}

const struct db_env *
store_env(const struct store *s)
{
        return &s->env;
}

const struct db_meters *
store_meters(const struct store *s)
{
        return &s->meters;
}

void
store_set_callbacks(struct store *s, void *arg, void (*committed)(void *, struct db *),
                    void (*idle)(void *, struct db *), void (*tick)(void *))
{
        s->config.arg = arg;
        s->config.committed = committed;
        s->config.idle = idle;
        s->config.tick = tick;
}

void
store_set_detach(struct store *s, const struct db_rename_detach *detach)
{
        s->detach = detach != NULL ? *detach : (struct db_rename_detach){ 0 };
}

void
store_set_listener(struct store *s, void *arg, void (*committed)(void *arg, struct db *db))
{
        s->listener_arg = arg;
        s->listener = committed;
}
