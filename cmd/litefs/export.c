/* litefs export: a consistent copy of a database, in place only when it is complete. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/os.h"
#include "cmd/litefs/client.h"
#include "cmd/litefs/command.h"

#define STALL_MS 60000
#define BUSY_TRIES 60

struct target {
        struct byte_sink base;
        const char *path;
        char tmp[PATH_MAX];
        int fd;
        uint64_t size_bytes;
        bool has_progress;
        pthread_t watcher; /* for signals that end the program */
        sigset_t signals, old_signals;
};

static int
write_target(struct byte_sink *sink, const void *buf, size_t n)
{
        struct target *t = (struct target *)sink;
        int r = os_pwrite_all(os_host(), "export:write", t->fd, buf, n, (off_t)t->size_bytes);

        if (t->has_progress && (t->size_bytes + n) >> 23 != t->size_bytes >> 23)
                fprintf(stderr, "\r%llu MiB", (unsigned long long)((t->size_bytes + n) >> 20));
        t->size_bytes += n;
        return r;
}

static void
unlink_with(const char *path, const char *suffix)
{
        char full[PATH_MAX];

        if (snprintf(full, sizeof full, "%s%s", path, suffix) < (int)sizeof full)
                (void)unlink(full);
}

/* Journals of what was there would be taken for the copy's. */
static int
publish(struct target *t, struct err *e)
{
        char copy[PATH_MAX];
        int r;

        unlink_with(t->path, "-journal");
        unlink_with(t->path, "-wal");
        unlink_with(t->path, "-shm");
        r = os_rename(os_host(), "export:rename", t->tmp, t->path);
        snprintf(copy, sizeof copy, "%s", t->path);
        if (r == 0)
                r = os_sync_dir(os_host(), "export:rename", dirname(copy));
        return r < 0 ? err_set(e, r, "rename %s to %s", t->tmp, t->path) : 0;
}

/* The node reads a database for one at a time. */
static int
download(struct client *c, const char *url, struct target *t, struct err *e)
{
        struct http_request rq = { .method = "GET",
                                   .url = url,
                                   .timeout_ms = STALL_MS,
                                   .max_response_size = 65536,
                                   .sink = &t->base };
        struct timespec pause = { 1, 0 };
        struct http_response rs = { 0 };
        int r;

        for (int i = 0; i < BUSY_TRIES; i++) {
                r = http_client_do(c->http, &rq, &rs, e);
                if (r < 0)
                        return r;
                if (rs.status != 503)
                        break;
                nanosleep(&pause, NULL);
        }
        return client_check(&rs, e);
}

/* The copy takes the place of what is at PATH: of a file, that is, not of /dev/null for whoever may do that. */
static int
check_target(const char *path, struct err *e)
{
        struct stat st;

        if (stat(path, &st) < 0 || S_ISREG(st.st_mode))
                return 0;
        return err_text(e, -EINVAL, "%s is not a file: name one that may be replaced", path);
}

