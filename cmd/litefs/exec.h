/* cmd/litefs/exec.h - the application that the configuration starts under litefs.
 *
 * All commands but the last run to their end, one after the other; the last runs beside the node, which ends
 * with it. A node that is stopped passes the signal on and waits for the application first. */
#ifndef LITEFS_CMD_EXEC_H
#define LITEFS_CMD_EXEC_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "cmd/litefs/config.h"

/* Words of a command line: quotes and backslashes as in a shell, nothing is expanded, and ends at the first
 * unquoted one of ;&|<>. Ends with NULL; exec_free_words frees it. NULL: memory is out, or a quote is open. */
char **exec_split(const char *line);
void exec_free_words(char **words);

struct exec; /* supervises the background command */

/* @on_exit is called from a thread once when the background command has ended by itself. */
int exec_new(void (*on_exit)(void *arg), void *arg, struct exec **ret);
/* Runs @commands. -ECHILD and the words when one of the synchronous ones fails. */
int exec_run(struct exec *x, const struct exec_command *commands, size_t n, bool is_candidate,
             struct err *e);
/* Passes @sig on and waits for the end. Does nothing when no command runs. */
void exec_signal(struct exec *x, int sig);
/* True when the background command has ended by itself: then *@ret_code is the exit status for litefs. */
bool exec_has_exited(struct exec *x, int *ret_code);
void exec_free(struct exec *x); /* NULL is fine; waits */

#endif
