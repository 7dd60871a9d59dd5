/* lib/repl/peers.h - the other nodes that may lead, as the last primary has named them: DATA/peers.
 *
 * A primary names those that follow it, and keeps them itself. One that stood still, or was cut off, when it did so may follow it by now and have its
 * transactions, so those of earlier lists stay behind the last one.
 *
 * Whoever is about to take a lease that nobody has passed on to it asks them first what they have (survey.h). Kept in the
 * file, since a node may be started anew when the lease is free. Any thread. */
#ifndef LITEFS_REPL_PEERS_H
#define LITEFS_REPL_PEERS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/os.h"
#include "lease/lease.h"

#define PEERS_MAX 128        /* further ones are not asked */
#define PEERS_FORMER_MAX 16u /* of earlier lists */

typedef char peer_url[LEASE_URL_SIZE];

struct peers {
        pthread_mutex_t lock;              /* a leaf */
        peer_url *urls;                    /* PEERS_MAX of them, allocated with the first, */
        unsigned n;                        /* of the last list */
        peer_url former[PEERS_FORMER_MAX]; /* of earlier ones, newest first */
        unsigned n_former;
        uint64_t kept; /* checksum of the last complete list; 0: there was none */
};

void peers_init(struct peers *p);
void peers_release(struct peers *p);
/* One after the other, as they come. @url may be "": nobody. True: the list is complete, and not the one that was kept
 * last. */
bool peers_add(struct peers *p, const char *url, bool is_first, bool is_last);
/* A copy that is the caller's to free, and how many; NULL: none. Those of the last list come first; an incomplete one is as good
 * as any. */
peer_url *peers_copy(struct peers *p, unsigned *ret_n);

/* What peers_add would have done; nothing when there is no file. */
int peers_load(struct peers *p, const struct os *os, const char *data_dir, struct err *e);
/* Durably. */
int peers_save(struct peers *p, const struct os *os, const char *data_dir, struct err *e);

#endif
