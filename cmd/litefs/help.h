/* cmd/litefs/help.h - what -h of a command prints; the manual page and the shell completions are made of the same.
 *
 * A command that is asked for help (flags_parse gives 1) calls help_print with its text, its table of flags and the
 * format that was asked for: -h and -help print text, -help=man, -help=bash, -help=zsh and -help=fish that command's
 * part of a generated file, whose frame is help_generate's (`litefs help -format=man`, run by the build). */
#ifndef LITEFS_CMD_HELP_H
#define LITEFS_CMD_HELP_H

#include <stddef.h>

#include "cmd/litefs/flags.h"

/* Tables of these end with a row of NULLs. */
struct help_row {
        const char *left, *text;
};

struct help {
        const char *name; /* of the command; "" for the program itself */
        const char *
                synopsis; /* what follows the name, "[flags] -name NAME PATH"; forms apart by newlines */
        const char *about; /* paragraphs apart by empty lines, lines of at most 100 columns */
        const struct help_row *actions; /* the words that its first argument may be; NULL: any */
        const char *operands; /* what its first word names: "databases", "nodes"; NULL: files */
        const struct help_row *examples; /* command lines, and what they do */
        const struct help_row *exits;    /* NULL: help_exits */
};

extern const struct help_row help_exits[];

struct help_command {
        const char *name;
        int (*fn)(int argc, char **argv);
        const char *summary;
};

/* To stdout, in @format ("", "man", "bash", "zsh", "fish"). @flags may be NULL. Returns 0. */
int help_print(const struct help *h, const struct flag *flags, const char *format);
/* "ERROR: litefs NAME: @what; run `litefs NAME -h` for help" to stderr. Returns EXIT_USAGE. */
int help_mistake(const char *name, const char *what);
/* A whole file for all @commands, which are called for their parts: 0, or -EINVAL. */
int help_generate(const struct help *program, const struct help_command *commands, size_t n,
                  const char *format, struct err *e);
/* The whole manual page of litefs.yml: the keys, with the comments of @path, which is litefs.example.yml. */
int help_print_config_page(const char *path, struct err *e);

#endif
