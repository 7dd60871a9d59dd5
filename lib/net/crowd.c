#include "net/crowd.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <arpa/inet.h>

#include "base/log.h"

#define N_CHAINS 1024u
#define NEW_MS 1000  /* that one has to say what it wants, before the reserve is used in its place */
#define HELD_MS 5000 /* without news, before a request under way is sent away */
#define LOG_MS 10000

struct address {
        uint8_t bytes[16];
};

struct house_rank {
        struct crowd_guest *first, *last;
        unsigned n;
        struct crowd_house *prev, *next; /* in by_count */
};

struct crowd_house {
        struct crowd_house *next; /* in its chain */
        struct address address;
        unsigned n;
        struct house_rank of[CROWD_RANKS];
};

/* --- addresses --- */

/* What counts as one: IPv4 as IPv6 shows it, the /64 of IPv6, and all that has none. */
static struct address
address_of(const struct sockaddr *sa)
{
        struct address a = { { 0 } };

        if (sa->sa_family == AF_INET) {
                a.bytes[10] = a.bytes[11] = 0xff;
                memcpy(a.bytes + 12, &((const struct sockaddr_in *)sa)->sin_addr, 4);
        } else if (sa->sa_family == AF_INET6) {
                const struct in6_addr *in6 = &((const struct sockaddr_in6 *)sa)->sin6_addr;

                memcpy(a.bytes, in6, IN6_IS_ADDR_V4MAPPED(in6) || IN6_IS_ADDR_LOOPBACK(in6) ? 16 : 8);
        }
        return a;
}

static unsigned
chain_of(const struct crowd *cr, const struct address *a)
{
        uint64_t h = cr->seed, half;

        for (int i = 0; i < 2; i++) {
                memcpy(&half, a->bytes + i * 8, 8);
                h = (h ^ half) * 0xff51afd7ed558ccdu;
                h ^= h >> 32;
                h *= 0xc4ceb9fe1a85ec53u;
                h ^= h >> 29;
        }
        return (unsigned)(h % N_CHAINS);
}

static struct crowd_house *
get_house(struct crowd *cr, const struct sockaddr *sa)
{
        struct address a = address_of(sa);
        struct crowd_house **chain = &cr->houses[chain_of(cr, &a)], *h;

        for (h = *chain; h != NULL; h = h->next)
                if (memcmp(&h->address, &a, sizeof a) == 0)
                        return h;
        h = calloc(1, sizeof *h);
        if (h == NULL)
                return NULL;
        h->address = a;
        h->next = *chain;
        *chain = h;
        return h;
}

static void
free_if_empty(struct crowd *cr, struct crowd_house *h)
{
        struct crowd_house **p = &cr->houses[chain_of(cr, &h->address)];

        if (h->n > 0)
                return;
        while (*p != h)
                p = &(*p)->next;
        *p = h->next;
        free(h);
}

static void
format_address(const struct address *a, char ret[INET6_ADDRSTRLEN])
{
        bool is_v4 = IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)a->bytes);

        if (inet_ntop(is_v4 ? AF_INET : AF_INET6, a->bytes + (is_v4 ? 12 : 0), ret, INET6_ADDRSTRLEN) ==
            NULL)
                ret[0] = '\0';
}

/* --- houses by how many guests they have --- */

static void
leave_count(struct crowd *cr, struct crowd_house *h, enum crowd_rank rank)
{
        struct house_rank *of = &h->of[rank];

        if (rank == CROWD_KEPT || of->n == 0)
                return;
        if (of->prev != NULL)
                of->prev->of[rank].next = of->next;
        else
                cr->by_count[rank][of->n] = of->next;
        if (of->next != NULL)
                of->next->of[rank].prev = of->prev;
}

static void
enter_count(struct crowd *cr, struct crowd_house *h, enum crowd_rank rank)
{
        struct house_rank *of = &h->of[rank];
        struct crowd_house **list;

        if (rank == CROWD_KEPT)
                return;
        if (of->n > 0) {
                list = &cr->by_count[rank][of->n];
                of->prev = NULL;
                of->next = *list;
                if (*list != NULL)
                        (*list)->of[rank].prev = h;
                *list = h;
        }
        if (of->n > cr->top[rank])
                cr->top[rank] = of->n;
        while (cr->top[rank] > 0 && cr->by_count[rank][cr->top[rank]] == NULL)
                cr->top[rank]--;
}

static void
link_guest(struct crowd_guest *g, enum crowd_rank rank, int64_t now_ms)
{
        struct crowd *cr = g->crowd;
        struct house_rank *of = &g->house->of[rank];

        leave_count(cr, g->house, rank);
        g->rank = rank;
        g->since_ms = now_ms;
        g->prev = of->last;
        g->next = NULL;
        *(of->last != NULL ? &of->last->next : &of->first) = g;
        of->last = g;
        of->n++;
        g->house->n++;
        cr->n_of[rank]++;
        cr->n++;
        enter_count(cr, g->house, rank);
}

