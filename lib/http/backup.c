/* /backup: where the backups are; /backup/sync: waits until they have what is committed. */
#include <errno.h>
#include <stdlib.h>

#include "http/api_internal.h"

#define SYNC_MS 20000
#define SYNC_MAX_MS 25000 /* a worker stands still for it */

struct backup_call {
        struct api *api;
        int64_t timeout_ms;
};

static struct backup_call *
make_backup_call(struct api *a, struct http_call *call)
{
        struct backup_call *b = calloc(1, sizeof *b);

        if (b == NULL) {
                api_reply_error(call, 500, "out of memory");
                return NULL;
        }
        b->api = a;
        http_call_set_data(call, b, free);
        return b;
}

static void
run_backup_status(struct http_call *call, void *data)
{
        const struct api *a = ((struct backup_call *)data)->api;
        struct text t = { 0 };

        if (a->config.add_backups != NULL)
                a->config.add_backups(a->config.arg, &t);
        else
                text_printf(&t, "{\"destinations\": []}\n");
        if (t.is_cut)
                api_reply_error(call, 500, "out of memory");
        else
                http_call_reply(call, 200, API_JSON, t.s, t.n);
        text_release(&t);
}

void
api_backup(struct api *a, struct http_call *call)
{
        if (make_backup_call(a, call) != NULL)
                http_call_run(call, run_backup_status);
}

static void
run_backup_sync(struct http_call *call, void *data)
{
        struct backup_call *b = data;
        struct err e = ERR_INIT;
        int r = b->api->config.sync_backups(b->api->config.arg, b->timeout_ms, &e);

        if (r == -ETIMEDOUT)
                api_reply_error(call, 504, "%s", e.text);
        else if (r < 0)
                api_reply_code(call, r, &e);
        else
                api_reply_empty(call);
}

void
api_backup_sync(struct api *a, struct http_call *call)
{
        const char *timeout = http_call_query(call, "timeoutMS");
        int64_t ms = timeout != NULL ? strtoll(timeout, NULL, 10) : SYNC_MS;
        struct backup_call *b;

        if (a->config.sync_backups == NULL) {
                api_reply_error(call, 404, "this node has no destination for backups");
                return;
        }
        b = make_backup_call(a, call);
        if (b == NULL)
                return;
        b->timeout_ms = ms < 1 ? 1 : ms > SYNC_MAX_MS ? SYNC_MAX_MS : ms;
        http_call_run(call, run_backup_sync);
}
