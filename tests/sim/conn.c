#include "tests/sim/net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CUT_RETRY_US (100 * SIM_MS)
#define REFUSED_US (1 * SIM_MS)
#define DEAD_MIN_US (1000 * SIM_MS) /* until it shows that the other end has lost its power */
#define DEAD_MAX_US (60000 * SIM_MS)

struct chunk {
        struct chunk *next;
        size_t n, at;
        bool is_end, is_reset;
        uint8_t bytes[];
};

/* One end. */
struct conn {
        struct wire *wire;
        struct sim_host *host;
        uint64_t incarnation;
        struct loop *loop; /* NULL: not accepted yet, or gone */
        const struct conn_handler *handler;
        void *arg;
        struct chunk *coming, **coming_end; /* on their way to this end */
        struct chunk *arrived, **arrived_end;
        int64_t last_us;
        size_t queued; /* bytes that the other end has sent and this one has not read */
        bool is_open, is_deaf, is_finishing, is_closing, is_closed, is_full;
        bool has_pump;
};

struct wire {
        struct wire *next;
        struct conn ends[2]; /* who connects, who listens */
        int n_users;
        bool is_dead; /* one end is gone without a word */
};

struct listener {
        struct listener *next;
        struct loop *loop;
        struct listener_config config;
        uint64_t incarnation;
};

static struct net *net;
static struct wire *wires;
static struct listener *listeners;

void
net_use(struct net *n)
{
        net = n;
        wires = NULL;
        listeners = NULL;
}

static struct conn *
other(struct conn *c)
{
        return &c->wire->ends[c == &c->wire->ends[0]];
}

static bool
is_alive(const struct conn *c)
{
        return c->host->is_up && c->incarnation == c->host->incarnation;
}

static bool
is_over(const struct wire *w)
{
        for (int i = 0; i < 2; i++)
                if (!w->ends[i].is_closed && (w->ends[i].loop != NULL || w->ends[i].is_open))
                        return false;
        return w->n_users == 0;
}

/* Its memory is kept: handlers of a dead process may point to it. */
static void
let_go(struct wire *w)
{
        struct wire **p = &wires;

        w->n_users--;
        if (!is_over(w))
                return;
        while (*p != NULL && *p != w)
                p = &(*p)->next;
        if (*p != NULL)
                *p = w->next;
}

/* --- the end of a connection --- */

struct closing {
        struct conn *c;
        int code;
};

static void send_chunk(struct conn *from, struct chunk *ch);

static void
send_mark(struct conn *from, bool is_reset)
{
        struct chunk *ch = calloc(1, sizeof *ch);

        if (ch == NULL)
                abort();
        ch->is_end = true;
        ch->is_reset = is_reset;
        send_chunk(from, ch);
}

static void
tell_closed(void *arg, bool is_lost)
{
        struct closing *cl = arg;
        struct conn *c = cl->c;
        struct err e = ERR_INIT;

        if (!is_lost && !c->is_closed && is_alive(c)) {
                c->is_closed = true;
                if (cl->code < 0)
                        err_set(&e, cl->code, "connection");
                if (c->handler != NULL && c->handler->closed != NULL)
                        c->handler->closed(c->arg, c, cl->code, &e);
        }
        let_go(c->wire);
        free(cl);
}

static void
end_conn(struct conn *c, int code, int64_t delay_us)
{
        struct closing *cl = malloc(sizeof *cl);

        if (cl == NULL)
                abort();
        *cl = (struct closing){ c, code };
        c->is_closing |= delay_us == 0;
        c->wire->n_users++;
        sim_post(net->sim, c->host, delay_us, tell_closed, cl);
}

void
conn_close(struct conn *c)
{
        if (c->is_closing)
                return;
        if (c->is_open && !c->is_finishing)
                send_mark(c, false);
        end_conn(c, 0, 0);
}

void
conn_finish(struct conn *c, int64_t timeout_ms)
{
        if (c->is_closing || c->is_finishing)
                return;
        c->is_finishing = true;
        send_mark(c, false);
        end_conn(c, -ETIMEDOUT, timeout_ms * SIM_MS);
}

