#include "proxy/rewrite.h"

#include <stdio.h>
#include <string.h>

#define LITERAL(t, s) text_add(t, s, sizeof(s) - 1)

static void
add_slice(struct text *out, struct slice s)
{
        text_add(out, s.p, s.n);
}

static void
put_field(struct text *out, struct slice name, struct slice value)
{
        add_slice(out, name);
        LITERAL(out, ": ");
        add_slice(out, value);
        LITERAL(out, "\r\n");
}

static void
add_number(struct text *out, const char *name, uint64_t n)
{
        text_printf(out, "%s: %llu\r\n", name, (unsigned long long)n);
}

/* For one connection only, whatever Connection says; or said anew. */
static bool
is_never_passed_on(struct slice name)
{
        static const char *const names[] = { "connection",
                                             "keep-alive",
                                             "proxy-connection",
                                             "te",
                                             "trailer",
                                             "transfer-encoding",
                                             "upgrade",
                                             "content-length",
                                             "proxy-authenticate",
                                             "proxy-authorization" };

        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
                if (slice_is(name, names[i]))
                        return true;
        return false;
}

static bool
is_named_by_connection(const struct head *h, struct slice name)
{
        char text[64];

        if (name.n >= sizeof text)
                return false;
        memcpy(text, name.p, name.n);
        text[name.n] = '\0';
        return head_has_word(h, "connection", text);
}

struct connection {
        const struct head *head;
        bool has_words; /* besides those that every message has */
};

static struct connection
connection_of(const struct head *h)
{
        struct connection c = { h, false };
        struct slice list, word;

        for (size_t i = 0; i < h->n_fields && !c.has_words; i++) {
                if (!slice_is(head_name(h, i), "connection"))
                        continue;
                list = head_value(h, i);
                while (slice_next(&list, ',', &word))
                        if (!slice_is(word, "close") && !slice_is(word, "keep-alive"))
                                c.has_words = true;
        }
        return c;
}

static bool
starts_with(struct slice s, const char *prefix)
{
        return s.n >= strlen(prefix) && slice_is((struct slice){ s.p, strlen(prefix) }, prefix);
}

/* What those before us say of the client is for the application: no client takes it away by naming it in Connection. */
static bool
is_hop_by_hop(const struct connection *c, struct slice name)
{
        return is_never_passed_on(name) || (c->has_words && !starts_with(name, "x-forwarded-") &&
                                            is_named_by_connection(c->head, name));
}

/* --- requests --- */

/* "http://host/path": what a client sends that takes this for a forward proxy; the host is the target's then. */
static int
split_absolute(struct slice line, struct request_target *ret)
{
        size_t scheme = starts_with(line, "http://") ? 7 : starts_with(line, "https://") ? 8 : 0;
        size_t n = 0;

        if (scheme == 0)
                return -1;
        line.p += scheme;
        line.n -= scheme;
        while (n < line.n && line.p[n] != '/' && line.p[n] != '?')
                n++;
        if (n == 0 || n == line.n || line.p[n] != '/' || memchr(line.p, '@', n) != NULL)
                return -1;
        ret->host = (struct slice){ line.p, n };
        ret->path = (struct slice){ line.p + n, line.n - n };
        return 0;
}

static int
check_request_target(const struct reader *request, struct request_target *ret)
{
        struct slice line = head_line(&request->head);

        if (line.n > 0 && (line.p[0] == '/' || (request->method == HTTP_OPTIONS && slice_is(line, "*"))))
                ret->path = line;
        else if (split_absolute(line, ret) < 0)
                return -1;
        for (size_t i = 0; i < line.n; i++)
                if ((unsigned char)line.p[i] <= ' ' || line.p[i] == 0x7f)
                        return -1;
        return 0;
}

int
rewrite_check(const struct reader *request, struct request_target *ret, const char **ret_reason)
{
        struct slice host = { NULL, 0 }, expect = { NULL, 0 };
        size_t n_hosts = head_find(&request->head, "host", &host);

        *ret = (struct request_target){ .host = host };
        if (request->method == HTTP_CONNECT) {
                *ret_reason = "CONNECT is not served";
                return 501;
        }
        if (check_request_target(request, ret) < 0) {
                *ret_reason = "the request's target is no path";
                return 400;
        }
        if (n_hosts > 1 || (n_hosts == 0 && request->minor > 0)) {
                *ret_reason = n_hosts > 1 ? "there is more than one Host" : "there is no Host";
                return 400;
        }
        if (head_find(&request->head, "expect", &expect) > 0 && !slice_is(expect, "100-continue")) {
                *ret_reason = "no Expect but 100-continue is understood";
                return 417;
        }
        return 0;
}

static void
add_forwarded_for(struct text *out, const struct head *h, const char *client)
{
        bool is_begun = false;

        for (size_t i = 0; i <= h->n_fields; i++) {
                struct slice value = { client, client != NULL ? strlen(client) : 0 };

                if (i < h->n_fields)
                        value = head_value(h, i);
                if (value.n == 0 || (i < h->n_fields && !slice_is(head_name(h, i), "x-forwarded-for")))
                        continue;
                text_printf(out, "%s", is_begun ? ", " : "X-Forwarded-For: ");
                add_slice(out, value);
                is_begun = true;
        }
        if (is_begun)
                LITERAL(out, "\r\n");
}