/* 1: ours; 0: the one who had it has given it its name in between, so it is no longer temporary. */
static int
take_temporary(struct target *t, struct err *e)
{
        struct stat opened, named;

        t->fd = os_open(os_host(), "export:open", t->tmp, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
        if (t->fd < 0)
                return err_set(e, t->fd, "create %s", t->tmp);
        /* On a file system without locks there is nothing to be known. */
        if (flock(t->fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
                return err_text(e, -EBUSY,
                                "%s is being written by another export: wait until it has ended",
                                t->tmp);
        if (fstat(t->fd, &opened) < 0)
                return err_set(e, -errno, "look at %s", t->tmp);
        return stat(t->tmp, &named) == 0 && named.st_dev == opened.st_dev &&
               named.st_ino == opened.st_ino;
}

static int
open_temporary(struct target *t, struct err *e)
{
        int r;

        while ((r = take_temporary(t, e)) == 0)
                os_close(os_host(), "export:close", t->fd);
        if (r > 0 && (r = os_ftruncate(os_host(), "export:open", t->fd, 0)) < 0)
                err_set(e, r, "empty %s", t->tmp);
        if (r < 0 && t->fd >= 0)
                os_close(os_host(), "export:close", t->fd);
        return r;
}

/* --- signals --- */

/* Those that end the program, but for what it was told to ignore (nohup, a job in the background). */
static void
choose_signals(sigset_t *set)
{
        static const int ends[] = { SIGINT, SIGTERM, SIGHUP };
        struct sigaction now;

        sigemptyset(set);
        for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
                if (sigaction(ends[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN)
                        sigaddset(set, ends[i]);
}

/* Takes the temporary file along, and then ends as the signal has it. */
static void *
wait_for_signal(void *arg)
{
        struct target *t = arg;
        int sig;

        if (sigwait(&t->signals, &sig) != 0)
                return NULL;
        (void)unlink(t->tmp);
        raise(sig);
        pthread_sigmask(SIG_UNBLOCK, &t->signals, NULL);
        return NULL;
}

static int
watch_signals(struct target *t, struct err *e)
{
        int r;

        choose_signals(&t->signals);
        pthread_sigmask(SIG_BLOCK, &t->signals, &t->old_signals);
        r = -pthread_create(&t->watcher, NULL, wait_for_signal, t);
        if (r == 0)
                return 0;
        pthread_sigmask(SIG_SETMASK, &t->old_signals, NULL);
        return err_set(e, r, "start a thread");
}

/* A signal that came is kept until unblock_signals. */
static void
unwatch_signals(struct target *t)
{
        (void)pthread_cancel(t->watcher);
        (void)pthread_join(t->watcher, NULL);
}

static void
unblock_signals(struct target *t)
{
        pthread_sigmask(SIG_SETMASK, &t->old_signals, NULL);
}

static int
fill_and_publish(struct target *t, struct client *c, const char *url, struct err *e)
{
        int r = download(c, url, t, e);

        if (t->has_progress && t->size_bytes > 0)
                fprintf(stderr, "\r\033[K");
        if (r == 0 && (r = os_fsync(os_host(), "export:sync", t->fd)) < 0)
                err_set(e, r, "sync %s", t->tmp);
        unwatch_signals(t);
        if (r == 0)
                r = publish(t, e);
        if (r < 0)
                (void)unlink(t->tmp); /* while it is locked: it is nobody else's */
        unblock_signals(t);
        return r;
}

static int
export_to(struct client *c, const char *url, const char *path, struct err *e)
{
        struct target t = { .base.write = write_target, .path = path, .has_progress = isatty(2) == 1 };
        int r = check_target(path, e);

        if (r < 0)
                return r;
        if (snprintf(t.tmp, sizeof t.tmp, "%s.tmp", path) >= (int)sizeof t.tmp)
                return err_set(e, -ENAMETOOLONG, "%s", path);
        r = open_temporary(&t, e);
        if (r < 0)
                return r;
        r = watch_signals(&t, e);
        if (r == 0)
                r = fill_and_publish(&t, c, url, e);
        else
                (void)unlink(t.tmp);
        os_close(os_host(), "export:close", t.fd);
        return r;
}

int
command_export(int argc, char **argv)
{
        static const struct help_row examples[] = {
                { "litefs export -name app.db /backup/app.db",
                  "back app.db up, while it is being written" },
                { "litefs export -url http://node2:20202 -name app.db copy.db",
                  "copy it from another node" },
                { 0 },
        };
        static const struct client_transfer transfer = {
                .help = {
                        .name = "export",
                        .synopsis = "[flags] -name NAME PATH",
                        .about = "Copies a database of a running node, as of one transaction, to PATH. Replaces what is there.",
                        .examples = examples,
                },
                .target = "/export",
                .noun = "Export",
                .run = export_to,
        };

        return client_transfer(&transfer, argc, argv);
}
