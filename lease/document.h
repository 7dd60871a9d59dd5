/* lease/document.h - the lease as one JSON object that is replaced as a whole, by rules that the lease in a file and the lease in
 * a bucket share; its members are in docs/protocol.md, section 6.
 *
 * Each change leaves a mark beside what it has changed (the members -revision), by which lease.h's conditions are told:
 * the caller chooses it, later than all before, and no other change has the same. No I/O; what changes only changes @root. */
#ifndef LITEFS_LEASE_DOCUMENT_H
#define LITEFS_LEASE_DOCUMENT_H

#include <jansson.h>

#include "lease/kv_lease.h"

#define DOCUMENT_MAX_SIZE 16384 /* as text */

/* False: not what litefs wrote. */
bool document_parse(const char *text, size_t n, json_t **ret);
/* With its next revision: the number of bytes, a negative errno. */
ssize_t document_format(json_t *root, char ret[DOCUMENT_MAX_SIZE]);

/* "" and 0 when the member is not there. */
const char *document_text(const json_t *root, const char *name);
uint64_t document_number(const json_t *root, const char *name);
bool document_is_held_by(const json_t *root, const char *session);

/* The lease. When the holder's session is not @is_alive it counts as one that has released the term it began. */
int document_read(const json_t *root, bool is_alive, struct lease_state *ret, struct err *e);

/* Of kv_service, with its conditions: E_NOT_PRIMARY when they do not hold. */
int document_lock(json_t *root, bool is_alive, const struct kv_lock *what, uint64_t mark, struct err *e);
int document_write_value(json_t *root, const char *session, const char *value, uint64_t mark,
                         struct err *e);
int document_break(json_t *root, const struct lease_state *seen, uint64_t mark, struct err *e);
int document_raise_term(json_t *root, bool is_alive, const struct lease_state *seen, uint64_t term,
                        uint64_t mark, struct err *e);
/* Nobody holds it any more; @term is released, unless 0. */
void document_free_key(json_t *root, uint64_t term, uint64_t mark);

#endif
