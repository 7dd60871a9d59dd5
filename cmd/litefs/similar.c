#include "cmd/litefs/similar.h"

#include <stdbool.h>
#include <string.h>

#define NAME_MAX_BYTES 64

static unsigned
smallest(unsigned a, unsigned b, unsigned c)
{
        unsigned ab = a < b ? a : b;

        return ab < c ? ab : c;
}

/* Changes that make the first @n characters of @known of @word: a letter more, less or another, or two neighbours that
 * changed places. Three rows of the table of distances between beginnings are enough: this one and the two above it. */
static unsigned
count_changes(const char *word, const char *known, size_t n)
{
        unsigned rows[3][NAME_MAX_BYTES], *now = rows[0], *up = rows[1], *above = rows[2], *spare;

        if (n >= NAME_MAX_BYTES)
                return (unsigned)n;
        for (size_t j = 0; j <= n; j++)
                now[j] = (unsigned)j;
        for (size_t i = 1; word[i - 1] != '\0'; i++) {
                spare = above, above = up, up = now, now = spare;
                now[0] = (unsigned)i;
                for (size_t j = 1; j <= n; j++) {
                        now[j] = smallest(up[j] + 1, now[j - 1] + 1,
                                          up[j - 1] + (word[i - 1] != known[j - 1]));
                        if (i > 1 && j > 1 && word[i - 1] == known[j - 2] &&
                            word[i - 2] == known[j - 1] && above[j - 2] + 1 < now[j])
                                now[j] = above[j - 2] + 1;
                }
        }
        return now[n];
}

/* Below this many changes a name is near @word: short words differ by more than a slip soon. */
static unsigned
changes_limit(const char *word)
{
        return strlen(word) < 5 ? 2 : 3;
}

struct similar
similar_to(const char *word)
{
        return (struct similar){ .word = word, .distance = changes_limit(word) };
}

void
similar_offer(struct similar *s, const char *known, size_t n)
{
        size_t given = strlen(s->word);
        bool is_beginning = given >= 2 && given < n && strncmp(known, s->word, given) == 0;
        unsigned d = is_beginning ? 1 : count_changes(s->word, known, n);

        if (d < s->distance && d < n) { /* of a short name nothing may be left of it */
                s->distance = d;
                s->best = known;
                s->best_n = n;
        }
}
