/* Lease requests: one thread that may wait for the service, results by mail. It works on what the job carries and on
 * last_complete_term and claims, which are its own; the rest of the node is the loop's. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "repl/cluster_id.h"
#include "repl/node_internal.h"
#include "repl/survey.h"

#define WATCH_RETRY_MS 500 /* at most, after the first failure of the watch, */
#define WATCH_RETRY_MAX_MS 5000
#define YIELD_MS 5000 /* that one who is ahead has to take the lease */

/* Whether this node's data belongs to the cluster that the service knows. On the lease worker. */
static int
check_cluster(struct lease_job *job, char ret[LEASE_CLUSTER_ID_SIZE])
{
        struct lease *l = job->node->config.lease;
        char forget[LEASE_KEY_SIZE + 128];
        int r = l->ops->get_cluster_id(l, ret, &job->e);

        if (r < 0)
                return r;
        if (ret[0] == '\0' || job->cluster_id[0] == '\0' || strcmp(ret, job->cluster_id) == 0)
                return 0;
        job->cause = NODE_WAIT_CLUSTER;
        node_format_forget(l, "clusterid", forget, sizeof forget);
        return err_text(
                &job->e, E_CONFIG,
                "the lease is of cluster %s, this node's data of %s: it cannot become the primary. If these are two "
                "clusters, give each a lease of its own; if the data is not needed, move the data directory away; if "
                "it is the cluster's, %s",
                ret, job->cluster_id, forget);
}

/* Said once, not at each attempt. */
static int
wait_for_another(struct lease_job *job, enum node_wait_cause cause, const struct err *why)
{
        job->cause = cause;
        if (!job->node->has_warned_stale)
                log_warn("%s", why->text);
        job->node->has_warned_stale = true;
        return err_text(&job->e, -ESTALE, "%s", why->text);
}

/* Whether the last term was acquired by this node, which has ended, or had no answer, before it could begin it. */
static bool
is_heir(struct lease_job *job, uint64_t last)
{
        struct node *n = job->node;
        struct lease *l = n->config.lease;
        char session[LEASE_SESSION_SIZE];

        if (l->ops->get_heir(l, session, NULL) < 0 || !term_claims_has(&n->claims, last, session) ||
            term_file_save(os_host(), n->config.data_dir, last, NULL) < 0)
                return false;
        n->last_complete_term = last;
        return true;
}

/* A node that was down while others wrote would discard what they wrote: it waits for one of them, who will have
 * it follow. A cluster with an @id and no term comes from LiteFS, since ours has a term before it has a name: there
 * a node without the id has nothing of it. */
static int
check_stale(struct lease_job *job, const char *id)
{
        struct node *n = job->node;
        struct lease *l = n->config.lease;
        struct err why = ERR_INIT;
        uint64_t last = job->what == ROLE_ACQUIRE ? job->seen.last_term : job->known_term;
        char forget[LEASE_KEY_SIZE + 128];

        if (l->ttl_ms == 0)
                return 0;
        if (last == 0 && id[0] != '\0' && job->cluster_id[0] == '\0') {
                node_format_forget(l, "clusterid", forget, sizeof forget);
                err_text(
                        &why, -ESTALE,
                        "this node has no data of cluster %s yet: it waits for a node that has, instead of leading with "
                        "nothing; should there be none any more, %s",
                        id, forget);
                return wait_for_another(job, NODE_WAIT_DATA, &why);
        }
        if (last > n->last_complete_term && !is_heir(job, last)) {
                node_format_forget(l, "term", forget, sizeof forget);
                err_text(
                        &why, -ESTALE,
                        "this node was not there in the cluster's last term, %llu (it was in %llu): it waits for "
                        "a node that was, instead of discarding what was written; should there be none any more, %s",
                        (unsigned long long)last, (unsigned long long)n->last_complete_term, forget);
                return wait_for_another(job, NODE_WAIT_TERM, &why);
        }
        return 0;
}

