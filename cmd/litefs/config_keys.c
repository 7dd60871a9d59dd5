#include "cmd/litefs/config_keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SECOND 1000000000LL

static const char *const type_texts[] = {
        [T_BOOL] = "true or false",
        [T_STRING] = "a string",
        [T_DURATION] = "a duration such as 10s",
        [T_MEGABYTES] = "a size such as 64MB",
        [T_COUNT] = "a whole number",
        [T_LIST] = "a list of strings",
        [T_EXEC] = "a command, or one or more {cmd, if-candidate, user}",
};

const char *
config_type_text(enum config_type type)
{
        return type_texts[type];
}

/* clang-format off */
#define BOOL(path, member, value) { path, T_BOOL, offsetof(struct config, member), NULL, value }
#define STRING(path, member, value) { path, T_STRING, offsetof(struct config, member), value, 0 }
#define DURATION(path, member, ns) { path, T_DURATION, offsetof(struct config, member), NULL, ns }
#define OTHER(path, type, member, value) { path, type, offsetof(struct config, member), NULL, value }

const struct config_key config_keys[] = {
        OTHER("exec", T_EXEC, exec, 0),
        DURATION("exec-grace", exec_grace_ns, 30 * SECOND),
        DURATION("shutdown-timeout", shutdown_timeout_ns, 40 * SECOND),
        BOOL("exit-on-error", exit_on_error, true),
        BOOL("skip-sync", skip_sync, false),
        BOOL("strict-verify", strict_verify, false),

        STRING("data.dir", data.dir, "/var/lib/litefs"),
        BOOL("data.compress", data.compress, true),
        DURATION("data.retention", data.retention_ns, 600 * SECOND),
        DURATION("data.retention-monitor-interval", data.retention_monitor_interval_ns, 60 * SECOND),
        DURATION("data.history", data.history_ns, 0),
        OTHER("data.history-size", T_MEGABYTES, data.history_size_bytes, 10240LL << 20),

        STRING("fuse.dir", fuse.dir, "/litefs"),
        BOOL("fuse.allow-other", fuse.allow_other, false),
        BOOL("fuse.debug", fuse.debug, false),
        STRING("fuse.wal-passthrough", fuse.wal_passthrough, "auto"),
        OTHER("fuse.wal-passthrough-databases", T_LIST, fuse.wal_passthrough_databases, 0),

        STRING("http.addr", http.addr, ":20202"),
        BOOL("http.insecure", http.insecure, false),
        DURATION("http.snapshot-timeout", http.snapshot_timeout_ns, 0),
        STRING("http.token", http.token, ""),
        STRING("http.token-file", http.token_file, ""),
        STRING("http.tls.cert", http.tls.cert, ""),
        STRING("http.tls.key", http.tls.key, ""),
        STRING("http.tls.client-ca", http.tls.client_ca, ""),
        STRING("http.tls.ca", http.tls.ca, ""),

        STRING("proxy.addr", proxy.addr, ""),
        STRING("proxy.target", proxy.target, ""),
        STRING("proxy.db", proxy.db, ""),
        STRING("proxy.mode", proxy.mode, ""),
        DURATION("proxy.max-lag", proxy.max_lag_ns, 10 * SECOND),
        BOOL("proxy.debug", proxy.debug, false),
        OTHER("proxy.passthrough", T_LIST, proxy.passthrough, 0),
        OTHER("proxy.always-forward", T_LIST, proxy.always_forward, 0),
        DURATION("proxy.primary-redirect-timeout", proxy.primary_redirect_timeout_ns, 5 * SECOND),
        DURATION("proxy.drain", proxy.drain_ns, 5 * SECOND),
        DURATION("proxy.read-timeout", proxy.read_timeout_ns, 0),
        DURATION("proxy.read-header-timeout", proxy.read_header_timeout_ns, 10 * SECOND),
        DURATION("proxy.write-timeout", proxy.write_timeout_ns, 0),
        DURATION("proxy.idle-timeout", proxy.idle_timeout_ns, 30 * SECOND),

        STRING("lease.url", lease.url, ""),
        STRING("lease.type", lease.type, ""),
        STRING("lease.hostname", lease.hostname, ""),
        STRING("lease.advertise-url", lease.advertise_url, ""),
        STRING("lease.primary-url", lease.primary_url, ""),
        BOOL("lease.candidate", lease.candidate, true),
        BOOL("lease.promote", lease.promote, false),
        DURATION("lease.reconnect-delay", lease.reconnect_delay_ns, 1 * SECOND),
        DURATION("lease.demote-delay", lease.demote_delay_ns, 10 * SECOND),
        OTHER("lease.databases", T_LIST, lease.databases, 0),
        STRING("lease.consul.url", lease.consul.url, ""),
        STRING("lease.consul.key", lease.consul.key, ""),
        STRING("lease.consul.token", lease.consul.token, ""),
        STRING("lease.consul.ca", lease.consul.ca, ""),
        STRING("lease.consul.cert", lease.consul.cert, ""),
        STRING("lease.consul.cert-key", lease.consul.cert_key, ""),
        DURATION("lease.consul.ttl", lease.consul.ttl_ns, 10 * SECOND),
        DURATION("lease.consul.lock-delay", lease.consul.lock_delay_ns, 1 * SECOND),
        OTHER("lease.etcd.endpoints", T_LIST, lease.etcd.endpoints, 0),
        STRING("lease.etcd.key", lease.etcd.key, ""),
        STRING("lease.etcd.ca", lease.etcd.ca, ""),
        STRING("lease.etcd.cert", lease.etcd.cert, ""),
        STRING("lease.etcd.cert-key", lease.etcd.cert_key, ""),
        DURATION("lease.etcd.ttl", lease.etcd.ttl_ns, 10 * SECOND),
        STRING("lease.file.path", lease.file.path, ""),
        DURATION("lease.file.ttl", lease.file.ttl_ns, 10 * SECOND),
        STRING("lease.object.url", lease.object.url, ""),
        STRING("lease.object.endpoint", lease.object.endpoint, ""),
        STRING("lease.object.region", lease.object.region, ""),
        BOOL("lease.object.force-path-style", lease.object.force_path_style, false),
        STRING("lease.object.access-key-id", lease.object.access_key_id, ""),
        STRING("lease.object.secret-access-key", lease.object.secret_access_key, ""),
        STRING("lease.object.session-token", lease.object.session_token, ""),
        STRING("lease.object.ca", lease.object.ca, ""),
        DURATION("lease.object.ttl", lease.object.ttl_ns, 10 * SECOND),

        STRING("backup.type", backup.type, ""),
        STRING("backup.path", backup.path, ""),
        STRING("backup.url", backup.url, ""),
        STRING("backup.cluster", backup.cluster, ""),
        STRING("backup.auth-token", backup.auth_token, ""),
        STRING("backup.endpoint", backup.endpoint, ""),
        STRING("backup.region", backup.region, ""),
        BOOL("backup.force-path-style", backup.force_path_style, false),
        STRING("backup.access-key-id", backup.access_key_id, ""),
        STRING("backup.secret-access-key", backup.secret_access_key, ""),
        STRING("backup.session-token", backup.session_token, ""),
        STRING("backup.ca", backup.ca, ""),
        STRING("backup.storage-class", backup.storage_class, ""),
        STRING("backup.sse-kms-key-id", backup.kms_key_id, ""),
        STRING("backup.sse-customer-key", backup.customer_key, ""),
        DURATION("backup.sync-interval", backup.sync_interval_ns, 1 * SECOND),
        DURATION("backup.drill", backup.drill_ns, 0),
        OTHER("backup.databases", T_LIST, backup.databases, 0),
        DURATION("backup.snapshot.interval", backup.snapshot.interval_ns, 86400 * SECOND),
        DURATION("backup.snapshot.retention", backup.snapshot.retention_ns, 86400 * SECOND),

        STRING("log.format", log.format, "text"),
        BOOL("log.timestamp", log.timestamp, false),
        BOOL("log.debug", log.debug, false),

        BOOL("tracing.enabled", tracing.enabled, true),
        STRING("tracing.path", tracing.path, ""),
        OTHER("tracing.max-size", T_MEGABYTES, tracing.max_size_bytes, 64 << 20),
        OTHER("tracing.max-count", T_COUNT, tracing.max_count, 8),
        BOOL("tracing.compress", tracing.compress, true),
};
/* clang-format on */
const size_t config_n_keys = sizeof config_keys / sizeof config_keys[0];

