/* cmd/litefs/config.h - litefs.yml as one validated struct.
 *
 * The keys are those of LiteFS 0.5 and a few of our own; litefs.example.yml documents each. A key that nobody
 * knows, a value of the wrong type and a contradiction are errors that name file, line and key. */
#ifndef LITEFS_CMD_CONFIG_H
#define LITEFS_CMD_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct string_list {
        char **items;
        size_t n;
};

struct exec_command {
        char *cmd;
        bool if_candidate;
};

/* Strings are never NULL; "" is "not set". Durations are in nanoseconds. */
struct config {
        char *path; /* of the file, absolute */
        bool exit_on_error;
        bool skip_sync;
        bool strict_verify;
        struct exec_command *exec;
        size_t n_exec;
        struct {
                char *dir;
                bool compress;
                int64_t retention_ns;
                int64_t retention_monitor_interval_ns;
        } data;
        struct {
                char *dir;
                bool allow_other;
                bool debug;
        } fuse;
        struct {
                char *addr;
                int64_t snapshot_timeout_ns;
                char *token, *token_file;
                struct {
                        char *cert, *key, *client_ca, *ca;
                } tls;
        } http;
        struct {
                char *addr, *target, *db, *mode;
                int64_t max_lag_ns;
                bool debug;
                struct string_list passthrough, always_forward;
                int64_t primary_redirect_timeout_ns;
                int64_t read_timeout_ns, read_header_timeout_ns, write_timeout_ns, idle_timeout_ns;
        } proxy;
        struct {
                char *type, *hostname, *advertise_url;
                bool candidate;
                bool promote;
                int64_t reconnect_delay_ns, demote_delay_ns;
                struct string_list databases;
                struct {
                        char *url, *key, *token, *ca, *cert, *cert_key;
                        int64_t ttl_ns, lock_delay_ns;
                } consul;
                struct {
                        struct string_list endpoints;
                        char *key, *ca, *cert, *cert_key;
                        int64_t ttl_ns;
                } etcd;
        } lease;
        struct {
                char *type, *path, *url, *cluster, *auth_token;
        } backup;
        struct {
                char *format;
                bool timestamp;
                bool debug;
        } log;
        struct {
                bool enabled;
                char *path;
                int64_t max_size_bytes;
                int64_t max_count;
                bool compress;
        } tracing;
};

/* Fills in the defaults. -ENOMEM only. */
int config_init(struct config *c);
/* Also after a failed config_init, or of a zeroed struct. */
void config_release(struct config *c);

/* Parses @text over the defaults, and fills in what follows from other keys (http.snapshot-timeout), from the
 * host name and from LITEFS_CLOUD_TOKEN. Environment variables in @text are expanded first unless
 * @is_verbatim. @path is for messages: "litefs.yml:12: data.retension: unknown key (did you mean
 * retention?)". */
int config_parse(struct config *c, const char *path, const char *text, bool is_verbatim, struct err *e);

/* Sets HOSTNAME in the environment when it is not there, before any thread starts, and parses @path, or when it
 * is NULL the first of ./litefs.yml, ~/litefs.yml and /etc/litefs.yml that exists. */
int config_load(struct config *c, const char *path, bool is_verbatim, struct err *e);

/* What no single key can tell: contradictions and what is missing. The messages of LiteFS. */
int config_validate(const struct config *c, struct err *e);

/* The commands to run, built by the parser and by words behind "--". 0 or -ENOMEM. */
int config_add_exec(struct config *c, const char *cmd, bool if_candidate);
void config_clear_exec(struct config *c);

/* A duration in milliseconds. A fraction counts as a whole, because 0 means something else. */
int64_t config_to_ms(int64_t ns);

/* All keys with their types, for tests and documentation: calls @fn with "data.retention", "a duration such as 10s". */
void config_each_key(void (*fn)(void *arg, const char *key, const char *type), void *arg);

#endif
