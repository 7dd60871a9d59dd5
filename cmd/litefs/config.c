#include "cmd/litefs/config.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/os.h"
#include "cmd/litefs/access.h"
#include "cmd/litefs/config_keys.h"
#include "cmd/litefs/config_lease.h"
#include "cmd/litefs/config_yaml.h"
#include "cmd/litefs/expand.h"

#define FILE_BYTES_MAX (1u << 20)
#define SECOND 1000000000LL

const char *
config_wal_passthrough(const struct config *c, const char *db_name)
{
        const struct string_list *l = &c->fuse.wal_passthrough_databases;
        char pattern[PATH_MAX];

        for (size_t i = 0; i < l->n; i++) {
                const char *mode = strrchr(l->items[i], '=');

                snprintf(pattern, sizeof pattern, "%.*s", (int)(mode - l->items[i]), l->items[i]);
                if (fnmatch(pattern, db_name, 0) == 0)
                        return mode + 1;
        }
        return c->fuse.wal_passthrough;
}

/* --- what follows from other keys and from the machine --- */

static void
default_duration(int64_t *ns, int64_t value_ns)
{
        if (*ns <= 0)
                *ns = value_ns;
}

static bool
is_text_set(const char *s)
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

        if (is_text_set(token) && (is_cloud || c->backup.type[0] == '\0')) {
                is_cloud = true;
                r = config_set_string(&c->backup.type, "litefs-cloud");
                if (r == 0 && c->backup.auth_token[0] == '\0')
                        r = config_set_string(&c->backup.auth_token, token);
                if (r == 0 && is_text_set(url))
                        r = config_set_string(&c->backup.url, url);
        }
        if (r == 0 && is_cloud && c->backup.url[0] == '\0')
                r = config_set_string(&c->backup.url, "https://litefs.fly.io");
        /* Where the file names one destination, rather than a list. */
        if (r == 0 && !is_cloud &&
            (is_text_set(c->backup.url) || is_text_set(c->backup.path) || is_text_set(c->backup.type)))
                r = config_add_backup(c);
        return r;
}

bool
config_has_own_address(const struct config *c)
{
        return c->lease.candidate || strcmp(c->lease.type, "static") != 0 ||
               c->lease.primary_url[0] != '\0';
}

static bool
is_lease_file(const struct config *c)
{
        return strcmp(c->lease.type, "file") == 0;
}

/* Whether a replica cannot be reached by its primary: it listens to this machine, and that is elsewhere, or at any port. */
static bool
is_hidden_replica(const struct config *c)
{
        const char *host = strstr(c->lease.primary_url, "//"), *port = strrchr(c->http.addr, ':');
        char primary[512];

        if (host == NULL || port == NULL)
                return false;
        snprintf(primary, sizeof primary, "%.*s", (int)strcspn(host + 2, "/?#"), host + 2);
        return strcmp(port, ":0") == 0 ||
               (access_is_loopback(c->http.addr) && !access_is_loopback(primary));
}

/* That of the machine. Nodes that share one, as those with a lease in a file do, are told apart by their ports. */
static int
resolve_hostname(struct config *c, const char *port)
{
        char host[256], name[300];

        if (c->lease.hostname[0] != '\0' || gethostname(host, sizeof host) < 0)
                return 0;
        host[sizeof host - 1] = '\0';
        snprintf(name, sizeof name, "%s%s%s", host, is_lease_file(c) && port != NULL ? "-" : "",
                 is_lease_file(c) && port != NULL ? port + 1 : "");
        return config_set_string(&c->lease.hostname, name);
}

/* The name under which the other nodes know this one. With the static lease it is guessed where the primary has keys of its
 * own. */
static int
resolve_address(struct config *c)
{
        const char *port = strrchr(c->http.addr, ':');
        char url[512];
        int r;

        if (strcmp(c->lease.type, "consul") != 0 && strcmp(c->lease.type, "etcd") != 0 &&
            strcmp(c->lease.type, "object") != 0 && !is_lease_file(c) && c->lease.primary_url[0] == '\0')
                return 0;
        r = resolve_hostname(c, port);
        if (r == 0 && c->lease.advertise_url[0] == '\0' && c->lease.hostname[0] != '\0' &&
            port != NULL && !is_hidden_replica(c)) {
                /* Who listens to this machine alone is reached by no name of it, but where it listens. */
                snprintf(url, sizeof url, "%s://%s%s", c->http.tls.cert[0] != '\0' ? "https" : "http",
                         access_is_loopback(c->http.addr) ? "" : c->lease.hostname,
                         access_is_loopback(c->http.addr) ? c->http.addr : port);
                r = config_set_string(&c->lease.advertise_url, url);
        }
        return r;
}

