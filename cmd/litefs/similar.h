/* cmd/litefs/similar.h - "did you mean": which of the names there are is meant by one that is none. */
#ifndef LITEFS_CMD_SIMILAR_H
#define LITEFS_CMD_SIMILAR_H

#include <stddef.h>

/* The best so far of the names that similar_offer was given, and how far it is. Borrows them. A name that begins with the
 * word, of two letters at least, is meant by it. */
struct similar {
        const char *word, *best; /* best: NULL while none is near */
        size_t best_n;
        unsigned distance;
};

struct similar similar_to(const char *word);
void similar_offer(struct similar *s, const char *known, size_t n);

#endif
