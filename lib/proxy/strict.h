/* lib/proxy/strict.h - the line ends and chunk sizes of a request, which http_parser as Debian builds it takes for
 * granted: it reads a CR and any other byte as an end of line, and any two bytes as the end of a chunk. A proxy before us
 * that reads them otherwise would see other requests than we do.
 *
 * Sees the bytes that the parser gets, before it does. Lines end with CR LF and nothing else, a line of the head is not
 * folded, a chunk has its size in up to 15 hexadecimal digits. */
#ifndef LITEFS_PROXY_STRICT_H
#define LITEFS_PROXY_STRICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum strict_state {
        STRICT_BEFORE, /* the request line: empty lines are skipped */
        STRICT_BEFORE_LF,
        STRICT_LINE_START,
        STRICT_LINE,
        STRICT_LINE_LF,
        STRICT_HEAD_LF, /* of the empty line that ends the head */
        STRICT_SIZE,
        STRICT_EXTENSION,
        STRICT_SIZE_LF,
        STRICT_DATA,
        STRICT_DATA_CR,
        STRICT_DATA_LF,
        STRICT_TRAILER_START,
        STRICT_TRAILER,
        STRICT_TRAILER_LF,
        STRICT_END_LF,
        STRICT_DONE, /* the head or the body has ended: what follows is not looked at */
};

struct strict {
        enum strict_state state;
        uint64_t left; /* of the chunk */
        unsigned n_digits;
};

/* A zeroed struct is ready for a head. NULL, or what is wrong with it. */
const char *strict_check(struct strict *s, const uint8_t *data, size_t n);
/* After the head: a body in chunks follows. */
void strict_expect_chunks(struct strict *s);

#endif
