/* links: litefs_loop litefs_repl */
/* What connections carry, on real loopback sockets. The peer is most often a plain blocking socket of the
 * test's own thread, so that it does just what the test says. */
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/conn.h"
#include "repl/frame_decoder.h"
#include "tests/lib/conn_ends.h"
#include "tests/lib/run.h"

struct frames {
        struct frame_decoder *decoder;
        size_t n;
};

static bool
take_frames(void *arg, const uint8_t *data, size_t n)
{
        struct frames *fs = arg;
        struct frame f;
        int r;

        while ((r = frame_decoder_next(fs->decoder, &data, &n, &f, NULL)) > 0)
                fs->n++;
        return r == 0;
}

START_TEST(frames_arrive_whatever_the_packets)
{
        struct frames frames = { NULL, 0 };
        struct frame f = { .type = FRAME_ACK, .ack = { .name = "app.db" } };
        uint8_t buf[FRAME_SMALL_SIZE];
        struct end *e = &ends.of[0];
        int fd, n;

        ck_assert_int_eq(frame_decoder_new(&frames.decoder), 0);
        e->take = take_frames;
        e->take_arg = &frames;
        ends_listen();
        fd = ends_dial();
        ck_assert_int_eq(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)), 0);
        n = (int)frame_encode(&f, buf, sizeof buf, NULL);
        ck_assert_int_gt(n, 0);
        /* Cut in two at each place, and the first part is read before the second is sent. */
        for (int cut = 1; cut < n; cut++) {
                ck_assert_int_eq(write(fd, buf, (size_t)cut), cut);
                ck_assert(end_wait(&e->n_read, (size_t)((cut - 1) * n + cut)));
                ck_assert_uint_eq(frames.n, (size_t)cut - 1);
                ck_assert_int_eq(write(fd, buf + cut, (size_t)(n - cut)), n - cut);
                ck_assert(end_wait(&e->n_read, (size_t)(cut * n)));
                ck_assert_uint_eq(frames.n, (size_t)cut);
        }
        close(fd);
        ck_assert(end_wait(&e->n_closed, 1));
        ck_assert_int_eq(e->code, 0);
        ck_assert_int_eq(frame_decoder_finish(frames.decoder, NULL), 0);
        ends_stop();
        frame_decoder_free(frames.decoder);
}
END_TEST

/* Ours with ours, more than any buffer holds. */
START_TEST(echo_gives_back_every_byte_in_order)
{
        struct end out = { .to_write = 5 * MB };

        ends.of[0].is_echo = true;
        /* The echo does not heed the marks, so it needs room. */
        ends_listen_with("127.0.0.1:0", 0, (struct conn_limits){ .high = 6 * MB, .max = 12 * MB }, NULL);
        ck_assert_int_eq(ends_connect(ends_address_of(ends.port), 10000, &out, NULL), 0);
        ck_assert(end_wait(&out.n_opened, 1));
        ck_assert(end_wait(&out.n_read, 5 * MB));
        ck_assert_int_eq(loop_call(ends.loop, end_close, &out), 0);
        ck_assert(end_wait(&out.n_closed, 1));
        ck_assert(end_wait(&ends.of[0].n_closed, 1));
        ck_assert_uint_eq(out.n_read, 5 * MB);
        ck_assert_uint_eq(out.sum_read, out.sum_written);
        ck_assert_int_eq(out.code, 0);
        ends_stop();
}
END_TEST

static int
check_stopped(void *arg)
{
        struct end *e = arg;

        ck_assert_uint_lt(e->n_written, e->to_write);
        ck_assert_uint_gt(e->max_queued, 300000);
        return 0;
}

START_TEST(peer_that_reads_late_costs_the_high_mark_and_gets_all)
{
        struct end *e = &ends.of[0];
        uint32_t sum;
        int fd;

        e->to_write = 40 * MB;
        e->finishes = true;
        ends_listen_with("127.0.0.1:0", 0,
                         (struct conn_limits){ .low = 100000, .high = 300000, .max = MB }, NULL);
        fd = ends_dial();
        ck_assert(end_wait(&ends.n_accepted, 1));
        /* It wrote what the kernel and the queue take, and stopped. */
        ck_assert_int_eq(loop_call(ends.loop, check_stopped, e), 0);
        ck_assert_uint_eq(ends_read_all(fd, &sum), 40 * MB);
        close(fd);
        ck_assert(end_wait(&e->n_closed, 1));
        ck_assert_int_eq(e->code, 0);
        ck_assert_uint_eq(sum, e->sum_written);
        /* Told each time that the queue has run down, and only then. */
        ck_assert_uint_gt(e->n_writable, 1);
        ck_assert_uint_le(e->n_writable, 40 * MB / (300000 - 100000) + 1);
        ck_assert_uint_le(e->max_queued, 300000 + 11000);
        ends_stop();
}
END_TEST

