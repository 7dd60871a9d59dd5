#include "net/addr.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

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
addr_bad(struct err *e, const char *text)
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
                return addr_bad(e, text);
        n = (size_t)(colon - host);
        if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
                host++;
                n -= 2;
        } else if (memchr(host, ':', n) != NULL) {
                return addr_bad(e, text); /* v6 without brackets: which colon is the port's? */
        }
        a.port = parse_port(colon + 1);
        if (a.port < 0 || n >= sizeof a.host || memchr(host, '[', n) != NULL ||
            memchr(host, ']', n) != NULL || (n == 0 && host != text))
                return addr_bad(e, text);
        memcpy(a.host, host, n);
        a.host[n] = '\0';
        *ret = a;
        return 0;
}

static int
no_address(struct err *e, const char *url)
{
        return err_text(e, -EINVAL, "\"%.300s\" is not of the form http://HOST:PORT", url);
}

int
addr_of_url(const char *url, struct addr *ret, struct err *e)
{
        bool is_https = strncasecmp(url, "https://", 8) == 0;
        const char *host = strstr(url, "://"), *end, *port;
        struct addr a;
        size_t n;

        host = host != NULL ? host + 3 : url;
        end = host + strcspn(host, "/?#");
        if (memchr(host, '@', (size_t)(end - host)) != NULL)
                return no_address(e, url);
        if (host[0] == '[') {
                host++;
                port = memchr(host, ']', (size_t)(end - host));
                if (port == NULL)
                        return no_address(e, url);
                n = (size_t)(port++ - host);
        } else {
                n = strcspn(host, ":/?#");
                port = host + n;
        }
        a.port = is_https ? 443 : 80;
        if (n == 0 || n >= sizeof a.host || (port < end && port[0] != ':'))
                return no_address(e, url);
        if (port < end) {
                char text[8];

                snprintf(text, sizeof text, "%.*s", (int)(end - port - 1), port + 1);
                a.port = end - port > (ptrdiff_t)sizeof text ? -EINVAL : parse_port(text);
        }
        if (a.port <= 0)
                return no_address(e, url);
        memcpy(a.host, host, n);
        a.host[n] = '\0';
        *ret = a;
        return 0;
}

bool
addr_is_localhost(const struct addr *a)
{
        return a->host[0] == '\0' || strcmp(a->host, "localhost") == 0;
}

void
addr_format(const struct addr *a, char ret[ADDR_TEXT_SIZE])
{
        if (strchr(a->host, ':') != NULL)
                snprintf(ret, ADDR_TEXT_SIZE, "[%s]:%d", a->host, a->port);
        else
                snprintf(ret, ADDR_TEXT_SIZE, "%s:%d", a->host, a->port);
}
