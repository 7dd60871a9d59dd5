#include "cmd/litefs/exec.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/monotonic.h"
#include "base/thread.h"

/* --- words --- */

struct splitter {
        char **words;
        size_t n;
        char *word; /* being gathered; as long as the line suffices */
        size_t len;
        bool in_word;
};

static bool
end_word(struct splitter *s)
{
        char **grown;

        if (!s->in_word)
                return true;
        grown = realloc(s->words, (s->n + 2) * sizeof *grown);
        if (grown == NULL)
                return false;
        s->words = grown;
        s->words[s->n] = strndup(s->word, s->len);
        if (s->words[s->n] == NULL)
                return false;
        s->words[++s->n] = NULL;
        s->len = 0;
        s->in_word = false;
        return true;
}

/* One quoted part; returns where it ends, or NULL when it does not. */
static const char *
take_quoted(struct splitter *s, const char *p)
{
        char quote = *p++;

        for (s->in_word = true; *p != '\0' && *p != quote; p++) {
                if (*p == '\\' && quote == '"' && p[1] != '\0')
                        p++;
                s->word[s->len++] = *p;
        }
        return *p == quote ? p + 1 : NULL;
}

static bool
split(struct splitter *s, const char *p, bool *ret_is_cut)
{
        while (p != NULL && *p != '\0' && strchr(";&|<>", *p) == NULL) {
                if (isspace((unsigned char)*p)) {
                        if (!end_word(s))
                                return false;
                        p++;
                } else if (*p == '\'' || *p == '"') {
                        p = take_quoted(s, p);
                } else {
                        if (*p == '\\' && p[1] != '\0')
                                p++;
                        s->word[s->len++] = *p++;
                        s->in_word = true;
                }
        }
        *ret_is_cut = p != NULL && *p != '\0';
        return p != NULL && end_word(s);
}

char **
exec_split(const char *line, bool *ret_is_cut)
{
        struct splitter s = { .word = malloc(strlen(line) + 1), .words = calloc(1, sizeof *s.words) };
        bool is_done = s.word != NULL && s.words != NULL && split(&s, line, ret_is_cut);

        free(s.word);
        if (is_done)
                return s.words;
        exec_free_words(s.words);
        return NULL;
}

void
exec_free_words(char **words)
{
        for (size_t i = 0; words != NULL && words[i] != NULL; i++)
                free(words[i]);
        free(words);
}

static char *
put_shell_quoted(char *to, const char *word)
{
        *to++ = '\'';
        for (; *word != '\0'; word++) {
                if (*word == '\'')
                        to = stpcpy(to, "'\\'");
                *to++ = *word;
        }
        *to++ = '\'';
        return to;
}

char *
exec_join(const char *const *words, size_t n)
{
        size_t size = 1;
        char *line, *to;

        for (size_t i = 0; i < n; i++)
                size += 4 * strlen(words[i]) + 3;
        line = to = malloc(size);
        if (line == NULL)
                return NULL;
        for (size_t i = 0; i < n; i++) {
                if (i > 0)
                        *to++ = ' ';
                to = n == 1 ? stpcpy(to, words[i]) : put_shell_quoted(to, words[i]);
        }
        *to = '\0';
        return line;
}

/* --- processes --- */

struct exec {
        void (*on_exit)(void *arg);
        void *arg;
        char *const *environment;
        pthread_mutex_t lock; /* guards what follows; leaf */
        pthread_cond_t ended; /* pid became 0 */
        pid_t pid;            /* of the command that runs; 0 when none does */
        bool is_stopping;
        enum exec_end end;
        int code;
        bool has_thread;
        pthread_t thread; /* watches the background command */
};

int
exec_new(void (*on_exit)(void *arg), void *arg, struct exec **ret)
{
        struct exec *x = calloc(1, sizeof *x);

        if (x == NULL)
                return -ENOMEM;
        x->on_exit = on_exit;
        x->environment = environ;
        x->arg = arg;
        pthread_mutex_init(&x->lock, NULL);
        thread_cond_init(&x->ended);
        *ret = x;
        return 0;
}

void
exec_set_environment(struct exec *x, char *const *environment)
{
        x->environment = environment;
}