static int
write_past_max(void *arg)
{
        struct end *e = arg;
        static uint8_t chunk[50000];
        int r;

        do {
                r = conn_write(e->conn, chunk, sizeof chunk);
                if (r >= 0)
                        e->n_written += sizeof chunk;
        } while (r >= 0);
        e->max_queued = conn_queued_bytes(e->conn);
        return r;
}

START_TEST(queue_takes_no_more_than_its_maximum)
{
        struct end *e = &ends.of[0];
        uint32_t sum;
        int fd;

        ends_listen_with("127.0.0.1:0", 0, (struct conn_limits){ .low = 1000, .high = 2000, .max = MB },
                         NULL);
        fd = ends_dial();
        ck_assert(end_wait(&ends.n_accepted, 1));
        ck_assert_int_eq(loop_call(ends.loop, write_past_max, e), -ENOBUFS);
        ck_assert_uint_le(e->max_queued, MB);
        ck_assert_uint_gt(e->max_queued, MB - 60000);
        /* What was refused left no trace, what was taken arrives. */
        ck_assert_int_eq(loop_call(ends.loop, end_finish, e), 0);
        ck_assert_uint_eq(ends_read_all(fd, &sum), e->n_written);
        close(fd);
        ck_assert(end_wait(&e->n_closed, 1));
        ck_assert_int_eq(e->code, 0);
        ends_stop();
}
END_TEST

static int
write_pieces(void *arg)
{
        struct conn *c = ((struct end *)arg)->conn;
        char text[] = "abcde";
        struct iovec v[CONN_WRITE_PARTS + 1] = { { text, 2 }, { text, 0 }, { text + 2, 3 } };

        ck_assert_int_eq(conn_writev(c, v, CONN_WRITE_PARTS + 1), -EINVAL);
        ck_assert_int_eq(conn_write(c, "", 0), 0);
        return conn_writev(c, v, 3);
}

START_TEST(pieces_are_sent_as_one)
{
        char buf[16];
        int fd;

        ends_listen();
        fd = ends_dial();
        ck_assert(end_wait(&ends.n_accepted, 1));
        ck_assert_int_eq(loop_call(ends.loop, write_pieces, &ends.of[0]), 0);
        ck_assert_int_eq(recv(fd, buf, 5, MSG_WAITALL), 5);
        ck_assert_int_eq(memcmp(buf, "abcde", 5), 0);
        close(fd);
        ck_assert(end_wait(&ends.of[0].n_closed, 1));
        ends_stop();
}
END_TEST

/* Pieces that are cut anywhere when the kernel takes a part of them: the queue has the rest. */
START_TEST(partly_sent_write_goes_on_where_it_stopped)
{
        struct end *e = &ends.of[0];
        uint32_t sum;
        int fd;

        e->to_write = 9 * MB; /* past the kernel's buffers, up to the high mark */
        ends_listen_with("127.0.0.1:0", 0,
                         (struct conn_limits){ .low = 1, .high = 16 * MB, .max = 32 * MB }, NULL);
        fd = ends_dial();
        ck_assert(end_wait(&ends.n_accepted, 1));
        ck_assert_uint_eq(e->n_written, 9 * MB);
        ck_assert_int_eq(loop_call(ends.loop, end_finish, e), 0);
        ck_assert_int_eq(shutdown(fd, SHUT_WR), 0); /* its end does not cut ours short */
        ck_assert_uint_eq(ends_read_all(fd, &sum), 9 * MB);
        ck_assert_uint_eq(sum, e->sum_written);
        close(fd);
        ck_assert(end_wait(&e->n_closed, 1));
        ends_stop();
}
END_TEST

static int
stop_reading(void *arg)
{
        conn_read_stop(((struct end *)arg)->conn);
        return 0;
}

static int
start_reading(void *arg)
{
        conn_read_start(((struct end *)arg)->conn);
        return 0;
}

