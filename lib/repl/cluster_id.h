/* lib/repl/cluster_id.h - DATA/clusterid: which cluster this node's data belongs to.
 *
 * "LFSC" and 16 upper-case hex digits, as LiteFS 0.5 keeps it. */
#ifndef LITEFS_REPL_CLUSTER_ID_H
#define LITEFS_REPL_CLUSTER_ID_H

#include <stdbool.h>

#include "base/err.h"
#include "base/os.h"
#include "lease/lease.h"

void cluster_id_make(char ret[LEASE_CLUSTER_ID_SIZE]);
/* *@ret is "" when there is no file. */
int cluster_id_load(const struct os *os, const char *data_dir, char ret[LEASE_CLUSTER_ID_SIZE],
                    struct err *e);
/* Durably. */
int cluster_id_save(const struct os *os, const char *data_dir, const char *id, struct err *e);

#endif
