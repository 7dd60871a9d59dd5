/* tests/lib/fetch_all.h - the whole answer of a node that is asked for transactions (repl/fetch.h). */
#ifndef LITEFS_TESTS_FETCH_ALL_H
#define LITEFS_TESTS_FETCH_ALL_H

#include <stdlib.h>

#include "repl/fetch.h"

#define FETCH_ALL_PIECE 65536

/* Bytes that are the caller's to free, until the end or an error, which is returned, else 0. */
static inline int
fetch_all(struct store *store, const struct frame_hello *self, const char *name, struct ltx_pos from,
          char **ret, size_t *ret_n)
{
        struct fetch_source *s;
        char *buf = NULL;
        size_t n = 0, capacity = 0;
        ssize_t r = fetch_source_open(store, self, name, from, &s);

        if (r < 0)
                return (int)r;
        do {
                if (capacity - n < FETCH_ALL_PIECE) {
                        capacity = 2 * capacity + FETCH_ALL_PIECE;
                        buf = realloc(buf, capacity);
                }
                if (buf == NULL)
                        abort();
                r = fetch_source_read(s, buf + n, FETCH_ALL_PIECE);
                n += r > 0 ? (size_t)r : 0;
        } while (r > 0);
        fetch_source_close(s);
        *ret = buf;
        *ret_n = n;
        return (int)r;
}

#endif
