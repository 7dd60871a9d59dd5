/* cmd/litefs/daemon_internal.h - what the files of a node have in common:
 *
 *   daemon.c          its start, and what is torn down after its end
 *   daemon_node.c     what it is wired to
 *   daemon_stop.c     signals, and an orderly end
 *   daemon_upgrade.c  the way to another program
 *
 * They call each other downwards. */
#ifndef LITEFS_CMD_DAEMON_INTERNAL_H
#define LITEFS_CMD_DAEMON_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "cmd/litefs/daemon.h"
#include "cmd/litefs/halting.h"
#include "cmd/litefs/notifier.h"
#include "net/http_client.h"

struct daemon {
        const struct daemon_options *options;
        struct workers *workers;
        struct workers *visitors, *tellers, *asker; /* enter our own mount (fuse/own_mount.h) */
        struct lease *lease;
        struct lease_state held; /* what the program before this one has handed on; has_holder: it did */
        struct renewing *renewing; /* it, until the node does; NULL: nobody need */
        struct store *store;
        struct session *session;
        struct workers *appliers;
        struct workers *remote_committers;    /* commits under halt locks, which wait for the primary */
        struct http_client_options peer_http; /* of requests to other nodes */
        struct node *node;
        struct notifier notifier;
        struct service *service;
        struct pulse *pulse; /* of the mount */
        struct token *token;
        struct tls_context *tls, *tls_peer, *tls_proxy;
        struct api *api;
        struct scrub *scrub;
        struct keeper *keeper; /* NULL: no past states are kept beside the log */
        struct guard *guard;
        struct proxy *proxy;     /* NULL: none is asked for */
        struct backups *backups; /* NULL: none are asked for */
        struct halting halting;
        bool has_advised; /* to pass WALs through; housekeeping's */
        struct ending *ending;
        pthread_t signal_thread;
        pthread_mutex_t lock; /* guards what follows; leaf */
        pthread_cond_t started;
        enum { STARTING, SERVING, NOT_STARTED } phase;
        char refusal[ERR_TEXT_SIZE]; /* why no other program has taken over; "": none was to */
        atomic_bool is_stopping;
        atomic_llong
                drained_ms; /* then the proxy's requests are not waited for any longer; CLOCK_BOOTTIME, once it stops */
        atomic_bool is_ending;     /* what is still being received is given up */
        atomic_bool has_joined;    /* its start is over */
        atomic_bool wants_upgrade; /* SIGUSR2 means that another program takes over */
        atomic_bool is_leaving;    /* the signal thread ends the session, and itself */
        /* Of the signal thread, until it has ended: */
        bool is_handed_over; /* another program takes over, and of what was the node's nothing ends; */
        struct err upgrade_error; /* or why none can, and all ends */
};

/* --- daemon_node.c --- */
/* All that other nodes, clients and backups are served by, once the mount is there; it listens then. */
int daemon_open_node(struct daemon *d, struct err *e);
/* It does so only now, after node_start, where it was handed a lease: so the first answer is that of a primary. */
void daemon_listen_late(struct daemon *d);

/* --- daemon_upgrade.c --- */
/* Hands the node over to the next program of this process, on the signal thread: it goes on as it is, session_run ends, or the
 * mount did not come to rest and is to be ended, what is around it having ended. */
enum upgrade_end { UPGRADE_REFUSED, UPGRADE_DONE, UPGRADE_FAILED };
enum upgrade_end daemon_hand_over(struct daemon *d);
/* For the API. */
int daemon_may_upgrade(void *arg, struct err *e);
void daemon_upgrade(void *arg);
bool daemon_upgrade_error(void *arg, char *buf, size_t size);
/* NULL: there is none. */
void daemon_note_refusal(struct daemon *d, const char *why);

/* --- daemon_stop.c --- */
/* The thread that ends the node when a signal comes, or daemon_stop. Before anything that may take long. */
int daemon_await_signals(struct daemon *d, struct err *e);
/* All is there that an orderly end needs: a signal that has come before is acted upon now. */
void daemon_serves(struct daemon *d);
/* It serves no longer, or never will. Returns when the thread has ended, after an orderly end of what has served. */
void daemon_join_signals(struct daemon *d);
/* Of a node that is to hand over: @is_held, writes of the proxy's clients wait. */
void daemon_hold_writes(void *arg, bool is_held);

#endif