/* The words that make this program become @words as @user: NULL, memory is out. Borrows them all. */
static char **
wrap_words(const char *user, char **words)
{
        static char self[] = "litefs", command[] = "exec-as";
        size_t n = 0;
        char **ret;

        while (words[n] != NULL)
                n++;
        ret = calloc(n + 4, sizeof *ret);
        if (ret == NULL)
                return NULL;
        ret[0] = self;
        ret[1] = command;
        ret[2] = (char *)user;
        memcpy(ret + 3, words, n * sizeof *words);
        return ret;
}

/* With standard input from /dev/null and the signals as a program expects them: litefs blocks some. */
static int
spawn(const char *program, char **words, char *const *environment, pid_t *ret)
{
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attr;
        sigset_t none, pipe;
        int r;

        sigemptyset(&none);
        sigemptyset(&pipe);
        sigaddset(&pipe, SIGPIPE);
        posix_spawn_file_actions_init(&actions);
        posix_spawnattr_init(&attr);
        r = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        posix_spawnattr_setsigmask(&attr, &none);
        posix_spawnattr_setsigdefault(&attr, &pipe);
        posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        if (r == 0)
                r = posix_spawnp(ret, program, &actions, &attr, words, environment);
        posix_spawnattr_destroy(&attr);
        posix_spawn_file_actions_destroy(&actions);
        return -r;
}

static int
spawn_as(struct exec *x, const char *user, char **words)
{
        char **wrapped;
        int r;

        if (user[0] == '\0')
                return spawn(words[0], words, x->environment, &x->pid);
        wrapped = wrap_words(user, words);
        r = wrapped != NULL ? spawn("/proc/self/exe", wrapped, x->environment, &x->pid) : -ENOMEM;
        free(wrapped);
        return r;
}

/* Starts @command and sets x->pid: 1, 0 when the node is stopping, or the error. */
static int
start_command(struct exec *x, const struct exec_command *command, struct err *e)
{
        bool is_cut = false;
        const char *line = command->cmd;
        char **words = exec_split(line, &is_cut);
        int r = 0;

        if (words == NULL || words[0] == NULL) {
                exec_free_words(words);
                return err_text(e, -EINVAL, "cannot exec: invalid command line string: %s", line);
        }
        if (is_cut)
                log_warn("no shell reads the command, it ends at the first of ;&|<>: %s", line);
        pthread_mutex_lock(&x->lock);
        if (!x->is_stopping) {
                r = spawn_as(x, command->user, words);
                if (r < 0)
                        x->pid = 0;
        }
        pthread_mutex_unlock(&x->lock);
        if (r < 0)
                err_set(e, r, "cannot exec: %s", words[0]);
        else
                r = x->pid > 0;
        exec_free_words(words);
        return r;
}

/* Waits for the command that runs; returns its wait status. The process is left a zombie until the lock is
 * held, so that exec_signal cannot hit another process that got its id. */
