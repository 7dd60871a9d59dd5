/* cmd/litefs/joining.h - what a node waits for between its mount and its application. */
#ifndef LITEFS_CMD_JOINING_H
#define LITEFS_CMD_JOINING_H

#include <stdatomic.h>

#include "base/err.h"

struct api;
struct config;
struct node;

/* Waits until @node is the primary or has what the primary has; for a while only, as an application that reads is better
 * than none. With lease.promote on a candidate it waits as long as that takes, and then asks the primary for its lease:
 * -ETIMEDOUT when this node does not get it. With skip-sync it waits for nothing. Ends early, with 0, once
 * *@is_stopping. */
int joining_wait(const struct config *c, struct node *node, struct api *api,
                 const atomic_bool *is_stopping, struct err *e);

#endif
