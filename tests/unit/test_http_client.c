/* links: litefs_net */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "net/http_client.h"
#include "tests/lib/run.h"

#define MAX_RESPONSE 4096

/* --- a server that answers each request with the next text, up to NULL --- */

struct server {
        const char *const *answers;
        int listener, port;
        int n_connections, n_requests;
        bool is_closing; /* after each answer, as a server without keep-alive does */
        int breaks_at;   /* closes the connection instead of answering this request, from 1; 0: none */
        bool is_holding; /* after each answer says no more, until the client has gone */
        char request[8192]; /* the last */
        pthread_t thread;
};

/* Reads one request with its body; false: the client is gone. */
static bool
read_request(struct server *s, int fd)
{
        char text[sizeof s->request];
        size_t n = 0, want = 0;

        memset(text, 0, sizeof text);
        while (want == 0 || n < want) {
                ssize_t got = read(fd, text + n, sizeof text - 1 - n);
                const char *end, *length;

                if (got <= 0)
                        return false;
                n += (size_t)got;
                end = strstr(text, "\r\n\r\n");
                length = strcasestr(text, "\r\nContent-Length: ");
                if (end != NULL)
                        want = (size_t)(end + 4 - text) +
                               (length != NULL ? strtoul(length + 18, NULL, 10) : 0);
        }
        memcpy(s->request, text, sizeof text); /* read by the test once it has the answer */
        s->n_requests++;
        return true;
}

static void
serve_connection(struct server *s, int fd)
{
        char byte;

        while (read_request(s, fd)) {
                const char *answer = s->answers[s->n_requests - 1];

                if (s->n_requests == s->breaks_at)
                        return;
                if (write(fd, answer, strlen(answer)) < 0 || s->is_closing ||
                    s->answers[s->n_requests] == NULL)
                        break;
        }
        while (s->is_holding && read(fd, &byte, 1) > 0)
                ;
}

static void *
serve(void *arg)
{
        struct server *s = arg;

        while (s->answers[s->n_requests] != NULL) {
                int fd = accept(s->listener, NULL, NULL);

                if (fd < 0)
                        break;
                s->n_connections++;
                serve_connection(s, fd);
                close(fd);
        }
        return NULL;
}

static void
server_start(struct server *s, const char *const *answers)
{
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t n = sizeof a;

        s->answers = answers;
        s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ck_assert_int_eq(bind(s->listener, (struct sockaddr *)&a, sizeof a), 0);
        ck_assert_int_eq(listen(s->listener, 8), 0);
        ck_assert_int_eq(getsockname(s->listener, (struct sockaddr *)&a, &n), 0);
        s->port = ntohs(a.sin_port);
        ck_assert_int_eq(pthread_create(&s->thread, NULL, serve, s), 0);
}

/* After the client is freed: a server that holds waits for that. */
static void
server_stop(struct server *s)
{
        shutdown(s->listener, SHUT_RDWR);
        pthread_join(s->thread, NULL);
        close(s->listener);
}

/* --- a client --- */

static struct http_client *
new_client(const char *const *headers)
{
        struct http_client_options options = { .headers = headers };
        struct http_client *c;

        ck_assert_int_eq(http_client_new(&options, &c, NULL), 0);
        return c;
}

static int
ask(struct http_client *c, int port, const char *method, const char *body, struct http_response *ret,
    struct err *e)
{
        char url[64];
        struct http_request q = { .method = method,
                                  .url = url,
                                  .body = body,
                                  .body_size = body != NULL ? strlen(body) : 0,
                                  .timeout_ms = 5000,
                                  .max_response_size = MAX_RESPONSE };

        snprintf(url, sizeof url, "http://127.0.0.1:%d/v1/x", port);
        return http_client_do(c, &q, ret, e);
}

/* One request to a server that has @answer only. */
static int
ask_once(const char *answer, struct http_response *ret, char body[MAX_RESPONSE + 1], struct err *e)
{
        const char *const answers[] = { answer, NULL };
        struct server s = { .port = 0 };
        struct http_client *c = new_client(NULL);
        int r;

        server_start(&s, answers);
        r = ask(c, s.port, "GET", NULL, ret, e);
        if (r == 0)
                memcpy(body, ret->body, ret->body_size + 1);
        http_client_free(c);
        server_stop(&s);
        return r;
}

