/* tests/sim/net.h - lib/net/loop.h, conn.h and listener.h between simulated hosts.
 *
 * A connection is an ordered stream of bytes in either direction, as TCP's: what is sent while the way is cut comes when it
 * is whole again; slices are cut anywhere; what the receiver does not read counts as queued. The kernel of a process that
 * stands still takes in what comes; that of one that has ended says so; a host without power says nothing. */
#ifndef LITEFS_TESTS_SIM_NET_H
#define LITEFS_TESTS_SIM_NET_H

#include "net/conn.h"
#include "net/listener.h"
#include "net/loop.h"
#include "tests/sim/sim.h"

struct loop {
        struct sim *sim;
        struct sim_host *host;
        bool is_stopped;
};

struct net {
        struct sim *sim;
        void *arg;
        bool (*is_cut)(void *arg, const struct sim_host *from, const struct sim_host *to);
        int64_t (*delay_us)(void *arg);
        /* The host that "name:port" leads to. */
        struct sim_host *(*find)(void *arg, const char *address);
        struct conn_limits limits; /* of every connection */
        int flip_permille;         /* of larger pieces that arrive otherwise than they were sent */
};

void net_use(struct net *net);
/* The loop stops: each connection hears -ECANCELED. */
void conns_cancel(struct loop *l);
/* Its process has ended, or @is_silent the host has lost its power. */
void conns_host_died(struct sim_host *h, bool is_silent);
/* Breaks one connection between hosts that are up, if there is one. */
void conns_break_one(void);

#endif
