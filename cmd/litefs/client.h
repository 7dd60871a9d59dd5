/* cmd/litefs/client.h - what the commands that talk to a running node have in common.
 *
 * The node is that of -url; else the one that the configuration describes (http.addr, its token and its TLS); else,
 * without a configuration, the one at http://localhost:20202. */
#ifndef LITEFS_CMD_CLIENT_H
#define LITEFS_CMD_CLIENT_H

#include <jansson.h>
#include <limits.h>

#include "cmd/litefs/config.h"
#include "cmd/litefs/flags.h"
#include "cmd/litefs/help.h"
#include "net/http_client.h"
#include "net/tls_context.h"

struct client {
        const char *url, *config_path, *token_path; /* flags */
        const char *ca, *cert, *cert_key;
        char base[1024];
        char origin[PATH_MAX + 64]; /* " (http.addr of litefs.yml)": why it is that one; "" for -url */
        struct token *token;        /* NULL: none */
        bool has_token;             /* it is not empty */
        /* A node that the configuration describes is known by the certificate that it has there, which need not be for
         * "localhost"; all others by name and authority. */
        char pin[TLS_PIN_SIZE];
        char *tls[3]; /* authorities, certificate, key */
        struct http_client *http, *others;
};

#define CLIENT_FLAGS(c) \
        { "url", "URL", "address of the node, else http.addr of the configuration", NULL, &(c)->url }, \
                { "config", "PATH", "configuration file of the node", NULL, &(c)->config_path }, \
                { "token-file", "PATH", "file with the token that the node asks for", NULL, \
                  &(c)->token_path }, \
                { "ca", "PATH", "CA that has signed the node's certificate, else http.tls.ca", NULL, \
                  &(c)->ca }, \
                { "cert", "PATH", "client certificate, else http.tls.cert", NULL, &(c)->cert }, \
        { \
                "key", "PATH", "private key of the client certificate, else http.tls.key", NULL, \
                        &(c)->cert_key \
        }

int client_open(struct client *c, struct err *e);
void client_close(struct client *c); /* of a zeroed one is fine */

/* "BASE/PATH?KEY=VALUE" with the value escaped; no query when @key or @value is NULL. */
int client_make_url(const char *base, const char *path, const char *key, const char *value, char *buf,
                    size_t size);
/* POST @path, with @key=@value as in client_make_url. Any other status than 200 is an error with the node's words; the
 * status is in *@ret_status (may be NULL). */
int client_post(struct client *c, const char *path, const char *key, const char *value, int *ret_status,
                struct err *e);
/* GET @base/@path; the reference is the caller's. */
int client_get_json(struct client *c, const char *base, const char *path, json_t **ret, struct err *e);
/* The error that an answer is; E_NOT_FOUND: of a database that is not there. */
int client_check(const struct client *c, const struct http_response *rs, struct err *e);
/* Says of the failure @r of a request for @url to @base, when it is one of the connection, what to do. Returns @r. */
int client_explain(const struct client *c, int r, const char *base, const char *url, struct err *e);

/* Indented, to stdout. */
int client_print_json(const json_t *o, struct err *e);
/* Prints "ERROR: ..." when @r is negative; the exit status. */
int client_exit(int r, const struct err *e);
/* flags_parse, with the text of the command when it asks for help or is wrong: 0, or 1 + exit status. */
int client_parse(const struct flag *flags, int argc, char **argv, int max_words, const struct help *help,
                 struct flag_words *ret);
/* Adds " -url URL" and what other flags were given to the text in @buf, for a command that is to ask the same node. */
void client_add_words(const struct client *c, char *buf, size_t size);
/* "1.234567s" as Go prints a duration. */
void client_format_duration(int64_t ns, char *buf, size_t size);

#endif
