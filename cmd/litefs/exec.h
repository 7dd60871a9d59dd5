/* cmd/litefs/exec.h - the application that the configuration starts under litefs.
 *
 * All commands but the last run to their end, one after the other; the last runs beside the node, which ends
 * with it. A node that is stopped passes the signal on and waits for the application before it unmounts, so that it can
 * still read while it shuts down, and write if no other node has taken the lease.
 *
 * Threads: exec_run on one, exec_signal on another, at any time. */
#ifndef LITEFS_CMD_EXEC_H
#define LITEFS_CMD_EXEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "cmd/litefs/config.h"

/* Words of a command line: quotes and backslashes as in a shell, nothing is expanded, and the line ends at the
 * first unquoted one of ;&|<>: *@ret_is_cut says that it did. The array ends with NULL; exec_free_words frees
 * it. NULL: memory is out, or a quote is open. */
char **exec_split(const char *line, bool *ret_is_cut);
void exec_free_words(char **words);

/* One line that exec_split takes apart into @words again. One word alone stays as it is, so that it may be a
 * whole command line. NULL: memory is out. */
char *exec_join(const char *const *words, size_t n);

struct exec;

/* @on_exit is called from a thread, once, when the background command has ended by itself. */
int exec_new(void (*on_exit)(void *arg), void *arg, struct exec **ret);
/* What commands find in their environment, instead of all that this process has. Borrowed; before exec_run. */
void exec_set_environment(struct exec *x, char *const *environment);
/* Runs @commands until the last is in the background. -ECHILD and the words when one of the synchronous ones
 * failed; 0, and starts nothing more, once exec_signal was called. */
int exec_run(struct exec *x, const struct exec_command *commands, size_t n, bool is_candidate,
             struct err *e);
/* Instead: the background command, a child of this process, was started by the program before this one. */
int exec_adopt(struct exec *x, pid_t pid, struct err *e);
/* Of the command that runs; 0: none does. */
pid_t exec_pid(struct exec *x);
/* Passes @sig on to the command that runs, if any, and waits for its end; after @grace_ms (0: never) it is killed. No other is
 * started. */
void exec_signal(struct exec *x, int sig, int64_t grace_ms);
/* Kills the command that runs, if any, and waits for nothing. */
void exec_kill(struct exec *x);

/* How the background command ended. */
enum exec_end {
        EXEC_NONE,    /* there was none, or it still runs */
        EXEC_EXITED,  /* by itself: *@ret_code is the exit status for litefs, 255 after a signal */
        EXEC_STOPPED, /* after exec_signal: *@ret_code is its exit status, 0 after a signal */
};
enum exec_end exec_result(struct exec *x, int *ret_code);

/* After exec_signal, or when nothing runs; else waits. NULL is fine. */
void exec_free(struct exec *x);

#endif