START_TEST(connection_that_does_not_read_holds_its_peer_up)
{
        struct end *e = &ends.of[0];
        static uint8_t chunk[65536];
        size_t n = 0;
        int fd;

        ends_listen();
        fd = ends_dial();
        ck_assert(end_wait(&ends.n_accepted, 1));
        ck_assert_int_eq(loop_call(ends.loop, stop_reading, e), 0);
        for (int is_full = 0; !is_full;) {
                struct pollfd p = { .fd = fd, .events = POLLOUT };
                ssize_t r = send(fd, chunk, sizeof chunk, MSG_DONTWAIT);

                if (r > 0)
                        n += (size_t)r;
                else
                        is_full = poll(&p, 1, 100) == 0;
                ck_assert_uint_lt(n, 256 * MB);
        }
        ck_assert_uint_eq(e->n_read, 0);
        ck_assert_int_eq(loop_call(ends.loop, start_reading, e), 0);
        close(fd);
        ck_assert(end_wait(&e->n_closed, 1));
        ck_assert_uint_eq(e->n_read, n);
        ends_stop();
}
END_TEST

START_TEST(close_while_writing_drops_the_rest)
{
        struct end *e = &ends.of[0];
        uint32_t sum;
        size_t n;
        int fd;

        e->to_write = 64 * MB;
        ends_listen();
        fd = ends_dial();
        ck_assert(end_wait(&ends.n_accepted, 1));
        ck_assert_int_eq(loop_call(ends.loop, end_close_twice, e), 0);
        ck_assert(end_wait(&e->n_closed, 1));
        ck_assert_int_eq(e->code, 0);
        ck_assert_uint_gt(e->max_queued, MB);
        n = ends_read_all(fd, &sum);
        ck_assert_uint_lt(n, e->n_written);
        close(fd);
        ends_stop();
        ck_assert_uint_eq(e->n_closed, 1);
}
END_TEST

START_TEST(peer_that_resets_while_it_is_written_to)
{
        struct linger abort_it = { .l_onoff = 1, .l_linger = 0 };
        struct end *e = &ends.of[0];
        int fd;

        e->to_write = 64 * MB;
        ends_listen();
        fd = ends_dial();
        ck_assert(end_wait(&ends.n_accepted, 1));
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort_it, sizeof abort_it);
        close(fd);
        ck_assert(end_wait(&e->n_closed, 1));
        ck_assert_msg(e->code == -ECONNRESET || e->code == -EPIPE, "%d %s", e->code, e->words);
        ck_assert_uint_eq(e->n_writable, 0);
        ends_stop();
        ck_assert_uint_eq(e->n_closed, 1);
}
END_TEST

START_TEST(close_in_a_read_ends_the_reading)
{
        struct end *e = &ends.of[0];
        static uint8_t chunk[300000];
        int fd;

        e->closes_when_read = true;
        ends_listen();
        fd = ends_dial();
        (void)send(fd, chunk, sizeof chunk, MSG_NOSIGNAL);
        ck_assert(end_wait(&e->n_closed, 1));
        ck_assert_uint_gt(e->n_read, 0);
        ck_assert_uint_le(e->n_read, 65536);
        close(fd);
        ends_stop();
        ck_assert_uint_eq(e->n_closed, 1);
}
END_TEST

START_TEST(peer_that_has_ended_may_still_be_answered)
{
        struct end *e = &ends.of[0];
        uint32_t sum;
        int fd;

        e->to_write = 9 * MB;
        ends.accept_handler = &end_half_handler;
        ends_listen_with("127.0.0.1:0", 0, (struct conn_limits){ .high = 16 * MB, .max = 32 * MB },
                         NULL);
        fd = ends_dial();
        ck_assert_int_eq(send(fd, "question", 8, 0), 8);
        ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
        ck_assert(end_wait(&e->n_ended, 1));
        ck_assert_uint_eq(e->n_read, 8);
        ck_assert_uint_eq(e->n_closed, 0);
        ck_assert_int_eq(loop_call(ends.loop, end_finish, e), 0);
        ck_assert_uint_eq(ends_read_all(fd, &sum), 9 * MB);
        ck_assert_uint_eq(sum, e->sum_written);
        ck_assert(end_wait(&e->n_closed, 1)); /* both have ended: it does not wait for our close */
        ck_assert_int_eq(e->code, 0);
        close(fd);
        ends_stop();
}
END_TEST

