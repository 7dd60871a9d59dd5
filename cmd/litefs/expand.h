/* cmd/litefs/expand.h - environment variables in the text of a configuration, as LiteFS expands them.
 *
 *   $NAME ${NAME}            the variable, or nothing when it is unset
 *   ${NAME:-text}            the text when the variable is unset or empty
 *   ${A == 'x'} ${A != B}    true or false; quotes hold text, words are variables
 *   $$ $1 $? ...             one special character, or a digit, is a name, and hardly one that is set */
#ifndef LITEFS_CMD_EXPAND_H
#define LITEFS_CMD_EXPAND_H

/* The expanded text, which the caller frees; NULL when memory is out or it would be longer than
 * 16 MiB. @lookup returns NULL for unset. */
char *expand_text(const char *text, const char *(*lookup)(void *arg, const char *name), void *arg);

#endif
