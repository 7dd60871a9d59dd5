#include "tests/sim/etcd.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "tests/sim/service.h"

static const char *const names[ETCD_NAMES] = { "litefs/primary", "litefs/primary/term",
                                               "litefs/primary/heir", "litefs/primary/released",
                                               "litefs/primary/clusterid" };

/* --- leases --- */

static struct etcd_sim_lease *
find_lease(struct etcd *d, uint64_t id)
{
        for (int i = 0; i < ETCD_LEASES_MAX; i++)
                if (id != 0 && d->now.leases[i].id == id)
                        return &d->now.leases[i];
        return NULL;
}

static void
delete_key(struct etcd *d, enum etcd_name name)
{
        if (!d->now.keys[name].is_there)
                return;
        d->now.keys[name] = (struct etcd_key){ .is_there = false, .revision = d->now.revision };
}

static void
end_lease(struct etcd *d, struct etcd_sim_lease *l)
{
        d->now.revision++;
        for (int i = 0; i < ETCD_NAMES; i++)
                if (d->now.keys[i].lease == l->id)
                        delete_key(d, (enum etcd_name)i);
        sim_trace(d->sim, NULL, "etcd: lease %" PRIu64 " ended", l->id);
        l->id = 0;
}

static void
extend(struct etcd *d, struct etcd_sim_lease *l)
{
        l->end_us = d->sim->now_us + l->ttl_us;
        if (d->laziness_permille > 0)
                l->end_us += l->ttl_us * sim_between(d->sim, 0, d->laziness_permille) / 1000;
}

static void
end_leases(struct etcd *d)
{
        for (int i = 0; i < ETCD_LEASES_MAX; i++)
                if (d->now.leases[i].id != 0 && d->now.leases[i].end_us <= d->sim->now_us)
                        end_lease(d, &d->now.leases[i]);
}

/* etcd's JSON has 64 bits as text. */
static uint64_t
member(const json_t *j, const char *name)
{
        const json_t *m = json_object_get(j, name);

        return json_is_integer(m) ? (uint64_t)json_integer_value(m)
               : m != NULL        ? strtoull(json_string_value(m), NULL, 10)
                                  : 0;
}

static int
is_missing(char *ret)
{
        strcpy(ret, "{\"error\":\"etcdserver: requested lease not found\",\"code\":5}");
        return 404;
}

static int
grant(struct etcd *d, const json_t *j, char *ret)
{
        struct etcd_sim_lease *l = NULL;

        for (int i = 0; i < ETCD_LEASES_MAX && l == NULL; i++)
                if (d->now.leases[i].id == 0)
                        l = &d->now.leases[i];
        if (l == NULL)
                return 503;
        l->id = ++d->next_lease;
        l->ttl_us = (int64_t)member(j, "TTL") * 1000 * SIM_MS;
        extend(d, l);
        sprintf(ret, "{\"ID\":\"%" PRIu64 "\",\"TTL\":\"%" PRIu64 "\"}", l->id, member(j, "TTL"));
        return 200;
}

static int
keep_alive(struct etcd *d, const json_t *j, char *ret)
{
        struct etcd_sim_lease *l = find_lease(d, member(j, "ID"));

        if (l == NULL) {
                strcpy(ret, "{\"result\":{}}"); /* a TTL of 0 */
                return 200;
        }
        extend(d, l);
        sprintf(ret, "{\"result\":{\"TTL\":\"%lld\"}}", l->ttl_us / SIM_MS / 1000);
        return 200;
}

static int
revoke(struct etcd *d, const json_t *j, char *ret)
{
        struct etcd_sim_lease *l = find_lease(d, member(j, "ID"));

        if (l == NULL)
                return is_missing(ret);
        end_lease(d, l);
        strcpy(ret, "{}");
        return 200;
}

/* --- keys --- */

static struct etcd_key *
find_key(struct etcd *d, const json_t *j)
{
        char name[KV_KEY_SIZE] = "";
        int n = base64_decode(json_string_value(json_object_get(j, "key")), name, sizeof name - 1);

        for (int i = 0; i < ETCD_NAMES; i++)
                if (n >= 0 && strcmp(names[i], name) == 0)
                        return &d->now.keys[i];
        abort();
}

static void
append_key(char *ret, const struct etcd_key *key)
{
        char value[BASE64_SIZE(KV_VALUE_SIZE)];

        if (!key->is_there)
                return;
        base64_encode(key->value, strlen(key->value), value);
        sprintf(ret + strlen(ret), "{\"mod_revision\":\"%" PRIu64 "\"", key->revision);
        if (key->lease != 0)
                sprintf(ret + strlen(ret), ",\"lease\":\"%" PRIu64 "\"", key->lease);
        sprintf(ret + strlen(ret), ",\"value\":\"%s\"}", value);
}

static int
read_range(struct etcd *d, const json_t *j, char *ret)
{
        sprintf(ret, "{\"header\":{\"revision\":\"%" PRIu64 "\"},\"kvs\":[", d->now.revision);
        append_key(ret, find_key(d, j));
        strcat(ret, "]}");
        return 200;
}

/* --- transactions --- */

static bool
holds(struct etcd *d, const json_t *compare)
{
        const struct etcd_key *key = find_key(d, compare);

        const char *target = json_string_value(json_object_get(compare, "target"));
        char value[KV_VALUE_SIZE] = "";

        if (strcmp(target, "MOD") == 0)
                return member(compare, "mod_revision") == (key->is_there ? key->revision : 0);
        if (strcmp(target, "VALUE") == 0) {
                base64_decode(json_string_value(json_object_get(compare, "value")), value,
                              sizeof value - 1);
                return key->is_there && strcmp(key->value, value) == 0;
        }
        return member(compare, "lease") == key->lease;
}

