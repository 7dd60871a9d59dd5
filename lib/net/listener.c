#include "net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/conn_internal.h"
#include "net/loop_internal.h"

#define DEFAULT_MAX_CONNS 1024
#define BACKLOG 512
/* Taken in one turn of the loop: what they have sent is looked at before so many more have come that they make room. */
#define AT_ONCE 64u
#define TLS_AT_ONCE 8u /* handshakes that begin in one: all else there waits for them */

struct listener {
        struct loop_item item;
        struct loop *loop;
        uv_tcp_t tcp;
        uv_idle_t pace;   /* the next turn: takes the connection that was left waiting */
        unsigned n_taken; /* since the last such turn */
        unsigned n_handles;
        bool is_closed;   /* uv has let go of them */
        bool is_released; /* so has the owner */
        uv_tcp_t reject;  /* takes what is turned away, so that this needs no memory */
        bool is_rejecting;
        bool has_waiting; /* one more, and libuv takes no other before it */
        int port;
        struct crowd crowd;
        unsigned n_conns;  /* with those that are closing */
        uint64_t n_failed; /* for want of memory or descriptors */
        struct conn_limits limits;
        struct tls_context *tls;
        void (*accepted)(void *arg, struct conn *c);
        void *arg;
};

/* Connections count themselves out, so the last of them may be what it is kept for. */
static void
listener_free_if_let_go(struct listener *ls)
{
        if (!ls->is_closed || !ls->is_released || ls->is_rejecting || ls->n_conns > 0)
                return;
        crowd_release(&ls->crowd);
        free(ls);
}

static void
handle_closed(uv_handle_t *handle)
{
        struct listener *ls = (struct listener *)handle->data;

        ls->n_handles--;
        ls->is_closed = ls->n_handles == 0;
        listener_free_if_let_go(ls);
}

static void
listener_stop(struct loop_item *item)
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
        listener_free_if_let_go(ls);
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
        ls->n_failed++;
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
        listener_free_if_let_go(ls);
}

static void listener_take_conn(struct listener *ls);

static void
next_turn(uv_idle_t *pace)
{
        struct listener *ls = (struct listener *)pace->data;

        uv_idle_stop(pace);
        ls->n_taken = 0;
        listener_take_conn(ls);
}

/* What is not taken stays in the kernel's queue, for libuv asks for no other before it is. */
static void
listener_on_connection(uv_stream_t *server, int status)
{
        struct listener *ls = (struct listener *)server->data;

        if (status < 0)
                return; /* it was gone before it was taken */
        if (++ls->n_taken > (ls->tls != NULL ? TLS_AT_ONCE : AT_ONCE))
                uv_idle_start(&ls->pace, next_turn);
        else
                listener_take_conn(ls);
}

static void
listener_take_conn(struct listener *ls)
{
        struct conn *c;

        if (conn_accept(ls->loop, (uv_stream_t *)&ls->tcp, &ls->limits, ls->tls, conn_gone, ls, &c) <
            0) {
                reject(ls);
                return;
        }
        ls->n_conns++;
        if (conn_join(c, &ls->crowd) == 0)
                ls->accepted(ls->arg, c);
        if (!conn_has_handler(c))
                conn_close(c);
}

/* The addresses that @a may mean. */
static int
resolve_listen_host(struct loop *l, const struct addr *a, struct addrinfo **ret, struct err *e)
{
        struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
        uv_getaddrinfo_t req;
        char port[8];
        int r;

        snprintf(port, sizeof port, "%d", a->port);
        r = uv_getaddrinfo(&l->uv, &req, NULL, a->host, port, &hints);
        if (r < 0 && addr_is_localhost(a))
                r = uv_getaddrinfo(&l->uv, &req, NULL, "127.0.0.1", port, &hints);
        if (r < 0)
                return err_text(e, -EADDRNOTAVAIL, "%s", uv_strerror(r));
        *ret = req.addrinfo;
        return 0;
}

static int
listen_at(struct listener *ls, const struct sockaddr *sa)
{
        int r = uv_tcp_bind(&ls->tcp, sa, 0);

        return r < 0 ? r : uv_listen((uv_stream_t *)&ls->tcp, BACKLOG, listener_on_connection);
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
choose_listen_address(const struct addrinfo *addrs)
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

        r = resolve_listen_host(ls->loop, a, &addrs, e);
        if (r < 0)
                return r;
        r = listen_at(ls, choose_listen_address(addrs)->ai_addr);
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
listener_start(struct listener *ls, const struct addr *a, struct err *e)
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

/* Who has connected meanwhile waits in its queue. */
static int
listener_go_on(struct listener *ls, int inherited, struct err *e)
{
        int fd = fcntl(inherited, F_DUPFD_CLOEXEC, 3);
        int r = fd < 0 ? -errno : uv_tcp_open(&ls->tcp, fd);

        if (r < 0 && fd >= 0)
                close(fd);
        if (r == 0)
                r = uv_listen((uv_stream_t *)&ls->tcp, BACKLOG, listener_on_connection);
        if (r == 0)
                r = read_port(ls);
        return r < 0 ? err_text(e, r, "%s", err_code_text(r)) : 0;
}

int
listener_open(struct loop *l, const struct listener_config *config, struct listener **ret, struct err *e)
{
        struct crowd_limits limits;
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
        ls->item.stop = listener_stop;
        ls->loop = l;
        limits = config->crowd;
        limits.name = limits.name != NULL ? limits.name : "listener";
        limits.max = limits.max > 0 ? limits.max : DEFAULT_MAX_CONNS;
        ls->limits = config->limits;
        ls->tls = config->tls;
        ls->accepted = config->accepted;
        ls->arg = config->arg;
        r = crowd_init(&ls->crowd, &limits);
        if (r == 0)
                r = uv_tcp_init(&l->uv, &ls->tcp);
        if (r < 0) {
                crowd_release(&ls->crowd);
                free(ls);
                return err_set(e, r, "listen at %s", config->address);
        }
        uv_idle_init(&l->uv, &ls->pace); /* cannot fail */
        ls->n_handles = 2;
        ls->tcp.data = ls->pace.data = &ls->item;
        r = config->fd > 0 ? listener_go_on(ls, config->fd, e) : listener_start(ls, &a, e);
        if (r < 0) {
                (void)err_prefix(e, "listen at %s", config->address);
                listener_close(ls);
                return r;
        }
        *ret = ls;
        return 0;
}

int
listener_fd(const struct listener *ls)
{
        uv_os_fd_t fd;

        return ls->is_closed || uv_fileno((const uv_handle_t *)&ls->tcp, &fd) < 0 ? -EBADF : fd;
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
        return ls->n_failed + ls->crowd.n_refused;
}

void
listener_close(struct listener *ls)
{
        if (ls == NULL)
                return;
        ls->is_released = true;
        if (ls->is_closed)
                listener_free_if_let_go(ls);
        else
                listener_stop(&ls->item);
}
