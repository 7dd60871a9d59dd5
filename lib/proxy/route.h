/* lib/proxy/route.h - where a request goes: decided from what is known, without doing anything.
 *
 *   passthrough      to the application, whatever the role; no cookie
 *   health           GET /litefs/health is answered here
 *   read             GET and HEAD: to the application, once this node has the positions in the client's cookie
 *   write            all else, and what `always-forward` names: to the application of the primary */
#ifndef LITEFS_PROXY_ROUTE_H
#define LITEFS_PROXY_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "net/addr.h"
#include "proxy/head.h"

struct route_rules {
        const char *const *passthrough;
        size_t n_passthrough;
        const char *const *always_forward;
        size_t n_always_forward;
        bool is_fly_replay;
};

enum route_kind { ROUTE_PASSTHROUGH, ROUTE_HEALTH, ROUTE_READ, ROUTE_WRITE, ROUTE_N_KINDS };

/* @path is decoded (pattern_path). @is_sent_on: another node's proxy has sent it on, because it takes it for a write and
 * this node for the primary. */
enum route_kind route_classify(const struct route_rules *rules, bool is_get_or_head, struct slice path,
                               bool is_sent_on);

struct route_view {
        bool is_primary;    /* this node is it */
        bool knows_primary; /* another is, and its address is known; for reads only if it is_leaving */
        bool has_positions; /* that the client's cookie asks for */
        bool is_sent_on;
        bool wants_moved; /* and the node that it comes from understands ROUTE_MOVED */
        bool is_held;     /* the primary is about to change: nothing that writes is begun here */
        bool is_leaving;  /* the application here is about to go: nothing at all is */
};

enum route_action {
        ROUTE_TO_APPLICATION,
        ROUTE_TO_PRIMARY, /* to its proxy */
        ROUTE_FLY_REPLAY, /* the answer names the primary, and Fly.io's proxy takes the request there */
        ROUTE_WAIT_TXID,  /* for a position */
        ROUTE_WAIT_PRIMARY, /* until somebody is the primary */
        ROUTE_MOVED,   /* answered, so that the node that it comes from looks for the primary again */
        ROUTE_REFUSED, /* this node ends, and nobody takes its place */
};

/* For all kinds but ROUTE_HEALTH. */
enum route_action route_decide(const struct route_rules *rules, enum route_kind kind,
                               const struct route_view *view);

/* Where a request is sent. */
struct destination {
        char address[ADDR_TEXT_SIZE]; /* "host:port" */
        bool is_node; /* it is the port of another node, with TLS, and its proxy is behind it */
};

/* The primary's proxy, by the URL that the primary is reached at by its peers: an https:// one is the destination, port
 * and all; else its host, and the port that proxies listen on, which is the same on all nodes. -EINVAL. */
int route_primary(const char *advertise_url, int port, struct destination *ret);

#endif
