/* litefs import: a file becomes the content of a database, in one transaction. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"
#include "cmd/litefs/command.h"
#include "cmd/litefs/transfer.h"

#define STALL_MS 600000 /* the node answers when all is in its log */

#define PAGE_MIN 512

struct source {
        struct byte_src base;
        struct transfer *transfer;
        int fd;
        uint64_t size_bytes;
};

static ssize_t
read_import_file(struct byte_src *src, void *buf, size_t n)
{
        struct source *s = (struct source *)src;
        struct transfer *t = s->transfer;
        ssize_t r = os_pread_all(os_host(), "import:read", s->fd, buf, n, (off_t)t->done_bytes);

        if (r <= 0)
                return r;
        t->done_bytes += (uint64_t)r;
        say_progress(&t->say, "%3llu %%", (unsigned long long)(t->done_bytes * 100 / s->size_bytes));
        return r;
}

static int
upload(struct source *s, struct err *e)
{
        struct transfer *t = s->transfer;
        struct http_request rq = { .method = "POST",
                                   .url = t->url,
                                   .body_size = (size_t)s->size_bytes,
                                   .timeout_ms = STALL_MS,
                                   .max_response_size = 65536,
                                   .source = &s->base };
        struct http_response rs;
        int r = http_client_do(t->client.http, &rq, &rs, e);

        return r < 0 ? client_explain(&t->client, r, t->client.base, t->url, e)
                     : client_check(&t->client, &rs, e);
}

/* The first byte of a file that is there and not empty: of a journal that has been committed by PERSIST it is 0. */
static int
first_byte(const char *path, const char *suffix, char full[PATH_MAX])
{
        unsigned char byte = 0;
        ssize_t n;
        int fd;

        if (snprintf(full, PATH_MAX, "%s%s", path, suffix) >= PATH_MAX)
                return -ENAMETOOLONG;
        fd = os_open(os_host(), "import:open", full, O_RDONLY | O_CLOEXEC, 0);
        if (fd < 0)
                return fd;
        n = os_pread_all(os_host(), "import:read", fd, &byte, 1, 0);
        os_close(os_host(), "import:close", fd);
        return n == 1 ? byte : n < 0 ? (int)n : -ENODATA;
}

/* A file whose last transactions are in its WAL only would come without them, and one with a hot journal with half a
 * transaction. */
static int
check_import_companions(const char *path, struct err *e)
{
        char full[PATH_MAX];

        if (first_byte(path, "-wal", full) >= 0)
                return err_text(e, -EBUSY,
                                "%s exists: the database is in use, or was not closed. Run "
                                "`sqlite3 %s 'PRAGMA wal_checkpoint(TRUNCATE)'` first",
                                full, path);
        if (first_byte(path, "-journal", full) > 0)
                return err_text(
                        e, -EBUSY,
                        "%s exists: the database is being written, or its writer died. Run "
                        "`sqlite3 %s 'PRAGMA integrity_check'` first, which rolls back what is left",
                        full, path);
        return 0;
}

/* --- where it comes from --- */

/* What comes out of a pipe has no size before its end, and the node wants one. */
static int
spool(int *fd, struct err *e)
{
        const char *dir = getenv("TMPDIR");
        char buf[65536];
        off_t size = 0;
        ssize_t n;
        int r = 0, tmp;

        dir = dir != NULL && dir[0] != '\0' ? dir : "/tmp";
        tmp = os_open(os_host(), "import:spool", dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (tmp < 0)
                return err_text(
                        e, tmp,
                        "cannot keep standard input in %s: %s; name another directory with TMPDIR", dir,
                        err_code_text(tmp));
        while (r >= 0 && (n = read(*fd, buf, sizeof buf)) != 0) {
                if (n > 0)
                        r = os_pwrite_all(os_host(), "import:spool", tmp, buf, (size_t)n, size);
                else if (errno != EINTR)
                        r = -errno;
                size += n > 0 ? n : 0;
        }
        *fd = tmp;
        return r < 0 ? err_text(
                               e, r,
                               "cannot keep standard input in %s: %s; name another directory with TMPDIR",
                               dir, err_code_text(r))
                     : 0;
}

static int
open_import_file(const char *path, int *fd, struct err *e)
{
        int r = check_import_companions(path, e);

        if (r < 0)
                return r;
        *fd = os_open(os_host(), "import:open", path, O_RDONLY | O_CLOEXEC, 0);
        return *fd < 0 ? err_text(e, *fd, "cannot open %s: %s; name a database file to import", path,
                                  err_code_text(*fd))
                       : 0;
}

/* The node would say so, too, but only when it has it all. */
static int
check_content(struct source *s, const char *path, struct err *e)
{
        unsigned char head[16] = { 0 };
        struct stat st;
        ssize_t n = 0;
        int r = os_fstat(os_host(), "import:stat", s->fd, &st);

        if (r < 0 || !S_ISREG(st.st_mode))
                return err_text(e, r < 0 ? r : -EINVAL,
                                "cannot import %s: it is not a file; name a database file", path);
        s->size_bytes = (uint64_t)st.st_size;
        if (st.st_size == 0)
                return err_text(
                        e, E_FORMAT,
                        "cannot import %s: it is empty; a new database needs no import, create it in the mount",
                        path);
        n = os_pread_all(os_host(), "import:read", s->fd, head, sizeof head, 0);
        if (n < 0)
                return err_text(e, (int)n, "cannot read %s: %s; name a database file to import", path,
                                err_code_text((int)n));
        if (st.st_size < PAGE_MIN || memcmp(head, "SQLite format 3", sizeof head) != 0)
                return err_text(
                        e, E_FORMAT,
                        "cannot import %s: it is not a SQLite database, which begins with \"SQLite format 3\"; "
                        "make one of a dump by `sqlite3 new.db < dump.sql`",
                        path);
        return 0;
}

static int
import_from(struct transfer *t, struct err *e)
{
        struct source s = { .base.read = read_import_file, .transfer = t, .fd = STDIN_FILENO };
        const char *path = t->is_stream ? "standard input" : t->path;
        struct stat st;
        int r = 0;

        if (!t->is_stream)
                r = open_import_file(t->path, &s.fd, e);
        else if (fstat(s.fd, &st) < 0 || !S_ISREG(st.st_mode))
                r = spool(&s.fd, e);
        if (r == 0)
                r = check_content(&s, path, e);
        if (r == 0)
                r = upload(&s, e);
        if (s.fd > STDIN_FILENO)
                os_close(os_host(), "import:close", s.fd);
        return r;
}

int
command_import(int argc, char **argv)
{
        static const struct help_row examples[] = {
                { "litefs import app.db old.db", "replace the content of app.db with that of old.db" },
                { "zcat app.db.gz | litefs import app.db", "read it from a pipe" },
                { 0 },
        };
        static const struct transfer_kind kind = {
                .help = {
                        .name = "import",
                        .synopsis = "[flags] DB [FILE|-]\n[flags] -name DB FILE",
                        .about =
                        "Replaces the content of a database on the primary with that of a SQLite database file, in one\n"
                        "transaction. Without FILE, or with -, the file is read from standard input.",
                        .operands = "databases",
                        .examples = examples,
                },
                .target = "/import",
                .noun = "Import",
                .run = import_from,
                .stream_fd = STDIN_FILENO,
        };

        return transfer_command(&kind, argc, argv);
}