/* False: the lease that it names is not there, and nothing of the transaction is done. */
static bool
put(struct etcd *d, const json_t *j)
{
        struct etcd_key *key = find_key(d, j);
        uint64_t lease = member(j, "lease");

        if (lease != 0 && find_lease(d, lease) == NULL)
                return false;
        key->is_there = true;
        key->revision = d->now.revision;
        key->lease = lease;
        key->value[base64_decode(json_string_value(json_object_get(j, "value")), key->value,
                                 sizeof key->value - 1)] = '\0';
        return true;
}

static bool
do_operation(struct etcd *d, const json_t *op, char *ret)
{
        const json_t *j = json_object_get(op, "request_put");

        if (j != NULL) {
                strcat(ret, "{\"response_put\":{}}");
                return put(d, j);
        }
        j = json_object_get(op, "request_range");
        if (j != NULL) {
                strcat(ret, "{\"response_range\":{\"kvs\":[");
                append_key(ret, find_key(d, j));
                strcat(ret, "]}}");
                return true;
        }
        j = json_object_get(op, "request_delete_range");
        delete_key(d, (enum etcd_name)(find_key(d, j) - d->now.keys));
        strcat(ret, "{\"response_delete_range\":{}}");
        return true;
}

static bool
has_changes(const json_t *ops)
{
        const json_t *op;
        size_t i;

        json_array_foreach(ops, i, op) if (json_object_get(op, "request_range") == NULL) return true;
        return false;
}

static int
transact(struct etcd *d, const json_t *j, char *ret)
{
        struct etcd_state before = d->now;
        const json_t *one, *ops;
        char responses[SERVICE_ANSWER_SIZE] = "";
        bool is_so = true, is_good = true;
        size_t i;

        json_array_foreach(json_object_get(j, "compare"), i, one) is_so &= holds(d, one);
        ops = json_object_get(j, is_so ? "success" : "failure");
        d->now.revision += has_changes(ops);
        json_array_foreach(ops, i, one)
        {
                strcat(responses, i > 0 ? "," : "");
                is_good = is_good && do_operation(d, one, responses);
        }
        if (!is_good) {
                d->now = before;
                return is_missing(ret);
        }
        sprintf(ret, "{\"header\":{\"revision\":\"%" PRIu64 "\"},\"succeeded\":%s,\"responses\":[%s]}",
                d->now.revision, is_so ? "true" : "false", responses);
        return 200;
}

/* --- the watch --- */

/* One message, and then it ends: whoever watches looks and watches again. */
static int
watch(const struct etcd *d, const json_t *j, char *ret)
{
        const json_t *request = json_object_get(j, "create_request");
        const struct etcd_key *key = find_key((struct etcd *)(uintptr_t)d, request);

        if (key->revision < member(request, "start_revision"))
                return SERVICE_WAITS;
        strcpy(ret, "{\"result\":{\"created\":true}}\n{\"result\":{\"events\":[");
        if (key->is_there) {
                strcat(ret, "{\"kv\":");
                append_key(ret, key);
                strcat(ret, "}");
        } else {
                strcat(ret, "{\"type\":\"DELETE\",\"kv\":{}}");
        }
        strcat(ret, "]}}\n");
        return 200;
}

int
etcd_request(struct etcd *d, const char *path, const char *body, char *ret)
{
        json_t *j = json_loads(body, 0, NULL);
        int status;

        end_leases(d);
        if (strcmp(path, "kv/txn") == 0)
                status = transact(d, j, ret);
        else if (strcmp(path, "kv/range") == 0)
                status = read_range(d, j, ret);
        else if (strcmp(path, "watch") == 0)
                status = watch(d, j, ret);
        else if (strcmp(path, "lease/grant") == 0)
                status = grant(d, j, ret);
        else if (strcmp(path, "lease/keepalive") == 0)
                status = keep_alive(d, j, ret);
        else
                status = revoke(d, j, ret);
        json_decref(j);
        return status;
}

/* --- trouble --- */

void
etcd_end_lease(struct etcd *d)
{
        struct etcd_sim_lease *l = find_lease(d, d->now.keys[ETCD_KEY].lease);

        if (l != NULL)
                end_lease(d, l);
}

void
etcd_lose_key(struct etcd *d)
{
        d->now.revision++;
        delete_key(d, ETCD_KEY);
}

void
etcd_lose_tree(struct etcd *d)
{
        d->now.revision++;
        for (int i = 0; i < ETCD_NAMES; i++)
                delete_key(d, (enum etcd_name)i);
}

void
etcd_back_up(struct etcd *d, int64_t age_us)
{
        if (d->sim->now_us - d->backup_us < age_us)
                return;
        d->old_backup = d->backup;
        d->backup = d->now;
        d->backup_us = d->sim->now_us;
}

/* The revision goes back, too; who watches is told nothing. */
void
etcd_restore(struct etcd *d)
{
        d->now = d->old_backup;
        for (int i = 0; i < ETCD_LEASES_MAX; i++)
                extend(d, &d->now.leases[i]);
}

void
etcd_empty(struct etcd *d)
{
        d->now = (struct etcd_state){ .revision = 1 };
}

/* Leases run out there meanwhile. */
void
etcd_exchange(struct etcd *d)
{
        struct etcd_state was = d->now;

        d->now = d->other;
        d->other = was;
}
