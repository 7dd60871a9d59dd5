#include "cmd/litefs/config_yaml.h"

#include <errno.h>
#include <libfyaml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cmd/litefs/config_keys.h"
#include "cmd/litefs/quantity.h"
#include "cmd/litefs/similar.h"

#define MEGABYTE (1 << 20)
#define VALUE_MAX 8192 /* bytes of a value with its NUL: a command line is the longest */
#define NAME_MAX_BYTES 64
#define PATH_MAX_BYTES 256

struct parser {
        struct config *c;
        const char *path;
        int line; /* of the last key: empty values have none of their own */
        bool *is_seen;
        struct err *e;
};

/* --- errors --- */

/* The line of @n's first character, or of the last key when the node has none. */
static int
line_of(const struct parser *p, struct fy_node *n)
{
        const struct fy_mark *mark = NULL;
        struct fy_token *t;

        if (n == NULL)
                return p->line;
        if (fy_node_is_mapping(n) && !fy_node_mapping_is_empty(n))
                return line_of(p, fy_node_pair_key(fy_node_mapping_get_by_index(n, 0)));
        if (fy_node_is_sequence(n) && !fy_node_sequence_is_empty(n))
                return line_of(p, fy_node_sequence_get_by_index(n, 0));
        t = fy_node_is_scalar(n) ? fy_node_get_scalar_token(n) : NULL;
        if (t != NULL)
                mark = fy_token_start_mark(t);
        return mark != NULL ? mark->line + 1 : p->line;
}

__attribute__((format(printf, 4, 5))) static int
fail(struct parser *p, struct fy_node *n, const char *key, const char *fmt, ...)
{
        char what[256];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(what, sizeof what, fmt, ap);
        va_end(ap);
        return err_text(p->e, E_CONFIG, "%s:%d: %s%s%s", p->path, line_of(p, n), key,
                        key[0] != '\0' ? ": " : "", what);
}

static int
fail_memory(struct parser *p, const char *key)
{
        return err_set(p->e, -ENOMEM, "%s: %s", p->path, key);
}

/* --- "did you mean" --- */

/* The name in the section @prefix that is most like @name; *@ret_n is its length, 0 when none is near. */
static const char *
nearest_in_section(const char *prefix, const char *name, size_t *ret_n)
{
        struct similar near = similar_to(name);
        size_t prefix_n = strlen(prefix);

        for (size_t i = 0; i < config_n_keys; i++) {
                const char *child = config_keys[i].path;

                if (prefix_n > 0 && (strncmp(child, prefix, prefix_n) != 0 || child[prefix_n] != '.'))
                        continue;
                child += prefix_n > 0 ? prefix_n + 1 : 0;
                similar_offer(&near, child, strcspn(child, "."));
        }
        *ret_n = near.best_n;
        return near.best;
}

/* The key of that name in another section. */
static const char *
same_elsewhere(const char *name)
{
        for (size_t i = 0; i < config_n_keys; i++) {
                const char *dot = strrchr(config_keys[i].path, '.');

                if (dot != NULL && strcmp(dot + 1, name) == 0)
                        return config_keys[i].path;
        }
        return NULL;
}

static int
yaml_fail_unknown(struct parser *p, struct fy_node *key, const char *prefix, const char *name,
                  const char *path)
{
        const char *other;
        size_t n;

        if (strchr(name, '.') != NULL)
                return fail(
                        p, key, path,
                        "unknown key: sections are nested, not written with dots; write \"%.*s:\" and below it, "
                        "indented, \"%s:\"",
                        (int)strcspn(name, "."), name, strchr(name, '.') + 1);
        other = nearest_in_section(prefix, name, &n);
        if (other == NULL) {
                other = same_elsewhere(name);
                n = other != NULL ? strlen(other) : 0;
        }
        if (other != NULL)
                return fail(p, key, path, "unknown key (did you mean %.*s?)", (int)n, other);
        return fail(p, key, path, "unknown key; `man litefs.yml` lists the keys");
}

/* --- values --- */

/* The scalar's text in @buf; false when it is none, has a NUL in it or is too long. */
static bool
scalar(struct fy_node *n, char *buf, size_t size)
{
        const char *s;
        size_t len;

        buf[0] = '\0';
        if (n == NULL || !fy_node_is_scalar(n) || fy_node_is_alias(n))
                return false;
        s = fy_node_get_scalar(n, &len);
        if (s == NULL || len == 0)
                return true;
        if (len >= size || memchr(s, '\0', len) != NULL)
                return false;
        memcpy(buf, s, len);
        buf[len] = '\0';
        return true;
}

