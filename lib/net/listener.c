#include "net/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/conn_internal.h"
#include "net/loop_internal.h"

#define DEFAULT_MAX_CONNS 1024
#define BACKLOG 512
#define TLS_AT_ONCE 8u /* handshakes that begin in one turn of the loop: all else there waits for them */

struct listener {
        struct loop_item item;
        struct loop *loop;
        uv_tcp_t tcp;
        uv_idle_t pace;   /* the next turn: takes the connection that was left waiting */
        unsigned n_taken; /* with TLS, since the last such turn */
        unsigned n_handles;
        bool is_closed;   /* uv has let go of them */
        bool is_released; /* so has the owner */
        uv_tcp_t reject;  /* takes what is turned away, so that this needs no memory */
        bool is_rejecting;
        bool has_waiting; /* one more, and libuv takes no other before it */
        int port;
        unsigned max_conns;
        unsigned n_conns;
        uint64_t n_refused;
        struct conn_limits limits;
        struct tls_context *tls;
        void (*accepted)(void *arg, struct conn *c);
        void *arg;
};

/* Connections count themselves out, so the last of them may be what it is kept for. */
static void
free_if_let_go(struct listener *ls)
{
        if (ls->is_closed && ls->is_released && !ls->is_rejecting && ls->n_conns == 0)
                free(ls);
}

static void
handle_closed(uv_handle_t *handle)
{
        struct listener *ls = (struct listener *)handle->data;

        ls->n_handles--;
        ls->is_closed = ls->n_handles == 0;
        free_if_let_go(ls);
}

static void
stop(struct loop_item *item)
{
        struct listener *ls = (struct listener *)item;

        if (uv_is_closing((uv_handle_t *)&ls->tcp))
                return;
        uv_close((uv_handle_t *)&ls->tcp, handle_closed);
        uv_close((uv_handle_t *)&ls->pace, handle_closed);
}

static void
conn_gone(void *arg)
{
        struct listener *ls = arg;

        ls->n_conns--;
        free_if_let_go(ls);
}

static void rejected(uv_handle_t *handle);

/* Closes the connection that waits. */
static void
reject(struct listener *ls)
{
        ls->has_waiting = ls->is_rejecting;
        if (ls->is_rejecting)
                return;
        ls->is_rejecting = true;
        ls->n_refused++;
        uv_tcp_init(&ls->loop->uv, &ls->reject); /* opens nothing, so it cannot fail */
        ls->reject.data = &ls->item;
        (void)uv_accept((uv_stream_t *)&ls->tcp, (uv_stream_t *)&ls->reject);
        uv_close((uv_handle_t *)&ls->reject, rejected);
}

static void
rejected(uv_handle_t *handle)
{
        struct listener *ls = (struct listener *)handle->data;

        ls->is_rejecting = false;
        if (ls->has_waiting && !uv_is_closing((uv_handle_t *)&ls->tcp))
                reject(ls);
        free_if_let_go(ls);
}

static void take(struct listener *ls);

static void
next_turn(uv_idle_t *pace)
{
        struct listener *ls = (struct listener *)pace->data;

        uv_idle_stop(pace);
        ls->n_taken = 0;
        take(ls);
}

/* What is not taken stays in the kernel's queue, for libuv asks for no other before it is. */
static void
on_connection(uv_stream_t *server, int status)
{
        struct listener *ls = (struct listener *)server->data;

        if (status < 0)
                return; /* it was gone before it was taken */
        if (ls->tls != NULL && ++ls->n_taken > TLS_AT_ONCE)
                uv_idle_start(&ls->pace, next_turn);
        else
                take(ls);
}

static void
take(struct listener *ls)
{
        struct conn *c;

        if (ls->n_conns >= ls->max_conns || conn_accept(ls->loop, (uv_stream_t *)&ls->tcp, &ls->limits,
                                                        ls->tls, conn_gone, ls, &c) < 0) {
                reject(ls);
                return;
        }
        ls->n_conns++;
        ls->accepted(ls->arg, c);
        if (!conn_has_handler(c))
                conn_close(c);
}

/* The addresses that @a may mean. */
static int
resolve(struct loop *l, const struct addr *a, struct addrinfo **ret, struct err *e)
{
        struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
        uv_getaddrinfo_t req;
        char port[8];
        int r;

        snprintf(port, sizeof port, "%d", a->port);
        r = uv_getaddrinfo(&l->uv, &req, NULL, a->host, port, &hints);
        if (r < 0)
                return err_text(e, -EADDRNOTAVAIL, "%s", uv_strerror(r));
        *ret = req.addrinfo;
        return 0;
}

