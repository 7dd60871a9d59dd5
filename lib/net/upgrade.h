/* lib/net/upgrade.h - the HTTP/1.1 head by which a node asks another for more than HTTP: for the stream of transactions
 * (docs/protocol.md), or for its proxy (docs/proxy.md).
 *
 * Bytes in, bytes out. A head is at most UPGRADE_HEAD_MAX bytes; what follows it belongs to the protocol. */
#ifndef LITEFS_NET_UPGRADE_H
#define LITEFS_NET_UPGRADE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/token.h"

#define UPGRADE_HEAD_MAX 4096

struct upgrade_protocol {
        const char *path; /* "/stream" */
        const char *name; /* "litefs-stream/1" */
};

/* A head as it comes in, slice by slice. */
struct upgrade {
        char head[UPGRADE_HEAD_MAX + 1];
        size_t n;
};

/* Takes what belongs to the head off the slice: 1 when it is complete, 0 when more is needed, E_FORMAT when it is
 * longer than allowed. */
int upgrade_feed(struct upgrade *u, const unsigned char **bytes, size_t *n, struct err *e);

/* The complete head of a request: 0 when it asks for @protocol, else the HTTP status to answer with. */
int upgrade_check_request(const struct upgrade *u, const struct upgrade_protocol *protocol);
/* The complete head of an answer: 0 when it is 101 for @protocol, else E_FORMAT with the status line. */
int upgrade_check_response(const struct upgrade *u, const struct upgrade_protocol *protocol,
                           struct err *e);
/* The status of an answer; 0: it has none. */
int upgrade_status(const struct upgrade *u);

/* Whether the complete head of a request gives @token; any does when that is none. */
bool upgrade_has_token(const struct upgrade *u, struct token *token);

/* Length of the text written, less than @size. @token is sent with the request; "" or NULL: none. */
size_t upgrade_request(const struct upgrade_protocol *protocol, const char *host, const char *token,
                       char *buf, size_t size);
size_t upgrade_accept(const struct upgrade_protocol *protocol, char *buf, size_t size);
size_t upgrade_refuse(const struct upgrade_protocol *protocol, int status, const char *why, char *buf,
                      size_t size);

#endif