/* No value at all, or one of the words for it. */
static bool
is_null(struct fy_node *n)
{
        static const char *const words[] = { "", "~", "null", "Null", "NULL" };
        char buf[8];

        if (n == NULL || fy_node_is_null(n))
                return true;
        if (fy_node_get_style(n) != FYNS_PLAIN || !scalar(n, buf, sizeof buf))
                return false;
        for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
                if (strcmp(buf, words[i]) == 0)
                        return true;
        return false;
}

static int
fail_type(struct parser *p, struct fy_node *n, const struct config_key *k)
{
        const char *wanted = config_type_text(k->type);
        char value[VALUE_MAX];

        if (n != NULL && fy_node_is_alias(n))
                return fail(p, n, k->path, "YAML aliases are not supported: write the value itself");
        if (n != NULL && scalar(n, value, sizeof value))
                return fail(p, n, k->path, "want %s, not \"%.60s\"", wanted, value);
        if (n != NULL && !fy_node_is_scalar(n))
                return fail(p, n, k->path, "want %s, not %s", wanted,
                            fy_node_is_sequence(n) ? "a list" : "keys and values");
        return fail(p, n, k->path, "want %s", wanted);
}

/* The words that Go's YAML takes for a bool where one is wanted. */
static bool
parse_bool(const char *s, bool *ret)
{
        static const char *const words[][2] = {
                { "true", "false" },
                { "yes", "no" },
                { "on", "off" },
                { "y", "n" },
        };

        for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
                for (int no = 0; no < 2; no++) {
                        if (strcasecmp(s, words[i][no]) == 0) {
                                *ret = no == 0;
                                return true;
                        }
                }
        }
        return false;
}

static bool
parse_count(const char *s, int64_t *ret)
{
        return s[strspn(s, "0123456789")] == '\0' && quantity_parse_size(s, 1, ret) == 0;
}

static int
set_list(struct parser *p, struct fy_node *n, const struct config_key *k)
{
        struct fy_node *item;
        char buf[VALUE_MAX];
        void *it = NULL;

        if (!fy_node_is_sequence(n))
                return fail_type(p, n, k);
        while ((item = fy_node_sequence_iterate(n, &it)) != NULL) {
                if (!scalar(item, buf, sizeof buf))
                        return fail_type(p, item, k);
                if (config_list_add(config_member(p->c, k), buf) < 0)
                        return fail_memory(p, k->path);
        }
        return 0;
}

static int
set_exec_item(struct parser *p, struct fy_node *item)
{
        char name[NAME_MAX_BYTES], cmd[VALUE_MAX] = "", user[NAME_MAX_BYTES] = "", flag[NAME_MAX_BYTES];
        struct fy_node_pair *pair;
        bool if_candidate = false;
        void *it = NULL;

        if (!fy_node_is_mapping(item))
                return fail(p, item, "exec", "want a command, or one or more {cmd, if-candidate, user}");
        while ((pair = fy_node_mapping_iterate(item, &it)) != NULL) {
                struct fy_node *key = fy_node_pair_key(pair), *value = fy_node_pair_value(pair);

                p->line = line_of(p, key);
                if (!scalar(key, name, sizeof name))
                        return fail(p, key, "exec", "a key is not a word");
                if (strcmp(name, "cmd") == 0) {
                        if (!scalar(value, cmd, sizeof cmd))
                                return fail(p, value, "exec.cmd", "want a string");
                } else if (strcmp(name, "user") == 0) {
                        if (!scalar(value, user, sizeof user))
                                return fail(p, value, "exec.user", "want a user's name or number");
                } else if (strcmp(name, "if-candidate") == 0) {
                        if (!scalar(value, flag, sizeof flag) || !parse_bool(flag, &if_candidate))
                                return fail(p, value, "exec.if-candidate", "want true or false");
                } else {
                        return err_text(p->e, E_CONFIG,
                                        "%s:%d: exec.%s: unknown key: want cmd, user or if-candidate",
                                        p->path, p->line, name);
                }
        }
        if (cmd[0] == '\0')
                return fail(p, item, "exec.cmd",
                            "not set: want a command, such as \"./app -port 8080\"");
        return config_add_exec(p->c, cmd, user, if_candidate) < 0 ? fail_memory(p, "exec") : 0;
}

static int
set_exec(struct parser *p, struct fy_node *n)
{
        struct fy_node *item;
        char cmd[VALUE_MAX];
        void *it = NULL;
        int r = 0;

        if (scalar(n, cmd, sizeof cmd))
                return cmd[0] != '\0' && config_add_exec(p->c, cmd, "", false) < 0
                               ? fail_memory(p, "exec")
                               : 0;
        if (fy_node_is_mapping(n))
                return set_exec_item(p, n);
        if (!fy_node_is_sequence(n))
                return fail(p, n, "exec", "want a command, or one or more {cmd, if-candidate, user}");
        while (r == 0 && (item = fy_node_sequence_iterate(n, &it)) != NULL)
                r = set_exec_item(p, item);
        return r;
}

