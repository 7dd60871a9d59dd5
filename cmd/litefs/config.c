#include "cmd/litefs/config.h"

#include <errno.h>
#include <fcntl.h>
#include <libfyaml.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"
#include "cmd/litefs/expand.h"
#include "cmd/litefs/quantity.h"

#define FILE_MAX (1u << 20)
#define SECOND 1000000000LL

/* --- the keys --- */

enum type { T_BOOL, T_STRING, T_DURATION, T_MEGABYTES, T_INT, T_LIST, T_EXEC };

static const char *const type_names[] = {
        [T_BOOL] = "true or false",
        [T_STRING] = "string",
        [T_DURATION] = "duration such as 10s",
        [T_MEGABYTES] = "size such as 64MB",
        [T_INT] = "whole number",
        [T_LIST] = "list of strings",
        [T_EXEC] = "string, or list of {cmd, if-candidate}",
};

struct key {
        const char *path;
        enum type type;
        size_t offset;
        const char *text;   /* default of a string */
        int64_t number;     /* default of the others */
};

#define KEY(path, type, member, ...) { path, type, offsetof(struct config, member), __VA_ARGS__ }

static const struct key keys[] = {
        KEY("exit-on-error", T_BOOL, exit_on_error, NULL, true),
        KEY("skip-sync", T_BOOL, skip_sync, NULL, false),
        KEY("strict-verify", T_BOOL, strict_verify, NULL, false),
        KEY("exec", T_EXEC, exec, NULL, 0),
        KEY("data.dir", T_STRING, data.dir, "/var/lib/litefs", 0),
        KEY("data.compress", T_BOOL, data.compress, NULL, true),
        KEY("data.retention", T_DURATION, data.retention_ns, NULL, 600 * SECOND),
        KEY("data.retention-monitor-interval", T_DURATION, data.retention_monitor_interval_ns, NULL, 60 * SECOND),
        KEY("fuse.dir", T_STRING, fuse.dir, "/litefs", 0),
        KEY("fuse.allow-other", T_BOOL, fuse.allow_other, NULL, false),
        KEY("fuse.debug", T_BOOL, fuse.debug, NULL, false),
        KEY("http.addr", T_STRING, http.addr, ":20202", 0),
        KEY("http.snapshot-timeout", T_DURATION, http.snapshot_timeout_ns, NULL, 0),
        KEY("http.token", T_STRING, http.token, "", 0),
        KEY("http.token-file", T_STRING, http.token_file, "", 0),
        KEY("http.tls.cert", T_STRING, http.tls.cert, "", 0),
        KEY("http.tls.key", T_STRING, http.tls.key, "", 0),
        KEY("http.tls.client-ca", T_STRING, http.tls.client_ca, "", 0),
        KEY("proxy.addr", T_STRING, proxy.addr, "", 0),
        KEY("proxy.target", T_STRING, proxy.target, "", 0),
        KEY("proxy.db", T_STRING, proxy.db, "", 0),
        KEY("proxy.mode", T_STRING, proxy.mode, "", 0),
        KEY("proxy.max-lag", T_DURATION, proxy.max_lag_ns, NULL, 10 * SECOND),
        KEY("proxy.debug", T_BOOL, proxy.debug, NULL, false),
        KEY("proxy.passthrough", T_LIST, proxy.passthrough, NULL, 0),
        KEY("proxy.always-forward", T_LIST, proxy.always_forward, NULL, 0),
        KEY("proxy.primary-redirect-timeout", T_DURATION, proxy.primary_redirect_timeout_ns, NULL, 5 * SECOND),
        KEY("proxy.read-timeout", T_DURATION, proxy.read_timeout_ns, NULL, 0),
        KEY("proxy.read-header-timeout", T_DURATION, proxy.read_header_timeout_ns, NULL, 10 * SECOND),
        KEY("proxy.write-timeout", T_DURATION, proxy.write_timeout_ns, NULL, 0),
        KEY("proxy.idle-timeout", T_DURATION, proxy.idle_timeout_ns, NULL, 30 * SECOND),
        KEY("lease.type", T_STRING, lease.type, "", 0),
        KEY("lease.hostname", T_STRING, lease.hostname, "", 0),
        KEY("lease.advertise-url", T_STRING, lease.advertise_url, "", 0),
        KEY("lease.candidate", T_BOOL, lease.candidate, NULL, true),
        KEY("lease.promote", T_BOOL, lease.promote, NULL, false),
        KEY("lease.reconnect-delay", T_DURATION, lease.reconnect_delay_ns, NULL, 1 * SECOND),
        KEY("lease.demote-delay", T_DURATION, lease.demote_delay_ns, NULL, 10 * SECOND),
        KEY("lease.databases", T_LIST, lease.databases, NULL, 0),
        KEY("lease.consul.url", T_STRING, lease.consul.url, "", 0),
        KEY("lease.consul.key", T_STRING, lease.consul.key, "", 0),
        KEY("lease.consul.token", T_STRING, lease.consul.token, "", 0),
        KEY("lease.consul.ca", T_STRING, lease.consul.ca, "", 0),
        KEY("lease.consul.cert", T_STRING, lease.consul.cert, "", 0),
        KEY("lease.consul.cert-key", T_STRING, lease.consul.cert_key, "", 0),
        KEY("lease.consul.ttl", T_DURATION, lease.consul.ttl_ns, NULL, 10 * SECOND),
        KEY("lease.consul.lock-delay", T_DURATION, lease.consul.lock_delay_ns, NULL, 1 * SECOND),
        KEY("lease.etcd.endpoints", T_LIST, lease.etcd.endpoints, NULL, 0),
        KEY("lease.etcd.key", T_STRING, lease.etcd.key, "", 0),
        KEY("lease.etcd.ca", T_STRING, lease.etcd.ca, "", 0),
        KEY("lease.etcd.cert", T_STRING, lease.etcd.cert, "", 0),
        KEY("lease.etcd.cert-key", T_STRING, lease.etcd.cert_key, "", 0),
        KEY("lease.etcd.ttl", T_DURATION, lease.etcd.ttl_ns, NULL, 10 * SECOND),
        KEY("backup.type", T_STRING, backup.type, "", 0),
        KEY("backup.path", T_STRING, backup.path, "", 0),
        KEY("backup.url", T_STRING, backup.url, "", 0),
        KEY("backup.cluster", T_STRING, backup.cluster, "", 0),
        KEY("backup.auth-token", T_STRING, backup.auth_token, "", 0),
        KEY("log.format", T_STRING, log.format, "text", 0),
        KEY("log.timestamp", T_BOOL, log.timestamp, NULL, false),
        KEY("log.debug", T_BOOL, log.debug, NULL, false),
        KEY("tracing.enabled", T_BOOL, tracing.enabled, NULL, true),
        KEY("tracing.path", T_STRING, tracing.path, "", 0),
        KEY("tracing.max-size", T_MEGABYTES, tracing.max_size_bytes, NULL, 64 << 20),
        KEY("tracing.max-count", T_INT, tracing.max_count, NULL, 8),
        KEY("tracing.compress", T_BOOL, tracing.compress, NULL, true),
};
#define N_KEYS (sizeof keys / sizeof keys[0])

