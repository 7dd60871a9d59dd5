/* Lease requests: one thread that may wait for the service, results by mail. It works on what the job carries and on
 * whole_term, which is its own; the rest of the node is the loop's. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "repl/cluster_id.h"
#include "repl/node_internal.h"
#include "repl/term_file.h"

/* Whether this node's data belongs to the cluster that the service knows. On the lease worker. */
static int
check_cluster(struct lease_job *job, char ret[LEASE_CLUSTER_ID_SIZE])
{
        struct lease *l = job->node->config.lease;
        int r = l->ops->get_cluster_id(l, ret, &job->e);

        if (r < 0)
                return r;
        if (ret[0] == '\0' || job->cluster_id[0] == '\0' || strcmp(ret, job->cluster_id) == 0)
                return 0;
        job->cause = NODE_WAIT_CLUSTER;
        return err_text(
                &job->e, E_CONFIG,
                "the lease is of cluster %s, this node's data of %s: it cannot become the primary. If "
                "the data is not needed, move the data directory away; if it is the cluster's, delete "
                "the cluster id in the lease service",
                ret, job->cluster_id);
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

/* A node that was down while others wrote would discard what they wrote: it waits for one of them, who will have
 * it follow. A cluster with an @id and no term comes from LiteFS, since ours has a term before it has a name: there
 * a node without the id has nothing of it. */
static int
check_stale(struct lease_job *job, const char *id)
{
        struct node *n = job->node;
        struct lease *l = n->config.lease;
        struct err why = ERR_INIT;
        uint64_t last;
        int r = l->ops->get_last_term(l, &last, &job->e);

        if (r < 0)
                return r;
        if (last == 0 && id[0] != '\0' && job->cluster_id[0] == '\0') {
                err_text(
                        &why, -ESTALE,
                        "this node has no data of cluster %s yet: it waits for a node that has, instead of leading with "
                        "nothing; should there be none any more, delete the key %s/clusterid in the lease service",
                        id, l->key != NULL ? l->key : "");
                return wait_for_another(job, NODE_WAIT_DATA, &why);
        }
        if (last > n->whole_term) {
                err_text(
                        &why, -ESTALE,
                        "this node was not there in the cluster's last term, %llu (it was in %llu): it waits for "
                        "a node that was, instead of discarding what was written; should there be none any more, "
                        "delete the key %s/term in the lease service",
                        (unsigned long long)last, (unsigned long long)n->whole_term,
                        l->key != NULL ? l->key : "");
                return wait_for_another(job, NODE_WAIT_TERM, &why);
        }
        return 0;
}

/* Without a word about the new term, nodes that were not part of it would be taken for good ones. */
int
node_begin_term(struct node *n, uint64_t term, struct err *e)
{
        struct lease *l = n->config.lease;
        int r;

        /* Ours first: should the service's alone be written, no node would be good enough. */
        r = term_file_save(os_host(), n->config.data_dir, term, e);
        if (r == 0) {
                n->whole_term = term;
                n->has_warned_stale = false;
                r = l->ops->put_last_term(l, term, e);
        }
        if (r < 0) {
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
                job->n->whole_term = job->term;
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

/* Replicas follow no term that is lower than one they have been in: they would take it for that of a primary that
 * has been deposed. */
static int
check_term(struct lease_job *job)
{
        struct node *n = job->node;
        struct err why = ERR_INIT;

        if (n->role.config.ttl_ms == 0 || job->state.term >= n->whole_term)
                return 0;
        err_text(
                &why, -ESTALE,
                "the lease is at term %llu and this node was in term %llu already: the lease service has lost its "
                "data, or is another one. Stop all nodes, delete %s/term on each of them, and start first the one "
                "with the highest TXIDs",
                (unsigned long long)job->state.term, (unsigned long long)n->whole_term,
                n->config.data_dir);
        return wait_for_another(job, NODE_WAIT_TERMS, &why);
}

static int
acquire(struct lease_job *job)
{
        struct lease *l = job->node->config.lease;
        char id[LEASE_CLUSTER_ID_SIZE];
        int r = check_cluster(job, id);

        if (r == 0)
                r = check_stale(job, id);
        if (r == 0)
                r = job->what == ROLE_ACQUIRE ? l->ops->acquire(l, &job->state, &job->e)
                                              : l->ops->take_over(l, job->token, &job->state, &job->e);
        if (r < 0)
                return r;
        r = check_term(job);
        if (r < 0) {
                l->ops->release(l);
                return r;
        }
        /* The term before the name: a name without a term is taken for LiteFS's by check_stale, and nobody who has no
         * name of its own would lead again. */
        r = node_begin_term(job->node, job->state.term, &job->e);
        if (r == 0 && (r = name_cluster(job, id)) < 0)
                l->ops->release(l);
        return r;
}

static void answer(struct mail *m);

static void
run(struct work *w)
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
                job->result = acquire(job);
                break;
        case ROLE_RELEASE:
                l->ops->release(l);
                break;
        }
        job->mail = (struct mail){ answer, NULL };
        if (loop_post(job->node->loop, &job->mail) < 0)
                free(job);
}

static void
answer(struct mail *m)
{
        struct lease_job *job = (struct lease_job *)((char *)m - offsetof(struct lease_job, mail));
        struct node *n = job->node;

        if (job->what == ROLE_RENEW && job->result == E_NOT_PRIMARY && n->is_offering)
                job->result =
                        -EAGAIN; /* there is nothing to renew; whoever offers it knows what comes next */
        else if (job->result < 0 && job->result != E_NOT_PRIMARY && job->result != -ESTALE) {
                n->n_lease_errors++;
                log_warn("lease: %s", job->e.text);
        }
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
        job->work.run = run;
        job->node = n;
        job->what = what;
        job->cause = NODE_WAIT_LEASE; /* unless the answer is a refusal */
        if (seen != NULL)
                job->seen = *seen;
        memcpy(job->token, n->offered, sizeof job->token);
        memcpy(job->cluster_id, n->cluster_id, sizeof job->cluster_id);
        workers_post(n->lease_worker, &job->work);
}

/* --- for threads that wait --- */

struct lease_call {
        int (*fn)(struct lease *l, void *arg, struct err *e);
        struct lease *lease;
        void *arg;
        struct err *e;
};

static int
run_call(void *arg)
{
        struct lease_call *call = arg;

        return call->fn(call->lease, call->arg, call->e);
}

int
node_lease_call(struct node *n, int (*fn)(struct lease *l, void *arg, struct err *e), void *arg,
                struct err *e)
{
        struct lease_call call = { fn, n->config.lease, arg, e };

        return workers_call(n->lease_worker, run_call, &call);
}
