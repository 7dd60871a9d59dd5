/* What the proxy takes for a message, and the heads that it makes of it: lib/proxy/reader.h and rewrite.h. */
/* links: litefs_proxy_message */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/rewrite.h"
#include "tests/lib/run.h"

struct message {
        struct reader r;
        char body[256];
        size_t n_body;
        enum reader_event event;
        size_t used;
};

static void
on_body(void *arg, const uint8_t *data, size_t n)
{
        struct message *m = arg;

        ck_assert_uint_le(m->n_body + n, sizeof m->body - 1);
        memcpy(m->body + m->n_body, data, n);
        m->n_body += n;
}

/* Reads one message, @step bytes at a time. */
static struct message *
read_message(enum http_parser_type type, const char *s, size_t step)
{
        struct message *m = calloc(1, sizeof *m);
        size_t n = strlen(s);

        reader_init(&m->r, type, on_body, m);
        while (m->used < n) {
                size_t left = n - m->used;
                size_t given = left < step ? left : step;
                /* Exactly as long, so that a sanitizer sees who reads on. */
                uint8_t *piece = malloc(given);

                memcpy(piece, s + m->used, given);
                m->used += reader_feed(&m->r, piece, given, &m->event);
                free(piece);
                if (m->event == READER_FAILED || m->event == READER_END ||
                    (m->event == READER_HEAD && m->r.is_end))
                        break;
        }
        return m;
}

static void
message_free(struct message *m)
{
        reader_release(&m->r);
        free(m);
}

#define GET "GET / HTTP/1.1\r\nHost: x\r\n"
#define POST "POST / HTTP/1.1\r\nHost: x\r\n"

START_TEST(body_comes_without_its_framing)
{
        static const char *const chunked = POST
                "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: t\r\n\r\n";

        for (size_t step = 1; step < 200; step += 7) {
                struct message *m = read_message(HTTP_REQUEST, chunked, step);

                ck_assert_int_eq(m->event, READER_END);
                ck_assert_str_eq(m->body, "abcde");
                ck_assert_uint_eq(m->used, strlen(chunked));
                ck_assert_uint_eq(m->r.head.n_fields, 2); /* a trailer is no field of the head */
                message_free(m);
                m = read_message(HTTP_REQUEST, POST "Content-Length: 3\r\n\r\nabcGET", step);
                ck_assert_int_eq(m->event, READER_END);
                ck_assert_str_eq(m->body, "abc");
                ck_assert_uint_eq(m->used, strlen(POST "Content-Length: 3\r\n\r\nabc"));
                message_free(m);
        }
}
END_TEST

START_TEST(several_requests_one_after_the_other)
{
        static const char two[] = GET "\r\n" POST "Content-Length: 0\r\n\r\n";
        struct message *m = read_message(HTTP_REQUEST, two, sizeof two);
        enum reader_event event;

        ck_assert_int_eq(m->event, READER_HEAD);
        ck_assert(m->r.is_end && m->r.is_keep_alive);
        ck_assert_uint_eq(m->used, strlen(GET "\r\n"));
        reader_next(&m->r);
        m->used += reader_feed(&m->r, (const uint8_t *)two + m->used, strlen(two) - m->used, &event);
        ck_assert_int_eq(event, READER_HEAD);
        ck_assert(m->r.is_end && m->r.has_length);
        ck_assert_uint_eq(m->r.method, HTTP_POST);
        ck_assert_uint_eq(m->used, strlen(two));
        message_free(m);
}
END_TEST

