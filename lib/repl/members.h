/* lib/repl/members.h - nodes that followed this primary and do so no more, for those who look whether all are there.
 *
 * Told apart by their advertise-url, since a node's id is drawn at its start. Kept in DATA/members, for a node is started anew
 * when it is looked for what is missing. Plain values; one thread at a time. */
#ifndef LITEFS_REPL_MEMBERS_H
#define LITEFS_REPL_MEMBERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/os.h"
#include "lease/lease.h"

#define MEMBERS_MAX 32u                                   /* of which those that left last stay */
#define MEMBERS_FORGET_MS (7 * 24 * 3600 * INT64_C(1000)) /* then it is not missed any more */

struct member {
        uint64_t boot_id;
        char hostname[LEASE_HOSTNAME_SIZE];
        char advertise_url[LEASE_URL_SIZE];
        int64_t seen_ms; /* the last time; Unix */
};

struct members {
        struct member *v; /* newest first */
        unsigned n;
};

void members_release(struct members *m);
/* One without an advertise-url cannot be known again, and is not kept. Whether anything has changed. */
bool members_left(struct members *m, const struct member *who);
bool members_joined(struct members *m, const char *advertise_url);
/* Those that have been away for too long. */
bool members_forget(struct members *m, int64_t now_ms);

/* The file's text, the caller's to free; NULL: no memory. */
char *members_format(const struct members *m, size_t *ret_n);
/* None when there is no file; a line that is none is left out. */
int members_load(struct members *m, const struct os *os, const char *data_dir, struct err *e);
int members_save(const struct os *os, const char *data_dir, const char *text, size_t n, struct err *e);

#endif
