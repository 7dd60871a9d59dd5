/* lib/proxy/reader.h - reads one HTTP/1 message after the other from a stream of bytes; the only home of http_parser.
 *
 * The library finds the bounds; what it lets pass that another program could understand otherwise (several lengths, a
 * coding besides chunked, names that are no tokens, and what syntax.h has) is refused here. A body comes without its framing,
 * so that nothing of the sender's framing is ever passed on.
 *
 * Order: reader_feed until READER_HEAD; then, unless is_end, until READER_END, body() getting the pieces; then
 * reader_next. After READER_FAILED nothing but reader_release. */
#ifndef LITEFS_PROXY_READER_H
#define LITEFS_PROXY_READER_H

#include <http_parser.h>

#include "proxy/head.h"
#include "proxy/syntax.h"

enum reader_event {
        READER_MORE,   /* all was taken */
        READER_HEAD,   /* the head is there */
        READER_END,    /* the message has ended */
        READER_FAILED, /* see status and reason */
};

struct reader {
        http_parser parser;
        struct head head;
        /* The message, from READER_HEAD on: */
        bool is_end;        /* there is no body, or it has ended */
        bool is_chunked;    /* so it came */
        bool has_length;    /* `length` is what it said */
        bool is_upgrade;    /* it asks for a WebSocket, or is a 101 */
        bool is_keep_alive; /* the sender would go on with another */
        uint64_t length;
        unsigned method, status_code;
        unsigned minor; /* of HTTP/1.x */

        bool is_body_less; /* a response to HEAD: set it before it is read */

        int status; /* of the answer to a request that READER_FAILED; 502 for a response */
        const char *reason;

        void (*body)(void *arg, const uint8_t *data, size_t n);
        void *arg;
        bool has_head, has_ended;
        struct syntax syntax; /* of a request */
};

void reader_init(struct reader *r, enum http_parser_type type,
                 void (*body)(void *arg, const uint8_t *data, size_t n), void *arg);
void reader_release(struct reader *r);
/* Ready for the next message. */
void reader_next(struct reader *r);
/* Takes bytes up to the next event: how many. */
size_t reader_feed(struct reader *r, const uint8_t *data, size_t n, enum reader_event *ret);
/* The stream has ended: true if that ends the message in order. */
bool reader_eof(struct reader *r);

#endif
