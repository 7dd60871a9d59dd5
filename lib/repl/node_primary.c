/* The node that this one follows. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "repl/cluster_id.h"
#include "repl/node_internal.h"

static struct primary *
primary_of(struct link *l)
{
        return (struct primary *)l;
}

static int
primary_writev(struct link *l, const struct iovec *iov, int n)
{
        struct conn *c = primary_of(l)->conn;

        return c == NULL ? -ENOTCONN : conn_writev(c, iov, n);
}

static void
primary_read_stop(struct link *l)
{
        primary_of(l)->is_deaf = true;
        if (primary_of(l)->conn != NULL)
                conn_read_stop(primary_of(l)->conn);
}

static void
primary_read_start(struct link *l)
{
        primary_of(l)->is_deaf = false;
        loop_timer_start(primary_of(l)->silence, SILENCE_MS);
        if (primary_of(l)->conn != NULL)
                conn_read_start(primary_of(l)->conn);
}

static void
primary_finish(struct link *l)
{
        if (primary_of(l)->conn != NULL)
                conn_finish(primary_of(l)->conn, FINISH_MS);
}

static const struct link_ops primary_link = { primary_writev, primary_read_stop, primary_read_start,
                                              primary_finish };

struct save_job {
        struct work work;
        struct node *n;
        char id[LEASE_CLUSTER_ID_SIZE];
};

static void
save_cluster_id(struct work *w)
{
        struct save_job *job = (struct save_job *)w;
        struct err e = ERR_INIT;

        if (cluster_id_save(os_host(), job->n->config.data_dir, job->id, &e) < 0)
                log_error("%s", e.text);
        free(job);
}

static void
follow_connected(void *arg, const struct frame_hello *h)
{
        struct primary *p = arg;
        struct node *n = p->node;
        struct save_job *job;

        log_info("connected to cluster, following primary=%s term=%llu", h->hostname,
                 (unsigned long long)h->term);
        if (n->cluster_id[0] == '\0' && h->cluster_id[0] != '\0' &&
            (job = calloc(1, sizeof *job)) != NULL) {
                memcpy(n->cluster_id, h->cluster_id, sizeof n->cluster_id);
                job->work.run = save_cluster_id;
                job->n = n;
                memcpy(job->id, h->cluster_id, sizeof job->id);
                workers_post(n->lease_worker, &job->work);
        }
        node_stream_is_well(n);
        role_connected(&n->role, node_now_ms(n), h->term);
        role_set_behind(&n->role, true);
}

static void
follow_ready(void *arg)
{
        struct primary *p = arg;

        store_confirm(p->node->config.store);
        role_set_behind(&p->node->role, false);
        node_save_term(p->node, p->node->role.term);
        node_set_ready(p->node);
}

static void
follow_heartbeat(void *arg, const struct frame_heartbeat *hb, bool is_caught_up)
{
        struct primary *p = arg;

        (void)hb;
        if (is_caught_up)
                store_set_contact(p->node->config.store, node_now_ms(p->node));
        /* One that has it should lead next, should this primary go. */
        role_set_behind(&p->node->role, follow_lacks_something(p->follow));
}

static void
follow_handoff(void *arg, const struct frame_handoff *h)
{
        struct primary *p = arg;
        struct node *n = p->node;

        if (h->node_id != n->node_id)
                return;
        snprintf(n->offered, sizeof n->offered, "%s", h->token);
        role_offered(&n->role, node_now_ms(n));
}

static int
start_follow(struct primary *p, struct err *e)
{
        struct node *n = p->node;
        struct follow_config config = {
                .store = n->config.store,
                .env = &n->env,
                .applier = n->applier,
                .arg = p,
                .connected = follow_connected,
                .ready = follow_ready,
                .heartbeat = follow_heartbeat,
                .handoff = follow_handoff,
        };
        int r;

        node_fill_hello(n, n->role.term, &config.self);
        r = follow_new(&config, &p->link, &p->follow);
        return r < 0 ? err_set(e, r, "follow") : follow_start(p->follow, e);
}

/* Not while transactions of an earlier stream are being applied: the positions that we tell must count them. */
static int
begin_follow(struct primary *p, struct err *e)
{
        return p->follow != NULL || !applier_is_empty(p->node->applier) ? 0 : start_follow(p, e);
}

void
node_drained(struct node *n)
{
        struct primary *p = n->primary;
        struct err e = ERR_INIT;

        if (p == NULL || !p->is_upgraded)
                return;
        if (begin_follow(p, &e) < 0) {
                log_warn("stream from the primary at %s: %s", p->address, e.text);
                conn_close(p->conn);
        } else if (p->follow != NULL) {
                follow_drained(p->follow);
        }
}

/* Heartbeats come once a second. A host that has lost its power, or a process that stands still, says nothing. */
static void
on_silence(void *arg)
{
        struct primary *p = arg;
        struct err e = ERR_INIT;

        if (p->is_deaf)
                return; /* starts again when we listen */
        err_text(&e, -ETIMEDOUT, "the primary at %s has said nothing for %d ms", p->address, SILENCE_MS);
        node_stream_trouble(p->node, &e);
        if (p->node->role.n_failures == 0)
                log_warn("%s", e.text);
        conn_close(p->conn);
}

static void
primary_opened(void *arg, struct conn *c)
{
        struct primary *p = arg;
        char buf[LEASE_URL_SIZE + 1024], token[TOKEN_SIZE];

        token_get(p->node->config.token, token);
        loop_timer_start(p->silence, SILENCE_MS);
        (void)conn_write(c, buf, upgrade_request(&node_protocol, p->address, token, buf, sizeof buf));
}

