#include "cmd/litefs/takeover.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "cmd/litefs/config.h"
#include "cmd/litefs/make.h"
#include "cmd/litefs/passing.h"

#define FACTS_TAG 0x6661637473u
#define TRY_MS 10000
#define FD_VARIABLE "LITEFS_TAKEOVER"
#define ERROR_VARIABLE "LITEFS_TAKEOVER_ERROR"

static struct {
        char **argv, **environment;
        size_t n_environment;
        char program[PATH_MAX]; /* where it lies; what lies there may be another one by now */
        char error[ERR_TEXT_SIZE];
} origin;

struct takeover {
        struct parcel_reader parcel;
        struct takeover_facts facts;
        int parcel_fd;
        int old_program; /* a descriptor; -1: there is no way back */
        bool is_committed;
};

static size_t
count_words(char *const *words)
{
        size_t n = 0;

        while (words != NULL && words[n] != NULL)
                n++;
        return n;
}

static bool
is_ours(const char *variable)
{
        return strncmp(variable, FD_VARIABLE "=", sizeof FD_VARIABLE) == 0 ||
               strncmp(variable, ERROR_VARIABLE "=", sizeof ERROR_VARIABLE) == 0;
}

/* What is taken out of the environment later (notifier.h) is there for the next program. */
void
takeover_remember(char **argv)
{
        static const char gone[] = " (deleted)";
        size_t n = count_words(environ), kept = 0;
        ssize_t len = readlink("/proc/self/exe", origin.program, sizeof origin.program - 1);

        origin.argv = argv;
        origin.environment = calloc(n + 3, sizeof *origin.environment); /* and two of ours */
        for (size_t i = 0; origin.environment != NULL && i < n; i++)
                if (!is_ours(environ[i]))
                        origin.environment[kept++] = environ[i];
        origin.n_environment = kept;
        origin.program[len > 0 ? len : 0] = '\0';
        len -= (ssize_t)sizeof gone - 1;
        if (len > 0 && strcmp(origin.program + len, gone) == 0)
                origin.program[len] = '\0';
}

/* --- the old program --- */

/* "takeover-check VERSION MOUNT DATA PASSES LEASE" and our own words behind the command's name. */
static char **
make_try_words(const struct config *c, const char *lease, char *version)
{
        size_t n = count_words(origin.argv), at = 0;
        char **words = calloc(n + 8, sizeof *words);

        if (words == NULL)
                return NULL;
        words[at++] = origin.argv[0];
        words[at++] = (char *)"takeover-check";
        words[at++] = version;
        words[at++] = (char *)c->fuse.dir;
        words[at++] = (char *)c->data.dir;
        words[at++] = passing_any(c) ? (char *)"1" : (char *)"0";
        words[at++] = (char *)(uintptr_t)lease;
        for (size_t i = 2; i < n; i++)
                words[at++] = origin.argv[i];
        return words;
}

static int
spawn_try(char **words, int out, pid_t *ret)
{
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attr;
        sigset_t none;
        int r;

        sigemptyset(&none);
        posix_spawn_file_actions_init(&actions);
        posix_spawnattr_init(&attr);
        posix_spawnattr_setsigmask(&attr, &none);
        posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
        r = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
        if (r == 0)
                r = posix_spawn_file_actions_adddup2(&actions, out, STDERR_FILENO);
        if (r == 0)
                r = posix_spawn(ret, origin.program, &actions, &attr, words, origin.environment);
        posix_spawnattr_destroy(&attr);
        posix_spawn_file_actions_destroy(&actions);
        return -r;
}

/* What it says, up to its end: false when it does not end. */
static bool
read_try(int fd, char *text, size_t size)
{
        size_t n = 0;
        ssize_t got = 1;

        while (got > 0 && n + 1 < size) {
                struct pollfd p = { fd, POLLIN, 0 };

                if (poll(&p, 1, TRY_MS) <= 0)
                        break;
                got = read(fd, text + n, size - 1 - n);
                n += got > 0 ? (size_t)got : 0;
        }
        text[n] = '\0';
        return got == 0;
}

