/* One node's lease, driven by lines on stdin: each is a call and answers with one line of JSON.
 *
 *   driver consul url=http://127.0.0.1:8500 key=k hostname=a advertise-url=http://a ttl-ms=10000
 *   driver etcd endpoint=http://127.0.0.1:2379 endpoint=... key=k ...
 *   driver file key=/path/of/file ...
 *   driver object url=s3://bucket/key?endpoint=... access-key-id=... secret-access-key=... tried=false ...
 *
 *   read, acquire [MIN-TERM] (reads first), acquire-seen, break, raise-term TERM (as read last), renew, release, offer,
 *   take-over TOKEN, hand-on (to a lease that is made anew, as by the next program), get-heir, get-id, put-id ID, watch (what was acquired last),
 *   deadline (when, and ms that are left) */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "lease/consul.h"
#include "lease/etcd.h"
#include "lease/file.h"
#include "lease/object.h"
#include "s3/s3.h"

#define MAX_ENDPOINTS 8

struct node {
        int argc;
        char **argv;
        struct lease *lease;
        struct lease_state seen, held;
};

static const char *
code_name(int code)
{
        switch (code) {
        case 0:
                return "OK";
#define CODE_NAME(name, value, text) \
        case name: \
                return #name;
                ERR_CODES(CODE_NAME)
#undef CODE_NAME
        default:
                return strerrorname_np(-code);
        }
}

static void
answer(int code, const struct err *e, int64_t us, json_t *more)
{
        json_t *j = json_pack("{s:s, s:s, s:I}", "code", code_name(code), "text", e->text, "us",
                              (json_int_t)us);
        char *text;

        if (more != NULL && code == 0)
                json_object_update(j, more);
        text = json_dumps(j, JSON_COMPACT);
        puts(text);
        fflush(stdout);
        free(text);
        json_decref(j);
        json_decref(more);
}

static json_t *
state_json(const struct lease_state *s)
{
        return json_pack("{s:b, s:I, s:s, s:s, s:s, s:I, s:I, s:I, s:b, s:b}", "has_holder",
                         s->has_holder, "term", (json_int_t)s->term, "hostname", s->hostname, "url",
                         s->advertise_url, "session", s->session, "renewal", (json_int_t)s->renewal,
                         "ttl_ms", (json_int_t)s->ttl_ms, "last_term", (json_int_t)s->last_term,
                         "is_released", s->is_released, "is_raised", s->is_raised);
}

