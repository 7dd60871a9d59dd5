/* links: litefs_proxy_message */
/* Requests as a client sends them to the proxy. The first byte: 0, all at once; n, also in slices of n bytes, with the
 * same result. What goes on to the application is read again: it is one request, with the length that it came with. */
#include <stdlib.h>
#include <string.h>

#include "proxy/cookie.h"
#include "proxy/pattern.h"
#include "proxy/rewrite.h"
#include "tests/fuzz/target.h"

static void
keep_body(void *arg, const uint8_t *data, size_t n)
{
        text_add(arg, (const char *)data, n);
}

static void
no_body(void *arg, const uint8_t *data, size_t n)
{
        (void)arg;
        (void)data;
        FUZZ_CHECK(n == 0);
}

/* The head that the application gets means what the client's did. */
static void
check_rewritten(const struct reader *request, const struct text *head, enum framing framing)
{
        enum reader_event event;
        struct reader again;

        reader_init(&again, HTTP_REQUEST, no_body, NULL);
        FUZZ_CHECK(reader_feed(&again, (const uint8_t *)head->s, head->n, &event) == head->n);
        FUZZ_CHECK(event == READER_HEAD);
        FUZZ_CHECK(again.method == request->method && again.is_upgrade == request->is_upgrade);
        FUZZ_CHECK(again.is_chunked == (framing == FRAMING_CHUNKED) &&
                   again.is_chunked == request->is_chunked);
        FUZZ_CHECK(again.has_length == request->has_length && again.length == request->length);
        FUZZ_CHECK(head_find(&again.head, "host", NULL) == 1);
        FUZZ_CHECK(head_find(&again.head, "x-forwarded-for", NULL) == 1);
        FUZZ_CHECK(head_find(&again.head, REWRITE_SENT_ON, NULL) == 0);
        reader_release(&again);
}

static void
take_head(struct text *out, const struct reader *request)
{
        struct request_target target;
        struct request_rewrite how = { .target = &target,
                                       .client = "1.2.3.4",
                                       .default_host = "app:80" };
        const char *reason = NULL;
        struct text head = { 0 };
        struct cookie cookie;
        enum framing framing;
        char *path;

        if (rewrite_check(request, &target, &reason) != 0) {
                FUZZ_CHECK(reason != NULL);
                return;
        }
        path = malloc(target.path.n + 1);
        if (path == NULL)
                abort();
        FUZZ_CHECK(pattern_path(target.path, path).n <= target.path.n);
        free(path);
        if (cookie_find(&request->head, &cookie))
                FUZZ_CHECK(cookie.n > 0 && cookie.n <= COOKIE_MAX_DBS);
        framing = rewrite_request(&head, request, &how);
        FUZZ_CHECK(!head.is_cut);
        check_rewritten(request, &head, framing);
        text_add(out, head.s, head.n);
        text_release(&head);
}

/* All that the requests in the stream mean, up to the one that is refused. */
static struct text
read_all(const uint8_t *data, size_t size, size_t step)
{
        struct text out = { 0 }, body = { 0 };
        struct reader r;
        size_t at = 0;

        reader_init(&r, HTTP_REQUEST, keep_body, &body);
        while (at < size) {
                size_t n = size - at < step ? size - at : step, used;
                enum reader_event event;

                used = reader_feed(&r, data + at, n, &event);
                FUZZ_CHECK(used <= n && (event != READER_MORE || used == n));
                at += used;
                if (event == READER_HEAD)
                        take_head(&out, &r);
                if (event == READER_FAILED) {
                        FUZZ_CHECK(r.reason != NULL && r.status >= 400 && r.status < 600);
                        text_printf(&out, "refused");
                        break;
                }
                if (event == READER_END || (event == READER_HEAD && r.is_end)) {
                        text_printf(&out, "%zu ", body.n);
                        if (body.n > 0)
                                text_add(&out, body.s, body.n);
                        text_release(&body);
                        if (r.is_upgrade)
                                break;
                        reader_next(&r);
                }
        }
        text_release(&body); /* of one that did not end: how much came of it depends on the slices */
        reader_release(&r);
        return out;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct text whole, sliced;

        if (size < 1)
                return 0;
        whole = read_all(data + 1, size - 1, size);
        if (data[0] > 0) {
                sliced = read_all(data + 1, size - 1, data[0]);
                FUZZ_CHECK(whole.n == sliced.n &&
                           (whole.n == 0 || memcmp(whole.s, sliced.s, whole.n) == 0));
                text_release(&sliced);
        }
        text_release(&whole);
        return 0;
}
