/* lib/net/addr.h - "host:port" as text.
 *
 * "host:port", "1.2.3.4:port", "[v6]:port", ":port" (any address). Ports are decimal, 0 to 65535. */
#ifndef LITEFS_NET_ADDR_H
#define LITEFS_NET_ADDR_H

#include <stdbool.h>

#include "base/err.h"

#define ADDR_HOST_SIZE 256
#define ADDR_TEXT_SIZE (ADDR_HOST_SIZE + 8) /* "[host]:65535" */

struct addr {
        char host[ADDR_HOST_SIZE]; /* without brackets; "" for any */
        int port;
};

/* 0, or -EINVAL. */
int addr_parse(const char *text, struct addr *ret, struct err *e);
/* Of "scheme://host:port/path". Without a port it is the scheme's: 443 of https, else 80. 0, or -EINVAL. */
int addr_of_url(const char *url, struct addr *ret, struct err *e);
/* Whether the host is this machine by its name, or "", which has an address also where no file and no server tells it: a bare
 * machine has no /etc/hosts. */
bool addr_is_localhost(const struct addr *a);
/* As parsed, with brackets around a host that has colons. */
void addr_format(const struct addr *a, char ret[ADDR_TEXT_SIZE]);

#endif
