/* links: litefs_loop */
/* Connections that are made, or are not. */
#include <check.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "net/conn.h"
#include "tests/lib/conn_ends.h"
#include "tests/lib/run.h"

START_TEST(refused_connection_says_so)
{
        struct sockaddr_in in = ends_loopback(0);
        socklen_t len = sizeof in;
        int fd = socket(AF_INET, SOCK_STREAM, 0); /* bound, so that nobody else listens there */

        ck_assert_int_eq(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
        ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&in, &len), 0);
        ck_assert_int_eq(ends_connect(ends_address_of(ntohs(in.sin_port)), 10000, &ends.of[0], NULL), 0);
        ck_assert(end_wait(&ends.of[0].n_closed, 1));
        ck_assert_int_eq(ends.of[0].code, -ECONNREFUSED);
        ck_assert_uint_eq(ends.of[0].n_opened, 0);
        ck_assert_msg(strstr(ends.of[0].words, ends_address_of(ntohs(in.sin_port))) != NULL, "%s",
                      ends.of[0].words);
        ck_assert_msg(strstr(ends.of[0].words, "Connection refused") != NULL, "%s", ends.of[0].words);
        close(fd);
        ends_stop();
}
END_TEST

/* A listener whose queue is full: its kernel does not answer any more. */
START_TEST(connecting_has_a_deadline)
{
        struct sockaddr_in in = ends_loopback(0);
        socklen_t len = sizeof in;
        struct timespec a, b;
        int fd = socket(AF_INET, SOCK_STREAM, 0), fill[8];

        ck_assert_int_eq(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
        ck_assert_int_eq(listen(fd, 0), 0);
        ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&in, &len), 0);
        for (int i = 0; i < COUNT(fill); i++) {
                fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
                (void)connect(fill[i], (struct sockaddr *)&in, sizeof in);
        }
        clock_gettime(CLOCK_MONOTONIC, &a);
        ck_assert_int_eq(ends_connect(ends_address_of(ntohs(in.sin_port)), 200, &ends.of[0], NULL), 0);
        ck_assert(end_wait(&ends.of[0].n_closed, 1));
        clock_gettime(CLOCK_MONOTONIC, &b);
        ck_assert_int_eq(ends.of[0].code, -ETIMEDOUT);
        ck_assert_uint_eq(ends.of[0].n_opened, 0);
        ck_assert_int_ge((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000, 190);
        for (int i = 0; i < COUNT(fill); i++)
                close(fill[i]);
        close(fd);
        ends_stop();
}
END_TEST

START_TEST(connecting_may_be_given_up)
{
        struct end out = { 0 };

        ends_listen();
        ck_assert_int_eq(ends_connect(ends_address_of(ends.port), 10000, &out, NULL), 0);
        /* Looking up, connecting or open by now: each ends the same way. */
        ck_assert_int_eq(loop_call(ends.loop, end_close_twice, &out), 0);
        ck_assert(end_wait(&out.n_closed, 1));
        ck_assert_int_eq(out.code, 0);
        ends_stop();
        ck_assert_uint_eq(out.n_closed, 1);
}
END_TEST

static int
connect_and_close(void *arg)
{
        struct end *e = arg;
        int r;

        r = conn_connect(ends.loop, NULL, ends_address_of(ends.port), 10000, NULL, &end_handler, e,
                         &e->conn, NULL);
        if (r < 0)
                return r;
        return end_close(e);
}

START_TEST(connecting_may_be_given_up_at_once)
{
        struct end out = { 0 };

        ends_listen();
        ck_assert_int_eq(loop_call(ends.loop, connect_and_close, &out), 0);
        ck_assert(end_wait(&out.n_closed, 1));
        ck_assert_uint_eq(out.n_opened, 0);
        ends_stop();
        ck_assert_uint_eq(out.n_closed, 1);
}
END_TEST

START_TEST(deadline_of_connecting_is_over_once_connected)
{
        struct end out = { .to_write = 1 };

        ends.of[0].is_echo = true;
        ends_listen();
        ck_assert_int_eq(ends_connect(ends_address_of(ends.port), 1000, &out, NULL), 0);
        ck_assert(end_wait(&out.n_opened, 1));
        poll(NULL, 0, 1200);
        ck_assert(end_wait(&out.n_read, 1));
        ends_stop();
        ck_assert_int_eq(out.code, -ECANCELED);
}
END_TEST

/* "localhost" has an address of each family, and somebody listens at one: the other one is tried in vain. */
START_TEST(host_name_is_looked_up)
{
        struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
                                  .ai_family = _i == 0 ? AF_INET : AF_INET6 };
        struct end out = { .to_write = 10 };
        struct addrinfo *found;
        char text[64];

        if (getaddrinfo("localhost", NULL, &hints, &found) != 0) {
                ends_stop();
                return;
        }
        freeaddrinfo(found);
        ends_listen_with(_i == 0 ? "127.0.0.1:0" : "[::1]:0", 0, (struct conn_limits){ 0 }, NULL);
        snprintf(text, sizeof text, "localhost:%d", ends.port);
        ck_assert_int_eq(ends_connect(text, 10000, &out, NULL), 0);
        ck_assert_msg(end_wait(&out.n_opened, 1), "%s", out.words);
        ck_assert(end_wait(&ends.n_accepted, 1));
        ends_stop();
        ck_assert_uint_eq(out.n_closed, 1);
}
END_TEST

START_TEST(host_that_is_none_is_an_error)
{
        struct err e = ERR_INIT;
        char text[100];

        /* A label of more than 63 characters, so that no server is asked. */
        memset(text, 'x', 70);
        strcpy(text + 70, ".invalid:1");
        if (ends_connect(text, 10000, &ends.of[0], &e) == 0) {
                ck_assert(end_wait(&ends.of[0].n_closed, 1));
                ck_assert_int_eq(ends.of[0].code, -EHOSTUNREACH);
                ck_assert_ptr_nonnull(strstr(ends.of[0].words, text));
        } else {
                ck_assert_ptr_nonnull(strstr(e.text, text));
        }
        ends_stop();
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("conn_connect");

        tcase_add_checked_fixture(tc, ends_setup, NULL);
        tcase_set_timeout(tc, 60);
        tcase_add_test(tc, refused_connection_says_so);
        tcase_add_test(tc, connecting_has_a_deadline);
        tcase_add_loop_test(tc, connecting_may_be_given_up, 0, 5);
        tcase_add_test(tc, connecting_may_be_given_up_at_once);
        tcase_add_test(tc, deadline_of_connecting_is_over_once_connected);
        tcase_add_loop_test(tc, host_name_is_looked_up, 0, 2);
        tcase_add_test(tc, host_that_is_none_is_an_error);
        return run_tests("conn_connect", tc);
}
