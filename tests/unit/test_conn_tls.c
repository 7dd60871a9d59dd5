/* links: litefs_loop */
/* Connections with TLS on real loopback sockets. Both ends are ours, but where a plain socket of the test's own thread
 * says what no TLS would. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "net/bridge.h"
#include "net/conn_internal.h"
#include "net/conn_move.h"
#include "net/listener.h"
#include "net/loop.h"
#include "net/tls_context.h"
#include "tests/lib/certs.h"
#include "tests/lib/tmpdir.h"
#include "tests/lib/run.h"

#define WAIT_S 20
#define MB ((size_t)1024 * 1024)

/* What a handler has seen. Guarded by the lock; the test waits for changes. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

struct end {
        struct conn *conn; /* the loop's thread only */
        bool is_opened, is_ended, is_closed;
        int code;
        char words[480];
        size_t n_read, n_written, max_queued;
        uint32_t sum_read, sum_written;
        /* What it does: */
        size_t to_write;
        bool finishes;    /* when all is written */
        bool is_slow;     /* stops after each read, until the next beat */
        bool does_bridge; /* becomes a bridge's when it is accepted */
        int bridge_fd;
        bool does_move; /* to the other loop, with its first byte */
};

static char *dir;
static struct loop *loop, *other_loop;
static struct listener *listener;
static struct loop_timer *beat;
static struct tls_context *server, *client;
static struct end in, out;

static void
tell(bool *what)
{
        pthread_mutex_lock(&lock);
        if (what != NULL)
                *what = true;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
}

static bool
wait_for(const bool *what)
{
        struct timespec t;
        bool is_there;

        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_sec += WAIT_S;
        pthread_mutex_lock(&lock);
        while (!*what && pthread_cond_timedwait(&changed, &lock, &t) == 0)
                ;
        is_there = *what;
        pthread_mutex_unlock(&lock);
        return is_there;
}

static bool
wait_for_bytes(const size_t *count, size_t n)
{
        struct timespec t;
        bool is_there;

        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_sec += WAIT_S;
        pthread_mutex_lock(&lock);
        while (*count < n && pthread_cond_timedwait(&changed, &lock, &t) == 0)
                ;
        is_there = *count >= n;
        pthread_mutex_unlock(&lock);
        return is_there;
}

static uint32_t
add_up(uint32_t sum, const uint8_t *p, size_t n)
{
        for (size_t i = 0; i < n; i++)
                sum = sum * 31 + p[i];
        return sum;
}

static void
pump(struct end *e)
{
        uint8_t chunk[100000];
        int r = 0;

        while (r == 0 && e->n_written < e->to_write) {
                size_t n = e->to_write - e->n_written, most = 1 + e->n_written % sizeof chunk;

                n = n < most ? n : most;
                for (size_t i = 0; i < n; i++)
                        chunk[i] = (uint8_t)((e->n_written + i) * 13 >> 3);
                r = conn_writev(e->conn,
                                (struct iovec[]){ { chunk, n / 3 }, { chunk + n / 3, n - n / 3 } }, 2);
                if (r < 0)
                        return;
                e->sum_written = add_up(e->sum_written, chunk, n);
                e->n_written += n;
                if (conn_queued_bytes(e->conn) > e->max_queued)
                        e->max_queued = conn_queued_bytes(e->conn);
        }
        if (e->finishes && e->n_written == e->to_write)
                conn_finish(e->conn, WAIT_S * 1000);
}

static void
on_opened(void *arg, struct conn *c)
{
        struct end *e = arg;

        e->conn = c;
        pump(e);
        tell(&e->is_opened);
}

static void
on_read(void *arg, struct conn *c, const uint8_t *data, size_t n)
{
        struct end *e = arg;

        if (e->n_written == 0)
                pump(e); /* an accepted one has not been told that it is open */
        if (e->is_slow)
                conn_read_stop(c);
        pthread_mutex_lock(&lock);
        e->n_read += n;
        e->sum_read = add_up(e->sum_read, data, n);
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
}

