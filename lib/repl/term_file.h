/* lib/repl/term_file.h - DATA/term: the last term that this node has been part of with all its data.
 *
 * Written when it becomes the primary, and when it has all that the primary of a term had as it joined. A node whose
 * term is not the cluster's last was down while others wrote (docs/protocol.md, stale nodes). */
#ifndef LITEFS_REPL_TERM_FILE_H
#define LITEFS_REPL_TERM_FILE_H

#include <stdint.h>

#include "base/err.h"
#include "base/os.h"

/* 0 when there is none, or what is there is no number. */
int term_file_load(const struct os *os, const char *data_dir, uint64_t *ret, struct err *e);
/* Durably. */
int term_file_save(const struct os *os, const char *data_dir, uint64_t term, struct err *e);

#endif