static int
judge_try(int status, bool has_ended, char *text, struct err *e)
{
        char *line = strstr(text, "ERROR: ");

        if (has_ended && WIFEXITED(status) && WEXITSTATUS(status) == 0)
                return 0;
        if (line != NULL) {
                line += strlen("ERROR: ");
                line[strcspn(line, "\n")] = '\0';
        }
        return err_text(e, -EBUSY, "the program at %s does not take over: %s", origin.program,
                        line != NULL ? line
                        : has_ended  ? "it ended without a reason"
                                     : "it did not answer");
}

/* It gets all that this process has: nobody may have put it there who may not change this one. */
static int
check_program(struct err *e)
{
        struct stat now, self;

        if (stat(origin.program, &now) < 0)
                return err_set(e, -errno, "run %s", origin.program);
        if (now.st_uid != 0 && now.st_uid != geteuid() &&
            (stat("/proc/self/exe", &self) < 0 || now.st_uid != self.st_uid))
                return err_text(e, -EPERM,
                                "%s belongs to user %u: it has to be root's, or of who runs litefs",
                                origin.program, (unsigned)now.st_uid);
        if ((now.st_mode & (S_IWGRP | S_IWOTH)) != 0)
                return err_text(e, -EPERM, "others may write to %s: type chmod go-w %s", origin.program,
                                origin.program);
        return 0;
}

