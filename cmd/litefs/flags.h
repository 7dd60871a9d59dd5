/* cmd/litefs/flags.h - flags as Go programs take them: one or two dashes, "-name value" or "-name=value", up to
 * the first word that is no flag, or "--". */
#ifndef LITEFS_CMD_FLAGS_H
#define LITEFS_CMD_FLAGS_H

#include <stdbool.h>

#include "base/err.h"

struct flag {
        const char *name;
        const char *value_name; /* NULL: a switch */
        const char *help;
        bool *is_set;       /* of a switch; -name=false clears it */
        const char **value; /* of the others; points into argv */
};

/* 1: help was asked for; 0: *@ret_next is the index of the first word behind the flags ("--" is skipped and
 * *@ret_had_dashes set); <0: -EINVAL with the words. @flags ends with a NULL name. */
int flags_parse(const struct flag *flags, int argc, char **argv, int *ret_next, bool *ret_had_dashes,
                struct err *e);
/* "  -name VALUE   help" for each, to stdout. */
void flags_print(const struct flag *flags);

#endif
