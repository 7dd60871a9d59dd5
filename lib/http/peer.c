/* Requests to another node of the cluster. They wait: workers only. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "http/api_internal.h"
#include "net/http_client.h"

int
api_ask_peer(const struct api *a, const struct http_request *rq, bool has_token, struct text *ret,
             struct err *e)
{
        char header[600], token[TOKEN_SIZE] = "";
        const char *headers[] = { header, NULL };
        struct http_client_options options = { 0 };
        struct http_client *client;
        struct http_response rs;
        int r;

        if (a->config.peer_http != NULL)
                options = *a->config.peer_http;
        if (has_token)
                token_get(a->config.token, token);
        if (token[0] != '\0') {
                snprintf(header, sizeof header, "Authorization: Bearer %s", token);
                options.headers = headers;
        }
        r = http_client_new(&options, &client, e);
        if (r < 0)
                return r;
        r = http_client_do(client, rq, &rs, e);
        if (r == 0 && rs.status != 200)
                r = err_text(e, -EIO, "%.*s", (int)strcspn(rs.body, "\r\n"), rs.body);
        if (r == 0)
                text_add(ret, rs.body, rs.body_size);
        if (r == 0 && ret->is_cut)
                r = err_set(e, -ENOMEM, "keep an answer");
        http_client_free(client);
        return r;
}
