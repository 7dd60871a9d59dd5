#include "tests/sim/consul.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
                if (id != 0 && c->sessions[i].id == id)
                        return &c->sessions[i];
        return NULL;
}

static void
end_session(struct consul *c, struct consul_session *s, int64_t at_us)
{
        if (c->key.is_there && c->key.session == s->id) {
                c->key.is_there = false;
                c->key.session = 0;
                c->index++;
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
                if (c->sessions[i].id != 0 && c->sessions[i].end_us <= c->sim->now_us)
                        end_session(c, &c->sessions[i], c->sessions[i].end_us);
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
                if (c->sessions[i].id == 0)
                        s = &c->sessions[i];
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

/* --- the key --- */

static void
set_key(struct consul *c, uint64_t session, const char *value)
{
        c->key.is_there = true;
        c->key.session = session;
        c->key.index = ++c->index;
        snprintf(c->key.value, sizeof c->key.value, "%s", value);
}

/* Of some TTLs ago, now and then. */
static const struct consul_key *
choose_key(struct consul *c, int64_t age_us)
{
        bool is_stale = sim_chance(c->sim, c->stale_permille);

        if (c->sim->now_us - c->old_key_us > age_us) {
                c->old_key = c->key;
                c->old_key_us = c->sim->now_us;
        }
        return is_stale ? &c->old_key : &c->key;
}

static int
read_key(struct consul *c, char *ret)
{
        const struct consul_key *key = choose_key(c, 20000 * SIM_MS);
        char value[BASE64_SIZE(REMOTE_VALUE_SIZE)], text[BASE64_SIZE(REMOTE_VALUE_SIZE) + 2] = "null";
        char session[40] = "";

        if (!key->is_there)
                return 404;
        if (key->value[0] != '\0') {
                base64_encode(key->value, strlen(key->value), value);
                sprintf(text, "\"%s\"", value);
        }
        if (key->session != 0)
                sprintf(session, ",\"Session\":\"%08" PRIx64 "\"", key->session);
        snprintf(ret, CONSUL_ANSWER_SIZE, "[{\"ModifyIndex\":%" PRIu64 ",\"Value\":%s%s}]", key->index,
                 text, session);
        return 200;
}

static bool
acquire(struct consul *c, uint64_t session, const char *value)
{
        if (c->key.is_there && c->key.session != 0 && c->key.session != session)
                return false;
        if (c->key.session == 0 && c->sim->now_us < c->no_lock_until_us)
                return false;
        set_key(c, session, value);
        return true;
}

static bool
release(struct consul *c, uint64_t session)
{
        if (!c->key.is_there || c->key.session != session)
                return false;
        set_key(c, 0, "");
        return true;
}

/* --- transactions --- */

static bool
do_operation(struct consul *c, const json_t *op)
{
        const char *verb = json_string_value(json_object_get(op, "Verb"));
        const char *text = json_string_value(json_object_get(op, "Session"));
        const char *base64 = json_string_value(json_object_get(op, "Value"));
        uint64_t index = (uint64_t)json_integer_value(json_object_get(op, "Index"));
        uint64_t session = text != NULL ? parse_id(text) : 0;
        char value[REMOTE_VALUE_SIZE] = "";

        if (base64 != NULL)
                value[base64_decode(base64, value, sizeof value - 1)] = '\0';
        if (strcmp(verb, "check-session") == 0)
                return c->key.is_there && c->key.session == session;
        if (strcmp(verb, "check-index") == 0)
                return c->key.is_there && c->key.index == index;
        if (strcmp(verb, "unlock") == 0)
                return release(c, session);
        if (strcmp(verb, "set") == 0) {
                snprintf(c->last_term, sizeof c->last_term, "%.*s", (int)sizeof c->last_term - 1, value);
                return true;
        }
        if (strcmp(verb, "lock") != 0 || find_session(c, session) == NULL ||
            (c->key.is_there && c->key.session != 0 && c->key.session != session))
                return false;
        set_key(c, session, value);
        return true;
}

static int
transact(struct consul *c, const char *body, char *ret)
{
        struct consul before = *c;
        json_t *ops = json_loads(body, 0, NULL);
        bool is_good = ops != NULL;

        for (size_t i = 0; is_good && i < json_array_size(ops); i++)
                is_good = do_operation(c, json_object_get(json_array_get(ops, i), "KV"));
        json_decref(ops);
        if (!is_good) {
                *c = before;
                return 409;
        }
        sprintf(ret, "{\"Results\":[{\"KV\":{\"ModifyIndex\":%" PRIu64 "}}]}", c->key.index);
        return 200;
}

/* --- requests --- */

static int
answer_bool(char *ret, bool value)
{
        strcpy(ret, value ? "true" : "false");
        return 200;
}

/* Keys with a raw value, no session's: put once. */
static int
raw_request(char *value, size_t size, const char *method, const char *body, char *ret)
{
        if (strcmp(method, "PUT") == 0) {
                if (value[0] != '\0')
                        return answer_bool(ret, false);
                snprintf(value, size, "%s", body);
                return answer_bool(ret, true);
        }
        strcpy(ret, value);
        return value[0] != '\0' ? 200 : 404;
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

int
consul_request(struct consul *c, const char *method, const char *path, const char *body,
               char ret[CONSUL_ANSWER_SIZE])
{
        const char *p;

        ret[0] = '\0';
        end_sessions(c);
        if (strncmp(path, "/session/", 9) == 0)
                return session_request(c, path + 9, body, ret);
        if (strcmp(path, "/txn") == 0)
                return transact(c, body, ret);
        if (strstr(path, "/clusterid") != NULL)
                return raw_request(c->cluster_id, sizeof c->cluster_id, method, body, ret);
        if (strstr(path, "/term") != NULL)
                return raw_request(c->last_term, sizeof c->last_term, method, body, ret);
        if ((p = strstr(path, "?acquire=")) != NULL)
                return find_session(c, parse_id(p + 9)) == NULL
                               ? 500
                               : answer_bool(ret, acquire(c, parse_id(p + 9), body));
        if ((p = strstr(path, "?release=")) != NULL)
                return answer_bool(ret, release(c, parse_id(p + 9)));
        return read_key(c, ret);
}
