/* litefs run: a command, once this node may write. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd/litefs/command.h"
#include "cmd/litefs/promote.h"

#define HALT_BYTE 72 /* of NAME-lock, that LiteFS's clients lock */

struct run {
        struct client client;
        const char *database;
        bool wants_promotion, if_candidate, is_verbose;
        int lock_fd;
};

/* --- what comes first --- */

static int
ask_info(struct run *run, bool *ret_is_candidate, bool *ret_is_primary, struct err *e)
{
        json_t *info;
        int r = client_get_json(&run->client, run->client.base, "/info", &info, e);

        if (r < 0)
                return r;
        *ret_is_candidate = json_is_true(json_object_get(info, "candidate"));
        *ret_is_primary = json_is_true(json_object_get(info, "isPrimary"));
        json_decref(info);
        return 0;
}

/* Who of this machine's processes is the one to write: the node's own lock is for all of them. */
static int
lock_byte(int fd)
{
        struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = HALT_BYTE, .l_len = 1 };
        int r;

        do
                r = fcntl(fd, F_OFD_SETLKW, &fl);
        while (r < 0 && errno == EINTR);
        return r < 0 ? -errno : 0;
}

/* The node takes the halt lock when NAME-lock is opened, and gives it back when that is closed. The command does not
 * inherit it: should it leave a process behind, the primary would stay halted for it. */
static int
take_halt_lock(struct run *run, struct err *e)
{
        char path[PATH_MAX], dir[PATH_MAX];
        struct stat st;
        int r;

        if (stat(run->database, &st) < 0)
                return err_text(
                        e, -ENOENT,
                        "cannot lock %s: there is no such database; name it by its path in the mount, such as /litefs/app.db",
                        run->database);
        if (snprintf(path, sizeof path, "%s-lock", run->database) >= (int)sizeof path)
                return err_set(e, -ENAMETOOLONG, "%s", run->database);
        run->lock_fd = open(path, O_RDWR | O_CLOEXEC);
        if (run->lock_fd < 0 && errno == ENOENT) {
                memcpy(dir, path, sizeof dir);
                return err_text(
                        e, -ENOENT,
                        "cannot lock %s: %s is not the mount of a litefs that runs; name the database by its path "
                        "in the mount, such as /litefs/app.db",
                        run->database, dirname(dir));
        }
        r = run->lock_fd < 0 ? -errno : lock_byte(run->lock_fd);
        return r < 0 ? err_set(e, r, "cannot take the halt lock of %s (the node's log says why)",
                               run->database)
                     : 0;
}

/* 0: run it; 1: leave it; or an error. */
static int
prepare(struct run *run, struct err *e)
{
        bool is_candidate = true, is_primary = false;
        int r = 0;

        if (run->if_candidate || run->wants_promotion)
                r = client_open(&run->client, e);
        if (r == 0 && (run->if_candidate || run->wants_promotion))
                r = ask_info(run, &is_candidate, &is_primary, e);
        if (r < 0)
                return r;
        if (run->if_candidate && !is_candidate) {
                fprintf(stderr, "node is not a candidate, skipping execution\n");
                return 1;
        }
        if (run->wants_promotion && !is_primary) {
                r = promote_node(&run->client, e);
                if (r == 0 && run->is_verbose)
                        fprintf(stderr, "this node is the primary\n");
        }
        if (r == 0 && run->database != NULL) {
                r = take_halt_lock(run, e);
                if (r == 0 && run->is_verbose)
                        fprintf(stderr, "halt lock of %s taken\n", run->database);
        }
        return r;
}

/* --- the command --- */

static void
fill_signals(sigset_t *set)
{
        sigemptyset(set);
        sigaddset(set, SIGCHLD);
        sigaddset(set, SIGINT);
        sigaddset(set, SIGTERM);
        sigaddset(set, SIGHUP);
        sigaddset(set, SIGQUIT);
}

