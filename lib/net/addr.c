#include "net/addr.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int
parse_port(const char *text)
{
        int port = 0;

        if (*text == '\0')
                return -EINVAL;
        for (; *text != '\0'; text++) {
                if (*text < '0' || *text > '9')
                        return -EINVAL;
                port = port * 10 + (*text - '0');
                if (port > 65535)
                        return -EINVAL;
        }
        return port;
}

static int
bad(struct err *e, const char *text)
{
        return err_text(e, -EINVAL, "address \"%.300s\": not host:port, [v6]:port or :port", text);
}

int
addr_parse(const char *text, struct addr *ret, struct err *e)
{
        const char *host = text, *colon = strrchr(text, ':');
        struct addr a;
        size_t n;

        if (colon == NULL)
                return bad(e, text);
        n = (size_t)(colon - host);
        if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
                host++;
                n -= 2;
        } else if (memchr(host, ':', n) != NULL) {
                return bad(e, text); /* v6 without brackets: which colon is the port's? */
        }
        a.port = parse_port(colon + 1);
        if (a.port < 0 || n >= sizeof a.host || memchr(host, '[', n) != NULL ||
            memchr(host, ']', n) != NULL || (n == 0 && host != text))
                return bad(e, text);
        memcpy(a.host, host, n);
        a.host[n] = '\0';
        *ret = a;
        return 0;
}

void
addr_format(const struct addr *a, char ret[ADDR_TEXT_SIZE])
{
        if (strchr(a->host, ':') != NULL)
                snprintf(ret, ADDR_TEXT_SIZE, "[%s]:%d", a->host, a->port);
        else
                snprintf(ret, ADDR_TEXT_SIZE, "%s:%d", a->host, a->port);
}
