#include "cmd/litefs/config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/os.h"
#include "cmd/litefs/config_keys.h"
#include "cmd/litefs/config_yaml.h"
#include "cmd/litefs/expand.h"

#define FILE_BYTES_MAX (1u << 20)
#define SECOND 1000000000LL

/* --- what follows from other keys and from the machine --- */

static void
default_duration(int64_t *ns, int64_t value_ns)
{
        if (*ns <= 0)
                *ns = value_ns;
}

static bool
is_set(const char *s)
{
        return s != NULL && s[0] != '\0';
}

/* LiteFS Cloud's variables, as LiteFS reads them. */
static int
resolve_backup(struct config *c)
{
        const char *token = getenv("LITEFS_CLOUD_TOKEN"), *url = getenv("LITEFS_CLOUD_ENDPOINT");
        bool is_cloud = strcmp(c->backup.type, "litefs-cloud") == 0;
        int r = 0;

        if (is_set(token) && (is_cloud || c->backup.type[0] == '\0')) {
                is_cloud = true;
                r = config_set_string(&c->backup.type, "litefs-cloud");
                if (r == 0 && c->backup.auth_token[0] == '\0')
                        r = config_set_string(&c->backup.auth_token, token);
                if (r == 0 && is_set(url))
                        r = config_set_string(&c->backup.url, url);
        }
        if (r == 0 && is_cloud && c->backup.url[0] == '\0')
                r = config_set_string(&c->backup.url, "https://litefs.fly.io");
        return r;
}

/* The name under which the other nodes know this one. With the static lease the two keys name the primary,
 * so nothing can be guessed. */
static int
resolve_address(struct config *c)
{
        const char *port = strrchr(c->http.addr, ':');
        char host[256], url[512];
        int r = 0;

        if (strcmp(c->lease.type, "consul") != 0 && strcmp(c->lease.type, "etcd") != 0)
                return 0;
        if (c->lease.hostname[0] == '\0' && gethostname(host, sizeof host) == 0) {
                host[sizeof host - 1] = '\0';
                r = config_set_string(&c->lease.hostname, host);
        }
        if (r == 0 && c->lease.advertise_url[0] == '\0' && c->lease.hostname[0] != '\0' &&
            port != NULL) {
                snprintf(url, sizeof url, "%s://%s%s", c->http.tls.cert[0] != '\0' ? "https" : "http",
                         c->lease.hostname, port);
                r = config_set_string(&c->lease.advertise_url, url);
        }
        return r;
}

static int
resolve(struct config *c)
{
        int r = resolve_backup(c);

        default_duration(&c->http.snapshot_timeout_ns, c->data.retention_ns);
        default_duration(&c->lease.consul.ttl_ns, 10 * SECOND);
        default_duration(&c->lease.consul.lock_delay_ns, SECOND);
        default_duration(&c->lease.etcd.ttl_ns, 10 * SECOND);
        if (r == 0 && c->http.tls.ca[0] == '\0')
                r = config_set_string(&c->http.tls.ca, c->http.tls.client_ca);
        return r == 0 ? resolve_address(c) : r;
}

/* --- parsing --- */

static const char *
from_environment(void *arg, const char *name)
{
        (void)arg;
        return getenv(name);
}

int
config_parse(struct config *c, const char *path, const char *text, bool is_verbatim, struct err *e)
{
        char *expanded = NULL;
        int r;

        if (!is_verbatim) {
                expanded = expand_text(text, from_environment, NULL);
                if (expanded == NULL)
                        return err_set(e, -ENOMEM, "%s: expand environment variables", path);
                text = expanded;
        }
        if (text[strspn(text, " \t\r\n")] == '\0')
                r = err_text(e, E_CONFIG, "%s: the file is empty", path);
        else
                r = config_read_yaml(c, path, text, e);
        free(expanded);
        if (r == 0 && resolve(c) < 0)
                r = err_set(e, -ENOMEM, "%s", path);
        return r;
}

/* --- finding the file --- */

static int
read_file(const char *path, char **ret)
{
        const struct os *os = os_host();
        char *text = malloc(FILE_BYTES_MAX + 1);
        ssize_t n = -ENOMEM;
        int fd;

        fd = os_open(os, "config", path, O_RDONLY, 0);
        if (fd < 0) {
                free(text);
                return fd;
        }
        if (text != NULL)
                n = os_pread_all(os, "config", fd, text, FILE_BYTES_MAX + 1, 0);
        os_close(os, "config", fd);
        if (n > (ssize_t)FILE_BYTES_MAX)
                n = -EFBIG;
        else if (n >= 0 && memchr(text, '\0', (size_t)n) != NULL)
                n = -EILSEQ; /* binary; what follows the NUL would be ignored in silence */
        if (n < 0) {
                free(text);
                return (int)n;
        }
        text[n] = '\0';
        *ret = text;
        return 0;
}

