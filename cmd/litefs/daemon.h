/* cmd/litefs/daemon.h - a running node: workers, store, mount, signals, in the order they need each other. */
#ifndef LITEFS_CMD_DAEMON_H
#define LITEFS_CMD_DAEMON_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct config;
struct takeover;

struct daemon_options {
        const char *data_dir;
        const char *mount_dir;
        bool is_allow_other;
        bool is_fuse_debug;
        bool skip_unmount;
        bool moves_aside; /* databases that lie in the bare mount point; else the node does not start over them */
        bool is_compressed;
        bool is_strict;
        int64_t retention_ms;
        int64_t retention_interval_ms;
        const struct config *config; /* for the lease and the network */
        struct takeover *takeover; /* the node is there, and this process takes it over; NULL: it begins */
        int *ret_parcel_fd; /* of what the next program of this process takes over; untouched when the node has ended */
        /* The process of exec that the node's next program is to know; 0: none; -1: it has ended by itself, and so
         * does the node. Any thread. */
        pid_t (*application)(void *arg);
        /* Called once the mount serves; a negative result ends the node with that error. @arg is also that of
         * on_signal, called for SIGINT and SIGTERM when another node leads, if one can, and before this one stops: it waits
         * for the application. */
        void *arg;
        int (*on_guarded)(void *arg,
                          struct err *e); /* before any signal is heard; threads may be started */
        int (*on_mounted)(void *arg, struct err *e);
        void (*on_signal)(void *arg, int sig);
        /* The node does not end in its time and is about to be ended by force; waits for nothing. NULL is fine. */
        void (*on_forced_end)(void *arg);
};

struct daemon;

/* Block SIGINT, SIGTERM and SIGUSR1 in the main thread before this and before any other thread starts
 * (daemon_block_signals). Returns when the node has stopped: 0, or why it could not start or serve. */
int daemon_run(const struct daemon_options *options, struct err *e);
void daemon_block_signals(void);
/* Ends daemon_run from any thread, as SIGTERM does. */
void daemon_stop(void);

#endif