struct fetched {
        struct node *n;
        const char *name;
        struct received *rx;
        struct err *e;
};

static int
push_fetched_on_loop(void *arg)
{
        struct fetched *f = arg;
        struct node *n = f->n;

        if (n->primary != NULL || n->is_primary || n->is_taking_over)
                return err_text(f->e, -ECANCELED, "somebody leads by now");
        return applier_push(n->applier, f->name, f->rx, f->e);
}

static int
push_fetched(void *arg, const char *name, struct received *rx, struct err *e)
{
        struct fetched f = { arg, name, rx, e };

        return loop_call(f.n->loop, push_fetched_on_loop, &f);
}

/* As survey_ask. */
static int
ask_others(struct lease_job *job, struct survey_result *ret)
{
        struct node *n = job->node;
        char token[TOKEN_SIZE] = "", authorization[TOKEN_SIZE + 32];
        const char *headers[] = { authorization, NULL };
        struct frame_hello self;
        struct survey s = { .http = n->config.peer_http,
                            .clock = n->config.clock,
                            .peers = &n->peers,
                            .store = n->config.store,
                            .self = &self,
                            .stopped_url = job->stopped_url,
                            .push = push_fetched,
                            .arg = n };

        node_fill_hello(n, n->last_complete_term, &self);
        memcpy(self.cluster_id, job->cluster_id, sizeof self.cluster_id);
        token_get(n->config.token, token);
        snprintf(authorization, sizeof authorization, "Authorization: Bearer %s", token);
        if (token[0] != '\0')
                s.headers = headers;
        return survey_ask(&s, ret, NULL);
}

/* Positions decide within a term (survey.h). For a while: one that is ahead and cannot take the lease must not keep
 * all from it. */
static int
check_ahead(struct lease_job *job)
{
        struct node *n = job->node;
        int64_t now_ms = node_now_ms(n);
        struct survey_result ahead;
        struct err why = ERR_INIT;

        if (job->what != ROLE_ACQUIRE || job->is_regaining || n->config.lease->ttl_ms == 0)
                return 0;
        if (ask_others(job, &ahead) <= 0)
                return 0;
        if (n->yields_since_ms == 0 || n->yields_term != job->seen.last_term) {
                n->yields_term = job->seen.last_term;
                n->yields_since_ms = now_ms;
        }
        if (now_ms - n->yields_since_ms >= YIELD_MS + n->config.lease->lock_delay_ms) {
                log_warn(
                        "%s at %s has transactions that this node lacks, and did not take the lease for %lld ms: this node "
                        "takes it, and what only %s has is going to be set aside there",
                        ahead.hostname, ahead.url, (long long)(now_ms - n->yields_since_ms),
                        ahead.hostname);
                return 0;
        }
        err_text(&why, -ESTALE,
                 "%s at %s has transactions that this node lacks: this node leaves the lease to it",
                 ahead.hostname, ahead.url);
        return wait_for_another(job, NODE_WAIT_CANDIDATE, &why);
}

int
node_claim_term(void *arg, uint64_t term, const char *session, struct err *e)
{
        struct node *n = arg;
        struct term_claims claims = n->claims;
        int r;

        term_claims_prune(&claims, n->last_complete_term);
        term_claims_add(&claims, term, session);
        r = term_claims_save(os_host(), n->config.data_dir, &claims, e);
        if (r == 0)
                n->claims = claims;
        return r;
}

int
node_begin_term(struct node *n, uint64_t term, struct err *e)
{
        struct lease *l = n->config.lease;
        int r;

        r = term_file_save(os_host(), n->config.data_dir, term, e);
        if (r == 0) {
                n->last_complete_term = term;
                n->has_warned_stale = false;
        } else {
                err_prefix(e, "begin term %llu", (unsigned long long)term);
                l->ops->release(l);
        }
        return r;
}

struct term_job {
        struct work work;
        struct node *n;
        uint64_t term;
};