const struct config_key *
config_find_key(const char *path)
{
        for (size_t i = 0; i < config_n_keys; i++)
                if (strcmp(config_keys[i].path, path) == 0)
                        return &config_keys[i];
        return NULL;
}

int
config_line(const struct config *c, const char *key)
{
        for (size_t i = 0; i < config_n_keys && c->lines != NULL; i++)
                if (strcmp(config_keys[i].path, key) == 0)
                        return c->lines[i];
        return 0;
}

int
config_set_string(char **at, const char *s)
{
        char *copy = strdup(s);

        if (copy == NULL)
                return -ENOMEM;
        free(*at);
        *at = copy;
        return 0;
}

int
config_list_add(struct string_list *l, const char *s)
{
        char **grown = realloc(l->items, (l->n + 1) * sizeof *grown);

        if (grown == NULL)
                return -ENOMEM;
        l->items = grown;
        grown[l->n] = strdup(s);
        if (grown[l->n] == NULL)
                return -ENOMEM;
        l->n++;
        return 0;
}

static int
set_default(struct config *c, const struct config_key *k)
{
        if (k->type == T_STRING)
                return config_set_string(config_member(c, k), k->text);
        if (k->type == T_BOOL)
                *(bool *)config_member(c, k) = k->number;
        else if (k->type != T_LIST && k->type != T_EXEC)
                *(int64_t *)config_member(c, k) = k->number;
        return 0;
}

