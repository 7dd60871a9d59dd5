#include "cmd/litefs/access.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/os.h"
#include "cmd/litefs/config.h"

#define TOKEN_MAX 512

static bool
is_token_text(const char *s)
{
        for (; *s != '\0'; s++)
                if (*s <= ' ' || *s > '~')
                        return false;
        return true;
}

static int
read_file(const char *path, char buf[TOKEN_MAX + 2], struct err *e)
{
        const struct os *os = os_host();
        int fd = os_open(os, "config:token", path, O_RDONLY | O_CLOEXEC, 0);
        ssize_t n;

        if (fd < 0)
                return err_set(e, fd, "read http.token-file %s", path);
        n = os_pread_all(os, "config:token", fd, buf, TOKEN_MAX + 1, 0);
        os_close(os, "config:token", fd);
        if (n < 0)
                return err_set(e, (int)n, "read http.token-file %s", path);
        buf[n] = '\0';
        while (n > 0 && strchr(" \t\r\n", buf[n - 1]) != NULL)
                buf[--n] = '\0';
        return n > 0 ? 0 : err_text(e, E_CONFIG, "http.token-file %s is empty", path);
}

int
access_read_token(const struct config *c, char **ret, struct err *e)
{
        char buf[TOKEN_MAX + 2];
        const char *token = c->http.token;
        int r = 0;

        if (c->http.token_file[0] != '\0') {
                r = read_file(c->http.token_file, buf, e);
                token = buf;
        }
        if (r == 0 && (strlen(token) > TOKEN_MAX || !is_token_text(token)))
                r = err_text(
                        e, E_CONFIG,
                        "the token (http.token) is longer than %d bytes, or has other than printable "
                        "ASCII characters",
                        TOKEN_MAX);
        if (r < 0)
                return r;
        *ret = strdup(token);
        return *ret == NULL ? err_set(e, -ENOMEM, "http.token") : 0;
}

bool
access_is_loopback(const char *address)
{
        const char *port = strrchr(address, ':');
        size_t n = port != NULL ? (size_t)(port - address) : strlen(address);

        return (n == 9 && memcmp(address, "localhost", n) == 0) ||
               (n > 4 && memcmp(address, "127.", 4) == 0) ||
               (n == 5 && memcmp(address, "[::1]", n) == 0);
}

void
access_warn(const struct config *c)
{
        if (c->http.addr[0] == '\0' || access_is_loopback(c->http.addr) || c->http.token[0] != '\0' ||
            c->http.token_file[0] != '\0' || c->http.tls.client_ca[0] != '\0')
                return;
        log_warn(
                "http.addr %s is open to the network: whoever reaches it can read, import, hand over and "
                "promote. Set http.token (the same on all nodes), or http.tls with client-ca, or listen on "
                "127.0.0.1",
                c->http.addr);
}
