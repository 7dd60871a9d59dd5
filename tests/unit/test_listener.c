/* links: litefs_loop */
/* Listeners, and the addresses that they and connections are given. */
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/addr.h"
#include "net/listener.h"
#include "tests/lib/conn_ends.h"
#include "tests/lib/run.h"

static int
read_counts(void *arg)
{
        unsigned *counts = arg;

        counts[0] = listener_n_conns(ends.listener);
        counts[1] = (unsigned)listener_n_refused(ends.listener);
        return 0;
}

#define N_MORE 50

/* On the loop, so that it finds them waiting all at once. */
static int
dial_more(void *arg)
{
        int *fd = arg;

        for (int i = 0; i < N_MORE; i++)
                fd[i] = ends_dial();
        return 0;
}

/* A thousand are served; more are turned away and may come back when another has left. */
START_TEST(listener_has_a_limit_of_connections)
{
        struct rlimit files;
        int fd[1000], more[N_MORE];
        unsigned counts[2];
        char c;

        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &files), 0);
        ck_assert_msg(files.rlim_max >= 2200, "needs 2,200 files");
        files.rlim_cur = files.rlim_max < 4096 ? files.rlim_max : 4096;
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &files), 0);
        for (int i = 0; i < COUNT(ends.of); i++)
                ends.of[i].is_echo = true;
        ends_listen_with("127.0.0.1:0", 1000, (struct conn_limits){ 0 }, NULL);
        for (int i = 0; i < 1000; i++)
                fd[i] = ends_dial();
        ck_assert(end_wait(&ends.n_accepted, 1000));
        ck_assert_int_eq(loop_call(ends.loop, dial_more, more), 0);
        for (int i = 0; i < N_MORE; i++) {
                ck_assert_int_eq(read(more[i], &c, 1), 0);
                close(more[i]);
        }
        for (int i = 0; i < 1000; i++)
                ck_assert_int_eq(write(fd[i], "x", 1), 1);
        for (int i = 0; i < 1000; i++)
                ck_assert_int_eq(read(fd[i], &c, 1), 1);
        ck_assert_int_eq(loop_call(ends.loop, read_counts, counts), 0);
        ck_assert_uint_eq(counts[0], 1000);
        ck_assert_uint_eq(counts[1], N_MORE);
        close(fd[17]);
        for (int i = 0; i < ENDS_WAIT_S * 1000 && counts[0] == 1000; i++) {
                usleep(1000);
                ck_assert_int_eq(loop_call(ends.loop, read_counts, counts), 0);
        }
        ck_assert_uint_eq(counts[0], 999);
        fd[17] = ends_dial();
        ck_assert_int_eq(write(fd[17], "x", 1), 1);
        ck_assert_int_eq(read(fd[17], &c, 1), 1);
        for (int i = 0; i < 1000; i++)
                close(fd[i]);
        ends_stop();
}
END_TEST

/* The first of them, which has said nothing for longest. */
START_TEST(one_more_takes_the_place_of_one_that_is_idle)
{
        unsigned counts[2];
        int fd[6];
        char c;

        ends.rank = CROWD_NEW;
        for (int i = 0; i < COUNT(fd); i++)
                ends.of[i].is_echo = true;
        ends_listen_with("127.0.0.1:0", 4, (struct conn_limits){ 0 }, NULL);
        for (int i = 0; i < COUNT(fd); i++) {
                fd[i] = ends_dial();
                ck_assert(end_wait(&ends.n_accepted, (size_t)i + 1));
        }
        for (int i = 0; i < COUNT(fd) - 2; i++) /* half of them may be so */
                ck_assert_int_eq(read(fd[i], &c, 1), 0);
        for (int i = COUNT(fd) - 2; i < COUNT(fd); i++) {
                ck_assert_int_eq(write(fd[i], "x", 1), 1);
                ck_assert_int_eq(read(fd[i], &c, 1), 1);
        }
        ck_assert_int_eq(loop_call(ends.loop, read_counts, counts), 0);
        ck_assert_uint_eq(counts[0], 2);
        ck_assert_uint_eq(counts[1], 0);
        for (int i = 0; i < COUNT(fd); i++)
                close(fd[i]);
        ends_stop();
}
END_TEST

