/* Who is at the other end of a connection. */
#include <errno.h>
#include <netinet/in.h>

#include "net/conn_internal.h"
#include "net/conn_state.h"

/* IP and port of @sa as text. */
static void
format_sockaddr(const struct sockaddr_storage *sa, char ret[ADDR_TEXT_SIZE])
{
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)sa;
        const struct sockaddr_in *in = (const struct sockaddr_in *)sa;
        struct addr a = { .host = "" };

        if (sa->ss_family == AF_INET6) {
                uv_ip6_name(in6, a.host, sizeof a.host);
                a.port = ntohs(in6->sin6_port);
        } else {
                uv_ip4_name(in, a.host, sizeof a.host);
                a.port = ntohs(in->sin_port);
        }
        addr_format(&a, ret);
}

int
conn_address(const struct conn *c, struct sockaddr_storage *ret)
{
        int n = sizeof *ret;

        *ret = (struct sockaddr_storage){ 0 };
        return c->has_tcp ? uv_tcp_getpeername(&c->tcp, (struct sockaddr *)ret, &n) : -ENOTCONN;
}

void
conn_peer(const struct conn *c, char ret[ADDR_TEXT_SIZE])
{
        struct sockaddr_storage sa;

        ret[0] = '\0';
        if (conn_address(c, &sa) == 0)
                format_sockaddr(&sa, ret);
}

/* For words: one that has gone already is called what we have called it. */
void
conn_name_peer(const struct conn *c, char ret[ADDR_TEXT_SIZE])
{
        conn_peer(c, ret);
        if (ret[0] == '\0' && c->target.port != 0)
                addr_format(&c->target, ret);
}