void
config_each_key(void (*fn)(void *arg, const char *key, const char *type), void *arg)
{
        for (size_t i = 0; i < N_KEYS; i++)
                fn(arg, keys[i].path, type_names[keys[i].type]);
}

static void *
member(struct config *c, const struct key *k)
{
        return (char *)c + k->offset;
}

static int
set_string(char **at, const char *s)
{
        char *copy = strdup(s);

        if (copy == NULL)
                return -ENOMEM;
        free(*at);
        *at = copy;
        return 0;
}

int
config_init(struct config *c)
{
        int r = 0;

        memset(c, 0, sizeof *c);
        for (size_t i = 0; i < N_KEYS && r == 0; i++) {
                if (keys[i].type == T_STRING)
                        r = set_string(member(c, &keys[i]), keys[i].text);
                else if (keys[i].type == T_BOOL)
                        *(bool *)member(c, &keys[i]) = keys[i].number;
                else if (keys[i].type != T_LIST && keys[i].type != T_EXEC)
                        *(int64_t *)member(c, &keys[i]) = keys[i].number;
        }
        if (r == 0)
                r = set_string(&c->path, "");
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

static void
clear_exec(struct config *c)
{
        for (size_t i = 0; i < c->n_exec; i++)
                free(c->exec[i].cmd);
        free(c->exec);
        c->exec = NULL;
        c->n_exec = 0;
}

void
config_release(struct config *c)
{
        for (size_t i = 0; i < N_KEYS; i++) {
                if (keys[i].type == T_STRING)
                        free(*(char **)member(c, &keys[i]));
                else if (keys[i].type == T_LIST)
                        clear_list(member(c, &keys[i]));
        }
        clear_exec(c);
        free(c->path);
        memset(c, 0, sizeof *c);
}

/* --- from YAML --- */

struct parser {
        struct config *c;
        const char *path;
        bool seen[N_KEYS];
        struct err *e;
};

static int
line_of(struct fy_node *n)
{
        const struct fy_mark *mark;
        struct fy_token *t = fy_node_is_scalar(n) ? fy_node_get_scalar_token(n) : NULL;

        if (t == NULL) {
                struct fy_node_pair *p = fy_node_is_mapping(n) ? fy_node_mapping_get_by_index(n, 0) : NULL;
                struct fy_node *first = p != NULL ? fy_node_pair_key(p)
                                        : fy_node_is_sequence(n) ? fy_node_sequence_get_by_index(n, 0)
                                                                 : NULL;

                return first != NULL && first != n ? line_of(first) : 0;
        }
        mark = fy_token_start_mark(t);
        return mark != NULL ? mark->line + 1 : 0;
}

static int
fail(struct parser *p, struct fy_node *n, const char *key, const char *what)
{
        return err_text(p->e, E_CONFIG, "%s:%d: %s: %s", p->path, line_of(n), key, what);
}

static int
fail_type(struct parser *p, struct fy_node *n, const struct key *k)
{
        return err_text(p->e, E_CONFIG, "%s:%d: %s: want a %s", p->path, line_of(n), k->path,
                        type_names[k->type]);
}

/* The scalar's text in @buf; false when it is none or too long. */
static bool
scalar(struct fy_node *n, char *buf, size_t size)
{
        const char *s;
        size_t len;

        if (n == NULL || !fy_node_is_scalar(n))
                return false;
        s = fy_node_get_scalar(n, &len);
        if (s == NULL)
                len = 0;
        if (len >= size || (len > 0 && memchr(s, '\0', len) != NULL))
                return false;
        if (len > 0)
                memcpy(buf, s, len);
        buf[len] = '\0';
        return true;
}

static bool
parse_bool(const char *s, bool *ret)
{
        static const char *const yes[] = { "true", "True", "TRUE", "yes", "on", "y" };
        static const char *const no[] = { "false", "False", "FALSE", "no", "off", "n" };

        for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
                if (strcmp(s, yes[i]) == 0 || strcmp(s, no[i]) == 0) {
                        *ret = strcmp(s, yes[i]) == 0;
                        return true;
                }
        }
        return false;
}

