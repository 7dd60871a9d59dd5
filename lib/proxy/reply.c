/* Answers of the proxy's own: health, errors, fly-replay. */
#include "proxy/reply.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void
count_error_status(struct proxy_stats *s, int status)
{
        switch (status) {
        case 200:
                break;
        case 502:
                s->n_bad_gateway++;
                break;
        case 503:
                s->n_no_primary++;
                break;
        case 504:
                s->n_timeouts++;
                break;
        default:
                s->n_bad_requests++;
        }
}

/* "Connection: ..." where it has to be said. */
static const char *
connection_field(const struct client *c)
{
        if (!c->is_keep_alive)
                return "Connection: close\r\n";
        return c->request.minor == 0 ? "Connection: keep-alive\r\n" : "";
}

static void
send_reply(struct client *c, int status, const char *extra_fields, const char *text)
{
        char head[1024];
        size_t n = text != NULL ? strlen(text) + 1 : 0;
        int length;

        if (c->request.reason != NULL || !c->is_all_read || c->proxy->is_retiring)
                c->is_keep_alive = false;
        client_drop_up(c);
        length = snprintf(head, sizeof head, "HTTP/1.1 %d %s\r\n%s%s%sContent-Length: %zu\r\n\r\n",
                          status, http_status_str((enum http_status)status), extra_fields,
                          n > 0 ? "Content-Type: text/plain; charset=utf-8\r\n" : "",
                          connection_field(c), n);
        client_send(c, head, (size_t)length);
        if (n > 0 && c->request.method != HTTP_HEAD) {
                client_send(c, text, n - 1);
                client_send(c, "\n", 1);
        }
        c->is_answered = true;
        client_set_state(c, CLIENT_DONE);
}

void
reply(struct client *c, int status, const char *extra_fields, const char *text)
{
        count_error_status(&c->proxy->stats, status);
        send_reply(c, status, extra_fields, text);
}

void
reply_moved(struct client *c)
{
        send_reply(c, 503, REWRITE_MOVED ": 1\r\n",
                   "Proxy error: another node is the primary: try again");
}

void
reply_printf(struct client *c, int status, const char *fmt, ...)
{
        char text[900];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        reply(c, status, "", text);
}