static void
primary_read(void *arg, struct conn *c, const uint8_t *data, size_t n)
{
        struct primary *p = arg;
        struct err e = ERR_INIT;
        int r = 0;

        loop_timer_start(p->silence, SILENCE_MS);
        p->node->bytes_received += n;
        if (!p->is_upgraded) {
                r = upgrade_feed(&p->head, &data, &n, &e);
                if (r > 0)
                        r = upgrade_check_response(&p->head, &node_protocol, &e);
                else if (r == 0)
                        return;
                if (r == 0) {
                        p->is_upgraded = true;
                        /* What still waits for a reader will be sent again; the other databases cannot wait. */
                        applier_clear(p->node->applier);
                        r = begin_follow(p, &e);
                }
        }
        if (r == 0 && n > 0)
                r = p->follow != NULL ? follow_input(p->follow, data, n, &e)
                                      : err_text(&e, -ECONNRESET, "the primary ends the stream");
        if (r < 0) {
                err_prefix(&e, "stream from the primary at %s", p->address);
                node_stream_trouble(p->node, &e);
                if (p->node->role.n_failures == 0)
                        log_warn("%s", e.text);
                conn_close(c);
        }
}

static void
primary_closed(void *arg, struct conn *c, int code, const struct err *e)
{
        struct primary *p = arg;
        struct node *n = p->node;

        (void)c;
        if (n->primary == p && code < 0 && code != -ECANCELED)
                node_stream_trouble(n, e);
        /* One line when it goes, not one for each attempt to get it back. */
        n->n_stream_errors += n->primary == p && code != -ECANCELED;
        if (n->primary == p && code != -ECANCELED && n->role.n_failures == 0)
                log_info("stream from the primary at %s ended%s%s", p->address, code < 0 ? ": " : "",
                         code < 0 ? e->text : "");
        loop_timer_free(p->silence);
        follow_free(p->follow);
        if (n->primary == p) {
                n->primary = NULL;
                n->left_ms = node_now_ms(n);
                role_disconnected(&n->role, node_now_ms(n));
        }
        free(p);
}

static const struct conn_handler primary_handler = { .opened = primary_opened,
                                                     .read = primary_read,
                                                     .closed = primary_closed };

/* -EPROTONOSUPPORT: it says https://, and this node cannot. */
static int
connect_primary(struct primary *p, const char *url, struct err *e)
{
        struct node *n = p->node;
        bool is_tls = strncasecmp(url, "https://", 8) == 0;

        if (is_tls && n->config.tls_peer == NULL)
                return err_set(e, -EPROTONOSUPPORT, "%s", url);
        return conn_connect_tls(n->loop, is_tls ? n->config.tls_peer : NULL, p->address,
                                CONNECT_TIMEOUT_MS, NULL, &primary_handler, p, &p->conn, e);
}

/* "http://host:port" as host:port. */
static void
set_address(struct primary *p, const char *url)
{
        const char *host = strstr(url, "://");
        size_t n;

        host = host != NULL ? host + 3 : url;
        n = strcspn(host, "/?#");
        snprintf(p->address, sizeof p->address, "%.*s", (int)n, host);
}

void
node_follow(struct node *n, const struct lease_state *holder)
{
        struct err e = ERR_INIT;
        struct primary *p = n->primary;

        n->primary = NULL;
        if (p != NULL) {
                n->left_ms = node_now_ms(n);
                conn_close(p->conn); /* its closed() frees it */
        }
        if (holder == NULL)
                return;
        p = calloc(1, sizeof *p);
        if (p == NULL || loop_timer_new(n->loop, on_silence, p, &p->silence) < 0) {
                free(p);
                n->role.next_connect_ms = node_now_ms(n) + n->config.reconnect_ms;
                return;
        }
        p->link.ops = &primary_link;
        p->node = n;
        set_address(p, holder->advertise_url);
        /* What an earlier stream has brought comes first, if it can: positions are told when it is applied. */
        if ((!applier_is_empty(n->applier) && node_now_ms(n) - n->left_ms < DRAIN_MS) ||
            connect_primary(p, holder->advertise_url, &e) < 0) {
                if (e.code != 0) {
                        err_prefix(&e, "connect to the primary");
                        node_stream_trouble(n, &e);
                        log_warn("%s", e.text);
                }
                loop_timer_free(p->silence);
                free(p);
                n->role.next_connect_ms = node_now_ms(n) + 10;
                return;
        }
        n->primary = p;
}

void
node_applied(void *arg, struct db *db, struct ltx_pos pos)
{
        struct node *n = arg;

        if (n->primary != NULL && n->primary->follow != NULL)
                follow_applied(n->primary->follow, db, pos);
        node_tell_shown(n, db);
}

void
node_failed(void *arg, const char *name, struct db *db, int code, const struct err *e)
{
        struct node *n = arg;

        log_event(LOG_WARN, name, "transaction not applied, asking the primary again: %s", e->text);
        if (n->primary != NULL && n->primary->follow != NULL)
                follow_failed(n->primary->follow, name, db, code);
}

void
node_invalid(void *arg, const char *name, const struct err *e)
{
        struct node *n = arg;

        if (n->primary == NULL)
                return;
        if (n->role.n_failures == 0)
                log_warn("stream from the primary at %s: transaction of %s: %s", n->primary->address,
                         name, e->text);
        conn_close(n->primary->conn);
}

void
node_cut(void *arg, const char *name, struct db *db)
{
        struct node *n = arg;

        log_event(LOG_INFO, name,
                  "its readers let a transaction in, asking for those that were dropped");
        if (n->primary != NULL && n->primary->follow != NULL)
                follow_failed(n->primary->follow, name, db, E_POS_MISMATCH);
}