START_TEST(stop_closes_what_is_open)
{
        struct end out = { .to_write = 64 * MB }; /* in the middle of writing */
        uint32_t sum;
        int fd[20];

        ends_listen();
        for (int i = 0; i < COUNT(fd); i++) {
                ends.of[i].to_write = i % 2 == 0 ? 64 * MB : 0;
                fd[i] = ends_dial();
                ck_assert(end_wait(&ends.n_accepted, (size_t)i + 1));
        }
        ck_assert_int_eq(ends_connect(ends_address_of(ends.port), 10000, &out, NULL), 0);
        ends_stop();
        for (int i = 0; i < COUNT(fd); i++) {
                ck_assert_uint_eq(ends.of[i].n_closed, 1);
                ck_assert_int_eq(ends.of[i].code, -ECANCELED);
                (void)ends_read_all(fd[i], &sum);
                close(fd[i]);
        }
        ck_assert_uint_eq(out.n_closed, 1);
        ck_assert_int_eq(out.code, -ECANCELED);
}
END_TEST

static int
close_listener(void *arg)
{
        (void)arg;
        listener_close(ends.listener);
        ends.listener = NULL;
        return 0;
}

START_TEST(connections_outlive_their_listener)
{
        struct end out = { 0 };
        char c;
        int fd;

        ends.of[0].is_echo = true;
        ends_listen();
        fd = ends_dial();
        ck_assert(end_wait(&ends.n_accepted, 1));
        ck_assert_int_eq(loop_call(ends.loop, close_listener, NULL), 0);
        ck_assert_int_eq(write(fd, "x", 1), 1);
        ck_assert_int_eq(read(fd, &c, 1), 1);
        ck_assert_int_eq(ends_connect(ends_address_of(ends.port), 10000, &out, NULL), 0);
        ck_assert(end_wait(&out.n_closed, 1));
        ck_assert_int_eq(out.code, -ECONNREFUSED);
        close(fd);
        ck_assert(end_wait(&ends.of[0].n_closed, 1));
        ends_stop();
}
END_TEST

/* Where one may listen, and how one gets there. */
static const struct {
        const char *listen;
        const char *connect[2];
        int family; /* that the machine must have */
} places[] = {
        { ":0", { "127.0.0.1:%d", NULL }, AF_INET },
        { ":0", { "[::1]:%d", "127.0.0.1:%d" }, AF_INET6 },
        { "[::]:0", { "[::1]:%d", "127.0.0.1:%d" }, AF_INET6 },
        { "[::1]:0", { "[::1]:%d", NULL }, AF_INET6 },
        { "0.0.0.0:0", { "127.0.0.1:%d", NULL }, AF_INET },
        { "localhost:0", { "127.0.0.1:%d", NULL }, AF_INET },
        { "127.0.0.1:0", { ":%d", NULL }, AF_INET },
};

static bool
has_ipv6(void)
{
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
        int fd = socket(AF_INET6, SOCK_STREAM, 0);
        bool has = fd >= 0 && bind(fd, (struct sockaddr *)&in6, sizeof in6) == 0;

        close(fd);
        return has;
}

START_TEST(listener_is_reached_where_it_was_asked_to_be)
{
        if (places[_i].family == AF_INET6 && !has_ipv6()) {
                printf("no IPv6: %s is not tried\n", places[_i].listen);
                ends_stop();
                return;
        }
        ends_listen_with(places[_i].listen, 0, (struct conn_limits){ 0 }, NULL);
        ck_assert_int_gt(ends.port, 0);
        for (int i = 0; i < 2 && places[_i].connect[i] != NULL; i++) {
                struct end out = { 0 };
                char text[64];
                const char *colon = strrchr(places[_i].connect[i], ':');

                snprintf(text, sizeof text, "%.*s:%d", (int)(colon - places[_i].connect[i]),
                         places[_i].connect[i], ends.port);
                ck_assert_int_eq(ends_connect(text, 10000, &out, NULL), 0);
                ck_assert_msg(end_wait(&out.n_opened, 1), "%s: %s", text, out.words);
                ck_assert(end_wait(&ends.n_accepted, (size_t)i + 1));
                ck_assert_int_eq(loop_call(ends.loop, end_close, &out), 0);
                ck_assert(end_wait(&out.n_closed, 1));
        }
        ends_stop();
}
END_TEST

START_TEST(port_in_use_is_an_error)
{
        struct err e = ERR_INIT;
        struct listener *first;

        ends_listen();
        first = ends.listener;
        ck_assert_int_eq(ends_listen_with(ends_address_of(ends.port), 0, (struct conn_limits){ 0 }, &e),
                         -EADDRINUSE);
        ck_assert_ptr_nonnull(strstr(e.text, ends_address_of(ends.port)));
        ck_assert_ptr_eq(ends.listener, first);
        ends_stop();
}
END_TEST

