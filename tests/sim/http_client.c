/* net/http_client.h for the simulation: what asks runs in a fiber, what answers is the simulated Consul. Linked
 * instead of lib/net/http_client.c, so that lease/consul.c runs as it is. */
#include "net/http_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/consul.h"

/* The interface leaves no room for it: see consul_net.client_host. */
static struct consul_net *used;

struct http_client {
        struct consul_net *net;
        struct sim_host *host;
        char answer[CONSUL_ANSWER_SIZE];
};

/* A request on its way; several events know it. */
struct call {
        struct consul_net *net;
        struct sim_host *host;
        uint64_t incarnation;
        unsigned n_users;
        struct fiber *waiting; /* NULL: it has its answer, or asks no more */
        bool is_answered;
        int status;
        char method[8];
        char *path, *body;
        char answer[CONSUL_ANSWER_SIZE];
};

void
consul_net_use(struct consul_net *net)
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
        c->host = used->client_host;
        *ret = c;
        return 0;
}

void
http_client_free(struct http_client *c)
{
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

/* At the service, whether or not somebody still waits. */
static void
on_request(void *arg, bool is_lost)
{
        struct call *call = arg;
        struct consul_net *net = call->net;
        int64_t delay_us;

        if (!is_lost) {
                call->status = consul_request(net->consul, call->method, call->path, call->body,
                                              call->answer);
                sim_trace(net->sim, call->host, "at consul: %s %s: %d %.60s", call->method, call->path,
                          call->status, call->answer);
                delay_us = net->delay_us(net->arg, call->host);
                if (delay_us >= 0 && !net->is_cut(net->arg, call->host)) {
                        call->n_users++;
                        sim_post(net->sim, call->host, delay_us, on_answer, call);
                }
        }
        release(call);
}

static void
send_request(struct call *call, int64_t timeout_ms)
{
        struct consul_net *net = call->net;
        int64_t delay_us = net->delay_us(net->arg, call->host);

        if (delay_us >= 0 && !net->is_cut(net->arg, call->host)) {
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
        call->path = strdup(strstr(q->url, "/v1") + 3);
        call->body = strndup(q->body != NULL ? q->body : "", q->body_size);
        snprintf(call->method, sizeof call->method, "%s", q->method);
        return call;
}

int
http_client_do(struct http_client *c, const struct http_request *q, struct http_response *ret,
               struct err *e)
{
        struct call *call;
        int r = 0;

        call = make_call(c, q);
        send_request(call, q->timeout_ms);
        call->waiting = fiber_current(c->net->sim);
        fiber_wait(c->net->sim);
        if (!call->is_answered) {
                r = err_text(e, -ETIMEDOUT, "%s %s: no answer", q->method, q->url);
        } else {
                memcpy(c->answer, call->answer, sizeof c->answer);
                *ret = (struct http_response){ .status = call->status,
                                               .body = c->answer,
                                               .body_size = strlen(c->answer) };
        }
        release(call);
        return r;
}
