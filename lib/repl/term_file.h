/* lib/repl/term_file.h - DATA/term: the last term that this node has been part of with all its data.
 *
 * Written when it becomes the primary, and when it has all that the primary of a term had as it joined. A node whose
 * term is not the cluster's last was down while others wrote (docs/protocol.md, stale nodes). */
#ifndef LITEFS_REPL_TERM_FILE_H
#define LITEFS_REPL_TERM_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/os.h"
#include "lease/lease.h"

/* 0 when there is none, or what is there is no number. */
int term_file_load(const struct os *os, const char *data_dir, uint64_t *ret, struct err *e);
/* Durably. */
int term_file_save(const struct os *os, const char *data_dir, uint64_t term, struct err *e);

/* DATA/term-claim, "TERM:SESSION" on each line, the last one first: the terms after DATA/term that this node has asked for, and by
 * which sessions. Saved before the service is asked, which keeps the session of who got the term: so a node that ended, or had
 * no answer, before it could save the term knows that it was its own and nobody committed in it. More than one, since a service
 * that is restored from a backup may come back to any of them. */
#define TERM_CLAIMS_MAX 16u /* then the oldest is forgotten */

struct term_claim {
        uint64_t term;
        char session[LEASE_SESSION_SIZE];
};

struct term_claims {
        struct term_claim v[TERM_CLAIMS_MAX];
        unsigned n;
};

void term_claims_add(struct term_claims *c, uint64_t term, const char *session);
bool term_claims_has(const struct term_claims *c, uint64_t term, const char *session);
/* The highest; 0: there is none. */
uint64_t term_claims_last(const struct term_claims *c);
/* Forgets those up to @term. */
void term_claims_prune(struct term_claims *c, uint64_t term);
/* None when there is no file. */
int term_claims_load(const struct os *os, const char *data_dir, struct term_claims *ret, struct err *e);
int term_claims_save(const struct os *os, const char *data_dir, const struct term_claims *c,
                     struct err *e);

#endif