static void
on_ended(void *arg, struct conn *c)
{
        struct end *e = arg;

        (void)c;
        e->finishes = true;
        pump(e);
        tell(&e->is_ended);
}

static void
on_writable(void *arg, struct conn *c)
{
        (void)c;
        pump(arg);
}

static void
on_closed(void *arg, struct conn *c, int code, const struct err *err)
{
        struct end *e = arg;

        (void)c;
        e->conn = NULL;
        e->code = code;
        snprintf(e->words, sizeof e->words, "%s", err != NULL ? err->text : "");
        tell(&e->is_closed);
}

static const struct conn_handler handler = { .opened = on_opened,
                                             .read = on_read,
                                             .ended = on_ended,
                                             .writable = on_writable,
                                             .closed = on_closed };

static void
on_beat(void *arg)
{
        struct end *ends[] = { &in, &out };

        (void)arg;
        for (int i = 0; i < 2; i++)
                if (ends[i]->is_slow && ends[i]->conn != NULL)
                        conn_read_start(ends[i]->conn);
        loop_timer_start(beat, 1);
}

/* --- set-up --- */

/* For the handshake to be over before the bridge takes it. */
static void
bridge_read(void *arg, struct conn *c, const uint8_t *data, size_t n)
{
        struct end *e = arg;

        ck_assert_int_eq(bridge_open(loop, c, data, n, &e->bridge_fd), 0);
        tell(&e->is_opened);
}

static const struct conn_handler bridge_handler = { .read = bridge_read, .closed = on_closed };

struct move {
        struct mail mail;
        struct conn_moved *moved;
};

static void
moved(void *arg, struct conn *c)
{
        in.conn = c;
        conn_set_handler(c, &handler, arg);
        pump(arg);
        tell(&in.is_opened);
}

static void
adopt(struct mail *m)
{
        struct move *mv = (struct move *)m;

        ck_assert_int_eq(conn_adopt(other_loop, mv->moved, NULL, moved, &in), 0);
        free(mv);
}

static void
move_read(void *arg, struct conn *c, const uint8_t *data, size_t n)
{
        struct move *mv = calloc(1, sizeof *mv);

        (void)arg;
        (void)data;
        ck_assert_uint_eq(n, 1);
        ck_assert_int_eq(conn_detach(c, &mv->moved), 0);
        mv->mail.run = adopt;
        ck_assert_int_eq(loop_post(other_loop, &mv->mail), 0);
}

static const struct conn_handler move_handler = { .read = move_read };

static void
on_accepted(void *arg, struct conn *c)
{
        (void)arg;
        in.conn = c;
        conn_set_handler(c,
                         in.does_bridge ? &bridge_handler
                         : in.does_move ? &move_handler
                                        : &handler,
                         &in);
}

static int
start(void *arg)
{
        struct listener_config config = { .address = "127.0.0.1:0",
                                          .accepted = on_accepted,
                                          .tls = server };
        struct err *e = arg;

        if (loop_timer_new(loop, on_beat, NULL, &beat) < 0)
                return -ENOMEM;
        return listener_open(loop, &config, &listener, e);
}

static struct tls_context *
make_context(bool is_server, const char *name)
{
        char cert[PATH_MAX], key[PATH_MAX], ca[PATH_MAX];
        struct tls_options o = { is_server, cert, key, ca };
        struct tls_context *t;

        snprintf(cert, sizeof cert, "%s/%s.pem", dir, name);
        snprintf(key, sizeof key, "%s/%s.key", dir, name);
        snprintf(ca, sizeof ca, "%s/ca.pem", dir);
        ck_assert_int_eq(tls_context_new(&o, &t), 0);
        return t;
}

