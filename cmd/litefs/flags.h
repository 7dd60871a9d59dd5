/* cmd/litefs/flags.h - flags as Go programs take them: one or two dashes, "-name value" or "-name=value". Other
 * words may stand between them; "--" ends the flags. */
#ifndef LITEFS_CMD_FLAGS_H
#define LITEFS_CMD_FLAGS_H

#include <stdbool.h>

#include "base/err.h"

struct flag {
        const char *name;       /* NULL ends the table */
        const char *value_name; /* NULL: a switch */
        const char *help;
        bool *is_set;       /* of a switch; -name=false clears it */
        const char **value; /* of the others; points into argv */
};

/* What is no flag. Points into argv, whose words are moved for it. */
struct flag_words {
        char **words;
        int n;
        char **rest; /* behind "--" */
        int n_rest;
        bool has_dashes;  /* there was a "--" */
        const char *help; /* when help was asked for: the format, "" or what -help= names */
};

/* All of them, in the order in which they came. */
static inline int
flag_words_count(const struct flag_words *w)
{
        return w->n + w->n_rest;
}

static inline char *
flag_words_get(const struct flag_words *w, int i)
{
        return i < w->n ? w->words[i] : w->rest[i - w->n];
}

/* 0; 1 when help was asked for; -EINVAL with the words. */
int flags_parse(const struct flag *flags, int argc, char **argv, struct flag_words *ret, struct err *e);
/* "  -name VALUE   help" for each, to stdout. */
void flags_print(const struct flag *flags);

#endif
