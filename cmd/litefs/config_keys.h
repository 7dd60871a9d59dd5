/* cmd/litefs/config_keys.h - the table of configuration keys: path, type, place in struct config, default.
 *
 * Only config*.c include it. A new key is a row here, a member in config.h and an entry in
 * litefs.example.yml, which a test compares with the table. */
#ifndef LITEFS_CMD_CONFIG_KEYS_H
#define LITEFS_CMD_CONFIG_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cmd/litefs/config.h"

enum config_type {
        T_BOOL,      /* bool */
        T_STRING,    /* char *, never NULL */
        T_DURATION,  /* int64_t, nanoseconds */
        T_MEGABYTES, /* int64_t, bytes; a bare number counts in megabytes */
        T_COUNT,     /* int64_t, not negative */
        T_LIST,      /* struct string_list */
        T_EXEC,      /* config.exec and config.n_exec */
};

struct config_key {
        const char *path; /* "data.retention" */
        enum config_type type;
        size_t offset;
        const char *text; /* default of a string */
        int64_t number;   /* default of the others */
};

extern const struct config_key config_keys[];
extern const size_t config_n_keys;

/* The key of that path, or NULL. */
const struct config_key *config_find_key(const char *path);
/* "a duration such as 10s": what an error says is wanted. */
const char *config_type_text(enum config_type type);

static inline void *
config_member(struct config *c, const struct config_key *k)
{
        return (char *)c + k->offset;
}

/* The line of the file that has the key, 0: none has. */
int config_line(const struct config *c, const char *key);
/* The port of http://HOST[:PORT][/...], 0 when it names none, -1 when @url is none; *@ret_authority_end is where the path
 * begins. */
int config_url_port(const char *url, size_t *ret_authority_end);
/* Replaces the string at @at: 0 or -ENOMEM. */
int config_set_string(char **at, const char *s);
int config_list_add(struct string_list *l, const char *s);

#endif
