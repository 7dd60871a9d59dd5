/* Why this node neither leads nor follows, for operators: the last refusal or failure that has not been overcome. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "repl/node_internal.h"

static void
set(struct node_trouble *t, enum node_wait_cause cause, const struct err *why)
{
        t->cause = cause;
        t->why = *why;
}

void
node_lease_trouble(struct node *n, const struct lease_job *job)
{
        bool is_known = job->result == 0 || job->result == E_NOT_PRIMARY;
        bool is_attempt = job->what == ROLE_ACQUIRE || job->what == ROLE_TAKE_OVER ||
                          (job->what == ROLE_RAISE && n->lease_trouble.cause == NODE_WAIT_PLACE);

        if (!is_known)
                set(&n->lease_trouble, job->cause, &job->e);
        /* A refusal stands until the next attempt; that the service answers is no reason to forget it. */
        else if (is_attempt || n->lease_trouble.cause == NODE_WAIT_LEASE)
                n->lease_trouble = (struct node_trouble){ 0 };
}

void
node_stream_trouble(struct node *n, const struct err *why)
{
        set(&n->stream_trouble, why->code == E_CONFIG ? NODE_WAIT_CLUSTER : NODE_WAIT_PRIMARY, why);
}

void
node_stream_is_well(struct node *n)
{
        n->stream_trouble = (struct node_trouble){ 0 };
        n->lease_trouble = (struct node_trouble){ 0 };
}

/* --- what to do about it --- */

static void
describe_lower_term(const struct node *n, struct node_wait *ret)
{
        ret->cause = NODE_WAIT_TERMS;
        snprintf(
                ret->reason, sizeof ret->reason,
                "the holder of the lease is in a lower term than %llu, which this node was in already: the lease "
                "service has lost its data, or is another one. The holder is asked to give the lease up",
                (unsigned long long)n->role.term);
}

static void
describe_holder(const struct node *n, struct node_wait *ret)
{
        ret->cause = NODE_WAIT_HOLDER;
        snprintf(ret->reason, sizeof ret->reason, "the lease %s: for %lld ms %s may still commit",
                 n->role.seen.last_term == 0 ? "is new, or was removed"
                                             : "is gone, but was not released",
                 (long long)role_stop_wait_ms(&n->role, node_now_ms(n)),
                 n->role.seen.last_term == 0 ? "one that had it" : "its last holder");
}

static void
describe_twin(const struct node *n, struct node_wait *ret)
{
        ret->cause = NODE_WAIT_ADDRESS;
        snprintf(
                ret->reason, sizeof ret->reason,
                "the lease's holder has this node's hostname, %.100s, and its advertise-url, %.200s, but is another node",
                n->config.hostname, n->config.advertise_url);
}

static void
describe_mount(struct node_wait *ret)
{
        ret->cause = NODE_WAIT_MOUNT;
        snprintf(ret->reason, sizeof ret->reason,
                 "its own mount does not answer: until it does, this node does not take the lease");
}

static void
describe_nobody(const struct node *n, struct node_wait *ret)
{
        ret->cause = NODE_WAIT_CANDIDATE;
        if (n->config.is_candidate)
                return;
        snprintf(ret->reason, sizeof ret->reason,
                 "nobody holds the lease, and this node is not a candidate (lease.candidate)");
}

/* The command by which the service forgets @key, one that keeps nodes from the lease: a file or an object has no other. */
static void
format_forget(const struct lease *l, const char *key, char *buf, size_t size)
{
        if (strcmp(l->type, "file") == 0)
                snprintf(buf, size, "rm %s", l->key);
        else if (strcmp(l->type, "object") == 0)
                snprintf(buf, size, "echo {} | aws s3 cp - %s", l->key);
        else
                snprintf(buf, size, "%s %s/%s",
                         strcmp(l->type, "etcd") == 0 ? "etcdctl del" : "consul kv delete",
                         l->key != NULL ? l->key : "KEY", key);
}

void
node_format_forget(const struct lease *l, const char *key, char *buf, size_t size)
{
        char command[LEASE_KEY_SIZE + 64];

        if (strcmp(l->type, "etcd") == 0 || strcmp(l->type, "consul") == 0) {
                snprintf(buf, size, "delete the key %s/%s in the lease service", l->key, key);
                return;
        }
        format_forget(l, key, command, sizeof command);
        snprintf(buf, size, "let the lease forget all: %s", command);
}

