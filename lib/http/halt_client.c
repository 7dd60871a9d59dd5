#include "http/halt_client.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/http_client.h"

#define ANSWER_MAX 4096
#define CONNECT_MS 2000
#define URL_MAX 2048

struct halt_client {
        const struct halt_client_config *config;
        struct http_client *http;
        char token[TOKEN_SIZE]; /* that it was made with */
};

static int
make_http(struct halt_client *c, struct err *e)
{
        char id[64], authorization[600] = "";
        const char *headers[] = { id, authorization, NULL };
        struct http_client_options options = { 0 };

        if (c->config->peer_http != NULL)
                options = *c->config->peer_http;
        options.headers = headers;
        snprintf(id, sizeof id, "Litefs-Id: %016" PRIX64, c->config->boot_id);
        if (c->token[0] != '\0')
                snprintf(authorization, sizeof authorization, "Authorization: Bearer %s", c->token);
        else
                headers[1] = NULL;
        return http_client_new(&options, &c->http, e);
}

int
halt_client_new(const struct halt_client_config *config, struct halt_client **ret, struct err *e)
{
        struct halt_client *c = calloc(1, sizeof *c);
        int r;

        if (c == NULL)
                return err_set(e, -ENOMEM, "halt lock");
        c->config = config;
        token_get(config->token, c->token);
        r = make_http(c, e);
        if (r < 0) {
                free(c);
                return r;
        }
        *ret = c;
        return 0;
}

void
halt_client_free(struct halt_client *c)
{
        if (c == NULL)
                return;
        http_client_free(c->http);
        free(c);
}

/* A client lives as long as its database is used, the token perhaps not. */
static int
request(struct halt_client *c, const struct http_request *rq, struct http_response *ret, struct err *e)
{
        char token[TOKEN_SIZE];
        int r = 0;

        token_get(c->config->token, token);
        if (strcmp(token, c->token) != 0) {
                http_client_free(c->http);
                c->http = NULL;
                memcpy(c->token, token, sizeof c->token);
        }
        if (c->http == NULL)
                r = make_http(c, e);
        return r < 0 ? r : http_client_do(c->http, rq, ret, e);
}

/* Names are escaped: they may hold any byte. */
static void
make_url(const struct halt_target *t, const char *path, const char *id_name, char buf[URL_MAX])
{
        size_t n = (size_t)snprintf(buf, URL_MAX, "%.600s%s?%s=%" PRId64 "&name=", t->url, path, id_name,
                                    t->id);

        for (const char *p = t->name; *p != '\0' && n + 4 < URL_MAX; p++)
                n += (size_t)snprintf(buf + n, URL_MAX - n, "%%%02X", (unsigned char)*p);
}

/* What a status says of the transaction: 500 leaves it open, all others deny it. */
static int
code_of_answer(int status)
{
        return status == 507 ? -ENOSPC : status == 503 ? E_BUSY_DB : status == 500 ? -EIO : E_NOT_HELD;
}

/* The primary's words. */
static int
check(const struct http_response *rs, struct err *e)
{
        int n = (int)strcspn(rs->body, "\r\n");

        if (rs->status == 200)
                return 0;
        return err_text(e, code_of_answer(rs->status), "the primary refuses (%d): %.*s", rs->status,
                        n < 300 ? n : 300, rs->body);
}

static int
parse_answer(const struct http_response *rs, struct halt_answer *ret, struct err *e)
{
        const char *txid = "", *checksum = "";
        json_int_t ttl_ms = 0;
        json_t *json = json_loadb(rs->body, rs->body_size, 0, NULL);
        int r = json_unpack(json, "{s:{s:s, s:s}, s:I}", "pos", "TXID", &txid, "PostApplyChecksum",
                            &checksum, "ttlMS", &ttl_ms);

        if (json == NULL || r < 0 || ltx_txid_parse(txid, &ret->pos.txid) < 0 ||
            ltx_txid_parse(checksum, &ret->pos.checksum) < 0 || ttl_ms <= 0)
                r = err_text(e, -EPROTO, "the primary's answer to POST /halt is not understood");
        ret->ttl_ms = ttl_ms;
        json_decref(json);
        return r < 0 ? -EPROTO : 0;
}

static int
ask_for_halt(struct halt_client *c, const struct halt_target *t, bool is_renewal, int64_t timeout_ms,
             struct halt_answer *ret, struct err *e)
{
        char url[URL_MAX];
        struct http_request rq = { .method = "POST",
                                   .url = url,
                                   .timeout_ms = timeout_ms,
                                   .connect_timeout_ms = CONNECT_MS,
                                   .max_response_size = ANSWER_MAX };
        struct http_response rs;
        int r;

        make_url(t, "/halt", is_renewal ? "renew=true&id" : "id", url);
        r = request(c, &rq, &rs, e);
        if (r == 0)
                r = check(&rs, e);
        return r < 0 ? r : parse_answer(&rs, ret, e);
}

int
halt_client_acquire(struct halt_client *c, const struct halt_target *t, int64_t timeout_ms,
                    struct halt_answer *ret, struct err *e)
{
        return ask_for_halt(c, t, false, timeout_ms, ret, e);
}

int
halt_client_renew(struct halt_client *c, const struct halt_target *t, int64_t timeout_ms,
                  struct halt_answer *ret, struct err *e)
{
        return ask_for_halt(c, t, true, timeout_ms, ret, e);
}

int
halt_client_release(struct halt_client *c, const struct halt_target *t, int64_t timeout_ms,
                    struct err *e)
{
        char url[URL_MAX];
        struct http_request rq = { .method = "DELETE",
                                   .url = url,
                                   .timeout_ms = timeout_ms,
                                   .connect_timeout_ms = timeout_ms,
                                   .max_response_size = ANSWER_MAX };
        struct http_response rs;
        int r;

        make_url(t, "/halt", "id", url);
        r = request(c, &rq, &rs, e);
        return r < 0 ? r : check(&rs, e);
}

static int
rewind_spool(struct byte_src *src)
{
        ((struct spool_src *)src)->off = 0;
        return 0;
}

int
halt_client_send(struct halt_client *c, const struct halt_target *t, const struct received *rx,
                 int64_t timeout_ms, struct err *e)
{
        char url[URL_MAX];
        struct spool_src src = spool_source(&rx->ltx);
        struct http_request rq = { .method = "POST",
                                   .url = url,
                                   .body_size = (size_t)rx->ltx.size_bytes,
                                   .source = &src.base,
                                   .rewind = rewind_spool,
                                   .timeout_ms = timeout_ms,
                                   .connect_timeout_ms = CONNECT_MS,
                                   .max_response_size = ANSWER_MAX };
        struct http_response rs;
        int r;

        make_url(t, "/tx", "lockID", url);
        r = request(c, &rq, &rs, e);
        return r < 0 ? r : check(&rs, e);
}