static int
set_value(struct parser *p, struct fy_node *n, const struct config_key *k)
{
        void *at = config_member(p->c, k);
        char buf[VALUE_MAX];
        bool is_right = false;

        if (k->type == T_LIST)
                return set_list(p, n, k);
        if (k->type == T_EXEC)
                return set_exec(p, n);
        if (!scalar(n, buf, sizeof buf))
                return fail_type(p, n, k);
        switch (k->type) {
        case T_STRING:
                return config_set_string(at, buf) < 0 ? fail_memory(p, k->path) : 0;
        case T_BOOL:
                is_right = parse_bool(buf, at);
                break;
        case T_DURATION:
                is_right = quantity_parse_duration(buf, at) == 0;
                break;
        case T_MEGABYTES:
                is_right = quantity_parse_size(buf, MEGABYTE, at) == 0;
                break;
        case T_COUNT:
                is_right = parse_count(buf, at);
                break;
        default:
                break;
        }
        return is_right ? 0 : fail_type(p, n, k);
}

/* --- the tree --- */

static bool
is_section(const char *path)
{
        size_t n = strlen(path);

        for (size_t i = 0; i < config_n_keys; i++)
                if (strncmp(config_keys[i].path, path, n) == 0 && config_keys[i].path[n] == '.')
                        return true;
        return false;
}

static int yaml_walk(struct parser *p, struct fy_node *map, const char *prefix);

/* A list of destinations, each a URL or with the keys of the section. */
static int
walk_backups(struct parser *p, struct fy_node *list)
{
        struct fy_node *item;
        char url[VALUE_MAX];
        void *it = NULL;
        int r = 0;

        while (r == 0 && (item = fy_node_sequence_iterate(list, &it)) != NULL) {
                if (scalar(item, url, sizeof url)) {
                        if (config_set_string(&p->c->backup.url, url) < 0 || config_add_backup(p->c) < 0)
                                return fail_memory(p, "backup");
                        continue;
                }
                if (!fy_node_is_mapping(item))
                        return fail(p, item, "backup", "want a URL, or keys and values, in each item");
                for (size_t i = 0; i < config_n_keys; i++)
                        if (strncmp(config_keys[i].path, "backup.", 7) == 0)
                                p->is_seen[i] = false;
                r = yaml_walk(p, item, "backup");
                if (r == 0 && config_add_backup(p->c) < 0)
                        r = fail_memory(p, "backup");
        }
        return r;
}

/* `lease: URL` and `backup: URL`, for a section with nothing but a url: 0, an error, or 1 when it is another section. */
static int
take_short_form(struct parser *p, struct fy_node *value, const char *section)
{
        bool is_lease = strcmp(section, "lease") == 0;
        size_t n = strlen(section);
        char text[VALUE_MAX];

        if ((!is_lease && strcmp(section, "backup") != 0) || !scalar(value, text, sizeof text))
                return 1;
        for (size_t i = 0; i < config_n_keys; i++)
                if (strncmp(config_keys[i].path, section, n) == 0 && config_keys[i].path[n] == '.')
                        p->c->lines[i] = p->line;
        return config_set_string(is_lease ? &p->c->lease.url : &p->c->backup.url, text) < 0
                       ? fail_memory(p, section)
                       : 0;
}

/* A key without a value keeps its default, as in LiteFS. */
static int
yaml_take_pair(struct parser *p, struct fy_node_pair *pair, const char *prefix)
{
        struct fy_node *key = fy_node_pair_key(pair), *value = fy_node_pair_value(pair);
        char name[NAME_MAX_BYTES], path[PATH_MAX_BYTES];
        const struct config_key *k;
        int r;

        p->line = line_of(p, key);
        if (!scalar(key, name, sizeof name))
                return fail(p, key, prefix, "a key is not a word");
        snprintf(path, sizeof path, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "", name);
        k = strchr(name, '.') == NULL ? config_find_key(path) : NULL;
        if (k != NULL) {
                if (p->is_seen[k - config_keys])
                        return fail(p, key, path, "given twice: leave one of them out");
                p->is_seen[k - config_keys] = true;
                p->c->lines[k - config_keys] = p->line;
                if (is_null(value))
                        return 0;
                if (strcmp(path, "http.addr") == 0) /* its default depends on other keys */
                        p->c->http.has_addr = true;
                return set_value(p, value, k);
        }
        if (strchr(name, '.') != NULL || !is_section(path))
                return yaml_fail_unknown(p, key, prefix, name, path);
        if (is_null(value))
                return 0;
        if (strcmp(path, "backup") == 0 && fy_node_is_sequence(value))
                return walk_backups(p, value);
        r = take_short_form(p, value, path);
        if (r <= 0)
                return r;
        if (!fy_node_is_mapping(value))
                return fail(p, value, path,
                            "want a section: keys and values below it; `man litefs.yml` lists them");
        return yaml_walk(p, value, path);
}

