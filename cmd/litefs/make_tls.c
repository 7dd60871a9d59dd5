#include "cmd/litefs/make.h"

#include "cmd/litefs/config.h"

/* What is configured is read now, so that a mistake is known at start. */
static int
make_context(const struct tls_options *o, bool is_read_now, struct tls_context **ret, struct err *e)
{
        int r = tls_context_new(o, ret);

        if (r < 0)
                return err_set(e, r, "http.tls");
        r = is_read_now ? tls_context_load(*ret, e) : 0;
        return r < 0 ? err_prefix(e, "http.tls"), r : 0;
}

int
make_tls(const struct config *c, struct tls_context **ret_server, struct tls_context **ret_client,
         struct tls_context **ret_proxy, struct err *e)
{
        const char *cert = c->http.tls.cert, *key = c->http.tls.key;
        struct tls_options server = { true, cert, key, c->http.tls.client_ca };
        struct tls_options client = { false, cert, key, c->http.tls.ca };
        int r = 0;

        if (cert[0] != '\0')
                r = make_context(&server, true, ret_server, e);
        if (r == 0)
                r = make_context(&client, cert[0] != '\0' || c->http.tls.ca[0] != '\0', ret_client, e);
        if (r == 0)
                r = make_context(&client, false, ret_proxy, e);
        return r;
}
