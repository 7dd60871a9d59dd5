/* lib/http/halt_holder_internal.h - the inside of the halt locks that this node holds, for its two files only.
 *
 *   halt_holder.c   the locks of all databases: states, users, threads; calls remote_halt.c
 *   remote_halt.c   one lock: what is asked of the primary, which waits; calls nothing of halt_holder.c */
#ifndef LITEFS_HTTP_HALT_HOLDER_INTERNAL_H
#define LITEFS_HTTP_HALT_HOLDER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "db/remote_commit.h"
#include "http/halt_client.h"
#include "http/halt_holder.h"
#include "repl/ticker.h"

#define RENEW_MS 2000 /* between renewals, and for each */
#define GIVE_MS 1000  /* for an answer; the lock runs out by itself */

enum state { IDLE, TAKING, HELD, LOST, GIVING };

struct waiter {
        struct waiter *next;
        struct db_done done;
};

struct remote_halt {
        struct remote_halt *next;
        struct halt_holder *all;
        struct db *db;
        struct db_remote_commit remote_commit;
        enum state state;
        unsigned n_users; /* those who wait are among them */
        struct waiter *waiters;
        char url[LEASE_URL_SIZE]; /* of the primary that gave it; changes in TAKING alone */
        int64_t id;
        int64_t renew_ms;
        bool is_renewing;
        atomic_llong until_ms;      /* it is ours until then; 0: it is not */
        struct halt_client *sender; /* of the thread that captures */
        struct work work, renewal;
};

struct halt_holder {
        struct halt_holder_config config;
        pthread_mutex_t
                lock; /* guards the list and what is in it; databases' locks may be taken by others first */
        struct remote_halt *list;
        bool is_stopped;
        struct workers *threads;
        struct ticker ticker;
};

static inline int64_t
halt_holder_now_ms(const struct halt_holder *rh)
{
        return clock_boot_ms(rh->config.clock);
}

/* --- remote_halt.c --- */
/* What @h is of, while nothing else changes it. */
struct halt_target remote_halt_own_target(const struct remote_halt *h);
/* With @url, LEASE_URL_SIZE bytes, as the memory for what may change meanwhile. */
struct halt_target remote_halt_target(struct remote_halt *h, char *url);
/* With the lock: it is not held any more. */
void remote_halt_lose(struct remote_halt *h, const char *why);
/* Asks the primary that is known for the lock, and waits for its position. Without the lock, on a thread that may wait. */
int remote_halt_take(struct remote_halt *h, struct err *e);
/* As in struct db_remote_commit. */
int remote_halt_may_commit(void *arg);
int remote_halt_send(void *arg, struct db *db, const struct received *rx, struct err *e);

#endif
