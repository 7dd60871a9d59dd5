/* Who is the primary: /handoff, /promote, /demote. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "http/api_internal.h"
#include "net/http_client.h"

#define HANDOFF_MS 5000
#define DEMOTE_WAIT_MS 2000

struct control {
        struct api *api;
        uint64_t node_id; /* of the target, or of this node; 0: any */
        char *hostname;   /* of the target, or NULL */
        bool is_primary;
};

static void
free_control(void *data)
{
        struct control *c = data;

        free(c->hostname);
        free(c);
}

static struct control *
make_control(struct api *a, struct http_call *call)
{
        struct control *c = calloc(1, sizeof *c);

        if (c == NULL) {
                api_reply_error(call, 500, "out of memory");
                return NULL;
        }
        c->api = a;
        http_call_set_data(call, c, free_control);
        return c;
}

static bool
parse_hex(const char *s, uint64_t *ret)
{
        char *end;

        errno = 0;
        *ret = strtoull(s, &end, 16);
        return s[0] != '\0' && strspn(s, "0123456789abcdefABCDEF") == strlen(s) && *end == '\0' &&
               errno == 0 && *ret != 0;
}

/* --- handoff --- */

static void
run_handoff(struct http_call *call, void *data)
{
        struct control *c = data;
        struct err e = ERR_INIT;
        int r = node_handoff(c->api->config.node, c->hostname, c->node_id, HANDOFF_MS, &e);

        if (r == E_NOT_PRIMARY)
                api_reply_error(call, 500, "cannot handoff: node is not currently primary");
        else if (r == E_NOT_FOUND)
                api_reply_error(call, 500,
                                "target node is not currently connected, or not caught up: %s", e.text);
        else if (r < 0)
                api_reply_error(call, 500, "cannot handoff: %s",
                                e.code != 0 ? e.text : err_code_text(r));
        else
                api_reply_empty(call);
}

void
api_handoff(struct api *a, struct http_call *call)
{
        const char *id = http_call_query(call, "nodeID"), *name = http_call_query(call, "hostname");
        struct control *c;
        uint64_t node_id = 0;

        if (id != NULL && !parse_hex(id, &node_id)) {
                api_reply_error(call, 400, "invalid node id");
                return;
        }
        c = make_control(a, call);
        if (c == NULL)
                return;
        c->node_id = node_id;
        if (name != NULL && name[0] != '\0' && (c->hostname = strdup(name)) == NULL)
                api_reply_error(call, 500, "out of memory");
        else
                http_call_run(call, run_handoff);
}

/* --- promote --- */

/* Asks the primary for its lease. */
static int
ask_primary(struct control *c, const char *url, struct err *e)
{
        char target[LEASE_URL_SIZE + 64], id[17];
        struct http_request rq = { .method = "POST",
                                   .url = target,
                                   .timeout_ms = HANDOFF_MS + 1000,
                                   .max_response_size = 4096 };
        struct text body = { 0 };
        int r;

        api_format_node_id(c->node_id, id);
        snprintf(target, sizeof target, "%s/handoff?nodeID=%s", url, id);
        r = api_ask_peer(c->api, &rq, true, &body, e);
        text_release(&body);
        return r;
}

static void
run_promote(struct http_call *call, void *data)
{
        struct control *c = data;
        struct lease_state primary;
        struct err e = ERR_INIT;

        if (c->is_primary)
                api_reply_empty(call);
        else if (!c->api->config.is_candidate)
                api_reply_error(call, 409, "not eligible to become primary");
        else if (!store_primary(c->api->config.store, &primary))
                api_reply_error(call, 500,
                                "no primary is currently available for handoff, cannot promote");
        else if (ask_primary(c, primary.advertise_url, &e) < 0)
                api_reply_error(call, 500, "handoff failed: %s", e.text);
        else
                api_reply_empty(call);
}

void
api_promote(struct api *a, struct http_call *call)
{
        struct control *c = make_control(a, call);
        struct node_status st;

        if (c == NULL)
                return;
        node_get_status(a->config.node, &st);
        c->node_id = st.node_id;
        c->is_primary = st.is_primary;
        http_call_run(call, run_promote);
}

/* --- demote --- */

/* To a replica that has everything if there is one: then nobody waits for a primary. */
static void
run_demote(struct http_call *call, void *data)
{
        struct control *c = data;
        struct err e = ERR_INIT;
        int r = node_handoff(c->api->config.node, NULL, 0, DEMOTE_WAIT_MS, &e);

        if (r < 0 && r != E_NOT_PRIMARY)
                r = node_demote(c->api->config.node, c->api->config.demote_ms, &e);
        if (r == E_NOT_PRIMARY)
                api_reply_error(call, 409, "this node is not the primary");
        else if (r < 0)
                api_reply_code(call, r, &e);
        else
                api_reply_empty(call);
}

void
api_demote(struct api *a, struct http_call *call)
{
        if (make_control(a, call) != NULL)
                http_call_run(call, run_demote);
}
