/* lib/proxy/syntax.h - the line ends and chunk sizes of a request, which http_parser as Debian builds it takes for
 * granted: it reads a CR and any other byte as an end of line, and any two bytes as the end of a chunk. A proxy before us
 * that reads them otherwise would see other requests than we do.
 *
 * Sees the bytes that the parser gets, before it does. Lines end with CR LF and nothing else, a line of the head is not
 * folded, a chunk has its size in up to 15 hexadecimal digits. */
#ifndef LITEFS_PROXY_SYNTAX_H
#define LITEFS_PROXY_SYNTAX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum syntax_state {
        SYNTAX_BEFORE, /* the request line: empty lines are skipped */
        SYNTAX_BEFORE_LF,
        SYNTAX_LINE_START,
        SYNTAX_LINE,
        SYNTAX_LINE_LF,
        SYNTAX_HEAD_LF, /* of the empty line that ends the head */
        SYNTAX_SIZE,
        SYNTAX_EXTENSION,
        SYNTAX_SIZE_LF,
        SYNTAX_DATA,
        SYNTAX_DATA_CR,
        SYNTAX_DATA_LF,
        SYNTAX_TRAILER_START,
        SYNTAX_TRAILER,
        SYNTAX_TRAILER_LF,
        SYNTAX_END_LF,
        SYNTAX_DONE, /* the head or the body has ended: what follows is not looked at */
};

struct syntax {
        enum syntax_state state;
        uint64_t left; /* of the chunk */
        unsigned n_digits;
};

/* A zeroed struct is ready for a head. NULL, or what is wrong with it. */
const char *syntax_check(struct syntax *s, const uint8_t *data, size_t n);
/* After the head: a body in chunks follows. */
void syntax_expect_chunks(struct syntax *s);
/* Of a hexadecimal digit; -1: it is none. */
int syntax_hex_value(char c);

#endif
