/* lib/repl/upgrade.h - the HTTP/1.1 head that opens a stream (docs/protocol.md).
 *
 * Bytes in, bytes out. A head is at most UPGRADE_HEAD_MAX bytes; what follows it belongs to the stream. */
#ifndef LITEFS_REPL_UPGRADE_H
#define LITEFS_REPL_UPGRADE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/token.h"

#define UPGRADE_HEAD_MAX 4096

/* A head as it comes in, slice by slice. */
struct upgrade {
        char head[UPGRADE_HEAD_MAX + 1];
        size_t n;
};

/* Takes what belongs to the head off the slice: 1 when it is complete, 0 when more is needed, E_FORMAT when it is
 * longer than allowed. */
int upgrade_feed(struct upgrade *u, const unsigned char **bytes, size_t *n, struct err *e);

/* The complete head of a request: 0 when it asks for a stream, else the HTTP status to answer with. */
int upgrade_check_request(const struct upgrade *u);
/* The complete head of an answer: 0 when it is 101 for a stream, else E_FORMAT with the status line. */
int upgrade_check_response(const struct upgrade *u, struct err *e);

/* Whether the complete head of a request gives @token; any does when that is none. */
bool upgrade_has_token(const struct upgrade *u, struct token *token);

/* Length of the text written, less than @size. @token is sent with the request; "" or NULL: none. */
size_t upgrade_request(const char *host, const char *token, char *buf, size_t size);
size_t upgrade_accept(char *buf, size_t size);
size_t upgrade_refuse(int status, const char *why, char *buf, size_t size);

#endif
