#include "net/http_conns.h"

#include <poll.h>
#include <stddef.h>
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

static void
evict_guest(struct crowd_guest *g)
{
        http_conn_evict((struct http_conn *)((char *)g - offsetof(struct http_conn, guest)));
}

int
http_conns_init(struct http_conns *l, const struct crowd_limits *limits)
{
        return crowd_init(&l->crowd, limits);
}

void
http_conns_release(struct http_conns *l)
{
        crowd_release(&l->crowd);
}

struct http_conn *
http_conns_add(struct http_conns *l, int fd, const struct sockaddr *sa, int64_t now_ms)
{
        struct http_conn *hc = calloc(1, sizeof *hc);

        if (hc == NULL)
                return NULL;
        hc->guest.evict = evict_guest;
        if (crowd_enter(&l->crowd, &hc->guest, sa, now_ms) < 0) {
                free(hc);
                return NULL;
        }
        hc->fd = fd;
        link_conn(l, hc, now_ms);
        return hc;
}

void
http_conns_remove(struct http_conns *l, struct http_conn *hc)
{
        crowd_leave(&hc->guest);
        unlink_conn(l, hc);
        free(hc);
}

void
http_conns_idle(struct http_conns *l, struct http_conn *hc, int64_t now_ms)
{
        hc->has_request = false;
        hc->end_request = NULL;
        crowd_set_rank(&hc->guest, CROWD_IDLE, now_ms);
        unlink_conn(l, hc);
        link_conn(l, hc, now_ms);
}

/* libmicrohttpd has no call for it, but notices the end of the stream. */
void
http_conn_evict(struct http_conn *hc)
{
        hc->is_evicted = true;
        crowd_leave(&hc->guest);
        (void)shutdown(hc->fd, SHUT_RDWR);
        if (hc->end_request != NULL)
                hc->end_request(hc->request);
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