/* Which of the fields that say how the client came here are there already: whoever stands before us knows better. */
static void
add_forwarded(struct text *out, const struct head *h, const struct request_rewrite *how)
{
        add_forwarded_for(out, h, how->client);
        if (how->target->host.n > 0 && head_find(h, "x-forwarded-host", NULL) == 0)
                put_field(out, (struct slice){ "X-Forwarded-Host", 16 }, how->target->host);
        if (head_find(h, "x-forwarded-proto", NULL) == 0)
                LITERAL(out, "X-Forwarded-Proto: http\r\n");
}

static enum framing
add_request_length(struct text *out, const struct reader *request)
{
        if (request->is_chunked) {
                LITERAL(out, "Transfer-Encoding: chunked\r\n");
                return FRAMING_CHUNKED;
        }
        if (request->has_length)
                add_number(out, "Content-Length", request->length);
        return request->has_length && request->length > 0 ? FRAMING_LENGTH : FRAMING_NONE;
}

enum framing
rewrite_request(struct text *out, const struct reader *request, const struct request_rewrite *how)
{
        const struct head *h = &request->head;
        struct connection connection = connection_of(h);
        const char *method = http_method_str((enum http_method)request->method);
        enum framing framing;

        text_add(out, method, strlen(method));
        LITERAL(out, " ");
        add_slice(out, how->target->path);
        LITERAL(out, " HTTP/1.1\r\nHost: ");
        if (how->target->host.n > 0)
                add_slice(out, how->target->host);
        else
                text_add(out, how->default_host, strlen(how->default_host));
        LITERAL(out, "\r\n");
        for (size_t i = 0; i < h->n_fields; i++) {
                struct slice name = head_name(h, i);

                if (!slice_is(name, "host") && !slice_is(name, "x-forwarded-for") &&
                    !slice_is(name, REWRITE_SENT_ON) && !is_hop_by_hop(&connection, name))
                        put_field(out, name, head_value(h, i));
        }
        add_forwarded(out, h, how);
        if (how->is_sent_on)
                LITERAL(out, REWRITE_SENT_ON ": 2\r\n");
        if (request->is_upgrade)
                LITERAL(out, "Connection: Upgrade\r\nUpgrade: websocket\r\n");
        framing = add_request_length(out, request);
        LITERAL(out, "\r\n");
        return framing;
}

/* --- responses --- */

static bool
has_body(const struct reader *response, bool is_head)
{
        return !is_head && response->status_code >= 200 && response->status_code != 204 &&
               response->status_code != 304;
}

static enum framing
add_response_length(struct text *out, const struct reader *response, struct response_rewrite *how)
{
        if (response->status_code < 200 || response->status_code == 204)
                return FRAMING_NONE;
        if (response->has_length)
                add_number(out, "Content-Length", response->length);
        if (!has_body(response, how->is_head))
                return FRAMING_NONE;
        if (response->has_length)
                return response->length > 0 ? FRAMING_LENGTH : FRAMING_NONE;
        if (how->client_minor == 0) {
                how->is_keep_alive = false;
                return FRAMING_UNTIL_END;
        }
        LITERAL(out, "Transfer-Encoding: chunked\r\n");
        return FRAMING_CHUNKED;
}

static void
add_connection(struct text *out, const struct reader *response, const struct response_rewrite *how)
{
        if (response->status_code == 101)
                LITERAL(out, "Connection: Upgrade\r\nUpgrade: websocket\r\n");
        else if (response->status_code < 200)
                return;
        else if (!how->is_keep_alive)
                LITERAL(out, "Connection: close\r\n");
        else if (how->client_minor == 0)
                LITERAL(out, "Connection: keep-alive\r\n");
}

/* An application must not be able to say what makes a proxy send a request again. */
static bool
is_of_proxies(struct slice name)
{
        return slice_is(name, REWRITE_MOVED) || slice_is(name, REWRITE_TAKEN);
}

enum framing
rewrite_response(struct text *out, const struct reader *response, struct response_rewrite *how)
{
        const struct head *h = &response->head;
        struct connection connection = connection_of(h);
        enum framing framing;

        text_printf(out, "HTTP/1.1 %u ", response->status_code);
        add_slice(out, head_line(h));
        LITERAL(out, "\r\n");
        for (size_t i = 0; i < h->n_fields; i++)
                if (!is_hop_by_hop(&connection, head_name(h, i)) && !is_of_proxies(head_name(h, i)))
                        put_field(out, head_name(h, i), head_value(h, i));
        for (size_t i = 0; i < sizeof how->cookies / sizeof *how->cookies; i++)
                if (how->cookies[i] != NULL)
                        text_printf(out, "Set-Cookie: %s\r\n", how->cookies[i]);
        framing = add_response_length(out, response, how);
        add_connection(out, response, how);
        LITERAL(out, "\r\n");
        return framing;
}