static int
wait_for_command(struct exec *x, enum exec_end end)
{
        siginfo_t info;
        int status;

        while (waitid(P_PID, (id_t)x->pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
                ;
        pthread_mutex_lock(&x->lock);
        if (waitpid(x->pid, &status, 0) < 0)
                status =
                        SIGKILL; /* the program that it was adopted from has waited for it: how it ended is lost */
        x->pid = 0;
        if (end != EXEC_NONE) {
                x->end = x->is_stopping ? EXEC_STOPPED : end;
                x->code = WIFEXITED(status) ? WEXITSTATUS(status) : x->is_stopping ? 0 : 255;
        }
        pthread_cond_broadcast(&x->ended);
        pthread_mutex_unlock(&x->lock);
        return status;
}

static bool
is_stopping(struct exec *x)
{
        bool is;

        pthread_mutex_lock(&x->lock);
        is = x->is_stopping;
        pthread_mutex_unlock(&x->lock);
        return is;
}

static int
run_to_its_end(struct exec *x, const struct exec_command *command, struct err *e)
{
        int r, status;

        log_info("executing command: %s", command->cmd);
        r = start_command(x, command, e);
        if (r <= 0)
                return r;
        status = wait_for_command(x, EXEC_NONE);
        if (status == 0 || is_stopping(x))
                return 0;
        if (WIFSIGNALED(status))
                return err_text(e, -ECHILD, "cannot exec: sync cmd: cannot run command: signal: %s",
                                strsignal(WTERMSIG(status)));
        return err_text(e, -ECHILD, "cannot exec: sync cmd: cannot run command: exit status %d",
                        WEXITSTATUS(status));
}

static void *
watch_command(void *arg)
{
        struct exec *x = arg;

        wait_for_command(x, EXEC_EXITED);
        if (x->end != EXEC_EXITED)
                return NULL;
        if (x->code == 0)
                log_info("subprocess exited successfully, litefs shutting down");
        else
                log_info("subprocess exited with error code %d, litefs shutting down", x->code);
        x->on_exit(x->arg);
        return NULL;
}

static int
run_background(struct exec *x, const struct exec_command *command, struct err *e)
{
        int r;

        log_info("starting background subprocess: %s", command->cmd);
        r = start_command(x, command, e);
        if (r <= 0)
                return r;
        r = -pthread_create(&x->thread, NULL, watch_command, x);
        if (r < 0) {
                kill(x->pid, SIGTERM);
                wait_for_command(x, EXEC_NONE);
                return err_set(e, r, "watch %s", command->cmd);
        }
        x->has_thread = true;
        return 0;
}

int
exec_adopt(struct exec *x, pid_t pid, struct err *e)
{
        int r;

        pthread_mutex_lock(&x->lock);
        x->pid = pid;
        pthread_mutex_unlock(&x->lock);
        r = -pthread_create(&x->thread, NULL, watch_command, x);
        if (r < 0)
                return err_set(e, r, "watch the application");
        x->has_thread = true;
        return 0;
}

pid_t
exec_pid(struct exec *x)
{
        pid_t pid;

        pthread_mutex_lock(&x->lock);
        pid = x->pid;
        pthread_mutex_unlock(&x->lock);
        return pid;
}

int
exec_run(struct exec *x, const struct exec_command *commands, size_t n, bool is_candidate, struct err *e)
{
        int r = 0;

        for (size_t i = 0; i < n && r == 0 && !is_stopping(x); i++) {
                if (commands[i].if_candidate && !is_candidate) {
                        log_info("node is not a candidate, skipping command execution: %s",
                                 commands[i].cmd);
                        continue;
                }
                r = i + 1 < n ? run_to_its_end(x, &commands[i], e) : run_background(x, &commands[i], e);
        }
        return r;
}

/* With the lock: false when it still runs at @grace_ms. */
static bool
wait_grace(struct exec *x, int64_t grace_ms)
{
        struct timespec until = monotonic_after_ms(grace_ms);

        while (x->pid > 0)
                if (pthread_cond_timedwait(&x->ended, &x->lock, &until) != 0)
                        return x->pid == 0;
        return true;
}

void
exec_signal(struct exec *x, int sig, int64_t grace_ms)
{
        pthread_mutex_lock(&x->lock);
        x->is_stopping = true;
        if (x->pid > 0) {
                log_info("sending signal to exec process");
                kill(x->pid, sig);
                log_info("waiting for exec process to close");
        }
        if (grace_ms > 0 && !wait_grace(x, grace_ms)) {
                log_warn("the exec process has not ended within exec-grace (%lld ms): it is killed",
                         (long long)grace_ms);
                kill(x->pid, SIGKILL);
        }
        while (x->pid > 0)
                pthread_cond_wait(&x->ended, &x->lock);
        pthread_mutex_unlock(&x->lock);
}

void
exec_kill(struct exec *x)
{
        pthread_mutex_lock(&x->lock);
        x->is_stopping = true;
        if (x->pid > 0)
                kill(x->pid, SIGKILL);
        pthread_mutex_unlock(&x->lock);
}

enum exec_end
exec_result(struct exec *x, int *ret_code)
{
        enum exec_end end;

        pthread_mutex_lock(&x->lock);
        end = x->end;
        *ret_code = x->code;
        pthread_mutex_unlock(&x->lock);
        return end;
}

void
exec_free(struct exec *x)
{
        if (x == NULL)
                return;
        if (x->has_thread)
                pthread_join(x->thread, NULL);
        pthread_cond_destroy(&x->ended);
        pthread_mutex_destroy(&x->lock);
        free(x);
}
