#include "tests/sim/consul.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "tests/sim/service.h"

static const char *const names[CONSUL_NAMES] = { "litefs/primary", "litefs/primary/term",
                                                 "litefs/primary/heir", "litefs/primary/released",
                                                 "litefs/primary/clusterid" };

/* --- sessions --- */

static uint64_t
parse_id(const char *text)
{
        return strtoull(text, NULL, 16);
}

static struct consul_session *
find_session(struct consul *c, uint64_t id)
{
        for (int i = 0; i < CONSUL_SESSIONS_MAX; i++)
                if (id != 0 && c->now.sessions[i].id == id)
                        return &c->now.sessions[i];
        return NULL;
}

static void
delete_key(struct consul *c, enum consul_name name)
{
        c->now.keys[name] = (struct consul_key){ .is_there = false };
        c->now.index++;
}

static void
end_session(struct consul *c, struct consul_session *s, int64_t at_us)
{
        if (c->now.keys[CONSUL_KEY].session == s->id) {
                delete_key(c, CONSUL_KEY);
                c->no_lock_until_us = at_us + s->lock_delay_us;
                sim_trace(c->sim, NULL, "consul: session %" PRIx64 " ended with the lock", s->id);
        }
        s->id = 0;
}

static void
extend(struct consul *c, struct consul_session *s)
{
        s->end_us = c->sim->now_us + s->ttl_us;
        if (c->laziness_permille > 0)
                s->end_us += s->ttl_us * sim_between(c->sim, 0, c->laziness_permille) / 1000;
}

/* Nobody sees when a session ends, only that it has. */
static void
end_sessions(struct consul *c)
{
        for (int i = 0; i < CONSUL_SESSIONS_MAX; i++)
                if (c->now.sessions[i].id != 0 && c->now.sessions[i].end_us <= c->sim->now_us)
                        end_session(c, &c->now.sessions[i], c->now.sessions[i].end_us);
}

static int64_t
member_ms(const json_t *j, const char *name)
{
        const char *text = json_string_value(json_object_get(j, name));

        return text == NULL ? 0 : strtoll(text, NULL, 10); /* always "...ms" */
}

static int
create_session(struct consul *c, const char *body, char *ret)
{
        json_t *j = json_loads(body, 0, NULL);
        struct consul_session *s = NULL;

        for (int i = 0; i < CONSUL_SESSIONS_MAX && s == NULL; i++)
                if (c->now.sessions[i].id == 0)
                        s = &c->now.sessions[i];
        if (j == NULL || s == NULL) {
                json_decref(j);
                return 500;
        }
        s->id = ++c->next_session;
        s->ttl_us = member_ms(j, "TTL") * SIM_MS;
        s->lock_delay_us = member_ms(j, "LockDelay") * SIM_MS;
        json_decref(j);
        extend(c, s);
        sprintf(ret, "{\"ID\": \"%08" PRIx64 "\"}", s->id);
        return 200;
}

/* --- keys --- */

static int
find_name(const char *text, size_t n)
{
        for (int i = 0; i < CONSUL_NAMES; i++)
                if (strlen(names[i]) == n && memcmp(names[i], text, n) == 0)
                        return i;
        abort();
}

static void
set_key(struct consul *c, enum consul_name name, uint64_t session, const char *value)
{
        struct consul_key *key = &c->now.keys[name];

        key->is_there = true;
        key->session = session;
        key->index = c->now.index;
        snprintf(key->value, sizeof key->value, "%s", value);
}

/* Of some TTLs ago, now and then. */
static const struct consul_key *
choose_key(struct consul *c, enum consul_name name, int64_t age_us)
{
        bool is_stale;

        if (name != CONSUL_KEY)
                return &c->now.keys[name];
        is_stale = sim_chance(c->sim, c->stale_permille);
        if (c->sim->now_us - c->old_key_us > age_us) {
                c->old_key = c->now.keys[CONSUL_KEY];
                c->old_key_us = c->sim->now_us;
        }
        return is_stale && c->old_key.is_there ? &c->old_key : &c->now.keys[CONSUL_KEY];
}

static int
read_key(struct consul *c, enum consul_name name, char *ret)
{
        const struct consul_key *key = choose_key(c, name, 20000 * SIM_MS);
        char value[BASE64_SIZE(KV_VALUE_SIZE)], text[BASE64_SIZE(KV_VALUE_SIZE) + 2] = "null";
        char session[40] = "";

        if (!key->is_there)
                return 404;
        if (key->value[0] != '\0') {
                base64_encode(key->value, strlen(key->value), value);
                sprintf(text, "\"%s\"", value);
        }
        if (key->session != 0)
                sprintf(session, ",\"Session\":\"%08" PRIx64 "\"", key->session);
        snprintf(ret, SERVICE_ANSWER_SIZE, "[{\"ModifyIndex\":%" PRIu64 ",\"Value\":%s%s}]", key->index,
                 text, session);
        return 200;
}

/* --- transactions --- */

static bool
lock_key(struct consul *c, uint64_t session, const char *value)
{
        const struct consul_key *key = &c->now.keys[CONSUL_KEY];

        if (find_session(c, session) == NULL || (key->session != 0 && key->session != session))
                return false;
        if (key->session == 0 && c->sim->now_us < c->no_lock_until_us)
                return false;
        set_key(c, CONSUL_KEY, session, value);
        return true;
}