static void
setup(void)
{
        struct err e = ERR_INIT;

        memset(&in, 0, sizeof in);
        memset(&out, 0, sizeof out);
        in.bridge_fd = -1;
        server = make_context(true, "node");
        client = make_context(false, "node");
        ck_assert_msg(loop_new(&loop, &e) == 0 && loop_call(loop, start, &e) == 0, "%s", e.text);
}

static int
free_beat(void *arg)
{
        (void)arg;
        loop_timer_free(beat);
        return 0;
}

static void
teardown(void)
{
        (void)loop_call(loop, free_beat, NULL);
        loop_stop(loop);
        listener_close(listener);
        loop_free(loop);
        tls_context_free(server);
        tls_context_free(client);
}

struct dialing {
        const char *host;
        int port;
        int64_t timeout_ms;
};

static int
connect_out(void *arg)
{
        struct dialing *d = arg;
        struct err e = ERR_INIT;
        char address[300];

        snprintf(address, sizeof address, "%s:%d", d->host, d->port);
        loop_timer_start(beat, 1);
        return conn_connect(loop, client, address, d->timeout_ms, NULL, &handler, &out, &out.conn, &e);
}

static void
connect_to(const char *host, int port, int64_t timeout_ms)
{
        struct dialing d = { host, port, timeout_ms };

        ck_assert_int_eq(loop_call(loop, connect_out, &d), 0);
}

static void
connect_here(void)
{
        connect_to("127.0.0.1", listener_port(listener), 10000);
}

static int
close_out(void *arg)
{
        (void)arg;
        conn_close(out.conn);
        return 0;
}

/* The connection of @e breaks: its peer gets no word of TLS. */
static int
cut(void *arg)
{
        struct end *e = arg;
        int fd = conn_dup(e->conn);

        shutdown(fd, SHUT_WR);
        close(fd);
        return 0;
}

/* --- tests --- */

START_TEST(bytes_go_both_ways_however_slow_the_reader)
{
        in.to_write = out.to_write = 12 * MB;
        in.is_slow = _i == 1;
        out.is_slow = _i == 2;
        connect_here();
        ck_assert(wait_for(&out.is_opened));
        ck_assert(wait_for_bytes(&in.n_read, 12 * MB));
        ck_assert(wait_for_bytes(&out.n_read, 12 * MB));
        ck_assert_int_eq(loop_call(loop, close_out, NULL), 0);
        ck_assert(wait_for(&in.is_closed));
        ck_assert(wait_for(&out.is_closed));
        ck_assert_msg(in.code == 0 && out.code == 0, "%s %s", in.words, out.words);
        ck_assert_uint_eq(in.n_read, 12 * MB);
        ck_assert_uint_eq(out.n_read, 12 * MB);
        ck_assert_uint_eq(in.sum_read, out.sum_written);
        ck_assert_uint_eq(out.sum_read, in.sum_written);
        ck_assert_uint_lt(out.max_queued, 2 * MB);
        ck_assert_uint_lt(in.max_queued, 2 * MB);
}
END_TEST

START_TEST(what_is_queued_arrives_before_the_end)
{
        out.to_write = 5 * MB;
        out.finishes = true;
        in.is_slow = true;
        connect_here();
        ck_assert(wait_for(&in.is_ended));
        ck_assert(wait_for(&in.is_closed));
        ck_assert(wait_for(&out.is_closed));
        ck_assert_msg(in.code == 0 && out.code == 0, "%s %s", in.words, out.words);
        ck_assert_uint_eq(in.n_read, 5 * MB);
        ck_assert_uint_eq(in.sum_read, out.sum_written);
}
END_TEST

static const struct {
        const char *cert, *host, *words;
} strangers[] = {
        { "node", "localhost", "is not for localhost" },
        { "stranger", "127.0.0.1", "does not know the authority" },
};