static void
unlink_guest(struct crowd_guest *g)
{
        struct crowd *cr = g->crowd;
        struct house_rank *of = &g->house->of[g->rank];

        leave_count(cr, g->house, g->rank);
        *(g->prev != NULL ? &g->prev->next : &of->first) = g->next;
        *(g->next != NULL ? &g->next->prev : &of->last) = g->prev;
        of->n--;
        g->house->n--;
        cr->n_of[g->rank]--;
        cr->n--;
        enter_count(cr, g->house, g->rank);
}

/* --- who goes --- */

static void
log_now_and_then(struct crowd *cr, const struct address *from, int64_t now_ms)
{
        uint64_t n = cr->n_evicted + cr->n_refused;
        char text[INET6_ADDRSTRLEN];

        if (cr->logged_ms != 0 && now_ms - cr->logged_ms < LOG_MS)
                return;
        format_address(from, text);
        log_warn(
                "%s: more connections than are served (%u): %llu closed to make room or refused since the last such "
                "message, the last one from %s",
                cr->limits.name, cr->limits.max, (unsigned long long)(n - cr->n_logged), text);
        cr->n_logged = n;
        cr->logged_ms = now_ms != 0 ? now_ms : 1;
}

/* One of @rank that has been so for @min_ms. False: there is none. */
static bool
evict(struct crowd *cr, enum crowd_rank rank, int64_t now_ms, int64_t min_ms)
{
        struct crowd_guest *g;
        struct address from;

        if (cr->top[rank] == 0)
                return false;
        g = cr->by_count[rank][cr->top[rank]]->of[rank].first;
        if (now_ms - g->since_ms < min_ms)
                return false;
        from = g->house->address;
        crowd_leave(g);
        cr->n_evicted++;
        log_now_and_then(cr, &from, now_ms);
        g->evict(g);
        return true;
}

static bool
crowd_make_room(struct crowd *cr, int64_t now_ms)
{
        if (cr->n_of[CROWD_NEW] >= cr->limits.max_of_a_kind)
                (void)evict(cr, CROWD_NEW, now_ms, 0);
        if (cr->n < cr->limits.max)
                return true;
        (void)(evict(cr, CROWD_IDLE, now_ms, 0) || evict(cr, CROWD_NEW, now_ms, NEW_MS) ||
               evict(cr, CROWD_HELD, now_ms, HELD_MS));
        return cr->n < cr->limits.max + cr->limits.reserve || evict(cr, CROWD_NEW, now_ms, 0);
}

/* --- life --- */

int
crowd_init(struct crowd *cr, const struct crowd_limits *limits)
{
        *cr = (struct crowd){ .limits = *limits };
        if (cr->limits.max_of_a_kind == 0)
                cr->limits.max_of_a_kind = 1 + limits->max * 3 / 8;
        if (getrandom(&cr->seed, sizeof cr->seed, GRND_NONBLOCK) != sizeof cr->seed)
                cr->seed = (uintptr_t)cr;
        cr->houses = calloc(N_CHAINS, sizeof *cr->houses);
        for (int i = 0; i < CROWD_KEPT; i++) {
                cr->by_count[i] = calloc((size_t)limits->max + limits->reserve + 2,
                                         sizeof **cr->by_count);
                if (cr->by_count[i] == NULL || cr->houses == NULL) {
                        crowd_release(cr);
                        return -ENOMEM;
                }
        }
        return 0;
}

void
crowd_release(struct crowd *cr)
{
        for (int i = 0; i < CROWD_KEPT; i++) {
                free(cr->by_count[i]);
                cr->by_count[i] = NULL;
        }
        free(cr->houses);
        cr->houses = NULL;
}

int
crowd_enter(struct crowd *cr, struct crowd_guest *g, const struct sockaddr *sa, int64_t now_ms)
{
        bool has_room = crowd_make_room(cr, now_ms);
        struct crowd_house *h;

        if (!has_room) {
                struct address from = address_of(sa);

                cr->n_refused++;
                log_now_and_then(cr, &from, now_ms);
                return -EAGAIN;
        }
        h = get_house(cr, sa); /* not earlier: who makes room may be the last of its address */
        if (h == NULL)
                return -ENOMEM;
        g->crowd = cr;
        g->house = h;
        g->is_extra = cr->n >= cr->limits.max;
        link_guest(g, CROWD_NEW, now_ms);
        return 0;
}

void
crowd_leave(struct crowd_guest *g)
{
        if (g->crowd == NULL)
                return;
        unlink_guest(g);
        free_if_empty(g->crowd, g->house);
        g->crowd = NULL;
        g->house = NULL;
}

void
crowd_set_rank(struct crowd_guest *g, enum crowd_rank rank, int64_t now_ms)
{
        struct crowd *cr = g->crowd;

        if (cr == NULL)
                return;
        if (rank == CROWD_HELD && g->rank != rank && cr->n_of[rank] >= cr->limits.max_of_a_kind &&
            !evict(cr, rank, now_ms, cr->top[rank] > g->house->of[rank].n + 1 ? 0 : HELD_MS))
                g->is_extra = true;
        unlink_guest(g);
        link_guest(g, rank, now_ms);
}

unsigned
crowd_n_of_address(const struct crowd_guest *g, enum crowd_rank rank)
{
        return g->house != NULL ? g->house->of[rank].n : 0;
}
