#include "net/http_conns.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#define GRACE_MS 1000 /* before a peer that has gone is looked for */

static void
unlink_conn(struct http_conns *l, struct http_conn *hc)
{
        *(hc->prev != NULL ? &hc->prev->next : &l->first) = hc->next;
        *(hc->next != NULL ? &hc->next->prev : &l->last) = hc->prev;
}

static void
link_conn(struct http_conns *l, struct http_conn *hc, int64_t now_ms)
{
        hc->since_ms = now_ms;
        hc->prev = l->last;
        hc->next = NULL;
        *(l->last != NULL ? &l->last->next : &l->first) = hc;
        l->last = hc;
}

struct http_conn *
http_conns_add(struct http_conns *l, int fd, int64_t now_ms)
{
        struct http_conn *hc = calloc(1, sizeof *hc);

        if (hc == NULL)
                return NULL;
        hc->fd = fd;
        link_conn(l, hc, now_ms);
        l->n++;
        return hc;
}

void
http_conns_remove(struct http_conns *l, struct http_conn *hc)
{
        unlink_conn(l, hc);
        free(hc);
        l->n--;
}

void
http_conns_idle(struct http_conns *l, struct http_conn *hc, int64_t now_ms)
{
        hc->has_request = false;
        unlink_conn(l, hc);
        link_conn(l, hc, now_ms);
}

/* libmicrohttpd has no call for it, but notices the end of the stream. */
void
http_conn_evict(struct http_conn *hc)
{
        hc->is_evicted = true;
        (void)shutdown(hc->fd, SHUT_RDWR);
}

void
http_conns_evict_idlest(struct http_conns *l)
{
        struct http_conn *hc = l->first;

        while (hc != NULL && (hc->has_request || hc->is_evicted))
                hc = hc->next;
        if (hc != NULL)
                http_conn_evict(hc);
}

bool
http_conn_is_peer_gone(const struct http_conn *hc)
{
        struct pollfd p = { .fd = hc->fd, .events = POLLRDHUP };

        return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

bool
http_conns_tick(struct http_conns *l, int64_t now_ms, int64_t head_ms)
{
        bool is_any = false;

        for (struct http_conn *hc = l->first; hc != NULL; hc = hc->next)
                if (!hc->has_request && !hc->is_evicted &&
                    (now_ms - hc->since_ms > head_ms ||
                     (now_ms - hc->since_ms > GRACE_MS && http_conn_is_peer_gone(hc)))) {
                        http_conn_evict(hc);
                        is_any = true;
                }
        return is_any;
}
