/* litefs clone: a past state of a database, out of the mount, as a file of its own that can be written. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/os.h"
#include "cmd/litefs/client.h"
#include "cmd/litefs/command.h"
#include "cmd/litefs/say.h"
#include "history/moment.h"

#define CHUNK_BYTES (1u << 20)

struct clone {
        struct say say;
        char from[PATH_MAX];
        const char *to;
        int from_fd, to_fd;
        uint64_t size_bytes, done_bytes;
};

/* A database as it is now is no file to copy: it may be written meanwhile. Its last state is. */
static int
name_source(struct clone *c, const char *word, struct err *e)
{
        const char *at = strrchr(word, '@');
        struct moment_spec spec;
        bool has_moment = at != NULL &&
                          moment_spec_parse(at + 1, clock_wall_ms(clock_host()), &spec) == 0;
        int n = snprintf(c->from, sizeof c->from, "%s%s", word, has_moment ? "" : "@-0s");

        return n < (int)sizeof c->from ? 0 : err_set(e, -ENAMETOOLONG, "%s", word);
}

/* The state's mode says who may read it; the copy is its maker's to write. */
static int
open_files(struct clone *c, struct err *e)
{
        struct stat st;
        int r;

        c->from_fd = os_open(os_host(), "clone:read", c->from, O_RDONLY | O_CLOEXEC, 0);
        if (c->from_fd < 0)
                return err_text(
                        e, c->from_fd,
                        "cannot open %s: %s; name a database in a mount of litefs, with @MOMENT behind it "
                        "for a past state. The log of litefs says why there is none",
                        c->from, err_code_text(c->from_fd));
        r = os_fstat(os_host(), "clone:read", c->from_fd, &st);
        if (r < 0)
                return err_set(e, r, "%s", c->from);
        c->size_bytes = (uint64_t)st.st_size;
        c->to_fd = os_open(os_host(), "clone:write", c->to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                           (st.st_mode & 0444) | 0200);
        return c->to_fd >= 0
                       ? 0
                       : err_text(e, c->to_fd, "cannot make %s: %s", c->to, err_code_text(c->to_fd));
}

static int
copy_state(struct clone *c, struct err *e)
{
        uint8_t *buf = malloc(CHUNK_BYTES);
        ssize_t n = 0;
        int r = buf == NULL ? err_set(e, -ENOMEM, "clone") : 0;

        while (r == 0 && c->done_bytes < c->size_bytes) {
                n = os_pread_all(os_host(), "clone:read", c->from_fd, buf, CHUNK_BYTES,
                                 (off_t)c->done_bytes);
                if (n <= 0) {
                        r = err_set(e, n < 0 ? (int)n : -EIO, "read %s", c->from);
                        break;
                }
                r = os_pwrite_all(os_host(), "clone:write", c->to_fd, buf, (size_t)n,
                                  (off_t)c->done_bytes);
                if (r < 0)
                        err_set(e, r, "write %s", c->to);
                c->done_bytes += (uint64_t)n;
                say_progress(&c->say, "%3llu %%",
                             (unsigned long long)(c->done_bytes * 100 / c->size_bytes));
        }
        free(buf);
        return r;
}

/* In a mount of litefs it is a database from the sync on. */
static int
clone_state(struct clone *c, struct err *e)
{
        int r = open_files(c, e), closed;

        if (r == 0) {
                say_begin(&c->say);
                r = copy_state(c, e);
                say_end(&c->say);
        }
        if (r == 0 && (r = os_fsync(os_host(), "clone:write", c->to_fd)) < 0)
                err_set(e, r, "sync %s", c->to);
        closed = os_close(os_host(), "clone:write", c->to_fd);
        if (r == 0 && closed < 0)
                r = err_set(e, closed, "close %s", c->to);
        os_close(os_host(), "clone:read", c->from_fd);
        if (r < 0 && c->to_fd >= 0)
                (void)unlink(c->to);
        return r;
}

static const struct help clone_help = {
        .name = "clone",
        .synopsis = "[flags] DB[@MOMENT] FILE",
        .about =
                "Copies one state of a database to FILE, which must not exist yet. The copy is a database of its\n"
                "own; in a mount of litefs it is replicated, by one transaction. DB is the path of a database in\n"
                "a mount of litefs. MOMENT is a time such as 2026-01-02T03:04:05Z, or -5m, or the 16 hex digits\n"
                "of a transaction; without it the state is the last transaction's.",
        .examples =
                (const struct help_row[]){
                        { "litefs clone /mnt/app.db@-5m /mnt/look.db",
                          "make a copy to look into and to try things with" },
                        { "litefs clone /mnt/app.db /tmp/app.db",
                          "copy the current state while applications write" },
                        { 0 },
                },
};

int
command_clone(int argc, char **argv)
{
        struct clone c = { .from_fd = -1, .to_fd = -1 };
        const struct flag flags[] = { SAY_FLAGS(&c.say), { 0 } };
        const char *words[2] = { NULL, NULL };
        struct flag_words w;
        struct err e = ERR_INIT;
        int r = client_parse(flags, argc, argv, 2, &clone_help, &w);

        if (r > 0)
                return r - 1;
        if (flag_words_count(&w) != 2)
                return help_mistake("clone", "a database and a file are wanted");
        for (int i = 0; i < 2; i++)
                words[i] = flag_words_get(&w, i);
        c.to = words[1];
        r = name_source(&c, words[0], &e);
        if (r == 0)
                r = clone_state(&c, &e);
        if (r == 0)
                say_done(&c.say,
                         json_pack("{s:s, s:s, s:I}", "from", c.from, "to", c.to, "bytes",
                                   (json_int_t)c.done_bytes),
                         "cloned %s to %s: %llu bytes", c.from, c.to, (unsigned long long)c.done_bytes);
        return client_exit(r, &e);
}
