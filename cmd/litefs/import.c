/* litefs import: a file becomes the content of a database, in one transaction. */
#include <errno.h>
#include <fcntl.h>
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

/* A file whose last transactions are in its WAL only would come without them. */
static int
check_companions(const char *path, struct err *e)
{
        static const char *const suffixes[] = { "-wal", "-journal" };
        char full[4096];
        struct stat st;

        for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
                snprintf(full, sizeof full, "%s%s", path, suffixes[i]);
                if (stat(full, &st) == 0 && st.st_size > 0)
                        return err_text(e, -EBUSY,
                                        "%s exists: the database is in use, or was not closed. Run "
                                        "`sqlite3 %s 'PRAGMA wal_checkpoint(TRUNCATE)'` first",
                                        full, path);
        }
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
        static const char usage[] =
                "Makes the SQLite database at PATH the content of a database of the primary, in one transaction.\n\n"
                "Usage:\n\n    litefs import [flags] -name NAME PATH\n";
        struct client c = { 0 };
        const char *name = NULL;
        const struct flag flags[] = { { "name", "NAME", "the database", NULL, &name },
                                      CLIENT_FLAGS(&c),
                                      { 0 } };
        struct flag_words w;
        struct err e = ERR_INIT;
        char url[2048], took[64];
        int64_t begin_ns = client_now_ns();
        int r = client_parse(flags, argc, argv, 1, usage, &w);

        if (r > 0)
                return r - 1;
        if (w.n + w.n_rest == 0) {
                printf("%s\nThe flags are:\n\n", usage);
                flags_print(flags);
                return EXIT_USAGE;
        }
        if (name == NULL || name[0] == '\0')
                r = err_text(&e, -EINVAL, "database name required");
        if (r == 0)
                r = client_open(&c, &e);
        if (r == 0 && (r = client_make_url(c.base, "/import", "name", name, url, sizeof url)) < 0)
                err_set(&e, r, "%s", name);
        if (r == 0)
                r = import_from(&c, url, w.n > 0 ? w.words[0] : w.rest[0], &e);
        client_close(&c);
        if (r < 0)
                return client_exit(r, &e);
        client_format_duration(client_now_ns() - begin_ns, took, sizeof took);
        printf("Import of database \"%s\" in %s\n", name, took);
        return 0;
}
