/* lib/store/node_id.h - DATA/node-id: by which a node knows the transactions that it has committed itself.
 *
 * In the header of each LTX file. Drawn at the first start; not the id of the streams, which is one process's. */
#ifndef LITEFS_STORE_NODE_ID_H
#define LITEFS_STORE_NODE_ID_H

#include <stdint.h>

#include "base/err.h"
#include "base/os.h"

/* Of the data directory @dir, whose lock the caller holds. */
int node_id_load(const struct os *os, const char *dir, uint64_t *ret, struct err *e);

#endif