START_TEST(both_sides_are_told_why_it_is_refused)
{
        tls_context_free(client);
        client = make_context(false, strangers[_i].cert);
        out.to_write = 1;
        connect_to(strangers[_i].host, listener_port(listener), 10000);
        ck_assert(wait_for(&out.is_closed));
        ck_assert_int_eq(out.code, -EPROTO);
        ck_assert_msg(strstr(out.words, strangers[_i].words) != NULL, "%s", out.words);
        ck_assert(wait_for(&in.is_closed));
        ck_assert_int_eq(in.code, -EPROTO);
        ck_assert_msg(strncmp(in.words, "TLS with 127.0.0.1:", 19) == 0, "%s", in.words);
        ck_assert_uint_eq(in.n_read, 0);
}
END_TEST

START_TEST(close_is_an_end_and_a_break_is_not)
{
        out.to_write = 1000;
        connect_here();
        ck_assert(wait_for(&out.is_opened));
        ck_assert_int_eq(loop_call(loop, _i == 0 ? close_out : cut, &out), 0);
        ck_assert(wait_for(&in.is_closed));
        ck_assert(in.is_ended == (_i == 0));
        ck_assert_int_eq(in.code, _i == 0 ? 0 : -ECONNRESET);
        ck_assert_uint_eq(in.n_read, 1000);
}
END_TEST

START_TEST(a_server_that_says_nothing_has_a_deadline)
{
        struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t n = sizeof sa;
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        ck_assert_int_eq(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
        ck_assert_int_eq(listen(fd, 8), 0);
        ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&sa, &n), 0);
        connect_to("127.0.0.1", ntohs(sa.sin_port), 200);
        ck_assert(wait_for(&out.is_closed));
        ck_assert_int_eq(out.code, -ETIMEDOUT);
        ck_assert(!out.is_opened);
        close(fd);
}
END_TEST

START_TEST(connecting_may_be_given_up)
{
        connect_here();
        /* Looking up, connecting, in the handshake or open by now. */
        usleep((useconds_t)(_i * 300));
        ck_assert_int_eq(loop_call(loop, close_out, NULL), 0);
        ck_assert(wait_for(&out.is_closed));
        ck_assert_int_eq(out.code, 0);
}
END_TEST

START_TEST(the_loop_may_stop_at_any_time)
{
        in.to_write = out.to_write = 100 * MB;
        connect_here();
        usleep((useconds_t)(_i * 500));
}
END_TEST

/* --- bridges --- */

static size_t
read_fd(int fd, uint32_t *ret_sum)
{
        uint8_t buf[65536];
        size_t n = 0;
        ssize_t r = 1;

        *ret_sum = 0;
        while (r != 0) {
                r = recv(fd, buf, sizeof buf, 0);
                if (r < 0 && errno == EAGAIN) {
                        usleep(1000);
                        r = 1;
                        continue;
                }
                if (r < 0)
                        break;
                *ret_sum = add_up(*ret_sum, buf, (size_t)r);
                n += (size_t)r;
        }
        return n;
}

START_TEST(a_bridge_carries_all_and_holds_little)
{
        uint32_t sum;

        in.does_bridge = true;
        out.to_write = 8 * MB;
        out.finishes = true;
        connect_here();
        ck_assert(wait_for(&in.is_opened));
        ck_assert_uint_eq(read_fd(in.bridge_fd, &sum), 8 * MB);
        ck_assert_uint_eq(sum, out.sum_written);
        ck_assert_int_eq(close(in.bridge_fd), 0);
        ck_assert(wait_for(&out.is_closed));
        ck_assert_msg(out.code == 0, "%s", out.words);
}
END_TEST