static void
save_term(struct work *w)
{
        struct term_job *job = (struct term_job *)w;
        struct err e = ERR_INIT;

        if (term_file_save(os_host(), job->n->config.data_dir, job->term, &e) < 0)
                log_warn("remember the term: %s", e.text);
        else
                job->n->last_complete_term = job->term;
        job->n->has_warned_stale = false;
        free(job);
}

void
node_save_term(struct node *n, uint64_t term)
{
        struct term_job *job = calloc(1, sizeof *job);

        if (job == NULL)
                return;
        *job = (struct term_job){ { save_term, NULL }, n, term };
        workers_post(n->lease_worker, &job->work);
}

struct peers_job {
        struct work work;
        struct node *n;
};

static void
save_peers(struct work *w)
{
        struct peers_job *job = (struct peers_job *)w;
        struct err e = ERR_INIT;

        if (peers_save(&job->n->peers, os_host(), job->n->config.data_dir, &e) < 0)
                log_warn("remember the other nodes: %s", e.text);
        free(job);
}

void
node_save_peers(struct node *n)
{
        struct peers_job *job = calloc(1, sizeof *job);

        if (job == NULL)
                return;
        *job = (struct peers_job){ { save_peers, NULL }, n };
        workers_post(n->lease_worker, &job->work);
}

/* The first primary names the cluster. */
static int
name_cluster(struct lease_job *job, char id[LEASE_CLUSTER_ID_SIZE])
{
        struct node *n = job->node;
        struct lease *l = n->config.lease;
        char made[LEASE_CLUSTER_ID_SIZE];
        int r = 0;

        if (id[0] == '\0') {
                if (job->cluster_id[0] != '\0')
                        memcpy(made, job->cluster_id, sizeof made);
                else
                        cluster_id_make(made);
                r = l->ops->put_cluster_id(l, made, id, &job->e);
                if (r == -ENOTSUP) {
                        memcpy(id, made, sizeof made);
                        r = 0;
                }
        }
        if (r == 0 && job->cluster_id[0] == '\0') {
                r = cluster_id_save(os_host(), n->config.data_dir, id, &job->e);
                if (r == 0)
                        memcpy(job->cluster_id, id, sizeof job->cluster_id);
        }
        return r;
}

/* What was seen is acted upon soon or not at all: a node that stood still meanwhile would take the lease from another, should
 * the service, restored from a backup, look as it did then. */
static int
check_age(struct lease_job *job)
{
        int64_t age_ms = node_now_ms(job->node) - job->asked_ms;

        if (job->what != ROLE_ACQUIRE || age_ms <= SURVEY_MS + job->node->config.lease->ttl_ms / 4)
                return 0;
        return err_text(&job->e, E_NOT_PRIMARY,
                        "the lease was looked at %lld ms ago: it is looked at again", (long long)age_ms);
}

static uint64_t
later_term(uint64_t a, uint64_t b)
{
        return a > b ? a : b;
}

/* In a term after all that this node knows of, and has asked for: a service that is restored from a backup may come back to
 * one that it was granted and has heard nothing of. */
static int
acquire_lease(struct lease_job *job)
{
        struct lease *l = job->node->config.lease;
        uint64_t known_term = later_term(job->known_term, term_claims_last(&job->node->claims));
        char id[LEASE_CLUSTER_ID_SIZE];
        int r = check_cluster(job, id);

        if (r == 0)
                r = check_stale(job, id);
        if (r == 0)
                r = check_ahead(job);
        if (r == 0)
                r = check_age(job);
        if (r == 0)
                r = job->what == ROLE_ACQUIRE
                            ? l->ops->acquire(l, &job->seen, known_term + 1, &job->state, &job->e)
                            : l->ops->take_over(l, job->token, known_term + 1, &job->state, &job->e);
        if (r < 0)
                return r;
        /* The term before the name: a name without a term is taken for LiteFS's by check_stale, and nobody who has no
         * name of its own would lead again. */
        r = node_begin_term(job->node, job->state.term, &job->e);
        if (r == 0 && (r = name_cluster(job, id)) < 0)
                l->ops->release(l);
        return r;
}

