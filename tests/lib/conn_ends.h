/* tests/lib/conn_ends.h - connections on real loopback sockets: what each has seen, and what it does.
 *
 * Order: ends_setup, ends_listen, then ends_dial or ends_connect, ends_stop. What is counted is counted on the loop's
 * thread and waited for by the test. For unit tests that link litefs_loop; one at a time. */
#ifndef LITEFS_TESTS_LIB_CONN_ENDS_H
#define LITEFS_TESTS_LIB_CONN_ENDS_H

#include <netinet/in.h>
#include <stdbool.h>

#include "net/conn.h"
#include "net/listener.h"
#include "net/loop.h"

#define ENDS_WAIT_S 20
#define MB (1024u * 1024)

struct end {
        struct conn *conn; /* the loop's thread only */
        size_t n_opened, n_ended, n_writable, n_closed;
        int code;
        char words[480];
        size_t n_read;
        uint32_t sum_read;
        size_t n_written;
        uint32_t sum_written;
        size_t max_queued;
        /* What it does; set before it is used. */
        size_t to_write; /* bytes in all, as far as the peer lets it */
        bool is_echo;
        bool closes_when_read;
        bool finishes;                                          /* when it has written all */
        bool (*take)(void *arg, const uint8_t *data, size_t n); /* what comes; false: it closes */
        void *take_arg;
};

/* A loop with a listener, whose connections take the ends in turn. */
struct ends {
        struct loop *loop;
        struct listener *listener;
        struct end of[1100];
        size_t n_accepted;
        int port;
        const struct conn_handler *accept_handler; /* NULL: nobody takes them */
        enum crowd_rank rank;                      /* what they are, once taken */
};

extern struct ends ends;
extern const struct conn_handler end_handler;      /* closes when the peer ends */
extern const struct conn_handler end_half_handler; /* does not */

void ends_setup(void);
void ends_stop(void);
/* With @ret NULL it has to succeed. */
int ends_listen_with(const char *address, unsigned max_conns, struct conn_limits limits,
                     struct err *ret);
void ends_listen(void);
/* A blocking socket of the test's that is connected to the listener; reads give up after ENDS_WAIT_S. */
int ends_dial(void);
struct sockaddr_in ends_loopback(int port);
const char *ends_address_of(int port);
/* All that comes up to the end: how much, and what it adds up to. */
size_t ends_read_all(int fd, uint32_t *ret_sum);
/* A connection of ours. */
int ends_connect(const char *address, int64_t timeout_ms, struct end *end, struct err *ret);

/* Waits until @count reaches @n: false after ENDS_WAIT_S. */
bool end_wait(const size_t *count, size_t n);
uint32_t end_add_up(uint32_t sum, const uint8_t *p, size_t n);
/* Writes until the connection says stop. */
void end_pump(struct end *e);
/* For loop_call, of a struct end. */
int end_close(void *end);
int end_close_twice(void *end);
int end_finish(void *end);
int end_finish_soon(void *end);

#endif
