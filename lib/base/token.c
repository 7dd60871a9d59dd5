#include "base/token.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

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
check_token(const char *s, size_t n, struct err *e)
{
        bool is_good = n < TOKEN_SIZE;

        for (size_t i = 0; i < n && is_good; i++)
                is_good = s[i] > ' ' && s[i] <= '~';
        return is_good ? 0
                       : err_text(
                                 e, E_CONFIG,
                                 "the token (http.token) is longer than %d bytes, or has other than "
                                 "printable ASCII characters: make another one (`openssl rand -hex 32`)",
                                 TOKEN_SIZE - 1);
}

static int
read_token_file(const char *path, char ret[TOKEN_SIZE], struct err *e)
{
        const struct os *os = os_host();
        char buf[TOKEN_SIZE + 2];
        int fd = os_open(os, "config:token", path, O_RDONLY | O_CLOEXEC, 0), r;
        ssize_t n;

        if (fd < 0)
                return err_text(
                        e, fd,
                        "cannot read http.token-file %s: %s; it has to be a file with the token, the same on all nodes",
                        path, err_code_text(fd));
        n = os_pread_all(os, "config:token", fd, buf, sizeof buf, 0);
        os_close(os, "config:token", fd);
        if (n < 0)
                return err_set(e, (int)n, "read http.token-file %s", path);
        while (n > 0 && strchr(" \t\r\n", buf[n - 1]) != NULL)
                n--;
        if (n == 0)
                return err_text(
                        e, E_CONFIG,
                        "http.token-file %s is empty: write the token there, the same on all nodes (`openssl rand -hex 32` makes one)",
                        path);
        r = check_token(buf, (size_t)n, e);
        if (r < 0) {
                err_prefix(e, "http.token-file %s", path);
                return r;
        }
        memcpy(ret, buf, (size_t)n);
        ret[n] = '\0';
        return 0;
}

static int
token_make(const char *path, struct token **ret, struct err *e)
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
        int r = check_token(text, strlen(text), e);

        if (r == 0)
                r = token_make(NULL, ret, e);
        if (r == 0)
                memcpy((*ret)->text, text, strlen(text) + 1);
        return r;
}

int
token_open(const char *path, struct token **ret, struct err *e)
{
        struct token *t;
        int r = token_make(path, &t, e);

        if (r < 0)
                return r;
        (void)file_version_notice(&t->version, path);
        r = read_token_file(path, t->text, e);
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
        if (read_token_file(t->path, t->text, &e) < 0)
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

/* --- "Authorization: Bearer TOKEN" --- */

#define SCHEME "Bearer "
#define SCHEME_LEN (sizeof SCHEME - 1)

/* As long as what was given, whatever the token is. */
static bool
is_same_token(const char *token, const char *given)
{
        size_t n = strlen(given), n_token = strlen(token);
        volatile unsigned char differ = n != n_token;

        for (size_t i = 0; i < n; i++)
                differ |= (unsigned char)(given[i] ^ token[i % n_token]);
        return differ == 0;
}

bool
bearer_matches(const char *header, const char *token)
{
        if (token == NULL || token[0] == '\0')
                return true;
        return header != NULL && strncasecmp(header, SCHEME, SCHEME_LEN) == 0 &&
               is_same_token(token, header + SCHEME_LEN);
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