void
conns_cancel(struct loop *l)
{
        for (struct wire *w = wires, *next; w != NULL; w = next) {
                next = w->next;
                w->n_users++;
                for (int i = 0; i < 2; i++) {
                        struct conn *c = &w->ends[i];
                        struct err e = ERR_INIT;

                        if (c->loop != l || c->is_closed || !is_alive(c))
                                continue;
                        if (!c->is_closing && c->is_open)
                                send_mark(c, true);
                        c->is_closing = c->is_closed = true;
                        err_set(&e, -ECANCELED, "connection");
                        if (c->handler != NULL && c->handler->closed != NULL)
                                c->handler->closed(c->arg, c, -ECANCELED, &e);
                }
                let_go(w);
        }
}

void
conns_host_died(struct sim_host *h, bool is_silent)
{
        for (struct wire *w = wires; w != NULL; w = w->next)
                for (int i = 0; i < 2; i++) {
                        struct conn *c = &w->ends[i];

                        if (c->host != h || is_alive(c) || c->is_closed)
                                continue;
                        c->is_closing = c->is_closed = true;
                        if (is_silent) {
                                w->is_dead = true;
                                end_conn(other(c), -ETIMEDOUT,
                                         sim_between(net->sim, DEAD_MIN_US, DEAD_MAX_US));
                        } else {
                                send_mark(c, true);
                        }
                }
}

void
conns_break_one(void)
{
        int n = 0;

        for (struct wire *w = wires; w != NULL; w = w->next)
                n += w->ends[0].is_open && w->ends[1].is_open;
        if (n == 0)
                return;
        n = (int)sim_between(net->sim, 1, n);
        for (struct wire *w = wires; w != NULL; w = w->next)
                if (w->ends[0].is_open && w->ends[1].is_open && --n == 0) {
                        end_conn(&w->ends[0], -ECONNRESET, 0);
                        end_conn(&w->ends[1], -ECONNRESET, 0);
                }
}

/* --- bytes --- */

static void post_pump(struct conn *c);

/* Or in the length before it. A chunk may hold several transactions, each behind the name of its database. */
static bool
is_in_name(const struct chunk *ch, size_t at)
{
        for (size_t i = at - 3; i <= at + 1; i++)
                if (memcmp(ch->bytes + i + 1, ".db", 3) == 0)
                        return true;
        return false;
}

/* In the middle of transactions, which have checksums; not in what stands around them, which has none but TCP's. */
static void
flip(struct chunk *ch)
{
        size_t at;
        uint8_t with;

        if (ch->n < 300 || !sim_chance(net->sim, net->flip_permille))
                return;
        with = (uint8_t)sim_between(net->sim, 1, 255);
        at = (size_t)sim_between(net->sim, 150, (int64_t)ch->n - 60);
        if (is_in_name(ch, at))
                return;
        ch->bytes[at] ^= with;
        sim_trace(net->sim, NULL, "a byte is flipped");
}

static void
arrive(void *arg, bool is_lost)
{
        struct conn *c = arg; /* the receiver */
        struct chunk *ch = c->coming;
        struct wire *w = c->wire;

        if (!is_lost && !w->is_dead && net->is_cut(net->arg, other(c)->host, c->host)) {
                sim_post(net->sim, NULL, CUT_RETRY_US, arrive, c);
                return;
        }
        c->coming = ch->next;
        if (c->coming == NULL)
                c->coming_end = &c->coming;
        ch->next = NULL;
        if (is_lost || w->is_dead || !is_alive(c)) {
                free(ch);
        } else {
                flip(ch);
                *c->arrived_end = ch;
                c->arrived_end = &ch->next;
                post_pump(c);
        }
        let_go(w);
}

static void
send_chunk(struct conn *from, struct chunk *ch)
{
        struct conn *to = other(from);
        int64_t at_us = net->sim->now_us + net->delay_us(net->arg);

        if (at_us < to->last_us)
                at_us = to->last_us;
        to->last_us = at_us;
        to->queued += ch->n;
        ch->next = NULL;
        *to->coming_end = ch;
        to->coming_end = &ch->next;
        to->wire->n_users++;
        sim_post(net->sim, NULL, at_us - net->sim->now_us, arrive, to);
}

