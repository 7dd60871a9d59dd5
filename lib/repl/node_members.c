/* Who is who: what this node says of itself, and who followed this primary and does so no more, for operators, who else would
 * see "2 of 2 in sync". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "repl/node_internal.h"

struct members_job {
        struct work work;
        struct node *n;
        size_t size;
        char *text;
};

static void
save_members(struct work *w)
{
        struct members_job *job = (struct members_job *)w;
        struct err e = ERR_INIT;

        if (members_save(os_host(), job->n->config.data_dir, job->text, job->size, &e) < 0)
                log_warn("remember the nodes that have left: %s", e.text);
        free(job->text);
        free(job);
}

static void
post_members(struct node *n)
{
        struct members_job *job = calloc(1, sizeof *job);

        if (job != NULL)
                job->text = members_format(&n->members, &job->size);
        if (job == NULL || job->text == NULL) {
                free(job);
                return;
        }
        job->work = (struct work){ save_members, NULL };
        job->n = n;
        workers_post(n->lease_worker, &job->work);
}

static void
tell(struct node *n, const char *hostname, const char *url, bool is_gone)
{
        for (unsigned i = 0; i < n->n_watchers; i++)
                if (n->watchers[i].member != NULL)
                        n->watchers[i].member(n->watchers[i].arg, hostname, url, is_gone);
}

static struct member
member_of(const struct node *n, const struct frame_hello *h)
{
        struct member m = { .boot_id = h->boot_id, .seen_ms = clock_wall_ms(n->config.clock) };

        snprintf(m.hostname, sizeof m.hostname, "%s", h->hostname);
        snprintf(m.advertise_url, sizeof m.advertise_url, "%s", h->advertise_url);
        return m;
}

/* A replica of that address, but for the one with @boot_id. */
static const struct frame_hello *
find_replica(const struct node *n, const char *url, uint64_t boot_id)
{
        for (const struct replica *rp = n->replicas; rp != NULL; rp = rp->next) {
                const struct frame_hello *h = rp->sender != NULL ? stream_sender_peer(rp->sender) : NULL;

                if (h != NULL && h->boot_id != boot_id && strcmp(h->advertise_url, url) == 0)
                        return h;
        }
        return NULL;
}

/* Others reach one of them alone, and take it for the other. A replica with a static lease may have no address of its own, and
 * name the primary's. */
static void
warn_of_twin(const struct node *n, const struct frame_hello *peer)
{
        const struct frame_hello *twin = find_replica(n, peer->advertise_url, peer->boot_id);
        const char *hostname = twin != NULL ? twin->hostname : NULL;

        if (hostname == NULL && n->config.lease->ttl_ms > 0 &&
            strcmp(peer->advertise_url, n->config.advertise_url) == 0)
                hostname = n->config.hostname;
        if (hostname != NULL && peer->advertise_url[0] != '\0')
                log_warn(
                        "%s and %s have the same advertise-url, %s: each node needs an address of its own, by which the "
                        "others reach it (lease.advertise-url)",
                        hostname, peer->hostname, peer->advertise_url);
}

void
node_member_joined(struct node *n, const struct frame_hello *peer)
{
        warn_of_twin(n, peer);
        if (members_joined(&n->members, peer->advertise_url))
                post_members(n);
        tell(n, peer->hostname, peer->advertise_url, false);
}

/* Not where this node ends the streams, or where it is there by another one. */
void
node_member_left(struct node *n, const struct frame_hello *peer)
{
        struct member who = member_of(n, peer);

        if (!n->is_primary || n->role.state == ROLE_STOPPED ||
            strcmp(peer->advertise_url, n->config.advertise_url) == 0 ||
            find_replica(n, peer->advertise_url, 0) != NULL)
                return;
        (void)members_forget(&n->members, who.seen_ms);
        if (members_left(&n->members, &who))
                post_members(n);
        tell(n, peer->hostname, peer->advertise_url, true);
}

void
node_members_lead(struct node *n)
{
        bool is_new = members_joined(&n->members, n->config.advertise_url);

        is_new |= members_forget(&n->members, clock_wall_ms(n->config.clock));
        if (n->followed.boot_id != 0 && strcmp(n->followed.advertise_url, n->config.advertise_url) != 0)
                is_new |= members_left(&n->members, &n->followed);
        n->followed.boot_id = 0;
        if (is_new)
                post_members(n);
}

void
node_followed(struct node *n, const struct frame_hello *hello)
{
        n->followed = member_of(n, hello);
}

void
node_followed_until_now(struct node *n)
{
        n->followed.seen_ms = clock_wall_ms(n->config.clock);
}

void
node_each_gone(struct node *n, void (*fn)(void *arg, const struct member *m), void *arg)
{
        for (unsigned i = 0; n->is_primary && i < n->members.n; i++)
                fn(arg, &n->members.v[i]);
}

void
node_fill_hello(const struct node *n, uint64_t term, struct frame_hello *ret)
{
        *ret = (struct frame_hello){ .version = FRAME_VERSION, .boot_id = n->boot_id, .term = term };
        memcpy(ret->cluster_id, n->cluster_id, sizeof ret->cluster_id);
        snprintf(ret->hostname, sizeof ret->hostname, "%s", n->config.hostname);
        snprintf(ret->advertise_url, sizeof ret->advertise_url, "%s", n->config.advertise_url);
}
