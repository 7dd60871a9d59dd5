/* lib/http/api.h - the node's HTTP API (docs/http-api.md), on the node's own address.
 *
 * Order: node_open, api_new, node_listen with api_accepted, node_start; then api_stop, node_free, api_free. */
#ifndef LITEFS_HTTP_API_H
#define LITEFS_HTTP_API_H

#include "base/token.h"
#include "http/text.h"
#include "repl/halts.h"
#include "repl/node.h"

struct api;

/* Strings are borrowed. */
struct api_config {
        struct store *store;
        struct node *node;
        const struct clock *clock;
        const struct apply_ops *apply_ops; /* for imports, on the threads of @appliers */
        void *apply_arg;
        struct workers *appliers;
        struct halts *halts; /* for remote writes */
        const char *data_dir;
        const char *hostname, *advertise_url;
        bool is_candidate;
        bool is_loopback;    /* it listens where this machine alone gets to */
        int64_t max_lag_ms;  /* of a replica that is ready; 0: any */
        int64_t demote_ms;   /* a demoted node is not the primary again before */
        struct token *token; /* that changes and /export need; NULL: none */
        /* PEM files for requests to other nodes, as in http_client.h. */
        const char *tls_ca, *tls_cert, *tls_key;
        const char *version;
        /* Adds other parts' metrics; on a worker. */
        void (*more_metrics)(void *arg, struct text *t);
        /* Gets connections that begin with "GET /proxy ", as http_server.h says; NULL: there is no such path. */
        void (*proxy_hop)(void *arg, struct conn *c);
        void *arg;
};

int api_new(const struct api_config *config, struct api **ret, struct err *e);
/* For node_listen: @arg is the api. */
void api_accepted(void *arg, struct conn *c);
/* Ends all requests; before the node's loop ends. Again is fine, and NULL. */
void api_stop(struct api *a);
/* After it has. NULL is fine. */
void api_free(struct api *a);

#endif
