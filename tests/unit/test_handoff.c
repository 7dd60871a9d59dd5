/* links: litefs_repl litefs_store */
/* A primary that hands its lease over, with a lease service that takes its time and a replica played by the test. */
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

#include "base/workers.h"
#include "net/loop.h"
#include "repl/frame.h"
#include "repl/frame_decoder.h"
#include "repl/node.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

#define TTL_MS 200 /* it is renewed four times as often */
#define TOKEN "an-offer"

/* The service and its only client: calls come from the node's lease thread. */
struct fake_lease {
        struct lease base;
        int64_t deadline_ms;
        uint64_t term;
        bool is_held, is_offered;
        bool is_taken_at_once; /* what is offered, by the other node */
        int lost_fd;           /* a connection that breaks while the offer is made, or -1 */
};

static struct fake_lease *
fake_of(struct lease *l)
{
        return (struct fake_lease *)l;
}

static void
set_deadline(struct fake_lease *f, int64_t ms)
{
        __atomic_store_n(&f->deadline_ms, ms, __ATOMIC_SEQ_CST);
}

static void
describe(struct fake_lease *f, struct lease_state *ret)
{
        *ret = (struct lease_state){ .has_holder = f->is_held || f->is_offered,
                                     .term = f->term,
                                     .ttl_ms = TTL_MS };
        strcpy(ret->hostname, "us");
        strcpy(ret->advertise_url, "http://127.0.0.1:1");
}

static int
fake_read(struct lease *l, struct lease_state *ret, struct err *e)
{
        struct fake_lease *f = fake_of(l);

        (void)e;
        if (f->is_offered && f->is_taken_at_once) {
                f->is_offered = false;
                f->term++;
        }
        describe(fake_of(l), ret);
        return 0;
}

static int
fake_acquire(struct lease *l, const struct lease_state *seen, uint64_t min_term, struct lease_state *ret,
             struct err *e)
{
        struct fake_lease *f = fake_of(l);

        (void)seen;
        if (f->is_held || f->is_offered)
                return err_text(e, E_NOT_PRIMARY, "it is held");
        f->is_held = true;
        f->term = f->term + 1 > min_term ? f->term + 1 : min_term;
        set_deadline(f, clock_boot_ms(clock_host()) + 60000);
        describe(f, ret);
        return 0;
}

static int
fake_renew(struct lease *l, struct err *e)
{
        return fake_of(l)->is_held ? 0 : err_text(e, E_NOT_PRIMARY, "this node does not hold the lease");
}

static void
fake_release(struct lease *l)
{
        fake_of(l)->is_held = false;
        set_deadline(fake_of(l), INT64_MIN);
}

static int
fake_break(struct lease *l, const struct lease_state *seen, struct err *e)
{
        (void)l;
        (void)seen;
        return err_text(e, -ENOTSUP, "no");
}

/* The deadline passes at once; the call ends a while after that. */
static int
fake_offer(struct lease *l, char token[LEASE_SESSION_SIZE], struct err *e)
{
        struct fake_lease *f = fake_of(l);
        struct timespec while_renewals_come = { 0, TTL_MS * 1000000 };

        (void)e;
        f->is_held = false;
        f->is_offered = true;
        set_deadline(f, INT64_MIN);
        if (f->lost_fd >= 0)
                shutdown(f->lost_fd, SHUT_RDWR);
        nanosleep(&while_renewals_come, NULL);
        strcpy(token, TOKEN);
        return 0;
}

static void
fake_withdraw(struct lease *l, const char *token, uint64_t term)
{
        ck_assert_str_eq(token, TOKEN);
        ck_assert_uint_eq(term, fake_of(l)->term);
        fake_of(l)->is_offered = false;
}

static int
fake_take_over(struct lease *l, const char *token, uint64_t min_term, struct lease_state *ret,
               struct err *e)
{
        ck_assert_str_eq(token, TOKEN);
        if (!fake_of(l)->is_offered)
                return err_text(e, E_NOT_PRIMARY, "nothing is offered");
        fake_of(l)->is_offered = false;
        return fake_acquire(l, NULL, min_term, ret, e);
}