START_TEST(finish_waits_for_the_peer_only_so_long)
{
        char c;
        int fd;

        ends_listen();
        fd = ends_dial();
        ck_assert(end_wait(&ends.n_accepted, 1));
        ck_assert_int_eq(loop_call(ends.loop, end_finish_soon, &ends.of[0]), 0);
        ck_assert_int_eq(read(fd, &c, 1), 0);
        ck_assert(end_wait(&ends.of[0].n_closed, 1));
        ck_assert_int_eq(ends.of[0].code, -ETIMEDOUT);
        close(fd);
        ends_stop();
}
END_TEST

START_TEST(connection_nobody_takes_is_closed)
{
        char c;
        int fd;

        ends.accept_handler = NULL;
        ends_listen();
        fd = ends_dial();
        ck_assert_int_eq(read(fd, &c, 1), 0);
        close(fd);
        ends_stop();
        ck_assert_uint_eq(ends.of[0].n_closed, 0);
}
END_TEST

static int
read_peer(void *arg)
{
        conn_peer(ends.of[0].conn, arg);
        return 0;
}

START_TEST(peer_is_named)
{
        char text[ADDR_TEXT_SIZE];
        struct sockaddr_in in;
        socklen_t len = sizeof in;
        int fd;

        ends_listen();
        fd = ends_dial();
        ck_assert(end_wait(&ends.n_accepted, 1));
        ck_assert_int_eq(loop_call(ends.loop, read_peer, text), 0);
        ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&in, &len), 0);
        ck_assert_str_eq(text, ends_address_of(ntohs(in.sin_port)));
        close(fd);
        ends_stop();
}
END_TEST

/* The daemon's end of the connection that has @peer at its other end. */
static int
find_socket(const struct sockaddr_in *peer)
{
        for (int fd = 3; fd < 200; fd++) {
                struct sockaddr_in in;
                socklen_t len = sizeof in;

                if (getpeername(fd, (struct sockaddr *)&in, &len) == 0 && in.sin_port == peer->sin_port)
                        return fd;
        }
        return -1;
}

START_TEST(sockets_send_at_once_and_notice_a_dead_peer)
{
        struct sockaddr_in in;
        socklen_t len = sizeof in;
        int fd, theirs, v = 0;

        ends_listen();
        fd = ends_dial();
        ck_assert(end_wait(&ends.n_accepted, 1));
        ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&in, &len), 0);
        theirs = find_socket(&in);
        ck_assert_int_ge(theirs, 0);
        len = sizeof v;
        ck_assert_int_eq(getsockopt(theirs, IPPROTO_TCP, TCP_NODELAY, &v, &len), 0);
        ck_assert_int_ne(v, 0);
        ck_assert_int_eq(getsockopt(theirs, SOL_SOCKET, SO_KEEPALIVE, &v, &len), 0);
        ck_assert_int_ne(v, 0);
        close(fd);
        ends_stop();
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("conn");

        tcase_add_checked_fixture(tc, ends_setup, NULL);
        tcase_set_timeout(tc, 60);
        tcase_add_test(tc, frames_arrive_whatever_the_packets);
        tcase_add_test(tc, echo_gives_back_every_byte_in_order);
        tcase_add_test(tc, peer_that_reads_late_costs_the_high_mark_and_gets_all);
        tcase_add_test(tc, queue_takes_no_more_than_its_maximum);
        tcase_add_test(tc, pieces_are_sent_as_one);
        tcase_add_test(tc, partly_sent_write_goes_on_where_it_stopped);
        tcase_add_test(tc, connection_that_does_not_read_holds_its_peer_up);
        tcase_add_test(tc, close_while_writing_drops_the_rest);
        tcase_add_test(tc, peer_that_resets_while_it_is_written_to);
        tcase_add_test(tc, close_in_a_read_ends_the_reading);
        tcase_add_test(tc, peer_that_has_ended_may_still_be_answered);
        tcase_add_test(tc, finish_waits_for_the_peer_only_so_long);
        tcase_add_test(tc, connection_nobody_takes_is_closed);
        tcase_add_test(tc, peer_is_named);
        tcase_add_test(tc, sockets_send_at_once_and_notice_a_dead_peer);
        return run_tests("conn", tc);
}
