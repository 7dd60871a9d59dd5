#include "cmd/litefs/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/token.h"
#include "cmd/litefs/access.h"
#include "cmd/litefs/command.h"
#include "cmd/litefs/shell_word.h"
#include "net/addr.h"

#define DEFAULT_PORT ":20202"
#define DEFAULT_URL "http://localhost" DEFAULT_PORT
#define REQUEST_MS 30000
#define ANSWER_MAX ((size_t)64 << 20)

/* "node2" and "node2:20202" are meant as URLs, too. */
static int
base_from_flag(struct client *c, struct err *e)
{
        bool is_url = strncasecmp(c->url, "http://", 7) == 0 || strncasecmp(c->url, "https://", 8) == 0;
        const char *scheme = c->ca != NULL || c->cert != NULL ? "https://" : "http://";
        size_t n = strlen(c->url);

        if (n == 0 || n > sizeof c->base - 32 || (!is_url && strstr(c->url, "://") != NULL) ||
            c->url[strcspn(c->url, " \t?#@")] != '\0')
                return err_text(
                        e, -EINVAL,
                        "-url %.200s is not the address of a node: give it as http://HOST:PORT, for example "
                        "-url http://localhost:20202",
                        c->url);
        while (n > 0 && c->url[n - 1] == '/')
                n--;
        snprintf(c->base, sizeof c->base, "%s%.*s%s", is_url ? "" : scheme, (int)n, c->url,
                 !is_url && strrchr(c->url, ':') == NULL ? DEFAULT_PORT : "");
        return 0;
}

static int
base_from_address(struct client *c, const struct config *config, struct err *e)
{
        const char *scheme = config->http.tls.cert[0] != '\0' ? "https" : "http";
        struct addr a;
        bool is_any;
        int r = addr_parse(config->http.addr, &a, e);

        if (r < 0)
                return e != NULL ? err_prefix(e, "http.addr of %s", config->path) : r;
        snprintf(c->origin, sizeof c->origin, " (http.addr of %s)", config->path);
        if (a.port == 0)
                return err_text(
                        e, E_CONFIG,
                        "http.addr %s of %s names no fixed port: give the node's address with -url",
                        config->http.addr, config->path);
        is_any = a.host[0] == '\0' || strcmp(a.host, "0.0.0.0") == 0 || strcmp(a.host, "::") == 0;
        if (is_any)
                snprintf(c->base, sizeof c->base, "%s://localhost:%d", scheme, a.port);
        else
                snprintf(c->base, sizeof c->base,
                         strchr(a.host, ':') != NULL ? "%s://[%s]:%d" : "%s://%s:%d", scheme, a.host,
                         a.port);
        return config->http.tls.cert[0] != '\0' ? tls_pin(config->http.tls.cert, c->pin, e) : 0;
}

/* Without a file at the usual places there is none; one that was named must be there. */
static int
read_config(struct client *c, struct config *config, bool *ret_found, struct err *e)
{
        int r = config_init(config);

        if (r == 0)
                r = config_load(config, c->config_path, false, e);
        *ret_found = r == 0;
        return r == -ENOENT && c->config_path == NULL ? 0 : r;
}

/* Flags go before the configuration. */
static int
set_client_tls(struct client *c, const struct config *config, bool has_config, struct err *e)
{
        const char *flags[] = { c->ca, c->cert, c->cert_key };
        const char *keys[] = { config->http.tls.ca, config->http.tls.cert, config->http.tls.key };

        for (int i = 0; i < 3; i++) {
                const char *path = flags[i] != NULL ? flags[i] : has_config ? keys[i] : "";

                if (i == 2 && flags[1] != NULL && flags[2] == NULL)
                        path = ""; /* it is in the certificate's file */
                c->tls[i] = strdup(path);
                if (c->tls[i] == NULL)
                        return err_set(e, -ENOMEM, "TLS");
        }
        return 0;
}

static int
resolve_base(struct client *c, struct err *e)
{
        struct config config;
        bool has_config = false;
        int r = 0;

        if (c->url != NULL)
                r = base_from_flag(c, e);
        else
                snprintf(c->base, sizeof c->base, "%s", DEFAULT_URL);
        if (r < 0)
                return r;
        memset(&config, 0, sizeof config);
        if (c->url == NULL || c->config_path != NULL)
                r = read_config(c, &config, &has_config, e);
        if (r == 0 && has_config && c->url == NULL)
                r = base_from_address(c, &config, e);
        else if (r == 0 && c->url == NULL)
                snprintf(c->origin, sizeof c->origin, " (the default, since there is no litefs.yml)");
        if (r == 0)
                r = set_client_tls(c, &config, has_config, e);
        if (r == 0 && c->token_path != NULL && !has_config)
                r = config_init(&config);
        if (r == 0 && c->token_path != NULL) {
                free(config.http.token);
                free(config.http.token_file);
                config.http.token = strdup("");
                config.http.token_file = strdup(c->token_path);
                has_config = true;
                if (config.http.token == NULL || config.http.token_file == NULL)
                        r = err_set(e, -ENOMEM, "configuration");
        }
        if (r == 0 && has_config)
                r = access_open_token(&config, &c->token, e);
        config_release(&config);
        return r;
}