static int
fake_get_id(struct lease *l, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        (void)l;
        (void)e;
        ret[0] = '\0';
        return 0;
}

static int
fake_put_id(struct lease *l, const char *id, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        (void)l;
        (void)id;
        (void)ret;
        (void)e;
        return -ENOTSUP;
}

static int
fake_raise_term(struct lease *l, const struct lease_state *seen, uint64_t term, struct err *e)
{
        (void)l;
        (void)seen;
        (void)term;
        return err_text(e, E_NOT_PRIMARY, "no");
}

static int
fake_watch(struct lease *l, const struct lease_state *held, struct err *e)
{
        (void)l;
        (void)held;
        return err_text(e, -ENOTSUP, "no");
}

static int64_t
fake_deadline(struct lease *l)
{
        return __atomic_load_n(&fake_of(l)->deadline_ms, __ATOMIC_SEQ_CST);
}

static const struct lease_ops fake_ops = { .read = fake_read,
                                           .acquire = fake_acquire,
                                           .renew = fake_renew,
                                           .release = fake_release,
                                           .break_stale = fake_break,
                                           .offer = fake_offer,
                                           .withdraw = fake_withdraw,
                                           .take_over = fake_take_over,
                                           .get_cluster_id = fake_get_id,
                                           .put_cluster_id = fake_put_id,
                                           .raise_term = fake_raise_term,
                                           .watch = fake_watch,
                                           .deadline_ms = fake_deadline };

/* --- the primary, and its replica --- */

struct world {
        char *dir;
        struct fake_lease lease;
        struct workers *appliers, *workers;
        struct store *store;
        struct node *node;
        int fd; /* the replica's end */
};

static void
send_all(int fd, const void *buf, size_t n)
{
        ck_assert_int_eq(send(fd, buf, n, 0), (ssize_t)n);
}

/* Until the primary's HELLO has come: it has ours. */
static void
wait_for_hello(int fd)
{
        uint8_t buf[4096];
        const uint8_t *p = NULL;
        struct timespec moment = { 0, 1000000 };

        while (p == NULL || buf + sizeof buf - p < 4 + FRAME_HEADER_SIZE ||
               p[4 + FRAME_HEADER_SIZE - 1] != FRAME_HELLO) {
                memset(buf, 0, sizeof buf);
                ck_assert_int_gt(recv(fd, buf, sizeof buf, MSG_PEEK), 0);
                p = memmem(buf, sizeof buf, "\r\n\r\n", 4);
                nanosleep(&moment, NULL);
        }
}

/* A replica that has everything: there is nothing. */
static void
join(struct world *w, bool is_candidate)
{
        static const char request[] = "GET /stream HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
                                      "Upgrade: litefs-stream/1\r\n\r\n";
        struct sockaddr_in to = { .sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)node_port(w->node)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        struct frame hello = { .type = FRAME_HELLO,
                               .hello = { .version = FRAME_VERSION, .boot_id = 7 } };
        struct frame candidacy = { .type = FRAME_CANDIDACY, .candidacy = { is_candidate } };
        struct frame_positions_writer none;
        uint8_t buf[FRAME_SMALL_SIZE];
        ssize_t n;

        strcpy(hello.hello.hostname, "other");
        w->fd = socket(AF_INET, SOCK_STREAM, 0);
        ck_assert_int_eq(connect(w->fd, (struct sockaddr *)&to, sizeof to), 0);
        send_all(w->fd, request, sizeof request - 1);
        n = frame_encode(&hello, buf, sizeof buf, NULL);
        ck_assert_int_gt(n, 0);
        send_all(w->fd, buf, (size_t)n);
        frame_positions_init(&none, buf, sizeof buf);
        send_all(w->fd, buf, frame_positions_finish(&none, FRAME_POSITIONS_ALL | FRAME_POSITIONS_LAST));
        n = frame_encode(&candidacy, buf, sizeof buf, NULL);
        send_all(w->fd, buf, (size_t)n);
        wait_for_hello(w->fd);
}

