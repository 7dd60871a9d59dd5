/* net/http_client.h for the simulation: what asks runs in a fiber, what answers is the simulated service or another node. Linked
 * instead of lib/net/http_client.c, so that the leases run as they are. */
#include "net/http_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/service.h"

#define WAIT_MS 10000 /* that a request waits for a change */
#define LOOK_MS 5
#define BUCKET_URL "http://bucket"

/* The interface leaves no room for it: see service_net.client_host. */
static struct service_net *used;

struct http_client {
        struct service_net *net;
        struct sim_host *host;
        struct call *call; /* that is under way */
        bool is_cancelled; /* the next one */
        char answer[SERVICE_ANSWER_SIZE];
        char *bytes; /* of a node's answer */
};

/* A request on its way; several events know it. */
struct call {
        struct service_net *net;
        struct sim_host *host;
        uint64_t incarnation;
        unsigned n_users;
        struct fiber *waiting; /* NULL: it has its answer, or asks no more */
        bool is_answered, is_cancelled;
        int status;
        int64_t wait_until_us; /* at the service; 0: it does not wait yet */
        char method[8], condition[SERVICE_CONDITION_SIZE];
        char *path, *body;
        struct service_answer answer;
        struct sim_host *peer; /* NULL: the service */
        char *bytes;           /* of its answer */
        size_t n_bytes;
};

void
service_net_use(struct service_net *net)
{
        used = net;
}

int
http_client_new(const struct http_client_options *options, struct http_client **ret, struct err *e)
{
        struct http_client *c = calloc(1, sizeof *c);

        (void)options;
        if (c == NULL)
                return err_set(e, -ENOMEM, "HTTP client");
        c->net = used;
        c->host = used->sim->here != NULL ? used->sim->here : used->client_host;
        *ret = c;
        return 0;
}

void
http_client_free(struct http_client *c)
{
        if (c != NULL)
                free(c->bytes);
        free(c);
}

int
http_url_parse(const char *text, struct http_url *ret, struct err *e)
{
        (void)e;
        *ret = (struct http_url){ .path = "/" };
        snprintf(ret->base, sizeof ret->base, "%s", text);
        return 0;
}

static void
release(struct call *call)
{
        if (--call->n_users > 0)
                return;
        free(call->path);
        free(call->body);
        free(call->bytes);
        free(call);
}

static void
wake(struct call *call)
{
        struct fiber *f = call->waiting;

        call->waiting = NULL;
        if (f != NULL && call->incarnation == call->host->incarnation)
                fiber_wake(call->net->sim, f);
}

static void
on_answer(void *arg, bool is_lost)
{
        struct call *call = arg;

        if (!is_lost && call->waiting != NULL) {
                call->is_answered = true;
                wake(call);
        }
        release(call);
}

static void
on_timeout(void *arg, bool is_lost)
{
        struct call *call = arg;

        if (!is_lost)
                wake(call);
        release(call);
}

/* Sent back, unless that is cut or lost. */
static void
send_answer(struct call *call)
{
        struct service_net *net = call->net;
        int64_t delay_us = net->delay_us(net->arg, call->host);

        sim_trace(net->sim, call->host, "at the service: %s %s: %d %.60s", call->method, call->path,
                  call->status, call->answer.body);
        if (delay_us < 0 || net->is_cut(net->arg, call->host) || call->status < 0)
                return;
        call->n_users++;
        sim_post(net->sim, call->host, delay_us, on_answer, call);
}

/* At the service, whether or not somebody still waits. */
static void
on_request(void *arg, bool is_lost)
{
        struct call *call = arg;
        struct service_net *net = call->net;
        int64_t now_us = net->sim->now_us;
        struct service_question q = { .method = call->method,
                                      .path = call->path,
                                      .body = call->body,
                                      .condition = call->condition };

        if (is_lost) {
                release(call);
                return;
        }
        if (call->wait_until_us == 0)
                call->wait_until_us = now_us + WAIT_MS * SIM_MS;
        q.may_wait = now_us < call->wait_until_us && call->waiting != NULL;
        call->status = service_request(net->service, &q, &call->answer);
        if (call->status == SERVICE_WAITS) {
                sim_post(net->sim, NULL, LOOK_MS * SIM_MS, on_request, call);
                return;
        }
        send_answer(call);
        release(call);
}