static int
set_list(struct parser *p, struct fy_node *n, const struct key *k)
{
        struct string_list *l = member(p->c, k);
        struct fy_node *item;
        void *it = NULL;
        char buf[4096];
        char **grown;

        if (!fy_node_is_sequence(n))
                return fail_type(p, n, k);
        while ((item = fy_node_sequence_iterate(n, &it)) != NULL) {
                if (!scalar(item, buf, sizeof buf))
                        return fail_type(p, item, k);
                grown = realloc(l->items, (l->n + 1) * sizeof *grown);
                if (grown == NULL)
                        return err_set(p->e, -ENOMEM, "%s", k->path);
                l->items = grown;
                l->items[l->n] = strdup(buf);
                if (l->items[l->n] == NULL)
                        return err_set(p->e, -ENOMEM, "%s", k->path);
                l->n++;
        }
        return 0;
}

static int
add_exec(struct parser *p, const char *cmd, bool if_candidate)
{
        struct exec_command *list = realloc(p->c->exec, (p->c->n_exec + 1) * sizeof *list);
        char *copy = strdup(cmd);

        if (list != NULL)
                p->c->exec = list;
        if (list == NULL || copy == NULL) {
                free(copy);
                return err_set(p->e, -ENOMEM, "exec");
        }
        list[p->c->n_exec++] = (struct exec_command){ copy, if_candidate };
        return 0;
}

