#include "cmd/litefs/notifier.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STATE_MAX 512

/* An absolute path, or a name in the abstract name space behind "@". */
static int
set_address(struct notifier *n, const char *name, struct err *e)
{
        size_t size = strlen(name);

        n->address = (struct sockaddr_un){ .sun_family = AF_UNIX };
        if ((name[0] != '/' && name[0] != '@') || size < 2 || size >= sizeof n->address.sun_path)
                return err_text(e, -EINVAL, "NOTIFY_SOCKET=%s is not the address of a socket", name);
        memcpy(n->address.sun_path, name, size);
        if (name[0] == '@')
                n->address.sun_path[0] = '\0';
        n->address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
        return 0;
}

/* 0 when it is not for this process. */
static int64_t
read_watchdog_ms(void)
{
        const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

        if (usec == NULL || (pid != NULL && strtoll(pid, NULL, 10) != getpid()))
                return 0;
        return strtoll(usec, NULL, 10) / 1000;
}

int
notifier_open(struct notifier *ret, struct err *e)
{
        const char *name = getenv("NOTIFY_SOCKET");
        int r = 0;

        *ret = (struct notifier){ .fd = -1 };
        if (name != NULL && name[0] != '\0') {
                r = set_address(ret, name, e);
                if (r == 0)
                        ret->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
                if (r == 0 && ret->fd < 0)
                        r = err_set(e, -errno, "make a socket for NOTIFY_SOCKET");
                if (r == 0)
                        ret->watchdog_ms = read_watchdog_ms();
        }
        unsetenv("NOTIFY_SOCKET");
        unsetenv("WATCHDOG_USEC");
        unsetenv("WATCHDOG_PID");
        return r;
}

void
notifier_close(struct notifier *n)
{
        if (n->fd >= 0)
                close(n->fd);
        n->fd = -1;
}

bool
notifier_send(const struct notifier *n, const char *fmt, ...)
{
        char state[STATE_MAX];
        size_t size;
        va_list ap;

        if (n->fd < 0)
                return false;
        va_start(ap, fmt);
        vsnprintf(state, sizeof state, fmt, ap);
        va_end(ap);
        size = strlen(state);
        return sendto(n->fd, state, size, MSG_DONTWAIT | MSG_NOSIGNAL,
                      (const struct sockaddr *)&n->address, n->address_size) == (ssize_t)size;
}