/* At another node, in a fiber: it may read its disk. If it dies meanwhile, what it holds stays. */
static void
answer_as_peer(void *arg)
{
        struct call *call = arg;
        struct service_net *net = call->net;
        int64_t delay_us = net->delay_us(net->arg, call->host);

        if (net->get_answer(net->arg, call->peer, call->path, &call->bytes, &call->n_bytes) &&
            delay_us >= 0 && !net->is_cut_between(net->arg, call->peer, call->host)) {
                call->status = 200;
                call->n_users++;
                sim_post(net->sim, call->host, delay_us, on_answer, call);
        }
        release(call);
}

static void
on_peer_request(void *arg, bool is_lost)
{
        struct call *call = arg;

        if (!is_lost)
                fiber_start(call->net->sim, call->peer, answer_as_peer, call);
        else
                release(call);
}

static void
send_request(struct call *call, int64_t timeout_ms)
{
        struct service_net *net = call->net;
        int64_t delay_us = net->delay_us(net->arg, call->host);

        if (call->peer != NULL) {
                if (delay_us >= 0 && call->peer->is_up &&
                    !net->is_cut_between(net->arg, call->host, call->peer)) {
                        call->n_users++;
                        sim_post(net->sim, call->peer, delay_us, on_peer_request, call);
                }
        } else if (delay_us >= 0 && !net->is_cut(net->arg, call->host)) {
                call->n_users++;
                sim_post(net->sim, NULL, delay_us, on_request, call);
        }
        call->n_users++;
        sim_post(net->sim, call->host, timeout_ms * SIM_MS, on_timeout, call);
}

static struct call *
make_call(struct http_client *c, const struct http_request *q)
{
        struct call *call = calloc(1, sizeof *call);

        if (call == NULL)
                abort();
        call->net = c->net;
        call->host = c->host;
        call->incarnation = c->host->incarnation;
        call->n_users = 1;
        if (strstr(q->url, "/v1/") != NULL || strstr(q->url, "/v3/") != NULL)
                call->path = strdup(strstr(q->url, "/v"));
        else if (strncmp(q->url, BUCKET_URL, strlen(BUCKET_URL)) == 0)
                call->path = strdup(q->url + strlen(BUCKET_URL));
        else
                call->peer = c->net->find(c->net->arg, q->url + strlen("http://"));
        if (call->peer != NULL)
                call->path = strdup(strchr(q->url + strlen("http://"), '/'));
        call->body = strndup(q->body != NULL ? q->body : "", q->body_size);
        snprintf(call->method, sizeof call->method, "%s", q->method);
        for (const char *const *h = q->headers; h != NULL && *h != NULL; h++)
                if (strncmp(*h, "if-", 3) == 0)
                        snprintf(call->condition, sizeof call->condition, "%s", *h);
        return call;
}

static void
on_cancel(void *arg, bool is_lost)
{
        struct call *call = arg;

        if (!is_lost && call->waiting != NULL) {
                call->is_cancelled = true;
                wake(call);
        }
        release(call);
}

void
http_client_cancel(struct http_client *c)
{
        if (c->call == NULL) {
                c->is_cancelled = true;
                return;
        }
        c->call->n_users++;
        sim_post(c->net->sim, c->host, 0, on_cancel, c->call);
}

int
http_client_do(struct http_client *c, const struct http_request *q, struct http_response *ret,
               struct err *e)
{
        struct call *call;
        int r = 0;

        if (c->is_cancelled) {
                c->is_cancelled = false;
                return err_set(e, -ECANCELED, "%s %s", q->method, q->url);
        }
        call = c->call = make_call(c, q);
        send_request(call, q->timeout_ms);
        call->waiting = fiber_current(c->net->sim);
        fiber_wait(c->net->sim);
        c->call = NULL;
        if (call->is_cancelled) {
                r = err_set(e, -ECANCELED, "%s %s", q->method, q->url);
        } else if (!call->is_answered) {
                r = err_text(e, -ETIMEDOUT, "%s %s: no answer", q->method, q->url);
        } else {
                memcpy(c->answer, call->answer.body, sizeof c->answer);
                free(c->bytes);
                c->bytes = call->bytes;
                call->bytes = NULL;
                *ret = (struct http_response){ .status = call->status,
                                               .body = c->answer,
                                               .body_size = strlen(c->answer),
                                               .number = call->answer.number };
                snprintf(ret->text, sizeof ret->text, "%s", call->answer.etag);
                if (call->peer != NULL) {
                        ret->body = c->bytes;
                        ret->body_size = call->n_bytes;
                }
                if (q->sink != NULL && call->status == 200)
                        r = q->sink->write(q->sink, ret->body, ret->body_size);
        }
        release(call);
        return r;
}
