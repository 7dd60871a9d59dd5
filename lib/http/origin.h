/* lib/http/origin.h - whether a browser asks on behalf of somebody else's page.
 *
 * A page of any site may send requests to an address that only its visitor reaches, such as this machine's
 * loopback; and by giving its own name this node's address (DNS rebinding) it may read the answers, too. A browser
 * says where the page is from, and which name it asked for. */
#ifndef LITEFS_HTTP_ORIGIN_H
#define LITEFS_HTTP_ORIGIN_H

#include <stdbool.h>

/* Of the request; NULL for what was not sent. */
struct origin_headers {
        const char *host;           /* Host */
        const char *origin;         /* Origin */
        const char *sec_fetch_site; /* Sec-Fetch-Site */
};

/* The names that this node goes by, besides any IP address and localhost. */
struct origin_names {
        const char *hostname, *advertise_url;
        bool is_loopback; /* it listens where this machine alone gets to: it has no other names */
};

/* NULL: nothing speaks against it. Else what does. */
const char *origin_refuse(const struct origin_headers *h, const struct origin_names *names);

#endif
