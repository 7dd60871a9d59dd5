/* cmd/litefs/service.h - tells the service manager (systemd) how the node is.
 *
 * READY=1 once, when the mount is there and the role is known: the node is the primary, or a replica that has what the
 * primary had. STATUS= at each change of role. WATCHDOG=1 from the loop's thread, so that a loop which hangs is noticed,
 * and none while the mount does not answer (pulse.h).
 * STOPPING=1 when the node begins to stop.
 *
 * Order: service_new when the node is open, service_mounted once, service_stopping, service_stop before node_free,
 * service_free after it. All do nothing without a service manager, and with NULL. */
#ifndef LITEFS_CMD_SERVICE_H
#define LITEFS_CMD_SERVICE_H

#include <stdbool.h>

#include "base/err.h"

struct node;
struct notifier;
struct pulse;
struct service;
struct store;

/* Borrows all four. *@ret is NULL when nobody wants to know. */
int service_new(const struct notifier *to, struct node *node, struct store *store,
                const struct pulse *pulse, struct service **ret, struct err *e);
/* The mount answers, and the node looks for its role; it is ready without one when @is_impatient (skip-sync). */
void service_mounted(struct service *s, bool is_impatient);
void service_stopping(struct service *s);
void service_stop(struct service *s);
void service_free(struct service *s);

#endif