/* A lease of another cluster stays as it is: with a term that none of its nodes was in, none of them would lead. (To break one
 * whose holder has fenced itself does them no harm, and nobody else takes it.) */
static int
raise_term(struct lease_job *job)
{
        struct lease *l = job->node->config.lease;
        char id[LEASE_CLUSTER_ID_SIZE];
        int r = check_cluster(job, id);

        if (r < 0)
                return r;
        r = l->ops->raise_term(l, &job->seen, job->node->last_complete_term, &job->e);
        if (r == E_NOT_FOUND)
                job->cause = NODE_WAIT_PLACE;
        return r;
}

static void lease_job_answer(struct mail *m);

static void
run_lease_job(struct work *w)
{
        struct lease_job *job = (struct lease_job *)w;
        struct lease *l = job->node->config.lease;

        switch (job->what) {
        case ROLE_READ:
                job->result = l->ops->read(l, &job->state, &job->e);
                break;
        case ROLE_RENEW:
                job->result = l->ops->renew(l, &job->e);
                break;
        case ROLE_BREAK:
                job->result = l->ops->break_stale(l, &job->seen, &job->e);
                break;
        case ROLE_ACQUIRE:
        case ROLE_TAKE_OVER:
                job->result = acquire_lease(job);
                break;
        case ROLE_RELEASE:
                l->ops->release(l);
                break;
        case ROLE_RAISE:
                job->result = raise_term(job);
                break;
        }
        job->mail = (struct mail){ lease_job_answer, NULL };
        if (loop_post(job->node->loop, &job->mail) < 0)
                free(job);
}

/* One line when a trouble begins, not one for each attempt; and one when it is over. To read is less than to change:
 * either may fail alone. */
static void
log_lease_trouble(struct node *n, const struct lease_job *job)
{
        bool is_read = job->what == ROLE_READ;
        struct trouble *t = is_read ? &n->unread : &n->unchanged;
        char count[TROUBLE_COUNT_SIZE];

        if (job->result == -ESTALE || job->what == ROLE_RELEASE)
                return; /* says nothing of the service */
        if (job->result < 0 && job->result != E_NOT_PRIMARY) {
                n->n_lease_errors++;
                if (trouble_note(t, node_now_ms(n), job->e.code, count))
                        log_warn("lease: %s%s", job->e.text, count);
        } else if (trouble_end(t, node_now_ms(n), count)) {
                log_info("lease: %s again, after %s", is_read ? "it is read" : "it is renewed or taken",
                         count);
        }
}

static void
lease_job_answer(struct mail *m)
{
        struct lease_job *job = (struct lease_job *)((char *)m - offsetof(struct lease_job, mail));
        struct node *n = job->node;

        if (job->what == ROLE_RENEW && job->result == E_NOT_PRIMARY && n->is_offering)
                job->result =
                        -EAGAIN; /* there is nothing to renew; whoever offers it knows what comes next */
        else
                log_lease_trouble(n, job);
        if (n->cluster_id[0] == '\0')
                memcpy(n->cluster_id, job->cluster_id, sizeof n->cluster_id);
        node_lease_trouble(n, job);
        role_answered(&n->role, node_now_ms(n), job->result, &job->state);
        free(job);
}

void
node_lease_request(struct node *n, enum role_request what, const struct lease_state *seen)
{
        struct lease_job *job = calloc(1, sizeof *job);

        if (job == NULL) {
                struct lease_state none = { 0 };

                role_answered(&n->role, node_now_ms(n), -ENOMEM, &none);
                return;
        }
        job->work.run = run_lease_job;
        job->node = n;
        job->what = what;
        job->cause = NODE_WAIT_LEASE; /* unless the answer is a refusal */
        if (seen != NULL)
                job->seen = *seen;
        job->known_term = n->role.term;
        job->asked_ms = node_now_ms(n);
        job->is_regaining = n->role.regain_until_ms != 0;
        if (n->role.word_term == n->role.term && n->followed.boot_id != 0 &&
            n->told_term == n->role.word_term)
                memcpy(job->stopped_url, n->followed.advertise_url, sizeof job->stopped_url);
        memcpy(job->token, n->offered, sizeof job->token);
        memcpy(job->cluster_id, n->cluster_id, sizeof job->cluster_id);
        workers_post(n->lease_worker, &job->work);
}

