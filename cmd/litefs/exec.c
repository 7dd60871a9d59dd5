#include "cmd/litefs/exec.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"

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
split(struct splitter *s, const char *p)
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
        return p != NULL && end_word(s);
}

char **
exec_split(const char *line)
{
        struct splitter s = { .word = malloc(strlen(line) + 1), .words = calloc(1, sizeof *s.words) };
        bool is_done = s.word != NULL && s.words != NULL && split(&s, line);

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

/* --- processes --- */

struct exec {
        void (*on_exit)(void *arg);
        void *arg;
        pthread_mutex_t lock;
        pid_t pid; /* of the background command; 0 when none runs */
        bool was_signalled;
        bool has_exited;
        int code;
        bool has_thread;
        pthread_t thread;
};

int
exec_new(void (*on_exit)(void *arg), void *arg, struct exec **ret)
{
        struct exec *x = calloc(1, sizeof *x);

        if (x == NULL)
                return -ENOMEM;
        x->on_exit = on_exit;
        x->arg = arg;
        pthread_mutex_init(&x->lock, NULL);
        *ret = x;
        return 0;
}

static int
start(const char *line, pid_t *ret, struct err *e)
{
        char **words = exec_split(line);
        pid_t pid;
        sigset_t none;
        int null;

        if (words == NULL || words[0] == NULL) {
                exec_free_words(words);
                return err_text(e, -EINVAL, "cannot read command: %s", line);
        }
        pid = fork();
        if (pid == 0) {
                sigemptyset(&none);
                sigprocmask(SIG_SETMASK, &none, NULL);
                signal(SIGPIPE, SIG_DFL);
                null = open("/dev/null", O_RDONLY);
                if (null >= 0)
                        dup2(null, STDIN_FILENO);
                execvp(words[0], words);
                dprintf(STDERR_FILENO, "ERROR: cannot run %s: %s\n", words[0], strerror(errno));
                _exit(127);
        }
        exec_free_words(words);
        if (pid < 0)
                return err_set(e, -errno, "start %s", line);
        *ret = pid;
        return 0;
}

/* Death by a signal counts as 255, as LiteFS has it. */
static int
wait_for(pid_t pid)
{
        int status;

        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return 255;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static int
run_sync(const char *line, struct err *e)
{
        pid_t pid;
        int r, code;

        log_info("executing command: %s", line);
        r = start(line, &pid, e);
        if (r < 0)
                return r;
        code = wait_for(pid);
        if (code != 0)
                return err_text(e, -ECHILD, "cannot exec: sync cmd: cannot run command: exit status %d", code);
        return 0;
}

static void *
watch(void *arg)
{
        struct exec *x = arg;
        int code = wait_for(x->pid);
        bool is_own;

        pthread_mutex_lock(&x->lock);
        is_own = !x->was_signalled;
        x->pid = 0;
        x->code = code;
        x->has_exited = is_own;
        pthread_mutex_unlock(&x->lock);
        if (!is_own)
                return NULL;
        if (code == 0)
                log_info("subprocess exited successfully, litefs shutting down");
        else
                log_info("subprocess exited with error code %d, litefs shutting down", code);
        x->on_exit(x->arg);
        return NULL;
}

static int
run_background(struct exec *x, const char *line, struct err *e)
{
        int r;

        log_info("starting background subprocess: %s", line);
        r = start(line, &x->pid, e);
        if (r < 0)
                return r;
        r = -pthread_create(&x->thread, NULL, watch, x);
        if (r < 0) {
                kill(x->pid, SIGTERM);
                wait_for(x->pid);
                x->pid = 0;
                return err_set(e, r, "watch %s", line);
        }
        x->has_thread = true;
        return 0;
}

int
exec_run(struct exec *x, const struct exec_command *commands, size_t n, bool is_candidate, struct err *e)
{
        int r = 0;

        for (size_t i = 0; i < n && r == 0; i++) {
                if (commands[i].if_candidate && !is_candidate) {
                        log_info("node is not a candidate, skipping command execution: %s", commands[i].cmd);
                        continue;
                }
                r = i + 1 < n ? run_sync(commands[i].cmd, e) : run_background(x, commands[i].cmd, e);
        }
        return r;
}

void
exec_signal(struct exec *x, int sig)
{
        pid_t pid;

        pthread_mutex_lock(&x->lock);
        pid = x->pid;
        if (pid > 0) {
                x->was_signalled = true;
                log_info("sending signal to exec process");
                kill(pid, sig);
        }
        pthread_mutex_unlock(&x->lock);
        if (pid <= 0)
                return;
        log_info("waiting for exec process to close");
        pthread_join(x->thread, NULL);
        x->has_thread = false;
}

bool
exec_has_exited(struct exec *x, int *ret_code)
{
        bool has;

        pthread_mutex_lock(&x->lock);
        has = x->has_exited;
        *ret_code = x->code;
        pthread_mutex_unlock(&x->lock);
        return has;
}

void
exec_free(struct exec *x)
{
        if (x == NULL)
                return;
        if (x->has_thread)
                pthread_join(x->thread, NULL);
        pthread_mutex_destroy(&x->lock);
        free(x);
}