static bool
do_operation(struct consul *c, const json_t *op)
{
        const char *verb = json_string_value(json_object_get(op, "Verb"));
        const char *text = json_string_value(json_object_get(op, "Session"));
        const char *base64 = json_string_value(json_object_get(op, "Value"));
        const char *path = json_string_value(json_object_get(op, "Key"));
        uint64_t index = (uint64_t)json_integer_value(json_object_get(op, "Index"));
        uint64_t session = text != NULL ? parse_id(text) : 0;
        enum consul_name name = (enum consul_name)find_name(path, strlen(path));
        const struct consul_key *key = &c->now.keys[name];
        char value[KV_VALUE_SIZE] = "";

        if (base64 != NULL)
                value[base64_decode(base64, value, sizeof value - 1)] = '\0';
        if (strcmp(verb, "check-session") == 0)
                return key->is_there && key->session == session;
        if (strcmp(verb, "check-index") == 0)
                return key->is_there && key->index == index;
        if (strcmp(verb, "check-not-exists") == 0)
                return !key->is_there;
        if (strcmp(verb, "lock") == 0)
                return lock_key(c, session, value);
        if (strcmp(verb, "unlock") == 0 && (!key->is_there || key->session != session))
                return false;
        if (strcmp(verb, "delete") == 0)
                c->now.keys[name] = (struct consul_key){ .is_there = false };
        else
                set_key(c, name, 0, value); /* unlock, set */
        return true;
}

static int
transact(struct consul *c, const char *body, char *ret)
{
        struct consul before = *c;
        json_t *ops = json_loads(body, 0, NULL);
        size_t n = json_array_size(ops);
        bool is_good = ops != NULL;

        c->now.index++;
        for (size_t i = 0; is_good && i < n; i++)
                is_good = do_operation(c, json_object_get(json_array_get(ops, i), "KV"));
        json_decref(ops);
        if (!is_good) {
                *c = before;
                return 409;
        }
        strcpy(ret, "{\"Results\":[");
        for (size_t i = 0; i < n; i++)
                sprintf(ret + strlen(ret), "%s{\"KV\":{\"ModifyIndex\":%" PRIu64 "}}", i > 0 ? "," : "",
                        c->now.index);
        strcat(ret, "]}");
        return 200;
}

/* --- trouble --- */

void
consul_back_up(struct consul *c, int64_t age_us)
{
        if (c->sim->now_us - c->backup_us < age_us)
                return;
        c->old_backup = c->backup;
        c->backup = c->now;
        c->backup_us = c->sim->now_us;
}

void
consul_restore(struct consul *c)
{
        c->now = c->old_backup;
        c->no_lock_until_us = 0;
        for (int i = 0; i < CONSUL_SESSIONS_MAX; i++)
                extend(c, &c->now.sessions[i]);
}

/* What it knows beside its keys. */
static void
forget(struct consul *c)
{
        c->no_lock_until_us = 0;
        c->old_key.is_there = false;
        c->old_key_us = c->sim->now_us;
}

void
consul_empty(struct consul *c)
{
        c->now = (struct consul_state){ .index = 0 };
        forget(c);
}

/* Sessions run out there meanwhile. */
void
consul_exchange(struct consul *c)
{
        struct consul_state was = c->now;

        c->now = c->other;
        c->other = was;
        forget(c);
}

void
consul_end_session(struct consul *c)
{
        struct consul_session *s = find_session(c, c->now.keys[CONSUL_KEY].session);

        if (s != NULL)
                end_session(c, s, c->sim->now_us);
}

void
consul_lose_key(struct consul *c)
{
        delete_key(c, CONSUL_KEY);
}

void
consul_lose_tree(struct consul *c)
{
        for (int i = 0; i < CONSUL_NAMES; i++)
                delete_key(c, (enum consul_name)i);
}

/* --- requests --- */

static int
answer_bool(char *ret, bool value)
{
        strcpy(ret, value ? "true" : "false");
        return 200;
}

static int
session_request(struct consul *c, const char *verb, const char *body, char *ret)
{
        const char *slash = strchr(verb, '/');
        struct consul_session *s = slash != NULL ? find_session(c, parse_id(slash + 1)) : NULL;

        if (strcmp(verb, "create") == 0)
                return create_session(c, body, ret);
        if (strncmp(verb, "destroy/", 8) == 0) {
                if (s != NULL)
                        end_session(c, s, c->sim->now_us);
                return answer_bool(ret, true);
        }
        if (s == NULL)
                return 404;
        extend(c, s);
        strcpy(ret, "[]");
        return 200;
}

/* KEY/clusterid: put once, read raw. */
static int
cluster_id_request(struct consul *c, const char *method, const char *body, char *ret)
{
        struct consul_key *key = &c->now.keys[CONSUL_CLUSTERID];

        if (strcmp(method, "PUT") != 0) {
                strcpy(ret, key->value);
                return key->is_there ? 200 : 404;
        }
        if (key->is_there)
                return answer_bool(ret, false);
        c->now.index++;
        set_key(c, CONSUL_CLUSTERID, 0, body);
        return answer_bool(ret, true);
}

int
consul_request(struct consul *c, const char *method, const char *path, const char *body, char *ret)
{
        const char *query = strchr(path, '?'), *index = strstr(path, "&index=");
        enum consul_name name;

        end_sessions(c);
        if (strncmp(path, "/session/", 9) == 0)
                return session_request(c, path + 9, body, ret);
        if (strcmp(path, "/txn") == 0)
                return transact(c, body, ret);
        name = (enum consul_name)find_name(path + 4, (size_t)(query - path - 4));
        if (name == CONSUL_CLUSTERID)
                return cluster_id_request(c, method, body, ret);
        if (index != NULL && c->now.keys[name].is_there &&
            c->now.keys[name].index == strtoull(index + 7, NULL, 10))
                return SERVICE_WAITS;
        return read_key(c, name, ret);
}