START_TEST(a_bridge_sends_what_it_was_given_before_the_end)
{
        static uint8_t data[3 * 1024 * 1024];
        size_t done = 0;

        for (size_t i = 0; i < sizeof data; i++)
                data[i] = (uint8_t)(i * 7 >> 2);
        in.does_bridge = true;
        out.to_write = 1;
        connect_here();
        ck_assert(wait_for(&in.is_opened));
        while (done < sizeof data) {
                ssize_t r = send(in.bridge_fd, data + done, sizeof data - done, MSG_NOSIGNAL);

                ck_assert(r > 0 || errno == EAGAIN);
                done += r > 0 ? (size_t)r : 0;
        }
        close(in.bridge_fd);
        ck_assert(wait_for(&out.is_ended));
        ck_assert_uint_eq(out.n_read, sizeof data);
        ck_assert_uint_eq(out.sum_read, add_up(0, data, sizeof data));
}
END_TEST

START_TEST(a_bridge_whose_peer_goes_says_so)
{
        uint32_t sum;

        in.does_bridge = true;
        out.to_write = 10;
        connect_here();
        ck_assert(wait_for(&in.is_opened));
        ck_assert_int_eq(loop_call(loop, _i == 0 ? close_out : cut, &out), 0);
        ck_assert_uint_eq(read_fd(in.bridge_fd, &sum), 10);
        close(in.bridge_fd);
}
END_TEST

static int
write_more(void *arg)
{
        out.to_write = *(size_t *)arg;
        pump(&out);
        return 0;
}

/* Its peer notices nothing. */
START_TEST(a_connection_moves_to_another_loop)
{
        size_t more = 12 * MB;
        struct err e = ERR_INIT;

        ck_assert_int_eq(loop_new(&other_loop, &e), 0);
        in.does_move = true;
        in.to_write = 12 * MB;
        out.to_write = 1;
        out.is_slow = _i == 1;
        connect_here();
        ck_assert(wait_for(&in.is_opened));
        ck_assert_int_eq(loop_call(loop, write_more, &more), 0);
        ck_assert(wait_for_bytes(&in.n_read, 12 * MB - 1));
        ck_assert(wait_for_bytes(&out.n_read, 12 * MB));
        ck_assert_uint_eq(out.sum_read, in.sum_written);
        if (_i == 2) {
                loop_stop(other_loop);
                ck_assert_int_eq(in.code, -ECANCELED);
        } else {
                ck_assert_int_eq(loop_call(loop, close_out, NULL), 0);
        }
        ck_assert(wait_for(&in.is_closed));
        ck_assert(wait_for(&out.is_closed));
        ck_assert_msg(out.code == 0 && (in.code == 0 || _i == 2), "%s %s", in.words, out.words);
        if (_i != 2)
                loop_stop(other_loop);
        loop_free(other_loop);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("conn_tls");
        int status;

        dir = tmpdir_make();
        certs_make(dir, "ca", NULL, NULL);
        certs_make(dir, "other", NULL, NULL);
        certs_make(dir, "node", "ca", "IP:127.0.0.1");
        certs_make(dir, "stranger", "other", "DNS:stranger");
        tcase_set_timeout(tc, 60);
        tcase_add_checked_fixture(tc, setup, teardown);
        tcase_add_loop_test(tc, bytes_go_both_ways_however_slow_the_reader, 0, 3);
        tcase_add_test(tc, what_is_queued_arrives_before_the_end);
        tcase_add_loop_test(tc, both_sides_are_told_why_it_is_refused, 0, 2);
        tcase_add_loop_test(tc, close_is_an_end_and_a_break_is_not, 0, 2);
        tcase_add_test(tc, a_server_that_says_nothing_has_a_deadline);
        tcase_add_loop_test(tc, connecting_may_be_given_up, 0, 10);
        tcase_add_loop_test(tc, the_loop_may_stop_at_any_time, 0, 20);
        tcase_add_loop_test(tc, a_connection_moves_to_another_loop, 0, 3);
        tcase_add_test(tc, a_bridge_carries_all_and_holds_little);
        tcase_add_test(tc, a_bridge_sends_what_it_was_given_before_the_end);
        tcase_add_loop_test(tc, a_bridge_whose_peer_goes_says_so, 0, 2);
        status = run_tests("conn_tls", tc);
        tmpdir_remove(dir);
        return status;
}