static const struct {
        const char *text;
        int status;
} bad_requests[] = {
        { POST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400 },
        { POST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400 },
        { POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400 },
        { POST "Content-Length: 3, 3\r\n\r\nabc", 400 },
        { POST "Content-Length: +3\r\n\r\nabc", 400 },
        { POST "Content-Length: -3\r\n\r\nabc", 400 },
        { POST "Content-Length: 0x3\r\n\r\nabc", 400 },
        { POST "Content-Length: 3 3\r\n\r\nabc", 400 },
        { POST "Content-Length:\r\n\r\nabc", 400 },
        { POST "Content-Length: 18446744073709551619\r\n\r\nabc", 400 },
        { POST "Content-Length: 99999999999999999999999\r\n\r\nabc", 400 },
        { POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501 },
        { POST "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501 },
        { POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501 },
        { POST "Transfer-Encoding: identity\r\n\r\n", 501 },
        { POST "Transfer-Encoding:\r\n\r\n", 501 },
        { POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501 },
        { POST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400 },
        { POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400 },
        { POST "Transfer\tEncoding: chunked\r\n\r\n0\r\n\r\n", 400 },
        { POST "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400 },
        { POST "Transfer-Encoding: chunked\r\n\r\n-1\r\n", 400 },
        { POST "Transfer-Encoding: chunked\r\n\r\n3\rXabc\r\n0\r\n\r\n", 400 },
        { POST "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", 400 },
        { POST "Transfer-Encoding: chunked\r\n\r\n3;\n\r\nabc\r\n0\r\n\r\n", 400 },
        { POST "Transfer-Encoding: chunked\r\n\r\n3\r\nabcXX0\r\n\r\n", 400 },
        { POST "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n", 400 },
        { POST "Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n", 400 },
        { POST "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", 400 },
        { POST "Transfer-Encoding: chunked\r\n\r\n\r\n", 400 },
        { POST "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\r\n", 400 },
        { POST "Transfer-Encoding: chunked\r\n\r\n0\r\n\rX", 400 },
        { "GET / HTTP/1.1\nHost: x\n\n", 400 },
        { GET "A: b\nC: d\r\n\r\n", 400 },
        { GET "\n", 400 },
        { GET "\rX", 400 },
        { POST "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", 400 },
        { "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400 },
        { GET " folded\r\n\r\n", 400 },
        { GET "A: b\r\n folded\r\n\r\n", 400 },
        { GET "A: b\rc\r\n\r\n", 400 },
        { GET "A: b\x01\r\n\r\n", 400 },
        { GET "A\x80: b\r\n\r\n", 400 },
        { GET ": b\r\n\r\n", 400 },
        { GET "no colon\r\n\r\n", 400 },
        { "GET / HTTP/2.0\r\n\r\n", 505 },
        { "GET / HTTP/1.2\r\n\r\n", 505 },
        { "GET /\r\n\r\n", 505 },
        { "BREW / HTTP/1.1\r\n\r\n", 501 },
        { "GET  / HTTP/1.1 x\r\n\r\n", 505 },
        { "\x16\x03\x01\x02", 501 },
};

START_TEST(ambiguous_requests_are_refused)
{
        size_t steps[] = { 10000, 1, 5 };

        for (int i = 0; i < COUNT(steps); i++) {
                struct message *m = read_message(HTTP_REQUEST, bad_requests[_i].text, steps[i]);

                ck_assert_msg(m->event == READER_FAILED, "%s was taken, %zu at a time",
                              bad_requests[_i].text, steps[i]);
                ck_assert_msg(m->r.status == bad_requests[_i].status ||
                                      (bad_requests[_i].status == 501 && m->r.status == 400),
                              "%s: %d %s", bad_requests[_i].text, m->r.status, m->r.reason);
                message_free(m);
        }
}
END_TEST

START_TEST(heads_are_bounded)
{
        char *big = calloc(1, 200000);
        char *p = big + sprintf(big, GET "A: ");
        struct message *m;

        memset(p, 'a', 70000);
        strcpy(p + 70000, "\r\n\r\n");
        m = read_message(HTTP_REQUEST, big, 1000);
        ck_assert_int_eq(m->event, READER_FAILED);
        ck_assert_int_eq(m->r.status, 431);
        ck_assert_uint_lt(m->used, 70000);
        message_free(m);
        p = big + sprintf(big, GET);
        for (unsigned i = 0; i <= HEAD_MAX_FIELDS; i++)
                p += sprintf(p, "A: b\r\n");
        m = read_message(HTTP_REQUEST, big, 1000);
        ck_assert_int_eq(m->event, READER_FAILED);
        ck_assert_int_eq(m->r.status, 431);
        message_free(m);
        free(big);
}
END_TEST

/* --- heads --- */

static void
check_request(const char *in, const struct request_rewrite *how, const char *want)
{
        struct message *m = read_message(HTTP_REQUEST, in, 10000);
        struct request_target target;
        struct request_rewrite h = *how;
        struct text out = { 0 };
        const char *reason = NULL;

        ck_assert_int_ne(m->event, READER_FAILED);
        ck_assert_int_eq(rewrite_check(&m->r, &target, &reason), 0);
        h.target = &target;
        rewrite_request(&out, &m->r, &h);
        ck_assert_str_eq(out.s, want);
        text_release(&out);
        message_free(m);
}

START_TEST(request_head_is_made_anew)
{
        static const struct request_rewrite how = { .client = "1.2.3.4", .default_host = "app:80" };
        static const struct request_rewrite hop = { .client = "1.2.3.4", .is_sent_on = true };
        static const struct request_rewrite peer = { .client = NULL };

        check_request(
                "GET /a?b HTTP/1.1\r\nA: 1\r\nHost: x\r\nConnection: close, X-Drop\r\nKeep-Alive: 5\r\n"
                "X-Drop: y\r\nTE: trailers\r\nUpgrade: h2c\r\nProxy-Authorization: p\r\na: 2\r\n"
                "Litefs-Proxy-Hop: 9\r\n\r\n",
                &how,
                "GET /a?b HTTP/1.1\r\nHost: x\r\nA: 1\r\na: 2\r\nX-Forwarded-For: 1.2.3.4\r\n"
                "X-Forwarded-Host: x\r\nX-Forwarded-Proto: http\r\n\r\n");
        check_request(
                "POST / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Host: y\r\n"
                "x-forwarded-for: 8.8.8.8\r\nX-Forwarded-Proto: https\r\nContent-Length: 007\r\n\r\n",
                &hop,
                "POST / HTTP/1.1\r\nHost: x\r\nX-Forwarded-Host: y\r\nX-Forwarded-Proto: https\r\n"
                "X-Forwarded-For: 9.9.9.9, 8.8.8.8, 1.2.3.4\r\nLitefs-Proxy-Hop: 2\r\n"
                "Content-Length: 7\r\n\r\n");
        check_request(
                "PUT http://y:8/p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", &how,
                "PUT /p HTTP/1.1\r\nHost: y:8\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: y:8\r\n"
                "X-Forwarded-Proto: http\r\nTransfer-Encoding: chunked\r\n\r\n");
        check_request("GET / HTTP/1.0\r\n\r\n", &how,
                      "GET / HTTP/1.1\r\nHost: app:80\r\nX-Forwarded-For: 1.2.3.4\r\n"
                      "X-Forwarded-Proto: http\r\n\r\n");
        check_request(
                "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
                "Sec-WebSocket-Key: k\r\n\r\n",
                &how,
                "GET /ws HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Key: k\r\nX-Forwarded-For: 1.2.3.4\r\n"
                "X-Forwarded-Host: x\r\nX-Forwarded-Proto: http\r\nConnection: Upgrade\r\n"
                "Upgrade: websocket\r\n\r\n");
        /* Who names a field of ours in Connection does not keep it from the application. */
        check_request("GET / HTTP/1.1\r\nHost: x\r\nConnection: X-Forwarded-For, Host\r\n\r\n", &how,
                      "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: x\r\n"
                      "X-Forwarded-Proto: http\r\n\r\n");
        check_request("GET / HTTP/1.1\r\nHost: x\r\nConnection: X-Forwarded-Proto, X-Y\r\nX-Y: z\r\n"
                      "X-Forwarded-Host: y\r\nX-Forwarded-Proto: https\r\n\r\n",
                      &how,
                      "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-Host: y\r\nX-Forwarded-Proto: https\r\n"
                      "X-Forwarded-For: 1.2.3.4\r\n\r\n");
        /* Another proxy of ours has told of the client, or had nothing to tell. */
        check_request("GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 8.8.8.8, 9.9.9.9\r\n"
                      "X-Forwarded-Host: y\r\nX-Forwarded-Proto: https\r\nLitefs-Proxy-Hop: 2\r\n\r\n",
                      &peer,
                      "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-Host: y\r\nX-Forwarded-Proto: https\r\n"
                      "X-Forwarded-For: 8.8.8.8, 9.9.9.9\r\n\r\n");
        check_request(
                "GET / HTTP/1.1\r\nHost: x\r\n\r\n", &peer,
                "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-Host: x\r\nX-Forwarded-Proto: http\r\n\r\n");
}
END_TEST

START_TEST(requests_that_cannot_be_served)
{
        static const struct {
                const char *text;
                int status;
        } cases[] = {
                { "GET / HTTP/1.1\r\n\r\n", 400 },
                { "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400 },
                { "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501 },
                { "GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400 },
                { "GET http://u@h/ HTTP/1.1\r\nHost: a\r\n\r\n", 400 },
                { "GET ftp://h/ HTTP/1.1\r\nHost: a\r\n\r\n", 400 },
                { "POST / HTTP/1.1\r\nHost: a\r\nExpect: much\r\n\r\n", 417 },
        };

        for (int i = 0; i < COUNT(cases); i++) {
                struct message *m = read_message(HTTP_REQUEST, cases[i].text, 10000);
                struct request_target target;
                const char *reason = NULL;

                ck_assert_msg(m->event == READER_HEAD, "%s: %s", cases[i].text, m->r.reason);
                ck_assert_int_eq(rewrite_check(&m->r, &target, &reason), cases[i].status);
                ck_assert_ptr_nonnull(reason);
                message_free(m);
        }
}
END_TEST

static void
check_response(const char *in, struct response_rewrite how, enum framing framing, bool is_keep_alive,
               const char *want)
{
        struct message *m = read_message(HTTP_RESPONSE, in, 10000);
        struct text out = { 0 };

        ck_assert_msg(m->event != READER_FAILED, "%s: %s", in, m->r.reason);
        ck_assert_int_eq(rewrite_response(&out, &m->r, &how), framing);
        ck_assert_int_eq(how.is_keep_alive, is_keep_alive);
        ck_assert_str_eq(out.s, want);
        text_release(&out);
        message_free(m);
}

START_TEST(response_head_is_made_anew)
{
        static const struct response_rewrite one = { .client_minor = 1, .is_keep_alive = true };
        static const struct response_rewrite old = { .client_minor = 0, .is_keep_alive = true };
        static const struct response_rewrite head = { .client_minor = 1,
                                                      .is_keep_alive = true,
                                                      .is_head = true };
        static const struct response_rewrite cookie = { .client_minor = 1, .cookies = { "c=d" } };

        check_response(
                "HTTP/1.1 200 Fine\r\nSet-Cookie: a\r\nContent-Length: 2\r\nConnection: close\r\n"
                "Set-Cookie: b\r\n\r\nab",
                one, FRAMING_LENGTH, true,
                "HTTP/1.1 200 Fine\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 2\r\n\r\n");
        check_response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", one,
                       FRAMING_CHUNKED, true, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        check_response("HTTP/1.0 200 OK\r\n\r\nabc", one, FRAMING_CHUNKED, true,
                       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        check_response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", old,
                       FRAMING_UNTIL_END, false, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        check_response("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", old, FRAMING_LENGTH, true,
                       "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n");
        check_response("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", head, FRAMING_NONE, true,
                       "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
        check_response("HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", one, FRAMING_NONE,
                       true, "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n");
        check_response("HTTP/1.1 204 \r\nContent-Length: 0\r\n\r\n", one, FRAMING_NONE, true,
                       "HTTP/1.1 204 \r\n\r\n");
        check_response("HTTP/1.1 100 Continue\r\n\r\n", one, FRAMING_NONE, true,
                       "HTTP/1.1 100 Continue\r\n\r\n");
        check_response(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nK: v\r\n\r\n",
                one, FRAMING_NONE, true,
                "HTTP/1.1 101 Switching Protocols\r\nK: v\r\nConnection: Upgrade\r\n"
                "Upgrade: websocket\r\n\r\n");
        check_response(
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", cookie, FRAMING_NONE, false,
                "HTTP/1.1 200 OK\r\nSet-Cookie: c=d\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}
END_TEST

START_TEST(responses_without_a_body_end_with_their_head)
{
        static const char *const cases[] = {
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\nHTTP",
                "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\nHTTP",
                "HTTP/1.1 101 Sw\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nHTTP",
                "HTTP/1.1 100 Continue\r\n\r\nHTTP",
        };

        for (int i = 0; i < COUNT(cases); i++) {
                struct message *m = read_message(HTTP_RESPONSE, cases[i], 10000);

                ck_assert_msg(m->event == READER_HEAD && m->r.is_end, "%s", cases[i]);
                ck_assert_uint_eq(m->used, strlen(cases[i]) - 4);
                message_free(m);
        }
}
END_TEST

START_TEST(end_of_stream_ends_only_what_has_no_length)
{
        struct message *m = read_message(HTTP_RESPONSE, "HTTP/1.1 200 OK\r\n\r\nabc", 4);

        ck_assert(reader_eof(&m->r));
        ck_assert_str_eq(m->body, "abc");
        message_free(m);
        m = read_message(HTTP_RESPONSE, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", 4);
        ck_assert(!reader_eof(&m->r));
        message_free(m);
        m = read_message(HTTP_RESPONSE,
                         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 4);
        ck_assert(!reader_eof(&m->r));
        message_free(m);
        m = read_message(HTTP_RESPONSE, "HTTP/1.1 200", 4);
        ck_assert(!reader_eof(&m->r));
        message_free(m);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("proxy_message");

        tcase_add_test(tc, body_comes_without_its_framing);
        tcase_add_test(tc, several_requests_one_after_the_other);
        tcase_add_loop_test(tc, ambiguous_requests_are_refused, 0, COUNT(bad_requests));
        tcase_add_test(tc, heads_are_bounded);
        tcase_add_test(tc, request_head_is_made_anew);
        tcase_add_test(tc, requests_that_cannot_be_served);
        tcase_add_test(tc, response_head_is_made_anew);
        tcase_add_test(tc, responses_without_a_body_end_with_their_head);
        tcase_add_test(tc, end_of_stream_ends_only_what_has_no_length);
        return run_tests("proxy_message", tc);
}
