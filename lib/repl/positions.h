/* lib/repl/positions.h - a list of where a node's databases are, as POSITIONS frames. */
#ifndef LITEFS_REPL_POSITIONS_H
#define LITEFS_REPL_POSITIONS_H

#include "repl/frame.h"
#include "repl/stream_transport.h"
#include "store/store.h"

/* Every database of @store that has a transaction. @flags: FRAME_POSITIONS_ALL or 0. 0, or what the transport or memory says. */
int positions_send(struct stream_transport *transport, struct store *store, uint8_t flags);

#endif