static int
find_file(char *buf, size_t size)
{
        const struct passwd *pw = getpwuid(geteuid());
        const char *home = getenv("HOME");
        char in_home[PATH_MAX];
        const char *const candidates[] = { "litefs.yml", in_home, "/etc/litefs.yml" };

        if (home == NULL || home[0] == '\0')
                home = pw != NULL ? pw->pw_dir : "/root";
        snprintf(in_home, sizeof in_home, "%s/litefs.yml", home);
        for (size_t i = 0; i < sizeof candidates / sizeof candidates[0]; i++) {
                if (access(candidates[i], F_OK) == 0) {
                        snprintf(buf, size, "%s", candidates[i]);
                        return 0;
                }
        }
        return -ENOENT;
}

static void
set_hostname_variable(void)
{
        char name[256];

        if (getenv("HOSTNAME") != NULL || gethostname(name, sizeof name) < 0)
                return;
        name[sizeof name - 1] = '\0';
        setenv("HOSTNAME", name, 0);
}

int
config_load(struct config *c, const char *path, bool is_verbatim, struct err *e)
{
        char found[PATH_MAX], full[PATH_MAX], *text = NULL;
        int r;

        set_hostname_variable();
        if (path == NULL && find_file(found, sizeof found) < 0)
                return err_text(
                        e, -ENOENT,
                        "config file not found; looked for litefs.yml here, in the home directory "
                        "and in /etc. Write one (see litefs.example.yml), or name it with -config "
                        "PATH");
        if (path == NULL)
                path = found;
        r = read_file(path, &text);
        if (r < 0)
                return err_set(e, r, "cannot read config file at %s", path);
        r = config_parse(c, path, text, is_verbatim, e);
        free(text);
        if (r == 0 && config_set_string(&c->path, realpath(path, full) != NULL ? full : path) < 0)
                r = err_set(e, -ENOMEM, "%s", path);
        return r;
}

/* --- contradictions --- */

static bool
is_one_of(const char *s, const char *const *words)
{
        for (; *words != NULL; words++)
                if (strcmp(s, *words) == 0)
                        return true;
        return false;
}

/* @dir without symbolic links, dots and superfluous slashes: what there is of it, and then the rest as it is spelled. */
static void
make_real(const char *dir, char buf[PATH_MAX])
{
        char head[PATH_MAX], rest[PATH_MAX] = "", joined[PATH_MAX];
        size_t n = (size_t)snprintf(head, sizeof head, "%s%s", dir[0] == '/' ? "" : "./", dir);
        char *slash;

        while (n > 1 && n < sizeof head && head[n - 1] == '/')
                head[--n] = '\0';
        while (realpath(head, buf) == NULL) {
                buf[0] = '\0';
                slash = strrchr(head, '/');
                if (slash == NULL)
                        break;
                if (slash[1] != '\0' && strcmp(slash, "/.") != 0) {
                        if (snprintf(joined, sizeof joined, "%s%s", slash, rest) >= (int)sizeof joined)
                                break;
                        memcpy(rest, joined, sizeof rest);
                }
                if (slash == head)
                        break;
                *slash = '\0';
        }
        n = strcmp(buf, "/") == 0 && rest[0] != '\0' ? 0 : strlen(buf);
        (void)!snprintf(buf + n, PATH_MAX - n, "%s", rest);
}

static bool
is_below(const char *dir, const char *top)
{
        size_t n = strcmp(top, "/") == 0 ? 0 : strlen(top);

        return strncmp(dir, top, n) == 0 && dir[n] == '/';
}

/* In a directory that litefs has in its data directory. Elsewhere in there LiteFS allows it, and it does no harm. */
static bool
is_over_data(const char *fuse, const char *data)
{
        static const char *const own[] = { "dbs", "files", "orphans", "tmp" };
        char dir[PATH_MAX + 16];

        for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
                snprintf(dir, sizeof dir, "%s/%s", data, own[i]);
                if (strcmp(fuse, dir) == 0 || is_below(fuse, dir))
                        return true;
        }
        return false;
}