int
takeover_try(const struct config *c, const char *lease, struct err *e)
{
        char version[24], text[2048];
        char **words;
        int fds[2], status = 0, r;
        bool has_ended;
        pid_t pid;

        snprintf(version, sizeof version, "%u", TAKEOVER_VERSION);
        if (origin.argv == NULL || origin.environment == NULL || origin.program[0] == '\0')
                return err_text(e, -ENOENT, "it is not known where the program lies");
        r = check_program(e);
        if (r < 0)
                return r;
        words = make_try_words(c, lease, version);
        if (words == NULL)
                return err_set(e, -ENOMEM, "ask the program");
        if (pipe2(fds, O_CLOEXEC) < 0) {
                free(words);
                return err_set(e, -errno, "ask the program");
        }
        r = spawn_try(words, fds[1], &pid);
        free(words);
        close(fds[1]);
        if (r < 0) {
                close(fds[0]);
                return err_set(e, r, "run %s", origin.program);
        }
        has_ended = read_try(fds[0], text, sizeof text);
        close(fds[0]);
        if (!has_ended)
                kill(pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        return judge_try(status, has_ended, text, e);
}

static void
put_hold(struct parcel *p, const struct lease_hold *h)
{
        parcel_put_text(p, h->type);
        parcel_put_text(p, h->key);
        parcel_put_text(p, h->hostname);
        parcel_put_text(p, h->advertise_url);
        parcel_put_text(p, h->session);
        parcel_put(p, h->term);
        parcel_put(p, h->renewals);
        parcel_put(p, (uint64_t)h->ttl_ms);
        parcel_put(p, (uint64_t)h->deadline_ms);
        parcel_put_text(p, h->leftover);
        parcel_put(p, h->leftover_term);
        parcel_put_fd(p, h->fd);
}

void
takeover_put(struct parcel *p, const struct takeover_facts *facts)
{
        parcel_put(p, FACTS_TAG);
        parcel_put_text(p, facts->mount_dir);
        parcel_put_text(p, facts->data_dir);
        parcel_put_text(p, facts->http_addr);
        parcel_put(p, facts->passes);
        parcel_put_fd(p, facts->lock_fd);
        parcel_put_fd(p, facts->http_fd);
        parcel_put_fd(p, facts->guard_fd);
        parcel_put(p, (uint64_t)facts->guard_pid);
        parcel_put(p, (uint64_t)facts->application_pid);
        parcel_put_text(p, facts->lease);
        put_hold(p, &facts->hold);
        parcel_put(p, facts->leads);
}

/* Of the environment of the next program: @old_program is what it can give back to. */
static void
set_variables(int parcel_fd, int old_program, const char *why)
{
        static char fds[sizeof FD_VARIABLE + 32], error[sizeof ERROR_VARIABLE + ERR_TEXT_SIZE];

        snprintf(fds, sizeof fds, FD_VARIABLE "=%d:%d", parcel_fd, old_program);
        snprintf(error, sizeof error, ERROR_VARIABLE "=%s", why != NULL ? why : "");
        origin.environment[origin.n_environment] = fds;
        origin.environment[origin.n_environment + 1] = why != NULL ? error : NULL;
}

/* What is run does not inherit the descriptor of itself. */
static void
run_descriptor(int program)
{
        (void)fcntl(program, F_SETFD, FD_CLOEXEC);
        (void)fexecve(program, origin.argv, origin.environment);
}

void
takeover_exec(int parcel_fd)
{
        int self = open("/proc/self/exe", O_RDONLY);
        struct err e = ERR_INIT;

        if (check_program(&e) == 0) {
                set_variables(parcel_fd, self, NULL);
                (void)execve(origin.program, origin.argv, origin.environment);
                err_text(&e, -errno, "cannot run it: %s", strerror(errno));
        }
        set_variables(parcel_fd, -1, e.text);
        if (self >= 0)
                run_descriptor(self);
}

/* --- the new program --- */

static void
take_text(struct parcel_reader *r, char *buf, size_t size)
{
        const char *text = parcel_get_text(r);

        if (strlen(text) >= size)
                r->error = r->error < 0 ? r->error : -EPROTO;
        snprintf(buf, size, "%s", text);
}

static void
take_hold(struct parcel_reader *r, struct lease_hold *h)
{
        take_text(r, h->type, sizeof h->type);
        take_text(r, h->key, sizeof h->key);
        take_text(r, h->hostname, sizeof h->hostname);
        take_text(r, h->advertise_url, sizeof h->advertise_url);
        take_text(r, h->session, sizeof h->session);
        h->term = parcel_get_below(r, LEASE_TERM_MAX + 1);
        h->renewals = parcel_get(r);
        h->ttl_ms = (int64_t)parcel_get(r);
        h->deadline_ms = (int64_t)parcel_get(r);
        take_text(r, h->leftover, sizeof h->leftover);
        h->leftover_term = parcel_get_below(r, LEASE_TERM_MAX + 1);
        h->fd = parcel_get_fd(r);
}

/* Descriptors come as duplicates of what was inherited. */
static void
take_facts(struct takeover *t)
{
        struct parcel_reader *r = &t->parcel;
        struct takeover_facts *f = &t->facts;

        parcel_expect(r, FACTS_TAG);
        f->mount_dir = parcel_get_text(r);
        f->data_dir = parcel_get_text(r);
        f->http_addr = parcel_get_text(r);
        f->passes = parcel_get_flag(r);
        f->lock_fd = parcel_get_fd(r);
        f->http_fd = parcel_get_fd(r);
        f->guard_fd = parcel_get_fd(r);
        f->guard_pid = (pid_t)parcel_get_below(r, INT_MAX);
        f->application_pid = (pid_t)parcel_get_below(r, INT_MAX);
        f->lease = parcel_get_text(r);
        take_hold(r, &f->hold);
        f->leads = parcel_get_flag(r);
}

static int
read_parcel(struct takeover *t, struct err *e)
{
        int r = parcel_open(t->parcel_fd, TAKEOVER_VERSION, &t->parcel, e);

        if (r < 0)
                return r;
        take_facts(t);
        return parcel_check(&t->parcel, e);
}

int
takeover_open(struct takeover **ret, struct err *e)
{
        const char *fds = getenv(FD_VARIABLE), *error = getenv(ERROR_VARIABLE);
        struct takeover *t;

        *ret = NULL;
        if (error != NULL)
                snprintf(origin.error, sizeof origin.error, "%s", error);
        if (fds == NULL)
                return 0;
        t = calloc(1, sizeof *t);
        if (t == NULL)
                return err_set(e, -ENOMEM, "take over");
        if (sscanf(fds, "%d:%d", &t->parcel_fd, &t->old_program) != 2)
                t->parcel_fd = t->old_program = -1;
        t->facts = (struct takeover_facts){ .mount_dir = "",
                                            .data_dir = "",
                                            .http_addr = "",
                                            .lease = "",
                                            .hold.fd = -1,
                                            .lock_fd = -1,
                                            .http_fd = -1,
                                            .guard_fd = -1 };
        unsetenv(FD_VARIABLE);
        unsetenv(ERROR_VARIABLE);
        *ret = t;
        return read_parcel(t, e);
}

const struct takeover_facts *
takeover_facts(const struct takeover *t)
{
        return &t->facts;
}

struct parcel_reader *
takeover_parcel(struct takeover *t)
{
        return &t->parcel;
}

static int
check_dir(const char *key, const char *now, const char *before, struct err *e)
{
        if (strcmp(now, before) == 0)
                return 0;
        return err_text(e, -EINVAL,
                        "%s is %s now, and the running node has %s: stop it and start it instead", key,
                        now, before);
}

int
takeover_check(const struct takeover_facts *facts, const struct config *c, struct err *e)
{
        int r = check_dir("fuse.dir", c->fuse.dir, facts->mount_dir, e);

        if (r == 0)
                r = check_dir("data.dir", c->data.dir, facts->data_dir, e);
        if (r == 0 && passing_any(c) != facts->passes)
                r = err_text(
                        e, -EINVAL,
                        "WALs are%s to be passed through now (fuse.wal-passthrough): stop the node and start it instead",
                        facts->passes ? " not" : "");
        return r;
}

int
takeover_check_lease(const char *before, const struct config *c, struct err *e)
{
        char now[LEASE_NAME_SIZE];

        make_lease_name(c, now);
        if (before[0] == '\0' || strcmp(before, now) == 0)
                return 0;
        return err_text(
                e, -EINVAL,
                "the running node is the primary by the lease %s, and the configuration has %s now: run "
                "`litefs handoff` first, so that it holds none, or stop the node and start it",
                before, now);
}

void
takeover_commit(struct takeover *t)
{
        t->is_committed = true;
}

static void
close_fact(int *fd)
{
        if (*fd >= 0)
                close(*fd);
        *fd = -1;
}

void
takeover_end(struct takeover *t)
{
        pid_t guard = t->facts.guard_pid;

        if (guard > 0 && kill(guard, SIGKILL) == 0)
                while (waitpid(guard, NULL, 0) < 0 && errno == EINTR)
                        ;
        parcel_close_inherited(&t->parcel);
        close(t->parcel_fd);
        close_fact(&t->facts.lock_fd);
        close_fact(&t->facts.http_fd);
        close_fact(&t->facts.guard_fd);
        close_fact(&t->old_program);
}

bool
takeover_has_way_back(const struct takeover *t)
{
        return !t->is_committed && t->old_program >= 0 && origin.error[0] == '\0';
}

void
takeover_give_back(struct takeover *t, const char *why)
{
        if (t == NULL || !takeover_has_way_back(t))
                return;
        log_error("this program does not take the node over, the one before goes on: %s", why);
        set_variables(t->parcel_fd, -1, why);
        run_descriptor(t->old_program);
        log_error("the program before cannot be run: %s", strerror(errno));
}

const char *
takeover_error(void)
{
        return origin.error[0] != '\0' ? origin.error : NULL;
}

void
takeover_free(struct takeover *t)
{
        if (t == NULL)
                return;
        parcel_reader_release(&t->parcel);
        free(t);
}