static int
set_exec_item(struct parser *p, struct fy_node *item)
{
        char name[64], cmd[8192] = "", flag[16];
        struct fy_node_pair *pair;
        bool if_candidate = false;
        void *it = NULL;

        if (!fy_node_is_mapping(item))
                return fail(p, item, "exec", "invalid exec config format");
        while ((pair = fy_node_mapping_iterate(item, &it)) != NULL) {
                struct fy_node *value = fy_node_pair_value(pair);

                if (!scalar(fy_node_pair_key(pair), name, sizeof name))
                        return fail(p, item, "exec", "invalid exec config format");
                if (strcmp(name, "cmd") == 0) {
                        if (!scalar(value, cmd, sizeof cmd))
                                return fail(p, item, "exec.cmd", "want a string");
                } else if (strcmp(name, "if-candidate") == 0) {
                        if (!scalar(value, flag, sizeof flag) || !parse_bool(flag, &if_candidate))
                                return fail(p, item, "exec.if-candidate", "want a true or false");
                } else {
                        return err_text(p->e, E_CONFIG, "%s:%d: exec.%s: unknown key", p->path,
                                        line_of(fy_node_pair_key(pair)), name);
                }
        }
        return add_exec(p, cmd, if_candidate);
}

static int
set_exec(struct parser *p, struct fy_node *n)
{
        struct fy_node *item;
        char cmd[8192];
        void *it = NULL;
        int r = 0;

        if (scalar(n, cmd, sizeof cmd))
                return cmd[0] == '\0' ? 0 : add_exec(p, cmd, false);
        if (!fy_node_is_sequence(n))
                return fail(p, n, "exec", "invalid exec config format");
        while (r == 0 && (item = fy_node_sequence_iterate(n, &it)) != NULL)
                r = set_exec_item(p, item);
        return r;
}

static int
set_value(struct parser *p, struct fy_node *n, const struct key *k)
{
        char buf[8192], *end;
        bool is_right = true;

        if (k->type == T_LIST)
                return set_list(p, n, k);
        if (k->type == T_EXEC)
                return set_exec(p, n);
        if (!scalar(n, buf, sizeof buf))
                return fail_type(p, n, k);
        switch (k->type) {
        case T_BOOL:
                is_right = parse_bool(buf, member(p->c, k));
                break;
        case T_DURATION:
                is_right = quantity_parse_duration(buf, member(p->c, k)) == 0;
                break;
        case T_MEGABYTES:
                is_right = quantity_parse_size(buf, 1 << 20, member(p->c, k)) == 0;
                break;
        case T_INT:
                errno = 0;
                *(int64_t *)member(p->c, k) = strtoll(buf, &end, 10);
                is_right = errno == 0 && end != buf && *end == '\0';
                break;
        default:
                return set_string(member(p->c, k), buf) < 0 ? err_set(p->e, -ENOMEM, "%s", k->path) : 0;
        }
        return is_right ? 0 : fail_type(p, n, k);
}

/* Levenshtein's distance, for "did you mean". Words of up to 63 characters. */
static unsigned
distance(const char *a, const char *b)
{
        unsigned row[64];
        size_t n = strlen(b);

        if (n > 62 || strlen(a) > 62)
                return 99;
        for (size_t j = 0; j <= n; j++)
                row[j] = (unsigned)j;
        for (size_t i = 1; a[i - 1] != '\0'; i++) {
                unsigned diagonal = row[0];

                row[0] = (unsigned)i;
                for (size_t j = 1; j <= n; j++) {
                        unsigned up = row[j], best = diagonal + (a[i - 1] != b[j - 1]);

                        if (up + 1 < best)
                                best = up + 1;
                        if (row[j - 1] + 1 < best)
                                best = row[j - 1] + 1;
                        diagonal = up;
                        row[j] = best;
                }
        }
        return row[n];
}

