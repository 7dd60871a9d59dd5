#include "cmd/litefs/access.h"

#include <string.h>

#include "base/log.h"
#include "base/token.h"
#include "cmd/litefs/config.h"

int
access_open_token(const struct config *c, struct token **ret, struct err *e)
{
        return c->http.token_file[0] != '\0' ? token_open(c->http.token_file, ret, e)
                                             : token_new(c->http.token, ret, e);
}

bool
access_needs_tls(const struct config *c)
{
        return c->http.tls.cert[0] != '\0' || c->http.tls.ca[0] != '\0';
}

bool
access_is_loopback(const char *address)
{
        const char *port = strrchr(address, ':');
        size_t n = port != NULL ? (size_t)(port - address) : strlen(address);

        return (n == 9 && memcmp(address, "localhost", n) == 0) ||
               (n > 4 && memcmp(address, "127.", 4) == 0) ||
               (n == 5 && memcmp(address, "[::1]", n) == 0);
}

bool
access_is_open(const struct config *c)
{
        return c->http.addr[0] != '\0' && !access_is_loopback(c->http.addr) &&
               c->http.token[0] == '\0' && c->http.token_file[0] == '\0' &&
               c->http.tls.client_ca[0] == '\0';
}

void
access_warn(const struct config *c)
{
        if (c->http.insecure && access_is_open(c))
                log_warn(
                        "http.addr %s is open to the network, as http.insecure says: anyone who reaches it can read, "
                        "import, hand over and promote",
                        c->http.addr);
}
