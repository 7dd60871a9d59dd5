/* lib/proxy/asks.h - what the primary has, asked after a given moment: what it lacks then nobody has, and a reader need not
 * wait for it.
 *
 * One question at a time for each database, and its answer serves all who began to wait before it was asked. The loop's
 * thread. */
#ifndef LITEFS_PROXY_ASKS_H
#define LITEFS_PROXY_ASKS_H

#include <stdint.h>

struct asks;
struct db;

struct answer {
        uint64_t term; /* of the primary that has said so */
        uint64_t txid;
};

/* @send takes the questions: about @db, or NULL, whether there is a primary. An answer need not come. */
int asks_new(void (*send)(void *arg, uint64_t nonce, struct db *db), void *arg, struct asks **ret);
void asks_free(struct asks *a); /* NULL is fine */
/* Now: never 0. */
uint64_t asks_now(struct asks *a);
/* What was answered to a question from after @since; else asks, and NULL. */
const struct answer *asks_get(struct asks *a, struct db *db, uint64_t since);
void asks_answered(struct asks *a, uint64_t nonce, const struct answer *answer);
/* Whoever was asked last will not answer. */
void asks_lost(struct asks *a);
/* Nobody wants to know any more. */
void asks_clear(struct asks *a);

#endif