static int
fail_unknown(struct parser *p, struct fy_node *key, const char *path)
{
        const char *nearest = NULL;
        unsigned best = 4;

        for (size_t i = 0; i < N_KEYS; i++) {
                unsigned d = distance(path, keys[i].path);

                if (d < best) {
                        best = d;
                        nearest = keys[i].path;
                }
        }
        if (nearest != NULL)
                return err_text(p->e, E_CONFIG, "%s:%d: %s: unknown key, did you mean %s?", p->path,
                                line_of(key), path, nearest);
        return err_text(p->e, E_CONFIG, "%s:%d: %s: unknown key; litefs.example.yml lists all", p->path,
                        line_of(key), path);
}

/* Whether some key lies in the section @path. */
static bool
is_section(const char *path)
{
        size_t n = strlen(path);

        for (size_t i = 0; i < N_KEYS; i++)
                if (strncmp(keys[i].path, path, n) == 0 && keys[i].path[n] == '.')
                        return true;
        return false;
}

static int
walk(struct parser *p, struct fy_node *map, const char *prefix)
{
        struct fy_node_pair *pair;
        char name[128], path[256];
        void *it = NULL;
        int r = 0;

        while (r == 0 && (pair = fy_node_mapping_iterate(map, &it)) != NULL) {
                struct fy_node *key = fy_node_pair_key(pair), *value = fy_node_pair_value(pair);
                size_t i;

                if (!scalar(key, name, sizeof name))
                        return fail(p, map, prefix, "a key is not a word");
                snprintf(path, sizeof path, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "", name);
                for (i = 0; i < N_KEYS && strcmp(keys[i].path, path) != 0; i++)
                        ;
                if (i < N_KEYS) {
                        if (p->seen[i])
                                return fail(p, key, path, "given twice");
                        p->seen[i] = true;
                        if (!fy_node_is_null(value))
                                r = set_value(p, value, &keys[i]);
                } else if (is_section(path) && fy_node_is_mapping(value)) {
                        r = walk(p, value, path);
                } else if (is_section(path)) {
                        if (!fy_node_is_null(value))
                                r = fail(p, key, path, "want a section with keys");
                } else {
                        r = fail_unknown(p, key, path);
                }
        }
        return r;
}

/* libfyaml's own words, gathered from its diagnostics. */
static int
fail_yaml(struct parser *p, struct fy_diag *diag)
{
        struct fy_diag_error *de;
        void *it = NULL;

        if (diag != NULL && (de = fy_diag_errors_iterate(diag, &it)) != NULL)
                return err_text(p->e, E_CONFIG, "%s:%d: %s", p->path, de->line + 0, de->msg);
        return err_text(p->e, E_CONFIG, "%s: not valid YAML", p->path);
}

static int
parse_document(struct parser *p, const char *text)
{
        struct fy_diag_cfg diag_cfg;
        struct fy_parse_cfg cfg = { .flags = FYPCF_QUIET };
        struct fy_document *doc;
        struct fy_node *root;
        int r;

        fy_diag_cfg_default(&diag_cfg);
        diag_cfg.fp = NULL;
        cfg.diag = fy_diag_create(&diag_cfg);
        if (cfg.diag != NULL)
                fy_diag_set_collect_errors(cfg.diag, true);
        doc = fy_document_build_from_string(&cfg, text, strlen(text));
        root = doc != NULL ? fy_document_root(doc) : NULL;
        if (doc == NULL)
                r = fail_yaml(p, cfg.diag);
        else if (root == NULL || fy_node_is_null(root))
                r = err_text(p->e, E_CONFIG, "%s: the file is empty", p->path);
        else if (!fy_node_is_mapping(root))
                r = err_text(p->e, E_CONFIG, "%s:%d: want keys and values", p->path, line_of(root));
        else
                r = walk(p, root, "");
        fy_document_destroy(doc);
        fy_diag_destroy(cfg.diag);
        return r;
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
        struct parser p = { .c = c, .path = path, .e = e };
        char *expanded = NULL;
        int r;

        if (!is_verbatim) {
                expanded = expand_text(text, from_environment, NULL);
                if (expanded == NULL)
                        return err_set(e, -ENOMEM, "%s", path);
                text = expanded;
        }
        if (text[strspn(text, " \t\r\n")] == '\0')
                r = err_text(e, E_CONFIG, "%s: the file is empty", path);
        else
                r = parse_document(&p, text);
        free(expanded);
        return r;
}