static int
yaml_walk(struct parser *p, struct fy_node *map, const char *prefix)
{
        struct fy_node_pair *pair;
        void *it = NULL;
        int r = 0;

        while (r == 0 && (pair = fy_node_mapping_iterate(map, &it)) != NULL)
                r = yaml_take_pair(p, pair, prefix);
        return r;
}

/* --- the document --- */

/* libfyaml's own words for text that is not YAML. Its lines count from 1 here. */
static int
fail_yaml(struct parser *p, struct fy_diag *diag)
{
        struct fy_diag_error *de;
        void *it = NULL;

        de = fy_diag_errors_iterate(diag, &it);
        if (de == NULL || de->msg == NULL) /* nothing there, and nothing wrong with that as YAML */
                return err_text(
                        p->e, E_CONFIG,
                        "%s: the file is empty: write what is in the example of `man litefs.yml`",
                        p->path);
        return err_text(p->e, E_CONFIG, "%s:%d: not YAML: %s; correct that line", p->path, de->line,
                        de->msg);
}

/* Bytes of the UTF-8 character at @s, 0 when it is none or a control character that YAML forbids. */
static size_t
character(const unsigned char *s)
{
        static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
        size_t n = s[0] < 0x80   ? 1
                   : s[0] < 0xc2 ? 0
                   : s[0] < 0xe0 ? 2
                   : s[0] < 0xf0 ? 3
                   : s[0] < 0xf5 ? 4
                                 : 0;
        uint32_t c = n > 1 ? s[0] & (0xffu >> (n + 1)) : s[0];

        for (size_t i = 1; i < n; i++) {
                if ((s[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (s[i] & 0x3f);
        }
        if (n > 0 && (c < smallest[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)))
                return 0;
        return (c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f ? 0 : n;
}

/* Refuses what libfyaml 0.7 does not come back from: bytes that are not text in a directive. */
static int
yaml_check_text(struct parser *p, const char *text)
{
        const unsigned char *s = (const unsigned char *)text;
        bool is_line_start = true;

        for (p->line = 1; *s != '\0';) {
                size_t n = character(s);

                if (n == 0)
                        return fail(p, NULL, "", "byte 0x%02x is not text in UTF-8", *s);
                if (is_line_start && *s == '%')
                        return fail(p, NULL, "",
                                    "YAML directives are not supported: leave the line out");
                is_line_start = *s == '\n' || *s == '\r';
                p->line += *s == '\n';
                s += n;
        }
        return 0;
}

static struct fy_diag *
new_diag(void)
{
        struct fy_diag_cfg cfg;
        struct fy_diag *diag;

        fy_diag_cfg_default(&cfg);
        cfg.fp = NULL;
        diag = fy_diag_create(&cfg);
        if (diag != NULL)
                fy_diag_set_collect_errors(diag, true);
        return diag;
}

static int
take_document(struct parser *p, struct fy_document *doc)
{
        struct fy_node *root = fy_document_root(doc);

        p->line = 1;
        if (is_null(root))
                return err_text(
                        p->e, E_CONFIG,
                        "%s: the file is empty: write what is in the example of `man litefs.yml`",
                        p->path);
        if (!fy_node_is_mapping(root))
                return fail(p, root, "", "want keys and values, such as \"lease: {type: static}\"");
        return yaml_walk(p, root, "");
}

int
config_read_yaml(struct config *c, const char *path, const char *text, struct err *e)
{
        struct parser p = { .c = c, .path = path, .e = e };
        struct fy_parse_cfg cfg = { .flags = FYPCF_QUIET, .diag = new_diag() };
        struct fy_document *doc = NULL;
        int r = yaml_check_text(&p, text);

        if (r < 0)
                goto out;
        p.is_seen = calloc(config_n_keys, sizeof *p.is_seen);
        if (cfg.diag == NULL || p.is_seen == NULL) {
                r = fail_memory(&p, "parse");
                goto out;
        }
        /* Aliases stay unresolved, so a small file cannot become a huge tree. */
        doc = fy_document_build_from_string(&cfg, text, strlen(text));
        r = doc != NULL ? take_document(&p, doc) : fail_yaml(&p, cfg.diag);
out:
        fy_document_destroy(doc);
        fy_diag_destroy(cfg.diag);
        free(p.is_seen);
        return r;
}
