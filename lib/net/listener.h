/* lib/net/listener.h - takes TCP connections in.
 *
 * All of it on the loop's thread; loop_call helps at set-up. Closing a listener leaves its connections. */
#ifndef LITEFS_NET_LISTENER_H
#define LITEFS_NET_LISTENER_H

#include "net/conn.h"

struct listener;

struct listener_config {
        /* "host:port", "[v6]:port"; ":port" is any address of either family, port 0 any that is free. A name
         * is looked up while the loop waits, so at set-up only. */
        const char *address;
        int fd; /* that listens there already, of the process before this one: borrowed; 0: none */
        /* Of connections that are open at a time; max 0: 1024. One more makes room for itself, as crowd.h says, or is closed
         * without a word. */
        struct crowd_limits crowd;
        struct conn_limits limits;
        struct tls_context *tls; /* of the server, borrowed for as long as it listens; NULL: none */
        /* Call conn_set_handler in it, or the connection is closed. */
        void (*accepted)(void *arg, struct conn *c);
        void *arg;
};

/* 0: listens. -EADDRINUSE and the like. */
int listener_open(struct loop *l, const struct listener_config *config, struct listener **ret,
                  struct err *e);
/* What listens, borrowed; negative: nothing does any more. */
int listener_fd(const struct listener *ls);
/* The port, also when 0 was asked for. */
int listener_port(const struct listener *ls);
/* Connections that are open, and how many were turned away. */
unsigned listener_n_conns(const struct listener *ls);
uint64_t listener_n_refused(const struct listener *ls);
/* Stops listening and frees it. The loop's stop stops listening too; then this is still to be called, on any
 * thread once loop_stop has returned. NULL is fine. */
void listener_close(struct listener *ls);

#endif
