/* Contradictions in litefs.yml, and what is missing there: file, line and key, what is wrong, and what to write. */
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cmd/litefs/access.h"
#include "cmd/litefs/config_keys.h"
#include "cmd/litefs/node_flags.h"
#include "cmd/litefs/real_path.h"
#include "cmd/litefs/similar.h"
#include "net/addr.h"

/* Where the key is, "" when no file has it. */
static void
locate(const struct config *c, const char *key, char *buf, size_t size)
{
        int line = config_line(c, key);

        buf[0] = '\0';
        if (c->path[0] != '\0' && line > 0)
                snprintf(buf, size, "%s:%d: ", c->path, line);
        else if (c->path[0] != '\0')
                snprintf(buf, size, "%s: ", c->path);
}

__attribute__((format(printf, 4, 5))) static int
fail(const struct config *c, const char *key, struct err *e, const char *fmt, ...)
{
        const char *flag = c->path[0] == '\0' ? node_flags_of_key(key) : NULL;
        char where[PATH_MAX + 16], text[ERR_TEXT_SIZE];
        va_list ap;

        locate(c, key, where, sizeof where);
        va_start(ap, fmt);
        vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        return err_text(e, E_CONFIG, "%s%s: %s", where, flag != NULL ? flag : key, text);
}

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
        while (real_path(head, buf) < 0) {
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

/* @words ends with NULL. "": not set. */
static int
fail_word(const struct config *c, const char *key, const char *value, const char *const *words,
          const char *wanted, struct err *e)
{
        struct similar near = similar_to(value);

        for (; *words != NULL; words++)
                similar_offer(&near, *words, strlen(*words));
        if (value[0] == '\0')
                return fail(c, key, e, "not set: want %s", wanted);
        if (near.best != NULL)
                return fail(c, key, e, "want %s, not \"%.100s\" (did you mean %s?)", wanted, value,
                            near.best);
        return fail(c, key, e, "want %s, not \"%.100s\"", wanted, value);
}

static int
check_address(const struct config *c, const char *key, const char *value, struct err *e)
{
        struct addr a;

        if (addr_parse(value, &a, NULL) == 0)
                return 0;
        return fail(c, key, e,
                    "\"%.200s\" is not an address: want HOST:PORT, [IPv6]:PORT or :PORT, such as "
                    "127.0.0.1:20202",
                    value);
}

/* The mount hides what is below it: over its own data the daemon waits for itself, and only SIGKILL ends that. */
static int
validate_dirs(const struct config *c, struct err *e)
{
        char fuse[PATH_MAX], data[PATH_MAX];

        if (c->fuse.dir[0] == '\0')
                return fail(c, "fuse.dir", e,
                            "not set: want the directory to mount at, such as /litefs");
        if (c->data.dir[0] == '\0')
                return fail(
                        c, "data.dir", e,
                        "not set: want the directory for databases and log, such as /var/lib/litefs");
        make_real(c->fuse.dir, fuse);
        make_real(c->data.dir, data);
        if (strcmp(fuse, data) == 0)
                return fail(
                        c, "fuse.dir", e,
                        "%s is data.dir, too, and the mount would hide the data: give one of them another "
                        "directory",
                        c->fuse.dir);
        if (is_below(data, fuse))
                return fail(
                        c, "data.dir", e,
                        "%s is inside fuse.dir (%s), where the mount would hide it: move one of them",
                        c->data.dir, c->fuse.dir);
        if (is_over_data(fuse, data))
                return fail(
                        c, "fuse.dir", e,
                        "%s is inside data.dir (%s), where litefs has its own files: move one of them",
                        c->fuse.dir, c->data.dir);
        return 0;
}

static int
validate_url(const struct config *c, const char *key, const char *url, const char *what, struct err *e)
{
        size_t end;

        if (url[0] == '\0' || config_url_port(url, &end) >= 0)
                return 0;
        return fail(
                c, key, e,
                "\"%.200s\" is not of the form http://HOST:PORT, %s: want for example http://node1:20202",
                url, what);
}

/* A commit with synchronous=NORMAL asks nobody: where another node may lead, it would be made all the same. */
static int
validate_passthrough_mode(const struct config *c, const char *key, const char *mode, struct err *e)
{
        static const char *const modes[] = { "auto", "off", "full", "fast", NULL };

        if (strcmp(mode, "fast") == 0 && strcmp(c->lease.type, "static") != 0)
                return fail(
                        c, key, e,
                        "fast needs a primary that never changes (lease.type: static): with a lease, commits of "
                        "synchronous=NORMAL would go on after it is lost: want full, with synchronous=FULL in the "
                        "application, or off");
        return is_one_of(mode, modes) ? 0 : fail_word(c, key, mode, modes, "auto, off, full or fast", e);
}

static int
validate_passthrough(const struct config *c, struct err *e)
{
        const struct string_list *l = &c->fuse.wal_passthrough_databases;
        int r = validate_passthrough_mode(c, "fuse.wal-passthrough", c->fuse.wal_passthrough, e);

        for (size_t i = 0; i < l->n && r == 0; i++) {
                const char *mode = strrchr(l->items[i], '=');

                if (mode == NULL || mode == l->items[i])
                        return fail(
                                c, "fuse.wal-passthrough-databases", e,
                                "\"%.200s\" is not of the form PATTERN=MODE: want for example \"app.db=full\"",
                                l->items[i]);
                r = validate_passthrough_mode(c, "fuse.wal-passthrough-databases", mode + 1, e);
        }
        return r;
}

static int
validate_advertise(const struct config *c, struct err *e)
{
        const char *url = c->lease.advertise_url;
        bool is_replica = strcmp(c->lease.type, "static") == 0 && !c->lease.candidate;
        int r;

        if (c->lease.primary_url[0] != '\0' && !is_replica)
                return fail(
                        c, "lease.primary-url", e,
                        "only a replica with a static lease finds the primary there: leave it out, or set "
                        "lease.type: static and lease.candidate: false");
        if (c->lease.primary_url[0] == '\0' && url[0] == '\0' && is_replica)
                return fail(
                        c, "lease.primary-url", e,
                        "not set: with a static lease, a node that is not the primary finds it there; want the "
                        "primary's URL, such as http://node1:20202");
        r = validate_url(c, "lease.primary-url", c->lease.primary_url, "where the primary is reached",
                         e);
        return r < 0 ? r
                     : validate_url(c, "lease.advertise-url", url, "where other nodes reach this one",
                                    e);
}

static int
validate_consul(const struct config *c, struct err *e)
{
        if (c->lease.consul.url[0] == '\0')
                return fail(c, "lease.consul.url", e,
                            "not set: want where Consul answers, such as http://localhost:8500");
        if (c->lease.consul.key[0] == '\0')
                return fail(
                        c, "lease.consul.key", e,
                        "not set: want a name that the nodes of this cluster share, such as litefs/app");
        return 0;
}

static int
validate_etcd(const struct config *c, struct err *e)
{
        if (c->lease.etcd.endpoints.n == 0)
                return fail(
                        c, "lease.etcd.endpoints", e,
                        "not set: want a list of where etcd answers, such as [\"http://localhost:2379\"]");
        if (c->lease.etcd.key[0] == '\0')
                return fail(
                        c, "lease.etcd.key", e,
                        "not set: want a name that the nodes of this cluster share, such as litefs/app");
        return 0;
}

static int
validate_file(const struct config *c, struct err *e)
{
        const char *path = c->lease.file.path, *port = strrchr(c->http.addr, ':');

        if (path[0] != '/' || path[strlen(path) - 1] == '/')
                return fail(
                        c, "lease.file.path", e,
                        "want the absolute path of a file on a local disk, the same for all nodes of this "
                        "machine, such as /var/lib/app/lease");
        if (port != NULL && strcmp(port, ":0") == 0)
                return fail(
                        c, "http.addr", e,
                        "the other nodes do not know which port \":0\" is: want one of its own for each node, "
                        "such as 127.0.0.1:20203");
        return 0;
}

/* "s3://BUCKET/KEY", where a query may follow. */
static int
validate_object(const struct config *c, struct err *e)
{
        const char *url = c->lease.object.url, *key;
        size_t n = strcspn(url, "?");

        if (strncmp(url, "file:", 5) == 0)
                return fail(
                        c, "lease.object.url", e,
                        "want s3://BUCKET/KEY: a lease in a file is lease.type: file, and lease.file.path");
        key = strncmp(url, "s3://", 5) == 0 && url[5] != '/' ? strchr(url + 5, '/') : NULL;
        if (key == NULL || key >= url + n - 1 || url[n - 1] == '/')
                return fail(
                        c, "lease.object.url", e,
                        "want the name of an object in a bucket, the same for all nodes of this cluster, such as "
                        "s3://BUCKET/app.lease, not \"%.200s\"",
                        url);
        return 0;
}

static int
validate_lease(const struct config *c, struct err *e)
{
        static const char *const types[] = { "etcd", "consul", "static", "file", "object", NULL };
        int r = 0;

        if (!is_one_of(c->lease.type, types))
                return fail_word(
                        c, "lease.type", c->lease.type, types,
                        "etcd, consul, object (in a bucket), static (a single node, or a primary that never changes) or file (nodes of one machine), or "
                        "instead of the section `lease: etcd://HOST:2379/KEY`",
                        e);
        if (c->lease.candidate && c->lease.databases.n > 0)
                return fail(
                        c, "lease.databases", e,
                        "a node that may become the primary needs all databases: leave it out, or set "
                        "lease.candidate: false");
        if (strcmp(c->lease.type, "consul") == 0)
                r = validate_consul(c, e);
        else if (strcmp(c->lease.type, "etcd") == 0)
                r = validate_etcd(c, e);
        else if (strcmp(c->lease.type, "file") == 0)
                r = validate_file(c, e);
        else if (strcmp(c->lease.type, "object") == 0)
                r = validate_object(c, e);
        return r < 0 ? r : validate_advertise(c, e);
}

static int
validate_tls(const struct config *c, struct err *e)
{
        if ((c->http.tls.cert[0] != '\0') != (c->http.tls.key[0] != '\0'))
                return fail(c, c->http.tls.cert[0] != '\0' ? "http.tls.cert" : "http.tls.key", e,
                            "%s is not set, and a certificate goes with its key: set both, or neither",
                            c->http.tls.cert[0] != '\0' ? "http.tls.key" : "http.tls.cert");
        if (c->http.tls.client_ca[0] != '\0' && c->http.tls.cert[0] == '\0')
                return fail(
                        c, "http.tls.client-ca", e,
                        "without TLS nobody shows a certificate: set http.tls.cert and http.tls.key, too");
        if (c->http.tls.cert[0] != '\0' && config_has_own_address(c) &&
            strncasecmp(c->lease.advertise_url, "http://", 7) == 0)
                return fail(
                        c, "lease.advertise-url", e,
                        "%s, but http.tls is set, and other nodes reach this one by TLS: make it https://",
                        c->lease.advertise_url);
        return 0;
}

static int
validate_http(const struct config *c, struct err *e)
{
        int r = c->http.addr[0] != '\0' ? check_address(c, "http.addr", c->http.addr, e) : 0;

        if (r == 0)
                r = validate_tls(c, e);
        if (r < 0)
                return r;
        if (c->http.token[0] != '\0' && c->http.token_file[0] != '\0')
                return fail(c, "http.token", e, "http.token-file is set, too: leave one of them out");
        if (access_is_open(c) && !c->http.insecure && c->path[0] == '\0')
                return fail(
                        c, "http.addr", e,
                        "%s is open to the network: anyone who reaches it could read, import, hand over and promote. "
                        "Give -token-file, with the same token on all nodes, or -addr 127.0.0.1:PORT where all nodes "
                        "are on this machine",
                        c->http.addr);
        if (access_is_open(c) && !c->http.insecure)
                return fail(
                        c, "http.addr", e,
                        "%s is open to the network: anyone who reaches it could read, import, hand over and promote. "
                        "Set http.token-file (the same on all nodes), or http.tls with client-ca, or listen on "
                        "127.0.0.1; http.insecure: true leaves it open",
                        c->http.addr);
        return 0;
}

static int
validate_proxy(const struct config *c, struct err *e)
{
        static const char *const modes[] = { "", "forward", "fly-replay", NULL };
        int r = 0;

        if (c->proxy.target[0] != '\0' && c->proxy.addr[0] == '\0')
                return fail(
                        c, "proxy.target", e,
                        "proxy.addr, the address to listen on, is not set: set it, such as \":8080\"");
        if (!is_one_of(c->proxy.mode, modes))
                return fail_word(c, "proxy.mode", c->proxy.mode, modes, "forward or fly-replay", e);
        if (c->proxy.target[0] != '\0')
                r = check_address(c, "proxy.addr", c->proxy.addr, e);
        if (r == 0 && c->proxy.target[0] != '\0')
                r = check_address(c, "proxy.target", c->proxy.target, e);
        return r;
}

static int
validate_exec(const struct config *c, struct err *e)
{
        for (size_t i = 0; i < c->n_exec; i++) {
                const char *user = c->exec[i].user;

                if (user[strspn(user, "0123456789")] != '\0' && getpwnam(user) == NULL)
                        return fail(
                                c, "exec", e,
                                "user: there is no user called %s; create it (`adduser --system %s`), or name "
                                "another",
                                user, user);
        }
        return 0;
}

static int
validate_backup(const struct config *c, const struct config_backup *b, struct err *e)
{
        static const char *const types[] = { "", "file", NULL };

        if (!is_one_of(b->type, types))
                return fail(
                        c, "backup.type", e,
                        "want file, or none beside backup.url, not \"%.100s\": a bucket is backup.url: "
                        "s3://BUCKET/PREFIX",
                        b->type);
        if (strcmp(b->type, "file") == 0 && b->path[0] != '/')
                return fail(c, "backup.path", e,
                            "want a directory, from the root on, such as /backup, not \"%.200s\"",
                            b->path);
        if (b->type[0] == '\0' && strncmp(b->url, "file:///", 8) != 0 &&
            strncmp(b->url, "s3://", 5) != 0)
                return fail(c, "backup.url", e,
                            "want s3://BUCKET/PREFIX or file:///PATH, not \"%.200s\"", b->url);
        if (b->sync_interval_ns <= 0)
                return fail(c, "backup.sync-interval", e,
                            "must be more than 0: want how often it is written, such as 1s");
        return 0;
}

static int
validate_backups(const struct config *c, struct err *e)
{
        int r = 0;

        if (c->n_backups > CONFIG_MAX_BACKUPS)
                return fail(c, "backup.url", e,
                            "%zu destinations, and at most %d can be had: leave some out", c->n_backups,
                            CONFIG_MAX_BACKUPS);
        for (size_t i = 0; i < c->n_backups && r == 0; i++) {
                r = validate_backup(c, &c->backups[i], e);
                for (size_t k = 0; k < i && r == 0; k++)
                        if (strcmp(c->backups[k].url, c->backups[i].url) == 0 &&
                            strcmp(c->backups[k].path, c->backups[i].path) == 0)
                                r = fail(c, "backup.url", e,
                                         "the same destination twice, %s%s: leave one out",
                                         c->backups[i].url, c->backups[i].path);
        }
        return r;
}

int
config_validate(const struct config *c, struct err *e)
{
        static const char *const log_formats[] = { "text", "json", NULL };
        int r = validate_dirs(c, e);

        if (r == 0)
                r = validate_passthrough(c, e);
        if (r == 0)
                r = validate_lease(c, e);
        if (r == 0)
                r = validate_http(c, e);
        if (r == 0)
                r = validate_proxy(c, e);
        if (r == 0)
                r = validate_exec(c, e);
        if (r == 0 && !is_one_of(c->log.format, log_formats))
                r = fail_word(c, "log.format", c->log.format, log_formats, "text or json", e);
        return r < 0 ? r : validate_backups(c, e);
}
