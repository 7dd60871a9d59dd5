#include "http/origin.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#define HOST_MAX 255

/* Without a port; its length goes to *@ret_n. The brackets of an IPv6 address are part of it. */
static const char *
host_part(const char *authority, size_t *ret_n)
{
        const char *bracket = authority[0] == '[' ? strchr(authority, ']') : NULL;
        size_t n = bracket != NULL ? (size_t)(bracket - authority) : 0;

        *ret_n = n + strcspn(authority + n, ":/?#");
        return authority;
}

/* Of a URL or an origin; NULL: it is "null", or nothing that has one. */
static const char *
authority_of(const char *url)
{
        const char *p = strstr(url, "://");

        return p != NULL ? p + 3 : NULL;
}

static bool
is_address(const char *host, size_t n)
{
        char text[HOST_MAX + 1];
        struct in6_addr address;

        if (n > HOST_MAX)
                return false;
        if (n > 2 && host[0] == '[' && host[n - 1] == ']') {
                memcpy(text, host + 1, n - 2);
                text[n - 2] = '\0';
                text[strcspn(text, "%")] = '\0'; /* a zone */
                return inet_pton(AF_INET6, text, &address) == 1;
        }
        memcpy(text, host, n);
        text[n] = '\0';
        return inet_pton(AF_INET, text, &address) == 1;
}

static bool
is_host_name(const char *host, size_t n, const char *name, size_t n_name)
{
        return n == n_name && n > 0 && strncasecmp(host, name, n) == 0;
}

/* Browsers resolve it, and what ends in it, without DNS. */
static bool
is_localhost(const char *host, size_t n)
{
        static const char name[] = "localhost";
        size_t len = sizeof name - 1;

        return n >= len && strncasecmp(host + n - len, name, len) == 0 &&
               (n == len || host[n - len - 1] == '.');
}

/* Nobody can give these to a node but those who run it. */
static bool
is_own(const char *host, size_t n, const struct origin_names *names)
{
        const char *url = authority_of(names->advertise_url);
        size_t n_url = 0;

        if (url != NULL)
                url = host_part(url, &n_url);
        return is_address(host, n) || is_localhost(host, n) ||
               is_host_name(host, n, names->hostname, strlen(names->hostname)) ||
               (url != NULL && is_host_name(host, n, url, n_url));
}

const char *
origin_refuse(const struct origin_headers *h, const struct origin_names *names)
{
        const char *page = h->origin != NULL ? authority_of(h->origin) : NULL, *host;
        size_t n;

        if (h->sec_fetch_site != NULL && strcasecmp(h->sec_fetch_site, "same-origin") != 0 &&
            strcasecmp(h->sec_fetch_site, "none") != 0)
                return "Sec-Fetch-Site";
        if (h->origin != NULL && (page == NULL || h->host == NULL || strcasecmp(page, h->host) != 0))
                return "Origin";
        /* Any name is fine in what a program sends: it has no Origin, and gets there by whatever DNS it trusts. */
        if (h->host == NULL || (h->origin == NULL && !names->is_loopback))
                return NULL;
        host = host_part(h->host, &n);
        return is_own(host, n, names) ? NULL : "Host";
}