static int
listen_at(struct listener *ls, const struct sockaddr *sa)
{
        int r = uv_tcp_bind(&ls->tcp, sa, 0);

        return r < 0 ? r : uv_listen((uv_stream_t *)&ls->tcp, BACKLOG, on_connection);
}

/* Binds to "": IPv6's any address takes IPv4 too; a machine without IPv6 has the other. */
static int
listen_any(struct listener *ls, int port)
{
        struct sockaddr_in6 in6;
        struct sockaddr_in in;
        int r;

        uv_ip6_addr("::", port, &in6);
        r = listen_at(ls, (struct sockaddr *)&in6);
        if (r != -EAFNOSUPPORT)
                return r;
        uv_ip4_addr("0.0.0.0", port, &in);
        return listen_at(ls, (struct sockaddr *)&in);
}

/* A name may have several addresses; as in Go, whose configurations are ours, IPv4 goes first. */
static const struct addrinfo *
choose(const struct addrinfo *addrs)
{
        for (const struct addrinfo *a = addrs; a != NULL; a = a->ai_next) {
                if (a->ai_family == AF_INET)
                        return a;
        }
        return addrs;
}

static int
listen_host(struct listener *ls, const struct addr *a, struct err *e)
{
        struct addrinfo *addrs = NULL;
        int r;

        r = resolve(ls->loop, a, &addrs, e);
        if (r < 0)
                return r;
        r = listen_at(ls, choose(addrs)->ai_addr);
        uv_freeaddrinfo(addrs);
        return r < 0 ? err_text(e, r, "%s", err_code_text(r)) : 0;
}

static int
read_port(struct listener *ls)
{
        struct sockaddr_storage sa;
        int n = sizeof sa;
        int r = uv_tcp_getsockname(&ls->tcp, (struct sockaddr *)&sa, &n);

        if (r < 0)
                return r;
        ls->port = ntohs(sa.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&sa)->sin6_port
                                                  : ((struct sockaddr_in *)&sa)->sin_port);
        return 0;
}

static int
start(struct listener *ls, const struct addr *a, struct err *e)
{
        int r;

        if (a->host[0] != '\0') {
                r = listen_host(ls, a, e);
                if (r < 0)
                        return r;
        } else {
                r = listen_any(ls, a->port);
                if (r < 0)
                        return err_text(e, r, "%s", err_code_text(r));
        }
        r = read_port(ls);
        return r < 0 ? err_text(e, r, "%s", err_code_text(r)) : 0;
}

int
listener_open(struct loop *l, const struct listener_config *config, struct listener **ret, struct err *e)
{
        struct listener *ls;
        struct addr a;
        int r;

        r = addr_parse(config->address, &a, e);
        if (r < 0)
                return r;
        if (l->is_stopping)
                return err_set(e, -ESHUTDOWN, "listen at %s", config->address);
        ls = calloc(1, sizeof *ls);
        if (ls == NULL)
                return err_set(e, -ENOMEM, "listen at %s", config->address);
        ls->item.stop = stop;
        ls->loop = l;
        ls->max_conns = config->max_conns > 0 ? config->max_conns : DEFAULT_MAX_CONNS;
        ls->limits = config->limits;
        ls->tls = config->tls;
        ls->accepted = config->accepted;
        ls->arg = config->arg;
        r = uv_tcp_init(&l->uv, &ls->tcp);
        if (r < 0) {
                free(ls);
                return err_set(e, r, "listen at %s", config->address);
        }
        uv_idle_init(&l->uv, &ls->pace); /* cannot fail */
        ls->n_handles = 2;
        ls->tcp.data = ls->pace.data = &ls->item;
        r = start(ls, &a, e);
        if (r < 0) {
                (void)err_prefix(e, "listen at %s", config->address);
                listener_close(ls);
                return r;
        }
        *ret = ls;
        return 0;
}

int
listener_port(const struct listener *ls)
{
        return ls->port;
}

unsigned
listener_n_conns(const struct listener *ls)
{
        return ls->n_conns;
}

uint64_t
listener_n_refused(const struct listener *ls)
{
        return ls->n_refused;
}

void
listener_close(struct listener *ls)
{
        if (ls == NULL)
                return;
        ls->is_released = true;
        if (ls->is_closed)
                free_if_let_go(ls);
        else
                stop(&ls->item);
}