static void
tell_writable(void *arg, bool is_lost)
{
        struct conn *c = arg;

        if (!is_lost && c->is_open && !c->is_closing && !c->is_finishing && c->handler->writable != NULL)
                c->handler->writable(c->arg, c);
        let_go(c->wire);
}

/* The receiver has read @n bytes of what @from sent. */
static void
take(struct conn *from, size_t n)
{
        struct conn *to = other(from);

        to->queued -= n;
        if (!from->is_full || to->queued > net->limits.low || !is_alive(from))
                return;
        from->is_full = false;
        from->wire->n_users++;
        sim_post(net->sim, from->host, 10, tell_writable, from);
}

/* The other end has ended. */
static void
on_end(struct conn *c, bool is_reset)
{
        if (c->is_closing)
                return;
        if (is_reset) {
                end_conn(c, -ECONNRESET, 0);
                return;
        }
        if (!c->is_finishing)
                send_mark(c, false);
        end_conn(c, 0, 0);
}

static void
read_some(struct conn *c)
{
        struct chunk *ch = c->arrived;
        size_t n = (size_t)sim_between(net->sim, 1, (int64_t)(ch->n - ch->at));
        size_t at = ch->at;

        if (sim_chance(net->sim, 800))
                n = ch->n - ch->at;
        ch->at += n;
        take(other(c), n);
        if (!c->is_finishing && !c->is_closing && c->handler->read != NULL)
                c->handler->read(c->arg, c, ch->bytes + at, n);
}

static void
pump(void *arg, bool is_lost)
{
        struct conn *c = arg;

        c->has_pump = false;
        while (!is_lost && is_alive(c) && c->handler != NULL && c->arrived != NULL && !c->is_closed &&
               (!c->is_deaf || c->is_finishing || c->is_closing)) {
                struct chunk *ch = c->arrived;

                if (!ch->is_end && ch->at < ch->n) {
                        read_some(c);
                        continue;
                }
                c->arrived = ch->next;
                if (c->arrived == NULL)
                        c->arrived_end = &c->arrived;
                if (ch->is_end)
                        on_end(c, ch->is_reset);
                free(ch);
        }
        let_go(c->wire);
}

static void
post_pump(struct conn *c)
{
        if (c->has_pump)
                return;
        c->has_pump = true;
        c->wire->n_users++;
        sim_post(net->sim, c->host, 10, pump, c);
}

int
conn_writev(struct conn *c, const struct iovec *iov, int n_iov)
{
        struct chunk *ch;
        size_t n = 0;

        if (!c->is_open || c->is_closing || c->is_finishing)
                return -ENOTCONN;
        for (int i = 0; i < n_iov; i++)
                n += iov[i].iov_len;
        if (other(c)->queued > net->limits.max)
                return -ENOBUFS;
        ch = calloc(1, sizeof *ch + n);
        if (ch == NULL)
                return -ENOMEM;
        for (int i = 0; i < n_iov; i++) {
                memcpy(ch->bytes + ch->n, iov[i].iov_base, iov[i].iov_len);
                ch->n += iov[i].iov_len;
        }
        send_chunk(c, ch);
        if (other(c)->queued <= net->limits.high)
                return 0;
        c->is_full = true;
        return 1;
}

int
conn_write(struct conn *c, const void *buf, size_t n)
{
        struct iovec iov = { (void *)(uintptr_t)buf, n };

        return conn_writev(c, &iov, 1);
}

void
conn_read_stop(struct conn *c)
{
        c->is_deaf = true;
}

void
conn_read_start(struct conn *c)
{
        c->is_deaf = false;
        post_pump(c);
}

void
conn_set_handler(struct conn *c, const struct conn_handler *h, void *arg)
{
        c->handler = h;
        c->arg = arg;
        post_pump(c);
}

void
conn_peer(const struct conn *c, char ret[ADDR_TEXT_SIZE])
{
        snprintf(ret, ADDR_TEXT_SIZE, "%s", other((struct conn *)(uintptr_t)c)->host->name);
}

/* --- connecting --- */

static void
opened(void *arg, bool is_lost)
{
        struct conn *c = arg;

        if (!is_lost && !c->is_closing) {
                c->is_open = true;
                if (c->handler->opened != NULL)
                        c->handler->opened(c->arg, c);
        }
        let_go(c->wire);
}