static void
set_next(const struct node *n, struct node_wait *ret)
{
        char command[LEASE_KEY_SIZE + 64];

        switch (ret->cause) {
        case NODE_WAIT_TERM:
        case NODE_WAIT_DATA:
                format_forget(n->config.lease, ret->cause == NODE_WAIT_TERM ? "term" : "clusterid",
                              command, sizeof command);
                snprintf(ret->next, sizeof ret->next,
                         "systemctl start litefs   # on such a node; only if there is none any more: %s",
                         command);
                break;
        case NODE_WAIT_TERMS:
                snprintf(ret->next, sizeof ret->next, "curl -sS %.*s/info", LEASE_URL_SIZE / 2,
                         n->role.holder.advertise_url);
                break;
        case NODE_WAIT_HOLDER:
                snprintf(ret->next, sizeof ret->next, "litefs status   # in a few seconds");
                break;
        case NODE_WAIT_CLUSTER:
                snprintf(ret->next, sizeof ret->next,
                         "mv %s %s.old   # with litefs stopped, if its data is not needed",
                         n->config.data_dir, n->config.data_dir);
                break;
        case NODE_WAIT_PRIMARY:
                snprintf(ret->next, sizeof ret->next, "curl -sS %.*s/info", LEASE_URL_SIZE / 2,
                         n->role.holder.advertise_url);
                break;
        case NODE_WAIT_CANDIDATE:
                snprintf(ret->next, sizeof ret->next,
                         "systemctl start litefs   # on a node with lease.candidate: true");
                break;
        case NODE_WAIT_MOUNT:
                snprintf(ret->next, sizeof ret->next,
                         "systemctl restart litefs   # what uses the mount gets errors then");
                break;
        case NODE_WAIT_ADDRESS:
                snprintf(
                        ret->next, sizeof ret->next,
                        "systemctl restart litefs   # with a lease.hostname and lease.advertise-url of its own");
                break;
        case NODE_WAIT_LEASE:
                snprintf(ret->next, sizeof ret->next, "litefs doctor");
                break;
        case NODE_WAIT_PLACE:
                format_forget(n->config.lease, "", command, sizeof command);
                snprintf(ret->next, sizeof ret->next, "%s   # if it was removed, and is nowhere else",
                         command);
                break;
        case NODE_WAIT_NOTHING:
                break;
        }
}

static void
copy_trouble(const struct node_trouble *t, struct node_wait *ret)
{
        ret->cause = t->cause;
        memcpy(ret->reason, t->why.text, sizeof t->why.text);
}

void
node_get_wait(const struct node *n, struct node_wait *ret)
{
        const struct role *r = &n->role;

        *ret = (struct node_wait){ .cause = NODE_WAIT_NOTHING };
        if (n->is_primary || n->is_taking_over || r->state == ROLE_STOPPED || r->state == ROLE_START ||
            r->is_connected)
                return;
        if (r->is_twin)
                describe_twin(n, ret);
        else if (r->lower_since_ms < 0)
                describe_lower_term(n, ret);
        else if (r->state == ROLE_FOLLOWING)
                copy_trouble(&n->stream_trouble, ret);
        else if (n->config.is_candidate && r->is_unable)
                describe_mount(ret);
        else if (n->lease_trouble.cause == NODE_WAIT_PLACE)
                copy_trouble(&n->lease_trouble, ret);
        else if (n->config.is_candidate && role_stop_wait_ms(r, node_now_ms(n)) > 0)
                describe_holder(n, ret);
        else if (n->lease_trouble.cause != NODE_WAIT_NOTHING)
                copy_trouble(&n->lease_trouble, ret);
        else
                describe_nobody(n, ret);
        if (ret->reason[0] == '\0')
                ret->cause = NODE_WAIT_NOTHING; /* not for long: it is about to take the lease */
        set_next(n, ret);
}

const char *
node_wait_name(enum node_wait_cause cause)
{
        static const char *const names[] = { [NODE_WAIT_NOTHING] = "",
                                             [NODE_WAIT_TERM] = "node-of-last-term",
                                             [NODE_WAIT_DATA] = "node-with-data",
                                             [NODE_WAIT_TERMS] = "higher-term",
                                             [NODE_WAIT_HOLDER] = "last-holder",
                                             [NODE_WAIT_CLUSTER] = "own-cluster",
                                             [NODE_WAIT_LEASE] = "lease-service",
                                             [NODE_WAIT_PLACE] = "lease-in-its-place",
                                             [NODE_WAIT_PRIMARY] = "primary",
                                             [NODE_WAIT_CANDIDATE] = "candidate",
                                             [NODE_WAIT_MOUNT] = "mount",
                                             [NODE_WAIT_ADDRESS] = "own-address" };

        return names[cause];
}