/* The types of all frames until the end of the stream, as bits. */
static unsigned
frames_until_end(int fd)
{
        uint8_t buf[65536];
        size_t n = 0, left;
        ssize_t part;
        const uint8_t *p;
        struct frame_decoder *d;
        struct frame frame;
        unsigned seen = 0;

        while ((part = recv(fd, buf + n, sizeof buf - n, 0)) > 0)
                n += (size_t)part;
        p = memmem(buf, n, "\r\n\r\n", 4);
        ck_assert_ptr_nonnull(p);
        p += 4;
        left = n - (size_t)(p - buf);
        ck_assert_int_eq(frame_decoder_new(&d), 0);
        while (frame_decoder_next(d, &p, &left, &frame, NULL) > 0)
                seen |= 1u << frame.type;
        frame_decoder_free(d);
        return seen;
}

static void
begin(struct world *w)
{
        struct err e = ERR_INIT;
        struct store_config sc = { .os = os_host(), .clock = clock_host() };
        struct node_config nc = { .clock = clock_host(),
                                  .listen_address = "127.0.0.1:0",
                                  .hostname = "us",
                                  .advertise_url = "http://127.0.0.1:1",
                                  .is_candidate = true,
                                  .reconnect_ms = 100 };

        *w = (struct world){ .dir = tmpdir_make(), .fd = -1 };
        w->lease = (struct fake_lease){ .base = { &fake_ops, "fake", TTL_MS, 0 },
                                        .deadline_ms = INT64_MIN,
                                        .lost_fd = -1 };
        ck_assert_int_eq(workers_new(1, &w->workers), 0);
        ck_assert_int_eq(workers_new(1, &w->appliers), 0);
        sc.workers = w->workers;
        sc.data_dir = nc.data_dir = w->dir;
        ck_assert_msg(store_open(&sc, &w->lease.base, &w->store, &e) == 0, "%s", e.text);
        nc.store = w->store;
        nc.lease = &w->lease.base;
        nc.appliers = w->appliers;
        ck_assert_msg(node_open(&nc, &w->node, &e) == 0, "%s", e.text);
        ck_assert_msg(node_listen(w->node, NULL, NULL, &e) == 0, "%s", e.text);
        node_start(w->node);
        ck_assert(node_wait_ready(w->node, 10000));
}

static void
end(struct world *w)
{
        node_free(w->node);
        store_close(w->store);
        workers_free(w->appliers);
        workers_free(w->workers);
        if (w->fd >= 0)
                close(w->fd);
        tmpdir_remove(w->dir);
}

/* Its deadline passes with the offer, and renewals find that it is gone: neither ends the stream by which the replica
 * hears of it. */
START_TEST(the_offer_reaches_the_replica)
{
        struct world w;
        struct err e = ERR_INIT;
        unsigned seen;

        begin(&w);
        join(&w, true);
        w.lease.is_taken_at_once = true;
        ck_assert_msg(node_handoff(w.node, "other", 0, 10000, &e) == 0, "%s", e.text);
        seen = frames_until_end(w.fd);
        ck_assert(seen & 1u << FRAME_HANDOFF);
        ck_assert(seen & 1u << FRAME_ERROR); /* and then the end, with its reason */
        ck_assert_uint_eq(w.lease.term, 2);
        node_stop(w.node);
        end(&w);
}
END_TEST