int
config_init(struct config *c)
{
        int r;

        memset(c, 0, sizeof *c);
        r = config_set_string(&c->path, "");
        c->lines = calloc(config_n_keys, sizeof *c->lines);
        if (c->lines == NULL)
                r = -ENOMEM;
        for (size_t i = 0; i < config_n_keys && r == 0; i++)
                r = set_default(c, &config_keys[i]);
        return r;
}

static void
clear_list(struct string_list *l)
{
        for (size_t i = 0; i < l->n; i++)
                free(l->items[i]);
        free(l->items);
        *l = (struct string_list){ 0 };
}

void
config_clear_exec(struct config *c)
{
        for (size_t i = 0; i < c->n_exec; i++)
                free(c->exec[i].cmd), free(c->exec[i].user);
        free(c->exec);
        c->exec = NULL;
        c->n_exec = 0;
}

int
config_add_exec(struct config *c, const char *cmd, const char *user, bool if_candidate)
{
        struct exec_command *grown = realloc(c->exec, (c->n_exec + 1) * sizeof *grown);
        struct exec_command x = { NULL, NULL, if_candidate };

        if (grown == NULL)
                return -ENOMEM;
        c->exec = grown;
        x.cmd = strdup(cmd);
        x.user = strdup(user);
        if (x.cmd == NULL || x.user == NULL) {
                free(x.cmd);
                free(x.user);
                return -ENOMEM;
        }
        grown[c->n_exec++] = x;
        return 0;
}

static bool
is_of_backup(const struct config_key *k)
{
        return strncmp(k->path, "backup.", 7) == 0;
}

int
config_add_backup(struct config *c)
{
        struct config_backup *grown = realloc(c->backups, (c->n_backups + 1) * sizeof *grown);
        int r = 0;

        if (grown == NULL)
                return -ENOMEM;
        c->backups = grown;
        grown[c->n_backups++] = c->backup; /* its strings, too */
        memset(&c->backup, 0, sizeof c->backup);
        for (size_t i = 0; i < config_n_keys && r == 0; i++)
                if (is_of_backup(&config_keys[i]))
                        r = set_default(c, &config_keys[i]);
        return r;
}

/* One after the other is put where the keys say that one is. */
static void
release_backups(struct config *c)
{
        for (size_t n = 0; n < c->n_backups; n++) {
                c->backup = c->backups[n];
                for (size_t i = 0; i < config_n_keys; i++) {
                        const struct config_key *k = &config_keys[i];

                        if (is_of_backup(k) && k->type == T_STRING)
                                free(*(char **)config_member(c, k));
                        else if (is_of_backup(k) && k->type == T_LIST)
                                clear_list(config_member(c, k));
                }
        }
        free(c->backups);
}

void
config_release(struct config *c)
{
        for (size_t i = 0; i < config_n_keys; i++) {
                const struct config_key *k = &config_keys[i];

                if (k->type == T_STRING)
                        free(*(char **)config_member(c, k));
                else if (k->type == T_LIST)
                        clear_list(config_member(c, k));
        }
        release_backups(c);
        config_clear_exec(c);
        free(c->path);
        free(c->lines);
        memset(c, 0, sizeof *c);
}

int
config_url_port(const char *url, size_t *ret_authority_end)
{
        size_t scheme = strncasecmp(url, "http://", 7) == 0    ? 7
                        : strncasecmp(url, "https://", 8) == 0 ? 8
                                                               : 0;
        size_t n = scheme + strcspn(url + scheme, "/?#"), host_end = scheme;
        char *end;
        long port;

        *ret_authority_end = n;
        if (scheme == 0 || url[strcspn(url, "@ \t")] != '\0')
                return -1;
        if (url[scheme] == '[') /* an IPv6 address */
                host_end += strcspn(url + scheme, "]") + 1;
        else
                host_end += strcspn(url + scheme, ":/?#");
        if (host_end == scheme || host_end > n)
                return -1;
        if (host_end == n)
                return 0;
        port = strtol(url + host_end + 1, &end, 10);
        return url[host_end] == ':' && end > url + host_end + 1 && end == url + n && port > 0 &&
                               port < 65536
                       ? (int)port
                       : -1;
}
