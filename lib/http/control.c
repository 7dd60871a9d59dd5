/* Who is the primary: /handoff, /promote, /demote; and which program runs: /upgrade. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "http/api_internal.h"
#include "net/http_client.h"

#define HANDOFF_MS 5000
#define DRAIN_MS 5000 /* that the primary waits for its application's writes before it */
#define DEMOTE_WAIT_MS 2000

struct control {
        struct api *api;
        uint64_t boot_id; /* of the target; 0: any */
        char *hostname;   /* of the target, or NULL */
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
parse_boot_id(const char *s, uint64_t *ret)
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
        int r = node_handoff(c->api->config.node, c->hostname, c->boot_id, HANDOFF_MS, &e);

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
        uint64_t boot_id = 0;

        if (id != NULL && !parse_boot_id(id, &boot_id)) {
                api_reply_error(call, 400, "invalid node id");
                return;
        }
        c = make_control(a, call);
        if (c == NULL)
                return;
        c->boot_id = boot_id;
        if (name != NULL && name[0] != '\0' && (c->hostname = strdup(name)) == NULL)
                api_reply_error(call, 500, "out of memory");
        else
                http_call_run(call, run_handoff);
}

/* --- promote --- */

static int
ask_primary_to_hand_over(struct api *a, const char *url, struct err *e)
{
        char target[LEASE_URL_SIZE + 64], id[17];
        struct http_request rq = { .method = "POST",
                                   .url = target,
                                   .timeout_ms = DRAIN_MS + HANDOFF_MS + 1000,
                                   .max_response_size = 4096 };
        struct text body = { 0 };
        int r;

        api_format_boot_id(node_boot_id(a->config.node), id);
        snprintf(target, sizeof target, "%s/handoff?nodeID=%s", url, id);
        r = api_ask_peer(a, &rq, true, &body, e);
        text_release(&body);
        return r;
}

int
api_ask_for_lease(struct api *a, struct err *e)
{
        struct lease_state primary;
        int r;

        if (store_is_primary(a->config.store))
                return 0;
        if (!a->config.is_candidate)
                return err_text(e, -EPERM, "not eligible to become primary");
        if (!store_primary(a->config.store, &primary))
                return err_text(e, E_NOT_FOUND,
                                "no primary is currently available for handoff, cannot promote");
        r = ask_primary_to_hand_over(a, primary.advertise_url, e);
        return r < 0 ? err_prefix(e, "handoff failed"), r : 0;
}

static void
run_promote(struct http_call *call, void *data)
{
        struct control *c = data;
        struct err e = ERR_INIT;
        int r = api_ask_for_lease(c->api, &e);

        if (r < 0)
                api_reply_error(call, r == -EPERM ? 409 : 500, "%s", e.text);
        else
                api_reply_empty(call);
}

void
api_promote(struct api *a, struct http_call *call)
{
        if (make_control(a, call) != NULL)
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

/* --- upgrade --- */

/* The answer says that it begins: what becomes of it, the next program's /info says. */
static void
run_upgrade(struct http_call *call, void *data)
{
        const struct api_config *c = &((struct control *)data)->api->config;
        struct err e = ERR_INIT;

        if (c->may_upgrade(c->arg, &e) < 0) {
                api_reply_error(call, 409, "%s", e.text);
                return;
        }
        api_reply_empty(call);
        c->upgrade(c->arg);
}

void
api_upgrade(struct api *a, struct http_call *call)
{
        if (a->config.may_upgrade == NULL)
                api_reply_error(call, 404, "404 page not found");
        else if (make_control(a, call) != NULL)
                http_call_run(call, run_upgrade);
}