static int64_t
now_ms(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

#define OK(body_size, body) "HTTP/1.1 200 OK\r\nContent-Length: " body_size "\r\n\r\n" body

START_TEST(answer_has_status_and_body)
{
        struct http_response a;
        char body[MAX_RESPONSE + 1];

        ck_assert_int_eq(ask_once(OK("5", "hello"), &a, body, NULL), 0);
        ck_assert_int_eq(a.status, 200);
        ck_assert_uint_eq(a.body_size, 5);
        ck_assert_str_eq(body, "hello");
        ck_assert_int_eq(ask_once("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", &a, body, NULL),
                         0);
        ck_assert_int_eq(a.status, 404);
        ck_assert_str_eq(body, "");
        /* of unknown length, ended by the connection */
        ck_assert_int_eq(ask_once("HTTP/1.1 500 Oops\r\n\r\nwords", &a, body, NULL), 0);
        ck_assert_int_eq(a.status, 500);
        ck_assert_str_eq(body, "words");
}
END_TEST

START_TEST(requests_share_a_connection)
{
        const char *const answers[] = { OK("1", "a"), OK("1", "b"), OK("0", ""), NULL };
        struct server s = { .port = 0 };
        struct http_client *c = new_client(NULL);
        struct http_response a;

        server_start(&s, answers);
        ck_assert_int_eq(ask(c, s.port, "GET", NULL, &a, NULL), 0);
        ck_assert_str_eq(a.body, "a");
        ck_assert_int_eq(ask(c, s.port, "PUT", "x", &a, NULL), 0);
        ck_assert_str_eq(a.body, "b");
        ck_assert_int_eq(ask(c, s.port, "GET", NULL, &a, NULL), 0);
        ck_assert_str_eq(a.body, "");
        http_client_free(c);
        server_stop(&s);
        ck_assert_int_eq(s.n_connections, 1);
}
END_TEST

START_TEST(a_closed_connection_is_opened_again)
{
        const char *const answers[] = { OK("1", "a"), OK("1", "b"), NULL };
        struct server s = { .is_closing = true };
        struct http_client *c = new_client(NULL);
        struct http_response a;

        server_start(&s, answers);
        ck_assert_int_eq(ask(c, s.port, "PUT", "1", &a, NULL), 0);
        ck_assert_int_eq(ask(c, s.port, "PUT", "2", &a, NULL), 0);
        ck_assert_str_eq(a.body, "b");
        http_client_free(c);
        server_stop(&s);
        ck_assert_int_eq(s.n_connections, 2);
}
END_TEST

START_TEST(request_is_sent_as_asked)
{
        static const char *const of_client[] = { "X-Consul-Token: t", NULL };
        const char *const answers[] = { OK("0", ""), OK("0", ""), OK("0", ""), NULL };
        struct server s = { .port = 0 };
        struct http_client *c = new_client(of_client);
        struct http_response a;

        server_start(&s, answers);
        ck_assert_int_eq(ask(c, s.port, "PUT", "the body", &a, NULL), 0);
        ck_assert_ptr_eq(strstr(s.request, "PUT /v1/x HTTP/1.1\r\n"), s.request);
        ck_assert_ptr_nonnull(strstr(s.request, "\r\nX-Consul-Token: t\r\n"));
        ck_assert_ptr_nonnull(strstr(s.request, "\r\nContent-Length: 8\r\n"));
        ck_assert_ptr_nonnull(strstr(s.request, "\r\n\r\nthe body"));
        /* without a body, and the earlier one is forgotten */
        ck_assert_int_eq(ask(c, s.port, "PUT", NULL, &a, NULL), 0);
        ck_assert_ptr_nonnull(strstr(s.request, "\r\nContent-Length: 0\r\n"));
        ck_assert_int_eq(ask(c, s.port, "GET", NULL, &a, NULL), 0);
        ck_assert_ptr_eq(strstr(s.request, "GET /v1/x HTTP/1.1\r\n"), s.request);
        ck_assert_ptr_null(strstr(s.request, "Content-Length"));
        http_client_free(c);
        server_stop(&s);
}
END_TEST

START_TEST(redirects_are_not_followed)
{
        struct http_response a;
        char body[MAX_RESPONSE + 1];

        ck_assert_int_eq(ask_once("HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:1/\r\n"
                                  "Content-Length: 0\r\n\r\n",
                                  &a, body, NULL),
                         0);
        ck_assert_int_eq(a.status, 307);
}
END_TEST

static const char *const halves[] = { "", "HTTP/1.1 200 OK\r\nContent-Le", OK("10", "half") };

START_TEST(silence_ends_at_the_deadline)
{
        const char *const answers[] = { halves[_i], NULL };
        struct server s = { .is_holding = true };
        struct http_client *c = new_client(NULL);
        struct http_response answer;
        struct err e = ERR_INIT;
        char url[64];
        struct http_request q = {
                .method = "GET", .url = url, .timeout_ms = 200, .max_response_size = 100
        };
        int64_t start_ms = now_ms();

        server_start(&s, answers);
        snprintf(url, sizeof url, "http://127.0.0.1:%d/x", s.port);
        ck_assert_int_eq(http_client_do(c, &q, &answer, &e), -ETIMEDOUT);
        ck_assert_int_ge(now_ms() - start_ms, 190);
        ck_assert_int_lt(now_ms() - start_ms, 2000);
        ck_assert_ptr_nonnull(strstr(e.text, "/x: no answer within "));
        http_client_free(c);
        server_stop(&s);
}
END_TEST

static int
take_nothing(struct byte_sink *sink, const void *buf, size_t n)
{
        (void)sink, (void)buf, (void)n;
        return 0;
}

/* Where a body may last as long as something moves, but not for ever. */
START_TEST(a_streamed_answer_ends_at_the_deadline_of_all_of_it)
{
        const char *const answers[] = { halves[_i], NULL };
        struct server s = { .is_holding = true };
        struct http_client *c = new_client(NULL);
        struct http_response answer;
        struct err e = ERR_INIT;
        char url[64];
        struct byte_sink sink = { take_nothing };
        struct http_request q = {
                .method = "GET", .url = url, .timeout_ms = 600000, .total_timeout_ms = 200, .sink = &sink
        };

        server_start(&s, answers);
        snprintf(url, sizeof url, "http://127.0.0.1:%d/x", s.port);
        ck_assert_int_eq(http_client_do(c, &q, &answer, &e), -ETIMEDOUT);
        http_client_free(c);
        server_stop(&s);
}
END_TEST

START_TEST(nobody_listens)
{
        const char *const answers[] = { OK("0", ""), NULL };
        struct server s = { .port = 0 };
        struct http_client *c = new_client(NULL);
        struct http_response a;
        struct err e = ERR_INIT;
        char want[128];

        server_start(&s, answers);
        server_stop(&s);
        ck_assert_int_eq(ask(c, s.port, "GET", NULL, &a, &e), -ECONNREFUSED);
        snprintf(want, sizeof want, "GET http://127.0.0.1:%d/v1/x: Connection refused", s.port);
        ck_assert_str_eq(e.text, want);
        http_client_free(c);
}
END_TEST

/* As large as it may be, and a byte more; with and without a length. */
START_TEST(answer_is_bounded)
{
        char text[MAX_RESPONSE + 128], body[MAX_RESPONSE + 1];
        struct http_response a;
        struct err e = ERR_INIT;

        for (size_t size = MAX_RESPONSE; size <= MAX_RESPONSE + 1; size++) {
                int n = _i == 0 ? snprintf(text, sizeof text,
                                           "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", size)
                                : snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\n\r\n");

                memset(text + n, 'x', size);
                text[(size_t)n + size] = '\0';
                if (size == MAX_RESPONSE) {
                        ck_assert_int_eq(ask_once(text, &a, body, NULL), 0);
                        ck_assert_uint_eq(a.body_size, MAX_RESPONSE);
                } else {
                        ck_assert_int_eq(ask_once(text, &a, body, &e), -EMSGSIZE);
                        ck_assert_ptr_nonnull(strstr(e.text, "larger than 4096 bytes"));
                }
        }
}
END_TEST

START_TEST(what_is_not_http_is_an_error)
{
        struct http_response a;
        char body[MAX_RESPONSE + 1];
        struct err e = ERR_INIT;

        ck_assert_int_eq(ask_once("SSH-2.0-OpenSSH_9.2p1\r\n", &a, body, &e), -EPROTO);
        /* ended before its length */
        ck_assert_int_eq(ask_once(OK("10", "half"), &a, body, &e), -EIO);
}
END_TEST

START_TEST(only_http)
{
        struct http_client *c = new_client(NULL);
        struct http_request q = { .method = "GET",
                                  .url = "file:///etc/passwd",
                                  .timeout_ms = 1000,
                                  .max_response_size = 100000 };
        struct http_response a;
        struct err e = ERR_INIT;

        ck_assert_int_eq(http_client_do(c, &q, &a, &e), -EPROTO);
        http_client_free(c);
}
END_TEST

START_TEST(an_error_does_not_spoil_the_next_request)
{
        const char *const answers[] = { "HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nx",
                                        OK("1", "b"), NULL };
        struct server s = { .is_closing = true };
        struct http_client *c = new_client(NULL);
        struct http_response a;

        server_start(&s, answers);
        ck_assert_int_eq(ask(c, s.port, "GET", NULL, &a, NULL), -EMSGSIZE);
        ck_assert_int_eq(ask(c, s.port, "GET", NULL, &a, NULL), 0);
        ck_assert_str_eq(a.body, "b");
        http_client_free(c);
        server_stop(&s);
}
END_TEST

START_TEST(missing_files_are_named)
{
        struct http_client_options ca = { .ca = "/nonexistent/ca.pem" };
        struct http_client_options key = { .cert_key = "/dev/null" };
        struct http_client *c;
        struct err e = ERR_INIT;

        ck_assert_int_eq(http_client_new(&ca, &c, &e), -EINVAL);
        ck_assert_str_eq(e.text, "/nonexistent/ca.pem: No such file or directory");
        ck_assert_int_eq(http_client_new(&key, &c, &e), -EINVAL);
        ck_assert_str_eq(e.text, "/dev/null: a client key without a certificate");
}
END_TEST

/* --- URLs --- */

static const struct {
        const char *text, *base, *path, *user, *password; /* base NULL: refused */
} urls[] = {
        { "http://127.0.0.1:8500", "http://127.0.0.1:8500", "/", "", "" },
        { "https://consul.example.com", "https://consul.example.com", "/", "", "" },
        { "http://h:1/a/b/", "http://h:1", "/a/b/", "", "" },
        { "http://h/a%20b", "http://h", "/a b", "", "" },
        { "http://:secret@h:1/p", "http://h:1", "/p", "", "secret" },
        { "http://u:p%40q@h", "http://h", "/", "u", "p@q" },
        { "http://[::1]:8500", "http://[::1]:8500", "/", "", "" },
        { "HTTP://h", "http://h", "/", "", "" },
        { "", NULL, "", "", "" },
        { "h:8500", NULL, "", "", "" },
        { "127.0.0.1:8500", NULL, "", "", "" },
        { "ftp://h", NULL, "", "", "" },
        { "http://", NULL, "", "", "" },
        { "http://h:port", NULL, "", "", "" },
        { "http://h:70000", NULL, "", "", "" },
        { "http://h/?q=1", NULL, "", "", "" },
        { "http://h/#f", NULL, "", "", "" },
        { "http://h/%00", NULL, "", "", "" },
        { "http://h/%0a", NULL, "", "", "" },
        { "http://a b", NULL, "", "", "" },
};

START_TEST(url_is_taken_apart)
{
        struct http_url u;
        struct err e = ERR_INIT;
        int r = http_url_parse(urls[_i].text, &u, &e);

        if (urls[_i].base == NULL) {
                ck_assert_int_eq(r, E_CONFIG);
                ck_assert_str_ne(e.text, "");
                return;
        }
        ck_assert_msg(r == 0, "%s: %s", urls[_i].text, e.text);
        ck_assert_str_eq(u.base, urls[_i].base);
        ck_assert_str_eq(u.path, urls[_i].path);
        ck_assert_str_eq(u.user, urls[_i].user);
        ck_assert_str_eq(u.password, urls[_i].password);
}
END_TEST

START_TEST(a_long_url_is_refused)
{
        char text[2048] = "http://h/";
        struct http_url u;

        memset(text + 9, 'x', sizeof text - 10);
        ck_assert_int_eq(http_url_parse(text, &u, NULL), E_CONFIG);
}
END_TEST

struct text_src {
        struct byte_src base;
        const char *text;
        size_t off;
};

static ssize_t
read_text(struct byte_src *src, void *buf, size_t n)
{
        struct text_src *t = (struct text_src *)src;
        size_t left = strlen(t->text) - t->off;

        n = n < left ? n : left;
        memcpy(buf, t->text + t->off, n);
        t->off += n;
        return (ssize_t)n;
}

static int
rewind_text(struct byte_src *src)
{
        ((struct text_src *)src)->off = 0;
        return 0;
}

/* The server closes a kept connection as the next request arrives there: it goes to a new one, from its first byte; and
 * where the source cannot be rewound, the client is as good as before. */
START_TEST(body_of_a_source_is_sent_again)
{
        static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        static const char *const answers[] = { ok, "never sent", ok, ok, NULL };
        struct server s = { .breaks_at = 2 };
        struct text_src src = { { read_text }, "the whole body", 0 };
        struct http_request q = { .method = "POST",
                                  .body_size = strlen(src.text),
                                  .source = &src.base,
                                  .rewind = _i == 0 ? rewind_text : NULL,
                                  .timeout_ms = 5000,
                                  .max_response_size = MAX_RESPONSE };
        struct http_response rs;
        struct http_client *c;
        struct err e = ERR_INIT;
        char url[64];

        server_start(&s, answers);
        snprintf(url, sizeof url, "http://127.0.0.1:%d/tx", s.port);
        q.url = url;
        c = new_client(NULL);
        ck_assert_int_eq(ask(c, s.port, "GET", NULL, &rs, &e), 0);
        if (_i == 0)
                ck_assert_msg(http_client_do(c, &q, &rs, &e) == 0, "%s", e.text);
        else
                ck_assert_int_eq(http_client_do(c, &q, &rs, &e), -EIO);
        src.off = 0;
        q.rewind = rewind_text;
        ck_assert_msg(http_client_do(c, &q, &rs, &e) == 0, "%s", e.text);
        ck_assert_ptr_nonnull(strstr(s.request, "\r\n\r\nthe whole body"));
        http_client_free(c);
        server_stop(&s);
}
END_TEST

int
main(void)
{
        TCase *t = tcase_create("http_client");

        tcase_set_timeout(t, 30);
        tcase_add_test(t, answer_has_status_and_body);
        tcase_add_test(t, requests_share_a_connection);
        tcase_add_test(t, a_closed_connection_is_opened_again);
        tcase_add_test(t, request_is_sent_as_asked);
        tcase_add_test(t, redirects_are_not_followed);
        tcase_add_loop_test(t, silence_ends_at_the_deadline, 0, (int)(sizeof halves / sizeof halves[0]));
        tcase_add_loop_test(t, a_streamed_answer_ends_at_the_deadline_of_all_of_it, 0,
                            (int)(sizeof halves / sizeof halves[0]));
        tcase_add_test(t, nobody_listens);
        tcase_add_loop_test(t, answer_is_bounded, 0, 2);
        tcase_add_test(t, what_is_not_http_is_an_error);
        tcase_add_test(t, only_http);
        tcase_add_test(t, an_error_does_not_spoil_the_next_request);
        tcase_add_test(t, missing_files_are_named);
        tcase_add_loop_test(t, url_is_taken_apart, 0, (int)(sizeof urls / sizeof urls[0]));
        tcase_add_loop_test(t, body_of_a_source_is_sent_again, 0, 2);
        tcase_add_test(t, a_long_url_is_refused);
        return run_tests("http_client", t);
}