int
client_open(struct client *c, struct err *e)
{
        char header[600] = "", token[TOKEN_SIZE];
        const char *headers[] = { header, NULL };
        struct http_client_options options = { 0 };
        struct err why = ERR_INIT;
        int r = resolve_base(c, e);

        if (r < 0)
                return r;
        token_get(c->token, token);
        c->has_token = token[0] != '\0';
        if (token[0] != '\0') {
                snprintf(header, sizeof header, "Authorization: Bearer %s", token);
                options.headers = headers;
        }
        options.ca = c->tls[0];
        options.cert = c->tls[1];
        options.cert_key = c->tls[2];
        /* They get the token, and where they are the lease says, or a node. */
        options.is_tls_only = c->tls[0][0] != '\0' || c->tls[1][0] != '\0';
        r = http_client_new(&options, &c->others, &why);
        options.is_tls_only = false;
        options.pin = c->pin;
        if (r == 0)
                r = http_client_new(&options, &c->http, &why);
        return r < 0 ? err_text(
                               e, r,
                               "cannot use %.300s; correct -ca, -cert or -key, or http.tls of the configuration",
                               why.text)
                     : 0;
}

void
client_close(struct client *c)
{
        http_client_free(c->http);
        http_client_free(c->others);
        for (int i = 0; i < 3; i++)
                free(c->tls[i]);
        token_free(c->token);
}

int
client_make_url(const char *base, const char *path, const char *key, const char *value, char *buf,
                size_t size)
{
        size_t n = (size_t)snprintf(buf, size, "%s%s", base, path);

        if (key != NULL && value != NULL) {
                n += (size_t)snprintf(n < size ? buf + n : NULL, n < size ? size - n : 0, "?%s=", key);
                for (; *value != '\0' && n + 4 < size; value++) {
                        if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~",
                                   *value) != NULL)
                                buf[n++] = *value;
                        else
                                n += (size_t)snprintf(buf + n, size - n, "%%%02X",
                                                      (unsigned char)*value);
                }
                if (*value != '\0')
                        return -ENAMETOOLONG;
                buf[n] = '\0';
        }
        return n < size ? 0 : -ENAMETOOLONG;
}

int
client_post(struct client *c, const char *path, const char *key, const char *value, int *ret_status,
            struct err *e)
{
        char url[2048];
        struct http_request rq = {
                .method = "POST", .url = url, .timeout_ms = REQUEST_MS, .max_response_size = ANSWER_MAX
        };
        struct http_response rs;
        int r = client_make_url(c->base, path, key, value, url, sizeof url);

        if (r < 0)
                return err_set(e, r, "%s", value != NULL ? value : path);
        r = http_client_do(c->http, &rq, &rs, e);
        if (r < 0)
                return client_explain(c, r, c->base, url, e);
        if (ret_status != NULL)
                *ret_status = rs.status;
        return client_check(c, &rs, e);
}

int
client_get_json(struct client *c, const char *base, const char *path, json_t **ret, struct err *e)
{
        char url[2048];
        struct http_request rq = {
                .method = "GET", .url = url, .timeout_ms = 5000, .max_response_size = ANSWER_MAX
        };
        struct http_response rs;
        struct err why = ERR_INIT;
        int r;

        snprintf(url, sizeof url, "%s%s", base, path);
        r = http_client_do(strcmp(base, c->base) == 0 ? c->http : c->others, &rq, &rs, &why);
        if (r < 0)
                client_explain(c, r, base, url, &why);
        else
                r = client_check(c, &rs, &why);
        if (r < 0)
                return err_text(e, r, "%s", why.text);
        *ret = json_loadb(rs.body, rs.body_size, 0, NULL);
        return *ret == NULL
                       ? err_text(
                                 e, -EPROTO,
                                 "the answer of %s is not JSON: another program listens there; name the "
                                 "node with -url URL",
                                 url)
                       : 0;
}

int
client_print_json(const json_t *o, struct err *e)
{
        char *s = json_dumps(o, JSON_INDENT(2));

        if (s == NULL)
                return err_set(e, -ENOMEM, "JSON");
        puts(s);
        free(s);
        return 0;
}

int
client_exit(int r, const struct err *e)
{
        if (r >= 0)
                return 0;
        fprintf(stderr, "ERROR: %s\n", e->code != 0 ? e->text : err_code_text(r));
        return 1;
}

int
client_parse(const struct flag *flags, int argc, char **argv, int max_words, const struct help *help,
             struct flag_words *ret)
{
        struct err e = ERR_INIT;
        int r = flags_parse(flags, argc, argv, ret, &e);

        if (r > 0)
                return 1 + help_print(help, flags, ret->help);
        if (r == 0 && flag_words_count(ret) > max_words)
                r = err_text(&e, -EINVAL, "too many arguments");
        return r < 0 ? 1 + help_mistake(help->name, e.text) : 0;
}

void
client_add_words(const struct client *c, char *buf, size_t size)
{
        const struct {
                const char *flag, *value;
        } words[] = {
                { " -url ", c->url },
                { " -config ", c->config_path },
                { " -token-file ", c->token_path },
                { " -ca ", c->ca },
                { " -cert ", c->cert },
                { " -key ", c->cert_key },
        };

        for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
                if (words[i].value != NULL) {
                        size_t n = strlen(buf);

                        snprintf(buf + n, size - n, "%s", words[i].flag);
                        shell_word_add(buf, size, words[i].value);
                }
}

void
client_format_duration(int64_t ns, char *buf, size_t size)
{
        if (ns >= 60000000000)
                snprintf(buf, size, "%lldm%.9gs", (long long)(ns / 60000000000),
                         (double)(ns % 60000000000) / 1e9);
        else if (ns >= 1000000000)
                snprintf(buf, size, "%.9gs", (double)ns / 1e9);
        else
                snprintf(buf, size, "%.6gms", (double)ns / 1e6);
}