static const char *const bad_addresses[] = {
        "",      "host",    "host:",   "host:x", "host:-1", "host:65536", "host:99999999999", "::1:80",
        "[::1]", "[::1:80", "::1]:80", "[]:80",  "a[b]:80", "host: 80",   "host:80 ",
};

START_TEST(address_that_is_none_is_refused)
{
        struct err e = ERR_INIT;
        struct addr a;

        ck_assert_int_eq(addr_parse(bad_addresses[_i], &a, &e), -EINVAL);
        ck_assert_ptr_nonnull(strstr(e.text, bad_addresses[_i]));
        ck_assert_int_eq(ends_listen_with(bad_addresses[_i], 0, (struct conn_limits){ 0 }, &e), -EINVAL);
        ck_assert_int_eq(ends_connect(bad_addresses[_i], 1000, &ends.of[0], &e), -EINVAL);
        ends_stop();
        ck_assert_uint_eq(ends.of[0].n_closed, 0);
}
END_TEST

START_TEST(address_is_taken_apart_and_put_together)
{
        static const char *const good[] = { "host:80", ":20202", "[::1]:1", "1.2.3.4:0",
                                            "[fe80::1%eth0]:65535" };
        char text[ADDR_TEXT_SIZE], long_host[300];
        struct err e = ERR_INIT;
        struct addr a;

        for (int i = 0; i < COUNT(good); i++) {
                ck_assert_msg(addr_parse(good[i], &a, &e) == 0, "%s", e.text);
                addr_format(&a, text);
                ck_assert_str_eq(text, good[i]);
        }
        ck_assert_int_eq(addr_parse("[::1]:65535", &a, &e), 0);
        ck_assert_str_eq(a.host, "::1");
        ck_assert_int_eq(a.port, 65535);
        memset(long_host, 'h', sizeof long_host);
        strcpy(long_host + ADDR_HOST_SIZE, ":1");
        ck_assert_int_eq(addr_parse(long_host, &a, &e), -EINVAL);
        ck_assert_int_eq(addr_parse(long_host + 1, &a, &e), 0);
        ends_stop();
}
END_TEST

START_TEST(address_of_a_url_has_a_port)
{
        static const char *const cases[][2] = {
                { "http://node1:20202", "node1:20202" },
                { "http://node1", "node1:80" }, /* as LiteFS writes it into the lease */
                { "https://node1/x", "node1:443" },
                { "http://[fd00::1]", "[fd00::1]:80" },
                { "http://[fd00::1]:81/", "[fd00::1]:81" },
                { "node1:20202", "node1:20202" },
                { "http://node1:", NULL },
                { "http://node1:99999", NULL },
                { "http://node1:123456789", NULL },
                { "http://node1:8o", NULL },
                { "http://[fd00::1]x:80", NULL },
                { "http://[fd00::1", NULL },
                { "http://u@node1", NULL },
                { "http://:80", NULL },
                { "", NULL },
        };
        char text[ADDR_TEXT_SIZE];
        struct addr a;

        for (int i = 0; i < COUNT(cases); i++) {
                int r = addr_of_url(cases[i][0], &a, NULL);

                ck_assert_msg((r == 0) == (cases[i][1] != NULL), "%s", cases[i][0]);
                if (r < 0)
                        continue;
                addr_format(&a, text);
                ck_assert_str_eq(text, cases[i][1]);
        }
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("listener");

        tcase_add_checked_fixture(tc, ends_setup, NULL);
        tcase_set_timeout(tc, 60);
        tcase_add_test(tc, listener_has_a_limit_of_connections);
        tcase_add_test(tc, one_more_takes_the_place_of_one_that_is_idle);
        tcase_add_test(tc, stop_closes_what_is_open);
        tcase_add_test(tc, connections_outlive_their_listener);
        tcase_add_loop_test(tc, listener_is_reached_where_it_was_asked_to_be, 0, COUNT(places));
        tcase_add_test(tc, port_in_use_is_an_error);
        tcase_add_loop_test(tc, address_that_is_none_is_refused, 0, COUNT(bad_addresses));
        tcase_add_test(tc, address_is_taken_apart_and_put_together);
        tcase_add_test(tc, address_of_a_url_has_a_port);
        return run_tests("listener", tc);
}
