/* Requests to the service, and the time that a call has for them. */
#include <errno.h>
#include <string.h>

#include "lease/kv_lease.h"

#define MAX_ANSWER_SIZE (64 * 1024) /* answers are a key or two */

int64_t
kv_begin(struct kv_lease *kv)
{
        int64_t now_ms = clock_boot_ms(kv->clock);

        kv->call_end_ms = now_ms + kv->timeout_ms;
        return now_ms;
}

int64_t
kv_left_ms(const struct kv_lease *kv)
{
        int64_t left_ms = kv->call_end_ms - clock_boot_ms(kv->clock);

        return left_ms > 0 ? left_ms : 0;
}

int
kv_request(struct kv_lease *kv, const char *method, const char *url, const char *body,
           int64_t timeout_ms, struct http_response *ret, struct err *e)
{
        static const char *const json_headers[] = { "Content-Type: application/json", NULL };
        struct http_request q = { .method = method,
                                  .url = url,
                                  .body = body,
                                  .body_size = body != NULL ? strlen(body) : 0,
                                  .max_response_size = MAX_ANSWER_SIZE,
                                  .headers = body != NULL ? json_headers : NULL,
                                  .number_header = kv->index_header,
                                  /* Only the caller knows what it means that one was lost. */
                                  .is_sent_once = strcmp(method, "GET") != 0 };
        int64_t left_ms = kv_left_ms(kv);

        if (left_ms == 0)
                return err_text(e, -ETIMEDOUT, "%s %s: no time left of %lld ms", method, url,
                                (long long)kv->timeout_ms);
        q.timeout_ms = timeout_ms < left_ms ? timeout_ms : left_ms;
        return http_client_do(kv->http, &q, ret, e);
}

int
kv_watch_request(struct kv_lease *kv, const struct http_request *q, struct http_response *ret,
                 struct err *e)
{
        return http_client_do(kv->watch_http, q, ret, e);
}

int
kv_refused(const char *method, const char *url, const struct http_response *answer, struct err *e)
{
        int code = answer->status == 401 || answer->status == 403 ? -EACCES : -EPROTO;
        const char *end = memchr(answer->body, '\n', answer->body_size);
        size_t n = end != NULL ? (size_t)(end - answer->body) : answer->body_size;
        char words[160];

        kv_printable(answer->body, n, words, sizeof words);
        return err_text(e, code, "%s %s: status %d%s%s", method, url, answer->status,
                        words[0] != '\0' ? ": " : "", words);
}

json_t *
kv_json(const struct http_response *answer, const char *url, struct err *e)
{
        json_error_t error;
        json_t *j = json_loadb(answer->body, answer->body_size, 0, &error);

        if (j == NULL)
                err_text(e, -EPROTO, "%s: the answer is not JSON: %s", url, error.text);
        return j;
}
