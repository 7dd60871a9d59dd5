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
        char *user; /* "": that of litefs */
        bool if_candidate;
};

#define CONFIG_MAX_BACKUPS 4

/* A destination for backups. Strings are never NULL. */
struct config_backup {
        char *type, *path, *url, *cluster, *auth_token;
        char *endpoint, *region, *access_key_id, *secret_access_key, *session_token, *ca;
        char *storage_class, *kms_key_id, *customer_key;
        bool force_path_style;
        int64_t sync_interval_ns, drill_ns;
        struct string_list databases;
        struct {
                int64_t interval_ns, retention_ns;
        } snapshot;
};

/* Strings are never NULL; "" is "not set". Durations are in nanoseconds. */
struct config {
        char *path;        /* of the file, absolute; "": there is none, and flags say it */
        int *lines;        /* where in the file each key is, in the order of config_keys; 0: nowhere */
        bool holds_secret; /* a token is written in the file, rather than taken from the environment */
        bool exit_on_error;
        bool skip_sync;
        bool strict_verify;
        struct exec_command *exec;
        size_t n_exec;
        int64_t exec_grace_ns, shutdown_timeout_ns;
        struct {
                char *dir;
                bool compress;
                int64_t retention_ns;
                int64_t retention_monitor_interval_ns;
                int64_t history_ns; /* 0: past states are those that the log happens to have */
                int64_t history_size_bytes;
        } data;
        struct {
                char *dir;
                bool allow_other;
                bool debug;
                char *wal_passthrough;
                struct string_list wal_passthrough_databases; /* PATTERN=MODE */
        } fuse;
        struct {
                char *addr;
                bool has_addr; /* it is given, rather than the default */
                bool insecure;
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
                int64_t primary_redirect_timeout_ns, drain_ns;
                int64_t read_timeout_ns, read_header_timeout_ns, write_timeout_ns, idle_timeout_ns;
        } proxy;
        struct {
                char *url, *type, *hostname, *advertise_url; /* type: what url says, too */
                char *primary_url; /* of a replica with a static lease; "": its advertise_url is that, as LiteFS has it */
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
                struct {
                        char *path;
                        int64_t ttl_ns;
                } file;
                struct {
                        char *url, *endpoint, *region, *access_key_id, *secret_access_key,
                                *session_token, *ca;
                        bool force_path_style;
                        int64_t ttl_ns;
                } object;
        } lease;
        struct config_backup backup;   /* as the file has it, when it names one */
        struct config_backup *backups; /* each that is to be written to */
        size_t n_backups;
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

/* Fills in what follows from other keys, when all that is given is set: config_parse does. 0 or -ENOMEM. */
int config_resolve(struct config *c);

/* Sets HOSTNAME in the environment when it is not there, before any thread starts, and parses @path, or when it
 * is NULL the first of ./litefs.yml, ~/litefs.yml and /etc/litefs.yml that exists. */
int config_load(struct config *c, const char *path, bool is_verbatim, struct err *e);

/* False: hostname and advertise-url are the primary's, as LiteFS has it on a replica with a static lease. */
bool config_has_own_address(const struct config *c);

/* fuse.wal-passthrough of a database: the mode of the first pattern that fits it, else of all. Of a valid configuration. */
const char *config_wal_passthrough(const struct config *c, const char *db_name);

/* What no single key can tell: contradictions and what is missing. */
int config_validate(const struct config *c, struct err *e);

/* The commands to run, built by the parser and by words behind "--". 0 or -ENOMEM. */
int config_add_exec(struct config *c, const char *cmd, const char *user, bool if_candidate);
void config_clear_exec(struct config *c);

/* One more of them, with what c->backup has, which is given its defaults back. 0 or -ENOMEM. */
int config_add_backup(struct config *c);

/* A duration in milliseconds. A fraction counts as a whole, because 0 means something else. */
int64_t config_to_ms(int64_t ns);

#endif
