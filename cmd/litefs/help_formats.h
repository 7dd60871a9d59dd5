/* cmd/litefs/help_formats.h - the formats of help.h. Only help*.c include it. */
#ifndef LITEFS_CMD_HELP_FORMATS_H
#define LITEFS_CMD_HELP_FORMATS_H

#include "cmd/litefs/help.h"

/* A file is begin, print_command for each command, end. */
struct help_format {
        const char *name;
        void (*begin)(const struct help *program, const struct help_command *commands, size_t n);
        void (*print_command)(const struct help *h, const struct flag *flags);
        void (*end)(const struct help *program);
};

extern const struct help_format help_man, help_bash, help_zsh, help_fish;

/* What follows the next newline of @s, or NULL. */
const char *help_next_line(const char *s);

#endif
