/* What the primary has said to one question, for a replica that is asked by others.
 *
 * It is asked with `?forward=no`, so that two nodes that take each other for the primary do not ask in a circle. One request
 * is under way at a time, and its answer serves for CACHE_MS: however many look at a replica, the primary answers about
 * once a second. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/api_internal.h"
#include "net/http_client.h"

#define CACHE_MS 1000
#define ASK_MS 2000
#define ANSWER_MAX ((size_t)4 * 1024 * 1024)

struct primary_view {
        const char *path;     /* of an endpoint that answers an object with `nodes` */
        pthread_mutex_t lock; /* a leaf; not held while it is asked */
        bool is_asking;
        int64_t asked_ms; /* when that ended; CLOCK_BOOTTIME */
        char url[LEASE_URL_SIZE];
        json_t *answer; /* NULL: it could not be asked */
        struct err e;   /* why */
};

static int
ask_primary(const struct api *a, const char *path, const char *url, json_t **ret, struct err *e)
{
        char target[LEASE_URL_SIZE + 32];
        struct http_request rq = {
                .method = "GET", .url = target, .timeout_ms = ASK_MS, .max_response_size = ANSWER_MAX
        };
        struct text body = { 0 };
        int r;

        snprintf(target, sizeof target, "%s%s?forward=no", url, path);
        r = api_ask_peer(a, &rq, false, &body, e);
        if (r == 0) {
                *ret = json_loadb(body.s, body.n, 0, NULL);
                if (!json_is_array(json_object_get(*ret, "nodes"))) {
                        json_decref(*ret);
                        *ret = NULL;
                        r = err_text(e, -EPROTO, "%s: not the answer of a node", target);
                }
        }
        text_release(&body);
        return r;
}

json_t *
primary_view_get(struct api *a, struct primary_view *v, const char *url, struct err *e)
{
        struct err asked = ERR_INIT;
        json_t *answer = NULL, *copy;
        bool is_mine;

        pthread_mutex_lock(&v->lock);
        is_mine = !v->is_asking && (strcmp(url, v->url) != 0 || v->asked_ms == 0 ||
                                    clock_boot_ms(a->config.clock) - v->asked_ms >= CACHE_MS);
        v->is_asking |= is_mine;
        pthread_mutex_unlock(&v->lock);
        if (is_mine)
                (void)ask_primary(a, v->path, url, &answer, &asked);
        pthread_mutex_lock(&v->lock);
        if (is_mine) {
                json_decref(v->answer);
                v->answer = answer;
                v->e = asked;
                snprintf(v->url, sizeof v->url, "%s", url);
                v->asked_ms = clock_boot_ms(a->config.clock);
                v->is_asking = false;
        }
        copy = strcmp(url, v->url) == 0 ? json_deep_copy(v->answer) : NULL;
        if (copy == NULL && strcmp(url, v->url) == 0)
                *e = v->e;
        else if (copy == NULL)
                err_text(e, -EAGAIN, "another primary is still being asked");
        pthread_mutex_unlock(&v->lock);
        return copy;
}

int
primary_view_new(const char *path, struct primary_view **ret)
{
        struct primary_view *v = calloc(1, sizeof *v);

        if (v == NULL)
                return -ENOMEM;
        v->path = path;
        pthread_mutex_init(&v->lock, NULL);
        *ret = v;
        return 0;
}

void
primary_view_free(struct primary_view *v)
{
        if (v == NULL)
                return;
        json_decref(v->answer);
        pthread_mutex_destroy(&v->lock);
        free(v);
}