static int64_t
now_us(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int make_lease(int argc, char **argv, struct lease **ret, struct err *e);

/* With another @ttl_ms, if it is not "". */
static int
hand_on(struct node *n, const char *ttl_ms, struct lease_state *ret, struct err *e)
{
        struct lease *old = n->lease;
        struct lease_hold hold;
        int r;

        old->ops->hand_on(old, &hold);
        if (old->ops->deadline_ms(old) != INT64_MIN)
                abort(); /* two would hold it */
        old->ops->free(old);
        r = make_lease(n->argc, n->argv, &n->lease, e);
        if (r == 0 && ttl_ms[0] != '\0')
                n->lease->ttl_ms = strtoll(ttl_ms, NULL, 10);
        return r == 0 ? n->lease->ops->take_on(n->lease, &hold, ret, e) : r;
}

static int
call(struct node *n, const char *verb, const char *arg, json_t **ret, struct err *e)
{
        const struct lease_ops *ops = n->lease->ops;
        char token[LEASE_SESSION_SIZE] = "", id[LEASE_CLUSTER_ID_SIZE] = "";
        struct lease_state state;
        int r;

        memset(&state, 0, sizeof state);
        if (strcmp(verb, "read") == 0) {
                r = ops->read(n->lease, &state, e);
                if (r == 0)
                        n->seen = state;
        } else if (strcmp(verb, "acquire") == 0) {
                r = ops->read(n->lease, &n->seen, e);
                if (r == 0)
                        r = ops->acquire(n->lease, &n->seen, strtoull(arg, NULL, 10), &state, e);
        } else if (strcmp(verb, "acquire-seen") == 0) {
                r = ops->acquire(n->lease, &n->seen, 1, &state, e);
        } else if (strcmp(verb, "renew") == 0) {
                return ops->renew(n->lease, e);
        } else if (strcmp(verb, "release") == 0) {
                ops->release(n->lease);
                return 0;
        } else if (strcmp(verb, "break") == 0) {
                return ops->break_stale(n->lease, &n->seen, e);
        } else if (strcmp(verb, "offer") == 0) {
                r = ops->offer(n->lease, token, e);
                *ret = json_pack("{s:s}", "token", token);
                return r;
        } else if (strcmp(verb, "withdraw") == 0) {
                ops->withdraw(n->lease, arg, n->held.term);
                return 0;
        } else if (strcmp(verb, "raise-term") == 0) {
                return ops->raise_term(n->lease, &n->seen, strtoull(arg, NULL, 10), e);
        } else if (strcmp(verb, "watch") == 0) {
                return ops->watch(n->lease, &n->held, e);
        } else if (strcmp(verb, "get-heir") == 0) {
                r = ops->get_heir(n->lease, token, e);
                *ret = json_pack("{s:s}", "session", token);
                return r;
        } else if (strcmp(verb, "hand-on") == 0) {
                r = hand_on(n, arg, &state, e);
        } else if (strcmp(verb, "take-over") == 0) {
                r = ops->take_over(n->lease, arg, 1, &state, e);
        } else {
                if (strcmp(verb, "get-id") == 0)
                        r = ops->get_cluster_id(n->lease, id, e);
                else if (strcmp(verb, "put-id") == 0)
                        r = ops->put_cluster_id(n->lease, arg, id, e);
                else
                        abort();
                *ret = json_pack("{s:s}", "id", id);
                return r;
        }
        if (r == 0 && state.has_holder && strcmp(verb, "read") != 0)
                n->held = state;
        *ret = state_json(&state);
        return r;
}

static void
run_line(struct node *n, char *line)
{
        struct err e = ERR_INIT;
        json_t *more = NULL;
        int64_t start_us = now_us(), deadline_ms;
        char *arg = strchr(line, ' ');
        int r;

        if (arg != NULL)
                *arg++ = '\0';
        if (strcmp(line, "deadline") != 0) {
                r = call(n, line, arg != NULL ? arg : "", &more, &e);
                answer(r, &e, now_us() - start_us, more);
                return;
        }
        deadline_ms = n->lease->ops->deadline_ms(n->lease);
        if (deadline_ms == INT64_MIN)
                answer(0, &e, 0, json_pack("{s:n}", "left_ms"));
        else
                answer(0, &e, 0,
                       json_pack("{s:I,s:I}", "at_ms", (json_int_t)deadline_ms, "left_ms",
                                 (json_int_t)(deadline_ms - clock_boot_ms(clock_host()))));
}

struct options {
        struct lease_consul_options consul;
        struct lease_etcd_options etcd;
        struct lease_file_options file;
        struct lease_object_options object;
        struct s3_options bucket;
        char *endpoints[MAX_ENDPOINTS];
};

/* Of all backends at once: each has its own, and most have what it is. */
static void
take_option(struct options *o, const char *name, char *value)
{
        if (strcmp(name, "url") == 0)
                o->consul.url = o->object.url = value;
        else if (strcmp(name, "token") == 0)
                o->consul.token = value;
        else if (strcmp(name, "endpoint") == 0)
                o->endpoints[o->etcd.n_endpoints++] = value;
        else if (strcmp(name, "key") == 0)
                o->consul.key = o->etcd.key = o->file.path = value;
        else if (strcmp(name, "hostname") == 0)
                o->consul.hostname = o->etcd.hostname = o->file.hostname = o->object.hostname = value;
        else if (strcmp(name, "advertise-url") == 0)
                o->consul.advertise_url = o->etcd.advertise_url = o->file.advertise_url =
                        o->object.advertise_url = value;
        else if (strcmp(name, "ca") == 0)
                o->consul.ca = o->etcd.ca = value;
        else if (strcmp(name, "cert") == 0)
                o->consul.cert = o->etcd.cert = value;
        else if (strcmp(name, "cert-key") == 0)
                o->consul.cert_key = o->etcd.cert_key = value;
        else if (strcmp(name, "ttl-ms") == 0)
                o->consul.ttl_ms = o->etcd.ttl_ms = o->file.ttl_ms = o->object.ttl_ms = atoll(value);
        else if (strcmp(name, "lock-delay-ms") == 0)
                o->consul.lock_delay_ms = atoll(value);
        else if (strcmp(name, "access-key-id") == 0)
                o->bucket.access_key_id = value;
        else if (strcmp(name, "secret-access-key") == 0)
                o->bucket.secret_access_key = value;
        else if (strcmp(name, "tried") == 0)
                o->object.is_tried = strcmp(value, "true") == 0;
        else
                abort();
}

static int
make_lease(int argc, char **argv, struct lease **ret, struct err *e)
{
        static struct options o; /* made anew with each lease */

        o = (struct options){ .consul.lock_delay_ms = 1000, .object.is_tried = true };
        o.etcd.endpoints = o.endpoints;
        o.object.bucket = &o.bucket;
        o.bucket.clock = clock_host();
        for (int i = 2; i < argc; i++) {
                char name[32], *value = strchr(argv[i], '=') + 1;

                snprintf(name, sizeof name, "%.*s", (int)(value - 1 - argv[i]), argv[i]);
                take_option(&o, name, value);
        }
        if (strcmp(argv[1], "consul") == 0)
                return lease_consul_new(&o.consul, ret, e);
        if (strcmp(argv[1], "file") == 0)
                return lease_file_new(&o.file, ret, e);
        if (strcmp(argv[1], "object") == 0)
                return lease_object_new(&o.object, ret, e);
        return lease_etcd_new(&o.etcd, ret, e);
}

int
main(int argc, char **argv)
{
        struct node n = { argc, argv, NULL, { 0 }, { 0 } };
        struct err e = ERR_INIT;
        char line[1024];
        int r = argc > 1 ? make_lease(argc, argv, &n.lease, &e) : -EINVAL;

        answer(r, &e, 0, NULL);
        if (r < 0)
                return 1;
        while (fgets(line, sizeof line, stdin) != NULL) {
                line[strcspn(line, "\n")] = '\0';
                run_line(&n, line);
        }
        n.lease->ops->free(n.lease);
        return 0;
}
