#include "net/upgrade.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/token.h"

int
upgrade_feed(struct upgrade *u, const unsigned char **bytes, size_t *n, struct err *e)
{
        while (*n > 0) {
                if (u->n == UPGRADE_HEAD_MAX)
                        return err_text(e, E_FORMAT, "HTTP head of more than %d bytes",
                                        UPGRADE_HEAD_MAX);
                u->head[u->n++] = (char)**bytes;
                u->head[u->n] = '\0';
                (*bytes)++;
                (*n)--;
                if (u->n >= 4 && memcmp(u->head + u->n - 4, "\r\n\r\n", 4) == 0)
                        return 1;
        }
        return 0;
}

/* The value of the next header called @name behind @line, the end of a line before; NULL: there is none. Its own end
 * goes to *@ret_end. */
static const char *
next_value(const char *line, const char *name, const char **ret_end)
{
        size_t n = strlen(name);

        while (line != NULL && line[2] != '\r') {
                const char *end = strstr(line + 2, "\r\n");

                line += 2;
                if (end == NULL)
                        return NULL;
                if (strncasecmp(line, name, n) == 0 && line[n] == ':') {
                        *ret_end = end;
                        return line + n + 1;
                }
                line = end;
        }
        return NULL;
}

/* Whether a header's comma-separated value has @word. */
static bool
has_word(const struct upgrade *u, const char *name, const char *word)
{
        const char *line = strstr(u->head, "\r\n"), *p;
        size_t n = strlen(word);

        while ((p = next_value(line, name, &line)) != NULL)
                while (p < line) {
                        p += strspn(p, " \t,");
                        if (strncasecmp(p, word, n) == 0 && strchr(" \t,\r", p[n]) != NULL)
                                return true;
                        p += strcspn(p, ",\r");
                }
        return false;
}

bool
upgrade_has_token(const struct upgrade *u, struct token *token)
{
        char value[UPGRADE_HEAD_MAX];
        const char *end = NULL, *p = next_value(strstr(u->head, "\r\n"), "Authorization", &end);

        if (p == NULL)
                return token_matches(token, NULL);
        p += strspn(p, " \t");
        snprintf(value, sizeof value, "%.*s", (int)(end > p ? end - p : 0), p);
        return token_matches(token, value);
}

int
upgrade_check_request(const struct upgrade *u, const struct upgrade_protocol *protocol)
{
        const char *target = u->head + 4;
        size_t n = strlen(protocol->path);

        if (strlen(u->head) != u->n || strncmp(u->head, "GET ", 4) != 0)
                return 426;
        if (strncmp(target, protocol->path, n) != 0 || target[n] != ' ')
                return 404;
        if (strncmp(target + n + 1, "HTTP/1.1\r\n", 10) != 0)
                return 505;
        return has_word(u, "Upgrade", protocol->name) && has_word(u, "Connection", "upgrade") ? 0 : 426;
}

int
upgrade_status(const struct upgrade *u)
{
        int status = 0;

        return sscanf(u->head, "HTTP/1.1 %3d ", &status) == 1 ? status : 0;
}

int
upgrade_check_response(const struct upgrade *u, const struct upgrade_protocol *protocol, struct err *e)
{
        int line = (int)strcspn(u->head, "\r\n"), status = upgrade_status(u);

        if (strlen(u->head) == u->n && status == 101 && has_word(u, "Upgrade", protocol->name))
                return 0;
        if (status == 401)
                return err_text(
                        e, E_FORMAT,
                        "authentication failed: the tokens differ; http.token must be the same on all nodes");
        /* LiteFS 0.5 takes POST there. */
        return err_text(
                e, E_FORMAT, "no %s there, the answer was: %.*s%s", protocol->path + 1,
                line > 200 ? 200 : line, u->head,
                status == 405
                        ? "; if that is LiteFS 0.5: a cluster is all of LiteFS or all of litefs, see "
                          "migrating-from-litefs.md"
                        : "");
}

static size_t
clip(int n, size_t size)
{
        return n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
}

size_t
upgrade_request(const struct upgrade_protocol *protocol, const char *host, const char *token, char *buf,
                size_t size)
{
        bool is_given = token != NULL && token[0] != '\0';

        return clip(snprintf(buf, size,
                             "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\n"
                             "Upgrade: %s\r\n%s%s%s\r\n",
                             protocol->path, host, protocol->name,
                             is_given ? "Authorization: Bearer " : "", is_given ? token : "",
                             is_given ? "\r\n" : ""),
                    size);
}

size_t
upgrade_accept(const struct upgrade_protocol *protocol, char *buf, size_t size)
{
        return clip(
                snprintf(
                        buf, size,
                        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n",
                        protocol->name),
                size);
}

static const char *
reason(int status)
{
        switch (status) {
        case 401:
                return "Unauthorized";
        case 404:
                return "Not Found";
        case 426:
                return "Upgrade Required";
        case 503:
                return "Service Unavailable";
        default:
                return "Bad Request";
        }
}

size_t
upgrade_refuse(const struct upgrade_protocol *protocol, int status, const char *why, char *buf,
               size_t size)
{
        bool is_named = status == 426;

        return clip(snprintf(buf, size,
                             "HTTP/1.1 %d %s\r\nConnection: close\r\n%s%s%sContent-Type: text/plain\r\n"
                             "Content-Length: %zu\r\n\r\n%s\n",
                             status, reason(status), is_named ? "Upgrade: " : "",
                             is_named ? protocol->name : "", is_named ? "\r\n" : "", strlen(why) + 1,
                             why),
                    size);
}
