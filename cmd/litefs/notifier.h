/* cmd/litefs/notifier.h - messages to the service manager that started this process, as systemd takes them: a datagram
 * of NAME=VALUE lines to the socket that NOTIFY_SOCKET names. Without a service manager it does nothing. */
#ifndef LITEFS_CMD_NOTIFIER_H
#define LITEFS_CMD_NOTIFIER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/err.h"

struct notifier {
        int fd; /* -1: nobody wants to know */
        struct sockaddr_un address;
        socklen_t address_size;
        int64_t watchdog_ms; /* how often the manager wants to hear WATCHDOG=1 at the least; 0: not at all */
};

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID and takes them out of the environment, so that they are not passed on
 * to an application. Before any thread starts. -EINVAL with words for a socket that cannot be: *@ret is then silent. */
int notifier_open(struct notifier *ret, struct err *e);
void notifier_close(struct notifier *n); /* again is fine */
/* "READY=1\nSTATUS=..." as printf makes it, at most 512 bytes. Never waits: what the manager has no room for is lost.
 * True when it was taken. Any thread. */
bool notifier_send(const struct notifier *n, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
