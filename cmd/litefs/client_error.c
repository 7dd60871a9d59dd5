/* What goes wrong between a command and a node, as the person at the keyboard needs to hear it: what, why, what next. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd/litefs/client.h"

/* What to do about a refusal, by how the node's words begin. */
static const struct {
        const char *words, *next;
} hints[] = {
        { "cannot handoff: node is not currently primary",
          "ask the primary, whose URL `litefs status` shows, with -url URL" },
        { "this node is not the primary",
          "ask the primary, whose URL `litefs status` shows, with -url URL" },
        { "cannot handoff: a static lease",
          "change lease.candidate in litefs.yml of both nodes, or use etcd or Consul" },
        { "a static lease",
          "change lease.candidate in litefs.yml of both nodes, or use etcd or Consul" },
        { "not eligible to become primary",
          "set lease.candidate: true in its litefs.yml, or promote another node" },
        { "target node is not currently connected",
          "name one that is: `litefs list -nodes` shows them" },
        { "no primary is currently available", "`litefs status` shows what the nodes wait for" },
        { "this port speaks TLS", "give -url as https://HOST:PORT, and its authority with -ca PATH" },
        { "404 page not found", "give -url as http://HOST:PORT of a litefs node, without a path" },
};

/* Of the error that http_client_do made, what follows the method and the URL. */
static const char *
words_of(const struct err *e, const char *url)
{
        const char *at = strstr(e->text, url);

        return at != NULL && strncmp(at + strlen(url), ": ", 2) == 0 ? at + strlen(url) + 2 : e->text;
}

static const char *
next_step(const struct client *c, int code, const char *base, const char *words)
{
        if (code == -EPROTO && strstr(words, "wrong version number") != NULL)
                return "it does not speak TLS: use http://, or set http.tls in its litefs.yml";
        /* It closed the connection, in the words of libcurl, or in those of OpenSSL, which a later libcurl passes on. */
        if (code == -EPROTO &&
            (strstr(words, "SSL_ERROR_SYSCALL") != NULL || strstr(words, "unexpected eof") != NULL))
                return "if it does not speak TLS, use http://; else check -ca, -cert and -key against http.tls of "
                       "its litefs.yml";
        if (strncmp(base, "https://", 8) == 0 && code == -EPROTO)
                return "check -ca, -cert and -key against http.tls of its litefs.yml";
        if (code == -EPROTO || code == -EIO)
                return "if it has http.tls, use https:// with -ca; if another program listens there, name the node "
                       "with -url";
        if (code == -EHOSTUNREACH)
                return "check the name in the URL";
        return c->url == NULL ? "start it with `litefs mount`, or name another one with -url URL"
                              : "start it there with `litefs mount`, or correct -url";
}

int
client_explain(const struct client *c, int r, const char *base, const char *url, struct err *e)
{
        char words[ERR_TEXT_SIZE];

        if (r != -ECONNREFUSED && r != -EHOSTUNREACH && r != -ETIMEDOUT && r != -EPROTO && r != -EIO &&
            r != -ENETUNREACH)
                return r;
        snprintf(words, sizeof words, "%s", words_of(e, url));
        return err_text(e, r, "cannot talk to the node at %s%s: %.200s; %s", base,
                        strcmp(base, c->base) == 0 ? c->origin : "", words,
                        next_step(c, r, base, words));
}

static int
fail_access(const struct client *c, struct err *e)
{
        if (c->token == NULL || !c->has_token)
                return err_text(
                        e, -EACCES,
                        "authentication failed: the node at %s asks for a token, and none was given; "
                        "name the file with the token of its http.token or http.token-file with -token-file "
                        "PATH",
                        c->base);
        return err_text(
                e, -EACCES,
                "authentication failed: the token of %s is not that of the node at %s; name the file with "
                "the token of its http.token or http.token-file with -token-file PATH",
                c->token_path != NULL ? c->token_path : "the configuration", c->base);
}

int
client_check(const struct client *c, const struct http_response *rs, struct err *e)
{
        int n = (int)strcspn(rs->body, "\r\n");

        if (rs->status == 200)
                return 0;
        if (rs->status == 401)
                return fail_access(c, e);
        if (n == 0)
                return err_text(
                        e, -EIO,
                        "the server at %s answered with status %d and gave no reason; its log may have one",
                        c->base, rs->status);
        for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++)
                if (strncmp(rs->body, hints[i].words, strlen(hints[i].words)) == 0)
                        return err_text(e, -EIO, "%.*s; %s", n, rs->body, hints[i].next);
        return err_text(e,
                        rs->status == 404 && strncmp(rs->body, "database not found", 18) == 0
                                ? E_NOT_FOUND
                                : -EIO,
                        "%.*s", n, rs->body);
}