/* --- the watch --- */

/* So that a primary stops within milliseconds of losing its lease, and not at its next renewal. */
struct lease_watch {
        struct work work;
        struct mail mail;
        struct node *n;
        struct lease_state held;
};

static void
on_lost(struct mail *m)
{
        struct lease_watch *w = (struct lease_watch *)((char *)m - offsetof(struct lease_watch, mail));
        struct node *n = w->n;

        if (!n->is_offering) /* else whoever offers it finds out */
                role_lost(&n->role, node_now_ms(n), w->held.term);
        free(w);
}

/* Less when the lease is given up meanwhile, for a node may be about to end. */
static void
pause_watch(struct lease *l, int64_t ms)
{
        const int64_t step_ms = 100;

        for (; ms > 0 && l->ops->deadline_ms(l) != INT64_MIN; ms -= step_ms) {
                struct timespec t = { 0, (ms < step_ms ? ms : step_ms) * 1000000 };

                nanosleep(&t, NULL);
        }
}

/* That the watch fails says nothing: the lease is renewed all the same. */
static void
watch_lease(struct work *work)
{
        struct lease_watch *w = (struct lease_watch *)work;
        struct lease *l = w->n->config.lease;
        struct trouble said = { 0 };
        struct backoff backoff;

        backoff_init(&backoff, WATCH_RETRY_MS, WATCH_RETRY_MAX_MS, w->n->boot_id ^ w->held.term);
        for (;;) {
                char count[TROUBLE_COUNT_SIZE];
                struct err e = ERR_INIT;
                int r = l->ops->watch(l, &w->held, &e);

                if (r == -ECANCELED || r == -ENOTSUP)
                        break;
                if (r == E_NOT_PRIMARY) {
                        log_warn("lease: %s", e.text);
                        w->mail = (struct mail){ on_lost, NULL };
                        if (loop_post(w->n->loop, &w->mail) == 0)
                                return;
                        break;
                }
                if (r < 0) {
                        if (trouble_note(&said, node_now_ms(w->n), r, count))
                                log_info("the watch of the lease fails, which is tried again: %s%s",
                                         e.text, count);
                        pause_watch(l, backoff_next_ms(&backoff));
                } else {
                        backoff_reset(&backoff);
                        said = (struct trouble){ 0 };
                }
        }
        free(w);
}

void
node_watch_lease(struct node *n, const struct lease_state *held)
{
        struct lease_watch *w = calloc(1, sizeof *w);

        if (w == NULL)
                return;
        *w = (struct lease_watch){ .work = { watch_lease, NULL }, .n = n, .held = *held };
        workers_post(n->lease_watcher, &w->work);
}

/* --- for threads that wait --- */

struct lease_call {
        int (*fn)(struct lease *l, void *arg, struct err *e);
        struct lease *lease;
        void *arg;
        struct err *e;
};

static int
run_lease_call(void *arg)
{
        struct lease_call *call = arg;

        return call->fn(call->lease, call->arg, call->e);
}

int
node_lease_call(struct node *n, int (*fn)(struct lease *l, void *arg, struct err *e), void *arg,
                struct err *e)
{
        struct lease_call call = { fn, n->config.lease, arg, e };

        return workers_call(n->lease_worker, run_lease_call, &call);
}

int64_t
node_deadline_ms(const struct node *n)
{
        struct lease *l = n->config.lease;

        /* The replicas' streams stay until the one that the lease is offered to has heard of it. */
        return n->is_offering ? n->offer_deadline_ms : l->ops->deadline_ms(l);
}