/* Without a port it is that of the scheme, as for LiteFS. */
static int
resolve_port(char **url_key)
{
        const char *url = *url_key;
        char full[1024];
        size_t end;

        if (url[0] == '\0' || config_url_port(url, &end) != 0)
                return 0;
        snprintf(full, sizeof full, "%.*s:%d%s", (int)end, url,
                 strncasecmp(url, "https", 5) == 0 ? 443 : 80, url + end);
        return config_set_string(url_key, full);
}

/* A node that is by itself, or whose others are on this machine, need not be reached from elsewhere. One that has an address for
 * them has to say who may. */
static int
resolve_listener(struct config *c)
{
        bool is_single = is_lease_file(c) ? c->lease.advertise_url[0] == '\0'
                                          : strcmp(c->lease.type, "static") == 0 && c->lease.candidate &&
                                                    c->lease.advertise_url[0] == '\0';

        return is_single && !c->http.has_addr && !c->http.insecure && access_is_open(c)
                       ? config_set_string(&c->http.addr, "127.0.0.1:20202")
                       : 0;
}

int
config_resolve(struct config *c)
{
        int r = resolve_backup(c);

        if (r == 0)
                r = resolve_listener(c);

        default_duration(&c->http.snapshot_timeout_ns, c->data.retention_ns);
        default_duration(&c->lease.consul.ttl_ns, 10 * SECOND);
        default_duration(&c->lease.consul.lock_delay_ns, SECOND);
        default_duration(&c->lease.etcd.ttl_ns, 10 * SECOND);
        default_duration(&c->lease.file.ttl_ns, 10 * SECOND);
        default_duration(&c->lease.object.ttl_ns, 10 * SECOND);
        if (r == 0 && c->http.tls.ca[0] == '\0')
                r = config_set_string(&c->http.tls.ca, c->http.tls.client_ca);
        if (r == 0)
                r = resolve_address(c);
        if (r == 0)
                r = resolve_port(&c->lease.advertise_url);
        return r == 0 ? resolve_port(&c->lease.primary_url) : r;
}

/* --- parsing --- */

static int
resolve_lease(struct config *c, const char *path, struct err *e)
{
        int line = config_line(c, "lease.url"), r;
        struct err why = ERR_INIT;

        r = config_resolve_lease(c, &why);
        return r < 0 ? err_text(e, r, "%s:%d: lease.url: %s", path, line, why.text) : 0;
}

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

        if (config_set_string(&c->path, path) < 0)
                return err_set(e, -ENOMEM, "%s", path);
        if (!is_verbatim) {
                expanded = expand_text(text, from_environment, NULL);
                if (expanded == NULL)
                        return err_set(e, -ENOMEM, "%s: expand environment variables", path);
                text = expanded;
        }
        if (text[strspn(text, " \t\r\n")] == '\0')
                r = err_text(e, E_CONFIG,
                             "%s: the file is empty: write what is in the example of `man litefs.yml`",
                             path);
        else
                r = config_read_yaml(c, path, text, e);
        free(expanded);
        if (r == 0)
                r = resolve_lease(c, path, e);
        if (r == 0 && config_resolve(c) < 0)
                r = err_set(e, -ENOMEM, "%s", path);
        return r;
}

/* --- finding the file --- */

static int
read_config_file(const char *path, char **ret)
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

static bool
holds(const char *text, const char *secret)
{
        return secret[0] != '\0' && strstr(text, secret) != NULL;
}

static bool
holds_backup_secret(const struct config *c, const char *text)
{
        for (size_t i = 0; i < c->n_backups; i++)
                if (holds(text, c->backups[i].secret_access_key) ||
                    holds(text, c->backups[i].session_token) ||
                    holds(text, c->backups[i].customer_key) || holds(text, c->backups[i].auth_token))
                        return true;
        return false;
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
                        "and in /etc. Write one with `litefs init`, name it with -config PATH, or do without, as in "
                        "`litefs mount DIR`");
        if (path == NULL)
                path = found;
        r = read_config_file(path, &text);
        if (r < 0)
                return err_text(e, r,
                                "cannot read config file at %s: %s; name another one with -config PATH",
                                path, err_code_text(r));
        r = config_parse(c, path, text, is_verbatim, e);
        if (r == 0)
                c->holds_secret = holds(text, c->http.token) || holds(text, c->lease.consul.token) ||
                                  holds(text, c->lease.object.secret_access_key) ||
                                  holds(text, c->lease.object.session_token) ||
                                  holds(text, c->backup.auth_token) || holds_backup_secret(c, text);
        free(text);
        if (r == 0 && config_set_string(&c->path, realpath(path, full) != NULL ? full : path) < 0)
                r = err_set(e, -ENOMEM, "%s", path);
        return r;
}

int64_t
config_to_ms(int64_t ns)
{
        return ns > 0 ? (ns - 1) / 1000000 + 1 : 0;
}
