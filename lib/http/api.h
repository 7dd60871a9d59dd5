/* lib/http/api.h - the node's HTTP API (docs/http-api.md), on the node's own address.
 *
 * Order: node_open, api_new, node_listen with api_accepted, node_start; then api_stop, node_free, api_free. */
#ifndef LITEFS_HTTP_API_H
#define LITEFS_HTTP_API_H

#include "base/token.h"
#include "base/text.h"
#include "repl/halt_grants.h"
#include "repl/node.h"

#define API_ADVICE_SIZE 1024

struct api;

/* Strings are borrowed. */
struct api_config {
        struct store *store;
        struct node *node;
        const struct clock *clock;
        const struct apply_ops *apply_ops; /* for imports, on the threads of @appliers */
        void *apply_arg;
        struct workers *appliers;
        struct halt_grants *halt_grants; /* for remote writes */
        const char *data_dir;
        const char *hostname, *advertise_url;
        bool is_candidate;
        bool is_loopback;    /* it listens where this machine alone gets to */
        int64_t max_lag_ms;  /* of a replica that is ready; 0: any */
        int64_t demote_ms;   /* a demoted node is not the primary again before */
        struct token *token; /* that changes and /export need; NULL: none */
        bool is_mutual;      /* whoever gets to ask has shown a certificate: http.tls.client-ca */
        const struct http_client_options
                *peer_http; /* of requests to other nodes; NULL: plain. Borrowed */
        const char *version;
        bool (*is_well)(void *arg); /* the mount answers; on the loop. NULL: nobody looks */
        /* A sentence about a database, or "". */
        void (*advise)(void *arg, struct db *db, char buf[API_ADVICE_SIZE]);
        /* Adds other parts' metrics; on a worker. */
        void (*more_metrics)(void *arg, struct text *t);
        /* The answer of GET /backup, and what POST /backup/sync waits for: 0, -ETIMEDOUT or another error; on a worker. NULL:
         * there are no destinations. */
        void (*add_backups)(void *arg, struct text *t);
        /* Calls @fn with a sentence about each thing that is wrong with them; on a worker. NULL: likewise. */
        void (*each_backup_trouble)(void *arg, void (*fn)(void *fn_arg, const char *text), void *fn_arg);
        int (*sync_backups)(void *arg, int64_t timeout_ms, struct err *e);
        /* What POST /upgrade asks for: whether the program at this one's path can take the node over (0, or why not), on a worker;
         * and then, that it does. */
        int (*may_upgrade)(void *arg, struct err *e);
        void (*upgrade)(void *arg);
        /* Why the last one did not, and this program goes on; false: none failed. On a worker. */
        bool (*upgrade_error)(void *arg, char *buf, size_t size);
        /* Gets connections that begin with "GET /proxy ", as http_server.h says; NULL: there is no such path. */
        void (*take_proxy_conn)(void *arg, struct conn *c);
        void *arg;
};

int api_new(const struct api_config *config, struct api **ret, struct err *e);
/* For node_listen: @arg is the api. */
void api_accepted(void *arg, struct conn *c);
/* What POST /promote does: asks the primary for its lease, on a node that may have it. 0: it is the primary, or will be
 * within moments. -EPERM: no candidate; E_NOT_FOUND: no primary is known. Waits for the network. */
int api_ask_for_lease(struct api *a, struct err *e);
/* Ends all requests; before the node's loop ends. Again is fine, and NULL. */
void api_stop(struct api *a);
/* After it has. NULL is fine. */
void api_free(struct api *a);

#endif
