#include "base/token.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bearer.h"
#include "base/file_version.h"
#include "base/log.h"
#include "base/os.h"

struct token {
        char *path;           /* NULL: it does not change */
        pthread_mutex_t lock; /* guards what follows; a leaf */
        struct file_version version;
        char text[TOKEN_SIZE];
};

static int
check_text(const char *s, size_t n, struct err *e)
{
        bool is_good = n < TOKEN_SIZE;

        for (size_t i = 0; i < n && is_good; i++)
                is_good = s[i] > ' ' && s[i] <= '~';
        return is_good ? 0
                       : err_text(e, E_CONFIG,
                                  "the token (http.token) is longer than %d bytes, or has other than "
                                  "printable ASCII characters",
                                  TOKEN_SIZE - 1);
}

static int
read_file(const char *path, char ret[TOKEN_SIZE], struct err *e)
{
        const struct os *os = os_host();
        char buf[TOKEN_SIZE + 2];
        int fd = os_open(os, "config:token", path, O_RDONLY | O_CLOEXEC, 0), r;
        ssize_t n;

        if (fd < 0)
                return err_set(e, fd, "read http.token-file %s", path);
        n = os_pread_all(os, "config:token", fd, buf, sizeof buf, 0);
        os_close(os, "config:token", fd);
        if (n < 0)
                return err_set(e, (int)n, "read http.token-file %s", path);
        while (n > 0 && strchr(" \t\r\n", buf[n - 1]) != NULL)
                n--;
        if (n == 0)
                return err_text(e, E_CONFIG, "http.token-file %s is empty", path);
        r = check_text(buf, (size_t)n, e);
        if (r < 0) {
                err_prefix(e, "http.token-file %s", path);
                return r;
        }
        memcpy(ret, buf, (size_t)n);
        ret[n] = '\0';
        return 0;
}

static int
make(const char *path, struct token **ret, struct err *e)
{
        struct token *t = calloc(1, sizeof *t);

        if (t != NULL && path != NULL && (t->path = strdup(path)) == NULL) {
                free(t);
                t = NULL;
        }
        if (t == NULL)
                return err_set(e, -ENOMEM, "http.token");
        pthread_mutex_init(&t->lock, NULL);
        *ret = t;
        return 0;
}

int
token_new(const char *text, struct token **ret, struct err *e)
{
        int r = check_text(text, strlen(text), e);

        if (r == 0)
                r = make(NULL, ret, e);
        if (r == 0)
                memcpy((*ret)->text, text, strlen(text) + 1);
        return r;
}

int
token_open(const char *path, struct token **ret, struct err *e)
{
        struct token *t;
        int r = make(path, &t, e);

        if (r < 0)
                return r;
        (void)file_version_notice(&t->version, path);
        r = read_file(path, t->text, e);
        if (r < 0)
                token_free(t);
        else
                *ret = t;
        return r;
}

/* With the lock. */
static void
refresh(struct token *t)
{
        struct err e = ERR_INIT;

        if (t->path == NULL || !file_version_notice(&t->version, t->path))
                return;
        if (read_file(t->path, t->text, &e) < 0)
                log_warn("%s; the token read before stays in use", e.text);
        else
                log_info("http.token-file %s read again", t->path);
}

void
token_get(struct token *t, char ret[TOKEN_SIZE])
{
        ret[0] = '\0';
        if (t == NULL)
                return;
        pthread_mutex_lock(&t->lock);
        refresh(t);
        memcpy(ret, t->text, sizeof t->text);
        pthread_mutex_unlock(&t->lock);
}

bool
token_matches(struct token *t, const char *header)
{
        char text[TOKEN_SIZE];

        token_get(t, text);
        return bearer_matches(header, text);
}

void
token_free(struct token *t)
{
        if (t == NULL)
                return;
        pthread_mutex_destroy(&t->lock);
        free(t->path);
        free(t);
}