/* The mount hides what is below it: over its own data the daemon waits for itself, and only SIGKILL ends that. */
static int
validate_dirs(const struct config *c, struct err *e)
{
        char fuse[PATH_MAX], data[PATH_MAX];

        if (c->fuse.dir[0] == '\0')
                return err_text(e, E_CONFIG, "fuse directory required");
        if (c->data.dir[0] == '\0')
                return err_text(e, E_CONFIG, "data directory required");
        make_real(c->fuse.dir, fuse);
        make_real(c->data.dir, data);
        if (strcmp(fuse, data) == 0)
                return err_text(e, E_CONFIG,
                                "fuse directory and data directory cannot be the same path");
        if (is_below(data, fuse))
                return err_text(e, E_CONFIG,
                                "data.dir (%s) is inside fuse.dir (%s), where the mount would hide it: "
                                "move one of them",
                                c->data.dir, c->fuse.dir);
        if (is_over_data(fuse, data))
                return err_text(e, E_CONFIG,
                                "fuse.dir (%s) is inside data.dir (%s), where litefs has its own files: "
                                "move one of them",
                                c->fuse.dir, c->data.dir);
        return 0;
}

static int
validate_lease(const struct config *c, struct err *e)
{
        static const char *const types[] = { "consul", "static", "etcd", NULL };

        if (!is_one_of(c->lease.type, types))
                return err_text(e, E_CONFIG,
                                "invalid lease type, must be either 'consul' or 'static', got: '%s'",
                                c->lease.type);
        if (c->lease.candidate && c->lease.databases.n > 0)
                return err_text(e, E_CONFIG,
                                "cannot specify a database replication filter on candidate nodes");
        if (strcmp(c->lease.type, "consul") == 0 && c->lease.consul.url[0] == '\0')
                return err_text(e, E_CONFIG, "lease.consul.url required");
        if (strcmp(c->lease.type, "consul") == 0 && c->lease.consul.key[0] == '\0')
                return err_text(e, E_CONFIG, "lease.consul.key required");
        if (strcmp(c->lease.type, "etcd") == 0 && c->lease.etcd.endpoints.n == 0)
                return err_text(e, E_CONFIG, "lease.etcd.endpoints required");
        if (strcmp(c->lease.type, "etcd") == 0 && c->lease.etcd.key[0] == '\0')
                return err_text(e, E_CONFIG, "lease.etcd.key required");
        return 0;
}

/* With a static lease a replica names the primary's. */
static bool
is_own_address(const struct config *c)
{
        return c->lease.candidate || strcmp(c->lease.type, "static") != 0;
}

static int
validate_http(const struct config *c, struct err *e)
{
        static const char *const modes[] = { "", "forward", "fly-replay", NULL };

        if ((c->http.tls.cert[0] != '\0') != (c->http.tls.key[0] != '\0'))
                return err_text(e, E_CONFIG, "http.tls.cert and http.tls.key go together");
        if (c->http.tls.client_ca[0] != '\0' && c->http.tls.cert[0] == '\0')
                return err_text(e, E_CONFIG, "http.tls.client-ca needs http.tls.cert");
        if (c->http.tls.cert[0] != '\0' && is_own_address(c) &&
            strncasecmp(c->lease.advertise_url, "http://", 7) == 0)
                return err_text(e, E_CONFIG,
                                "http.tls is set, but lease.advertise-url is %s: other nodes reach this "
                                "one at https://",
                                c->lease.advertise_url);
        if (c->http.token[0] != '\0' && c->http.token_file[0] != '\0')
                return err_text(e, E_CONFIG, "http.token and http.token-file exclude each other");
        if (c->proxy.target[0] != '\0' && c->proxy.addr[0] == '\0')
                return err_text(e, E_CONFIG, "proxy.target needs proxy.addr, the address to listen on");
        if (!is_one_of(c->proxy.mode, modes))
                return err_text(e, E_CONFIG,
                                "invalid proxy mode, must be 'forward' or 'fly-replay', got: '%s'",
                                c->proxy.mode);
        return 0;
}

int64_t
config_to_ms(int64_t ns)
{
        return ns > 0 ? (ns - 1) / 1000000 + 1 : 0;
}

int
config_validate(const struct config *c, struct err *e)
{
        static const char *const log_formats[] = { "text", "json", NULL };
        static const char *const backup_types[] = { "", "file", "litefs-cloud", NULL };
        int r;

        r = validate_dirs(c, e);
        if (r < 0)
                return r;
        r = validate_lease(c, e);
        if (r < 0)
                return r;
        r = validate_http(c, e);
        if (r < 0)
                return r;
        if (!is_one_of(c->log.format, log_formats))
                return err_text(e, E_CONFIG, "invalid log format: \"%s\"", c->log.format);
        if (!is_one_of(c->backup.type, backup_types))
                return err_text(e, E_CONFIG, "invalid backup type: \"%s\"", c->backup.type);
        return 0;
}