START_TEST(an_offer_that_nobody_heard_of_is_taken_back)
{
        struct world w;
        struct err e = ERR_INIT;

        begin(&w);
        join(&w, true);
        w.lease.lost_fd = w.fd;
        ck_assert_int_lt(node_handoff(w.node, "other", 0, 10000, &e), 0);
        ck_assert_msg(strstr(e.text, "stays the primary") != NULL, "%s", e.text);
        ck_assert(w.lease.is_held && !w.lease.is_offered);
        ck_assert_uint_eq(w.lease.term, 2);
        ck_assert_int_eq(store_may_commit(w.store), 0);
        node_stop(w.node);
        end(&w);
}
END_TEST

/* Its stream has it, but it does nothing. */
START_TEST(an_offer_that_is_not_taken_is_released)
{
        struct world w;
        struct err e = ERR_INIT;

        begin(&w);
        join(&w, true);
        ck_assert_int_eq(node_handoff(w.node, "other", 0, 10000, &e), -ETIMEDOUT);
        ck_assert_msg(strstr(e.text, "did not take the lease") != NULL, "%s", e.text);
        ck_assert(!w.lease.is_held && !w.lease.is_offered);
        node_stop(w.node);
        end(&w);
}
END_TEST

/* Who never leads is offered nothing: by name it is refused, and a node that stops gives the lease to whoever comes. */
START_TEST(who_is_no_candidate_is_offered_nothing)
{
        struct world w;
        struct err e = ERR_INIT;

        begin(&w);
        join(&w, false);
        ck_assert_int_lt(node_handoff(w.node, "other", 0, 100, &e), 0);
        ck_assert_int_eq(node_handoff(w.node, "other", 0, 10000, &e), -EPERM);
        ck_assert_msg(strstr(e.text, "other is no candidate") != NULL, "%s", e.text);
        ck_assert(w.lease.is_held);
        node_stop(w.node);
        ck_assert(!w.lease.is_held && !w.lease.is_offered);
        ck_assert_uint_eq(w.lease.term, 1);
        ck_assert(!(frames_until_end(w.fd) & 1u << FRAME_HANDOFF));
        end(&w);
}
END_TEST

struct caller {
        pthread_t thread;
        struct node *node;
        int result;
};

static void *
call_handoff(void *arg)
{
        struct caller *c = arg;

        c->result = node_handoff(c->node, NULL, 0, 10000, NULL);
        return NULL;
}

START_TEST(one_hand_over_at_a_time)
{
        struct caller callers[3];
        struct world w;
        int n_done = 0;

        begin(&w);
        join(&w, true);
        w.lease.is_taken_at_once = true;
        for (int i = 0; i < 3; i++) {
                callers[i].node = w.node;
                ck_assert_int_eq(pthread_create(&callers[i].thread, NULL, call_handoff, &callers[i]), 0);
        }
        for (int i = 0; i < 3; i++) {
                pthread_join(callers[i].thread, NULL);
                ck_assert(callers[i].result == 0 || callers[i].result == E_NOT_PRIMARY);
                n_done += callers[i].result == 0;
        }
        ck_assert_int_eq(n_done, 1);
        ck_assert_uint_eq(w.lease.term, 2);
        node_stop(w.node);
        end(&w);
}
END_TEST

/* The other nodes have seen the last term that anything can have been written in: one of them may lead. */
START_TEST(a_node_that_stops_begins_no_term)
{
        struct world w;

        begin(&w);
        join(&w, true);
        w.lease.lost_fd = w.fd;
        node_stop(w.node);
        ck_assert(!w.lease.is_held && !w.lease.is_offered);
        ck_assert_uint_eq(w.lease.term, 1);
        end(&w);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("handoff");

        tcase_add_test(tc, the_offer_reaches_the_replica);
        tcase_add_test(tc, an_offer_that_nobody_heard_of_is_taken_back);
        tcase_add_test(tc, an_offer_that_is_not_taken_is_released);
        tcase_add_test(tc, who_is_no_candidate_is_offered_nothing);
        tcase_add_test(tc, one_hand_over_at_a_time);
        tcase_add_test(tc, a_node_that_stops_begins_no_term);
        return run_tests("handoff", tc);
}