/* --- finding the file --- */

static int
read_file(const char *path, char **ret)
{
        int fd = os_open(os_host(), "config", path, O_RDONLY, 0);
        struct stat st;
        ssize_t n = -EISDIR;
        char *text = NULL;

        if (fd < 0)
                return fd;
        if (fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode)) {
                text = malloc(FILE_MAX + 1);
                n = text == NULL ? -ENOMEM : os_pread_all(os_host(), "config", fd, text, FILE_MAX + 1, 0);
                if (n > (ssize_t)FILE_MAX)
                        n = -EFBIG;
        }
        close(fd);
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

static int
apply_environment(struct config *c)
{
        const char *token = getenv("LITEFS_CLOUD_TOKEN");

        if (token == NULL || token[0] == '\0' || c->backup.auth_token[0] != '\0')
                return 0;
        return set_string(&c->backup.auth_token, token);
}

int
config_load(struct config *c, const char *path, bool is_verbatim, struct err *e)
{
        char found[PATH_MAX], full[PATH_MAX], *text = NULL;
        int r;

        set_hostname_variable();
        if (path == NULL && find_file(found, sizeof found) < 0)
                return err_text(e, -ENOENT, "config file not found; looked for litefs.yml here, in the home "
                                            "directory and in /etc. Write one (see litefs.example.yml), or "
                                            "name it with -config PATH");
        if (path == NULL)
                path = found;
        r = read_file(path, &text);
        if (r < 0)
                return err_set(e, r, "cannot read config file at %s", path);
        r = config_parse(c, path, text, is_verbatim, e);
        free(text);
        if (r == 0)
                r = set_string(&c->path, realpath(path, full) != NULL ? full : path);
        if (r == 0)
                r = apply_environment(c);
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

int
config_validate(const struct config *c, struct err *e)
{
        static const char *const lease_types[] = { "consul", "static", "etcd", NULL };
        static const char *const log_formats[] = { "text", "json", NULL };
        static const char *const proxy_modes[] = { "", "forward", "fly-replay", NULL };
        static const char *const backup_types[] = { "", "file", "litefs-cloud", NULL };

        if (c->fuse.dir[0] == '\0')
                return err_text(e, E_CONFIG, "fuse directory required");
        if (c->data.dir[0] == '\0')
                return err_text(e, E_CONFIG, "data directory required");
        if (strcmp(c->fuse.dir, c->data.dir) == 0)
                return err_text(e, E_CONFIG, "fuse directory and data directory cannot be the same path");
        if (!is_one_of(c->lease.type, lease_types))
                return err_text(e, E_CONFIG,
                                "invalid lease type, must be either 'consul' or 'static', got: '%s'",
                                c->lease.type);
        if (c->lease.candidate && c->lease.databases.n > 0)
                return err_text(e, E_CONFIG,
                                "cannot specify a database replication filter on candidate nodes");
        if (!is_one_of(c->log.format, log_formats))
                return err_text(e, E_CONFIG, "invalid log format: \"%s\"", c->log.format);
        if (!is_one_of(c->proxy.mode, proxy_modes))
                return err_text(e, E_CONFIG, "proxy.mode: want forward or fly-replay, got: \"%s\"",
                                c->proxy.mode);
        if (!is_one_of(c->backup.type, backup_types))
                return err_text(e, E_CONFIG, "invalid backup type: \"%s\"", c->backup.type);
        if ((c->http.tls.cert[0] != '\0') != (c->http.tls.key[0] != '\0'))
                return err_text(e, E_CONFIG, "http.tls: cert and key go together");
        if (c->http.token[0] != '\0' && c->http.token_file[0] != '\0')
                return err_text(e, E_CONFIG, "http.token and http.token-file exclude each other");
        return 0;
}
