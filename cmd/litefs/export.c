/* litefs export: a consistent copy of a database, in place only when it is complete. */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/os.h"
#include "cmd/litefs/command.h"
#include "cmd/litefs/output.h"
#include "cmd/litefs/transfer.h"

#define STALL_MS 60000
#define BUSY_TRIES 60

struct target {
        struct byte_sink base;
        struct output out;
        struct transfer *transfer;
        int result;        /* of writing */
        pthread_t watcher; /* for signals that end the program */
        sigset_t signals, old_signals;
};

/* To a pipe there is no place to write at. */
static int
write_stream(const void *buf, size_t n)
{
        const char *at = buf;

        while (n > 0) {
                ssize_t done = write(STDOUT_FILENO, at, n);

                if (done < 0 && errno != EINTR)
                        return -errno;
                at += done > 0 ? done : 0;
                n -= done > 0 ? (size_t)done : 0;
        }
        return 0;
}

static int
write_target(struct byte_sink *sink, const void *buf, size_t n)
{
        struct target *t = (struct target *)sink;
        struct transfer *x = t->transfer;

        t->result = x->is_stream ? write_stream(buf, n)
                                 : os_pwrite_all(os_host(), "export:write", t->out.fd, buf, n,
                                                 (off_t)x->done_bytes);
        x->done_bytes += n;
        say_progress(&x->say, "%llu MiB", (unsigned long long)(x->done_bytes >> 20));
        return t->result;
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
        unlink_with(t->out.path, "-journal");
        unlink_with(t->out.path, "-wal");
        unlink_with(t->out.path, "-shm");
        return output_publish(&t->out, e);
}

static int
fail_write(const struct target *t, struct err *e)
{
        if (t->transfer->is_stream)
                return err_text(
                        e, t->result,
                        "cannot write standard output: %s; discard what was written, it is not a whole "
                        "database",
                        err_code_text(t->result));
        return err_text(e, t->result,
                        "cannot write %s: %s; name a file elsewhere, what was there is as it was",
                        t->transfer->path, err_code_text(t->result));
}

/* The node reads a database for one at a time. */
static int
download(struct target *t, struct err *e)
{
        struct client *c = &t->transfer->client;
        const char *url = t->transfer->url;
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
                if (t->result < 0)
                        return fail_write(t, e);
                if (r < 0)
                        return client_explain(c, r, c->base, url, e);
                if (rs.status != 503)
                        break;
                nanosleep(&pause, NULL);
        }
        return client_check(c, &rs, e);
}

/* The copy takes the place of what is at PATH: of a file, that is, not of /dev/null for whoever may do that. */
static int
check_export_target(const char *path, struct err *e)
{
        struct stat st;

        if (stat(path, &st) < 0 || S_ISREG(st.st_mode))
                return 0;
        return err_text(
                e, -EINVAL,
                "cannot export to %s: it is not a file; name one that may be replaced, or `-` for standard output",
                path);
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
        if (t->out.tmp[0] != '\0')
                (void)unlink(t->out.tmp);
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
fill_and_publish(struct target *t, struct err *e)
{
        int r = download(t, e);

        say_end(&t->transfer->say);
        unwatch_signals(t);
        if (r == 0)
                r = publish(t, e);
        else
                output_discard(&t->out);
        unblock_signals(t);
        return r;
}

static int
export_to(struct transfer *x, struct err *e)
{
        struct target t = { .base.write = write_target, .transfer = x };
        int r;

        if (x->is_stream)
                return download(&t, e);
        r = check_export_target(x->path, e);
        if (r == 0 && (r = output_open(&t.out, x->path, e)) < 0)
                err_text(e, r, "cannot create %s: %s; name a file in a directory where you may write",
                         x->path, err_code_text(r));
        if (r < 0)
                return r;
        r = watch_signals(&t, e);
        if (r < 0)
                output_discard(&t.out);
        return r < 0 ? r : fill_and_publish(&t, e);
}

int
command_export(int argc, char **argv)
{
        static const struct help_row examples[] = {
                { "litefs export app.db /backup/app.db",
                  "back up app.db while applications write to it" },
                { "litefs export app.db | gzip > app.db.gz", "write it to a pipe" },
                { "litefs export -url http://node2:20202 app.db copy.db", "copy it from another node" },
                { 0 },
        };
        static const struct transfer_kind kind = {
                .help = {
                        .name = "export",
                        .synopsis = "[flags] DB [FILE|-]\n[flags] -name DB FILE",
                        .about =
                        "Copies a database from a running node, as of one transaction, to FILE. FILE is replaced when the\n"
                        "copy is complete, and only you can read it (mode 0600). Without FILE, or with -, the copy goes\n"
                        "to standard output, and is complete if the exit status is 0.",
                        .operands = "databases",
                        .examples = examples,
                },
                .target = "/export",
                .noun = "Export",
                .run = export_to,
                .stream_fd = STDOUT_FILENO,
        };

        return transfer_command(&kind, argc, argv);
}
