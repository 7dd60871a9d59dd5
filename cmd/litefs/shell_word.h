/* cmd/litefs/shell_word.h - words of the commands that messages tell to type. */
#ifndef LITEFS_CMD_SHELL_WORD_H
#define LITEFS_CMD_SHELL_WORD_H

#include <stddef.h>

/* Adds @s to the text in @buf, quoted if a shell would take it for anything but one word; cut at @size. */
void shell_word_add(char *buf, size_t size, const char *s);

#endif
