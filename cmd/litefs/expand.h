/* cmd/litefs/expand.h - environment variables in the text of a configuration, as LiteFS expands them.
 *
 *   $NAME ${NAME}            the variable, or nothing when it is unset
 *   ${NAME:-text}            the text when the variable is unset or empty
 *   ${A == 'x'} ${A != B}    true or false; quotes hold text, words are variables
 *   $$ $1 $? ...             one special character is taken for a name, which is unset */
#ifndef LITEFS_CMD_EXPAND_H
#define LITEFS_CMD_EXPAND_H

/* The expanded text, which the caller frees; NULL when memory is out. @lookup returns NULL for unset. */
char *expand_text(const char *text, const char *(*lookup)(void *arg, const char *name), void *arg);

#endif
