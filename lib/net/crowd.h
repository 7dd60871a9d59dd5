/* lib/net/crowd.h - the connections of one place, and which of them goes when there are too many.
 *
 * One more is nearly always let in: it may be a health check. What makes room for it is the connection that nobody
 * would miss, by rank; of those, one of the address that has the most, so that a flood sends itself away; of those, the
 * one that has been idle for longest. Where everything is in use there is a reserve, whose guests learn that they are
 * extra and are served what cannot wait. An IPv6 address counts with its /64, which one host may have all of.
 *
 * What is done is logged, one line in 10 s. All of it costs the same however many there are. One thread at a time. */
#ifndef LITEFS_NET_CROWD_H
#define LITEFS_NET_CROWD_H

#include <stdbool.h>
#include <stdint.h>

/* In the order in which room is made. */
enum crowd_rank {
        CROWD_IDLE, /* was served, and asks for nothing now; or has had its answer */
        CROWD_NEW,  /* has not said what it wants */
        CROWD_HELD, /* a request of somebody who has shown no token, which the client may hold up */
        CROWD_KEPT, /* never sent away */
};
#define CROWD_RANKS 4

struct sockaddr;
struct crowd;
struct crowd_house; /* an address */

/* Embedded in what has come; zeroes: it is in no crowd. */
struct crowd_guest {
        struct crowd *crowd;
        struct crowd_house *house;
        struct crowd_guest *prev, *next; /* of this address and rank, the idlest first */
        enum crowd_rank rank;
        int64_t since_ms; /* the rank, or what was last heard of it */
        bool is_extra;
        /* It is in the crowd no more; ends the connection, now or soon. */
        void (*evict)(struct crowd_guest *g);
};

struct crowd_limits {
        const char *name;       /* for the log: "http.addr" */
        unsigned max;           /* 1 or more */
        unsigned reserve;       /* more, which are extra */
        unsigned max_of_a_kind; /* of NEW ones, and of HELD ones that are not extra; 0: three eighths of max */
};

struct crowd {
        struct crowd_limits limits;
        uint64_t seed; /* of the hash: who comes must not choose where an address is looked for */
        struct crowd_house **houses;               /* chains by hash */
        struct crowd_house **by_count[CROWD_KEPT]; /* lists of those with so many of the rank */
        unsigned top[CROWD_KEPT];                  /* no house has more of the rank */
        unsigned n, n_of[CROWD_RANKS];
        uint64_t n_evicted, n_refused;
        uint64_t n_logged; /* of both */
        int64_t logged_ms; /* 0: never */
};

int crowd_init(struct crowd *cr, const struct crowd_limits *limits);
/* All have left. Zeroes are fine. */
void crowd_release(struct crowd *cr);

/* @g->evict is set. Makes room. 0: it is in, NEW; -EAGAIN: there is no room for it; -ENOMEM. */
int crowd_enter(struct crowd *cr, struct crowd_guest *g, const struct sockaddr *sa, int64_t now_ms);
void crowd_leave(struct crowd_guest *g); /* again is fine */
/* The same rank again: something was heard of it. Nothing for one that has left. */
void crowd_set_rank(struct crowd_guest *g, enum crowd_rank rank, int64_t now_ms);
/* Of @g's address, with @rank. */
unsigned crowd_n_of_address(const struct crowd_guest *g, enum crowd_rank rank);

#endif
