#include "tests/lib/primary.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "net/loop.h"
#include "repl/frame.h"
#include "repl/frame_decoder.h"
#include "tests/lib/tmpdir.h"

#define TTL_MS 200 /* it is renewed four times as often */
#define TOKEN "an-offer"

/* --- the lease --- */

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

/* --- a disk that stands still --- */

static void
hold_call(const struct os *self, const char *tag)
{
        struct holding_os *h = (struct holding_os *)(uintptr_t)self;

        pthread_mutex_lock(&h->lock);
        while (h->tag != NULL && strcmp(tag, h->tag) == 0) {
                h->is_held = true;
                pthread_cond_broadcast(&h->changed);
                pthread_cond_wait(&h->changed, &h->lock);
        }
        pthread_mutex_unlock(&h->lock);
}

static ssize_t
holding_pwrite(const struct os *self, const char *tag, int fd, const void *buf, size_t n, off_t off)
{
        hold_call(self, tag);
        return os_host()->pwrite(os_host(), tag, fd, buf, n, off);
}

static int
holding_fdatasync(const struct os *self, const char *tag, int fd)
{
        hold_call(self, tag);
        return os_host()->fdatasync(os_host(), tag, fd);
}

static void
holding_init(struct holding_os *h)
{
        *h = (struct holding_os){ .os = *os_host() };
        h->os.pwrite = holding_pwrite;
        h->os.fdatasync = holding_fdatasync;
        pthread_mutex_init(&h->lock, NULL);
        pthread_cond_init(&h->changed, NULL);
}

void
holding_set(struct holding_os *h, const char *tag)
{
        pthread_mutex_lock(&h->lock);
        h->tag = tag;
        pthread_cond_broadcast(&h->changed);
        pthread_mutex_unlock(&h->lock);
}

void
holding_wait(struct holding_os *h)
{
        pthread_mutex_lock(&h->lock);
        while (!h->is_held)
                pthread_cond_wait(&h->changed, &h->lock);
        pthread_mutex_unlock(&h->lock);
}

/* --- the primary, and its replica --- */

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

static int
add_position(void *arg, struct db *db)
{
        struct db_info info;

        db_get_info(db, &info);
        ck_assert_int_eq(frame_positions_add(arg, db_name(db), info.pos, NULL), 1);
        return 0;
}

/* It is on its disk. */
static int
send_durable(void *arg, struct db *db)
{
        struct frame f = { .type = FRAME_DURABLE };
        uint8_t buf[FRAME_SMALL_SIZE];
        struct db_info info;
        ssize_t n;

        db_get_info(db, &info);
        f.ack.pos = info.pos;
        strcpy(f.ack.name, db_name(db));
        n = frame_encode(&f, buf, sizeof buf, NULL);
        ck_assert_int_gt(n, 0);
        send_all(*(int *)arg, buf, (size_t)n);
        return 0;
}

void
primary_join(struct primary *w, bool is_candidate)
{
        static const char request[] = "GET /stream HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
                                      "Upgrade: litefs-stream/1\r\n\r\n";
        struct sockaddr_in to = { .sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)node_port(w->node)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        struct frame hello = { .type = FRAME_HELLO,
                               .hello = { .version = FRAME_VERSION, .boot_id = 7 } };
        struct frame candidacy = { .type = FRAME_CANDIDACY, .candidacy = { is_candidate } };
        struct frame_positions_writer positions;
        uint8_t buf[FRAME_SMALL_SIZE];
        ssize_t n;

        strcpy(hello.hello.hostname, "other");
        w->fd = socket(AF_INET, SOCK_STREAM, 0);
        ck_assert_int_eq(connect(w->fd, (struct sockaddr *)&to, sizeof to), 0);
        send_all(w->fd, request, sizeof request - 1);
        n = frame_encode(&hello, buf, sizeof buf, NULL);
        ck_assert_int_gt(n, 0);
        send_all(w->fd, buf, (size_t)n);
        frame_positions_init(&positions, buf, sizeof buf);
        store_each(w->store, add_position, &positions);
        send_all(w->fd, buf,
                 frame_positions_finish(&positions, FRAME_POSITIONS_ALL | FRAME_POSITIONS_LAST));
        n = frame_encode(&candidacy, buf, sizeof buf, NULL);
        send_all(w->fd, buf, (size_t)n);
        store_each(w->store, send_durable, &w->fd);
        wait_for_hello(w->fd);
}

unsigned
primary_frames_until_end(int fd)
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

void
primary_begin(struct primary *w)
{
        struct err e = ERR_INIT;
        struct store_config sc = { .clock = clock_host() };
        struct node_config nc = { .clock = clock_host(),
                                  .listen_address = "127.0.0.1:0",
                                  .hostname = "us",
                                  .advertise_url = "http://127.0.0.1:1",
                                  .is_candidate = true,
                                  .reconnect_ms = 100 };

        *w = (struct primary){ .dir = tmpdir_make(), .fd = -1 };
        w->lease = (struct fake_lease){ .base = { &fake_ops, "fake", TTL_MS, 0 },
                                        .deadline_ms = INT64_MIN,
                                        .lost_fd = -1 };
        ck_assert_int_eq(workers_new(1, &w->workers), 0);
        ck_assert_int_eq(workers_new(1, &w->appliers), 0);
        holding_init(&w->os);
        sc.os = &w->os.os;
        sc.workers = w->workers;
        sc.data_dir = nc.data_dir = w->dir;
        ck_assert_msg(store_open(&sc, &w->lease.base, &w->store, &e) == 0, "%s", e.text);
        nc.store = w->store;
        nc.lease = &w->lease.base;
        nc.appliers = w->appliers;
        ck_assert_msg(node_open(&nc, &w->node, &e) == 0, "%s", e.text);
        ck_assert_msg(node_listen(w->node, NULL, NULL, &e) == 0, "%s", e.text);
        node_start(w->node, NULL);
        ck_assert(node_wait_ready(w->node, 10000));
}

void
primary_end(struct primary *w)
{
        node_free(w->node);
        store_close(w->store);
        workers_free(w->appliers);
        workers_free(w->workers);
        if (w->fd >= 0)
                close(w->fd);
        tmpdir_remove(w->dir);
}
