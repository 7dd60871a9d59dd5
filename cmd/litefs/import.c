/* litefs import: a file becomes the content of a database, in one transaction. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "base/os.h"
#include "cmd/litefs/client.h"
#include "cmd/litefs/command.h"

#define STALL_MS 600000 /* the node answers when all is in its log */

struct source {
        struct byte_src base;
        int fd;
        uint64_t off, size_bytes;
        bool has_progress;
};

static ssize_t
read_source(struct byte_src *src, void *buf, size_t n)
{
        struct source *s = (struct source *)src;
        ssize_t r = os_pread_all(os_host(), "import:read", s->fd, buf, n, (off_t)s->off);

        if (r <= 0)
                return r;
        if (s->has_progress &&
            (s->off + (uint64_t)r) * 100 / s->size_bytes != s->off * 100 / s->size_bytes)
                fprintf(stderr, "\r%3llu %%",
                        (unsigned long long)((s->off + (uint64_t)r) * 100 / s->size_bytes));
        s->off += (uint64_t)r;
        return r;
}

static int
upload(struct client *c, const char *url, struct source *s, struct err *e)
{
        struct http_request rq = { .method = "POST",
                                   .url = url,
                                   .body_size = (size_t)s->size_bytes,
                                   .timeout_ms = STALL_MS,
                                   .max_response_size = 65536,
                                   .source = &s->base };
        struct http_response rs;
        int r = http_client_do(c->http, &rq, &rs, e);

        if (s->has_progress && s->off > 0)
                fprintf(stderr, "\r\033[K");
        return r < 0 ? r : client_check(&rs, e);
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
check_companions(const char *path, struct err *e)
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

static int
import_from(struct client *c, const char *url, const char *path, struct err *e)
{
        struct source s = { .base.read = read_source, .has_progress = isatty(2) == 1 };
        struct stat st;
        int r = check_companions(path, e);

        if (r < 0)
                return r;
        s.fd = os_open(os_host(), "import:open", path, O_RDONLY | O_CLOEXEC, 0);
        if (s.fd < 0)
                return err_set(e, s.fd, "open %s", path);
        r = os_fstat(os_host(), "import:stat", s.fd, &st);
        if (r < 0 || !S_ISREG(st.st_mode)) {
                err_text(e, r < 0 ? r : -EINVAL, "%s is not a file", path);
                r = e->code;
        } else {
                s.size_bytes = (uint64_t)st.st_size;
                r = upload(c, url, &s, e);
        }
        os_close(os_host(), "import:close", s.fd);
        return r;
}

int
command_import(int argc, char **argv)
{
        static const struct help_row examples[] = {
                { "litefs import -name app.db old.db", "make old.db the content of app.db" },
                { 0 },
        };
        static const struct client_transfer transfer = {
                .help = {
                        .name = "import",
                        .synopsis = "[flags] -name NAME PATH",
                        .about = "Makes the SQLite database at PATH the content of a database of the primary, in one transaction.",
                        .examples = examples,
                },
                .target = "/import",
                .noun = "Import",
                .run = import_from,
        };

        return client_transfer(&transfer, argc, argv);
}
