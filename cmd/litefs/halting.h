/* cmd/litefs/halting.h - the halt locks of a node, as the primary and as a replica, tied to the mount and the role. */
#ifndef LITEFS_CMD_HALTING_H
#define LITEFS_CMD_HALTING_H

#include "http/halt_holder.h"
#include "repl/halt_grants.h"

struct node;
struct session;

struct halting {
        struct halt_grants *given; /* that other nodes have here, while this node is the primary */
        struct halt_holder *taken; /* that this node has elsewhere, while it is not */
};

/* Before the node starts and the mount serves. @halting is zeroed, and stays where it is. */
int halting_open(struct halting *halting, const struct halt_grants_config *given,
                 const struct halt_holder_config *taken, struct node *node, struct session *session,
                 struct err *e);
/* First those that this node has elsewhere, while it can still tell; then, after the API's end, the others, while the
 * mount still answers. Again is fine. */
void halting_stop_own(struct halting *halting);
void halting_stop(struct halting *halting);
/* After the loop's end. */
void halting_release(struct halting *halting);

#endif
