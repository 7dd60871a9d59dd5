/* tests/lib/primary.h - a primary with a store and a stream, with a lease service that takes its time, a disk that stands still
 * when it is told to, and a replica whose part the test plays.
 *
 * For tests that link litefs_repl and litefs_store. Everything fails the test when it cannot be done. */
#ifndef LITEFS_TESTS_PRIMARY_H
#define LITEFS_TESTS_PRIMARY_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/os.h"
#include "base/workers.h"
#include "lease/lease.h"
#include "repl/node.h"
#include "store/store.h"

/* The service and its only client: calls come from the node's lease thread. */
struct fake_lease {
        struct lease base;
        int64_t deadline_ms;
        uint64_t term;
        bool is_held, is_offered;
        bool is_taken_at_once; /* what is offered, by the other node */
        int lost_fd;           /* a connection that breaks while the offer is made, or -1 */
};

/* The host's, but calls with the tag wait for as long as there is one. */
struct holding_os {
        struct os os; /* first */
        pthread_mutex_t lock;
        pthread_cond_t changed;
        const char *tag; /* NULL: nothing is held */
        bool is_held;
};

/* Calls with @tag are held from now on; NULL: none, and those that are go on. */
void holding_set(struct holding_os *h, const char *tag);
/* Until a call is held. */
void holding_wait(struct holding_os *h);

struct primary {
        char *dir;
        struct holding_os os;
        struct fake_lease lease;
        struct workers *appliers, *workers;
        struct store *store;
        struct node *node;
        int fd; /* the replica's end */
};

/* Leads when it returns. */
void primary_begin(struct primary *w);
/* A replica called "other" that has all that is there, on its disk. */
void primary_join(struct primary *w, bool is_candidate);
/* The types of all frames that the replica gets until the end of the stream, as bits. */
unsigned primary_frames_until_end(int fd);
/* After node_stop. */
void primary_end(struct primary *w);

#endif