static int
spawn_command(char **words, const sigset_t *mask, pid_t *ret, struct err *e)
{
        posix_spawnattr_t attr;
        int r;

        posix_spawnattr_init(&attr);
        posix_spawnattr_setsigmask(&attr, mask);
        posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
        r = -posix_spawnp(ret, words[0], NULL, &attr, words, environ);
        posix_spawnattr_destroy(&attr);
        return r < 0 ? err_text(
                               e, r,
                               "cannot run %s: %s; name a program that is there, with its path if it is not in PATH",
                               words[0], err_code_text(r))
                     : 0;
}

/* Signals go on to the command, but those of the terminal, which it has got, too. Its wait status. */
static int
wait_for_spawned(pid_t pid, const sigset_t *set)
{
        siginfo_t info;
        int status = 0, sig;

        while (waitpid(pid, &status, WNOHANG) == 0) {
                sig = sigwaitinfo(set, &info);
                if (sig > 0 && sig != SIGCHLD && info.si_code != SI_KERNEL)
                        kill(pid, sig);
        }
        return status;
}

/* The command's exit status, as a shell tells it. */
static int
run_command(char **words)
{
        struct err e = ERR_INIT;
        sigset_t set, old;
        int status;
        pid_t pid;

        fill_signals(&set);
        sigprocmask(SIG_BLOCK, &set, &old);
        if (spawn_command(words, &old, &pid, &e) < 0)
                return client_exit(e.code, &e);
        status = wait_for_spawned(pid, &set);
        if (status == 0)
                return 0;
        if (WIFSIGNALED(status)) {
                fprintf(stderr, "ERROR: signal: %s\n", strsignal(WTERMSIG(status)));
                return 128 + WTERMSIG(status);
        }
        fprintf(stderr, "ERROR: exit status %d\n", WEXITSTATUS(status));
        return WEXITSTATUS(status);
}

static int
check_words(const struct run *run, const struct flag_words *w, struct err *e)
{
        if (run->wants_promotion && run->database != NULL)
                return err_text(
                        e, -EINVAL,
                        "cannot specify both -promote & -with-halt-lock-on: a primary needs no lock, so leave "
                        "one of them out");
        if (w->n > 0)
                return err_text(e, -EINVAL,
                                "too many arguments, specify a '--' to specify an exec command");
        return w->n_rest > 0
                       ? 0
                       : err_text(e, -EINVAL,
                                  "no command to run is given behind `--`, as in `litefs run -promote "
                                  "-- ./migrate`");
}

int
command_run(int argc, char **argv)
{
        static const struct help_row examples[] = {
                { "litefs run -with-halt-lock-on /litefs/app.db -- ./migrate",
                  "write from a replica, while the primary's writers wait" },
                { "litefs run -promote -if-candidate -- ./migrate",
                  "become the primary, then write; on a node that cannot, do nothing" },
                { 0 },
        };
        static const struct help help = {
                .name = "run",
                .synopsis = "[flags] -- CMD ARGS...",
                .about =
                        "Runs a command that writes to a database from this node. Its exit status is the command's.",
                .examples = examples,
        };
        struct run run = { .lock_fd = -1 };
        const struct flag flags[] = {
                { "promote", NULL, "make this node the primary first", &run.wants_promotion, NULL },
                { "if-candidate", NULL, "only on a node that may become the primary", &run.if_candidate,
                  NULL },
                { "with-halt-lock-on", "PATH",
                  "halt this database, a path in the mount, on the primary meanwhile", NULL,
                  &run.database },
                { "v", NULL, "log each step", &run.is_verbose, NULL },
                CLIENT_FLAGS(&run.client),
                { 0 }
        };
        struct flag_words w;
        struct err e = ERR_INIT;
        int r = client_parse(flags, argc, argv, INT_MAX, &help, &w), status;

        if (r > 0)
                return r - 1;
        if (check_words(&run, &w, &e) < 0)
                return help_mistake(help.name, e.text);
        if (r == 0)
                r = prepare(&run, &e);
        client_close(&run.client);
        status = r == 0 ? run_command(w.rest) : r > 0 ? 0 : client_exit(r, &e);
        if (run.lock_fd >= 0)
                close(run.lock_fd);
        return status;
}