static struct listener *
find_listener(const struct sim_host *h)
{
        for (struct listener *ls = listeners; ls != NULL; ls = ls->next)
                if (ls->loop != NULL && ls->loop->host == h && ls->incarnation == h->incarnation &&
                    !ls->loop->is_stopped)
                        return ls;
        return NULL;
}

static void
accept_conn(void *arg, bool is_lost)
{
        struct conn *c = arg;
        struct listener *ls = is_lost ? NULL : find_listener(c->host);

        if (ls != NULL) {
                c->loop = ls->loop;
                ls->config.accepted(ls->config.arg, c);
                if (c->handler == NULL)
                        conn_close(c);
        } else if (!is_lost) {
                send_mark(c, true);
                c->is_closing = c->is_closed = true;
        }
        let_go(c->wire);
}

/* At the host that listens: its kernel answers, whatever its process does. */
static void
on_syn(void *arg, bool is_lost)
{
        struct conn *c = arg, *peer = other(c);
        bool is_cut = net->is_cut(net->arg, c->host, peer->host) ||
                      net->is_cut(net->arg, peer->host, c->host);

        if (!is_lost && !is_cut && is_alive(c) && !c->is_closing) {
                if (find_listener(peer->host) == NULL) {
                        end_conn(c, -ECONNREFUSED, REFUSED_US);
                } else {
                        peer->incarnation = peer->host->incarnation;
                        peer->is_open = true;
                        c->wire->n_users += 2;
                        sim_post(net->sim, c->host, net->delay_us(net->arg), opened, c);
                        sim_post(net->sim, peer->host, 0, accept_conn, peer);
                }
        }
        let_go(c->wire);
}

static void
time_out(void *arg, bool is_lost)
{
        struct conn *c = arg;

        if (!is_lost && !c->is_open && !c->is_closing)
                end_conn(c, -ETIMEDOUT, 0);
        let_go(c->wire);
}

static void
init_end(struct conn *c, struct wire *w, struct sim_host *h)
{
        c->wire = w;
        c->host = h;
        c->incarnation = h->incarnation;
        c->coming_end = &c->coming;
        c->arrived_end = &c->arrived;
}

int
conn_connect(struct loop *l, struct tls_context *tls, const char *address, int64_t timeout_ms,
             const struct conn_limits *limits, const struct conn_handler *h, void *arg,
             struct conn **ret, struct err *e)
{
        struct sim_host *to = net->find(net->arg, address);
        struct wire *w = calloc(1, sizeof *w);
        struct conn *c;

        (void)tls;
        (void)limits;
        (void)e;
        if (w == NULL)
                abort();
        c = &w->ends[0];
        init_end(c, w, l->host);
        init_end(&w->ends[1], w, to);
        c->loop = l;
        c->handler = h;
        c->arg = arg;
        w->next = wires;
        wires = w;
        w->n_users = 1;
        if (!to->is_dark) {
                w->n_users++;
                sim_post(net->sim, NULL, net->delay_us(net->arg), on_syn, c);
        }
        sim_post(net->sim, l->host, timeout_ms * SIM_MS, time_out, c);
        *ret = c;
        return 0;
}

int
listener_open(struct loop *l, const struct listener_config *config, struct listener **ret, struct err *e)
{
        struct listener *ls = calloc(1, sizeof *ls);

        if (ls == NULL)
                return err_set(e, -ENOMEM, "listen");
        *ls = (struct listener){ listeners, l, *config, l->host->incarnation };
        listeners = ls;
        *ret = ls;
        return 0;
}

int
listener_fd(const struct listener *ls)
{
        (void)ls;
        return -1;
}

int
listener_port(const struct listener *ls)
{
        (void)ls;
        return 20202;
}

/* Its memory is kept, as a connection's; the loop's is not. */
void
listener_close(struct listener *ls)
{
        if (ls != NULL)
                ls->loop = NULL;
}

/* There are never too many. */
void
conn_set_rank(struct conn *c, enum crowd_rank rank)
{
        (void)c;
        (void)rank;
}
