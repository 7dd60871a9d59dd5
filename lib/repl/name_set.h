/* lib/repl/name_set.h - the names of a list of databases that comes in several POSITIONS frames.
 *
 * A peer says how long it is, so it is bounded: NAME_SET_MAX names. */
#ifndef LITEFS_REPL_NAME_SET_H
#define LITEFS_REPL_NAME_SET_H

#include <stdbool.h>

#include "repl/frame.h"

#define NAME_SET_MAX 65536u

struct name_set;

/* Adds the names of one frame to *@set, which is made when it is NULL: 0, -ENOMEM; E_FORMAT when a name comes twice, the
 * list is too long, or its frames do not agree on whether it is complete. @p is still to be read. */
int name_set_add_list(struct name_set **set, const struct frame_positions *p, struct err *e);
/* NULL is an empty set. */
bool name_set_has(const struct name_set *set, const char *name);
void name_set_free(struct name_set *set); /* NULL is fine */

#endif
