#include "tests/sim/bucket.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEASE_PATH "/b/lease"

void
bucket_init(struct bucket *b, struct sim *sim)
{
        b->sim = sim;
        strcpy(b->objects[0].name, LEASE_PATH);
        b->other.is_there = true;
        strcpy(b->other.text, "{}");
}

static struct bucket_object *
find_object(struct bucket *b, const char *path)
{
        for (int i = 0; i < BUCKET_OBJECTS_MAX; i++) {
                struct bucket_object *o = &b->objects[i];

                if (o->name[0] == '\0')
                        snprintf(o->name, sizeof o->name, "%s", path);
                if (strcmp(o->name, path) == 0)
                        return o;
        }
        abort();
}

/* Of what is there, as S3's is: the same again for the same again (FNV-1a). */
static void
make_etag(const struct bucket_object *o, char ret[32])
{
        uint64_t h = 14695981039346656037u;

        for (const char *p = o->text; *p != '\0'; p++)
                h = (h ^ (unsigned char)*p) * 1099511628211u;
        snprintf(ret, 32, "\"%016" PRIx64 "\"", h);
}

static int
fail_request(int status, const char *code, char *ret)
{
        sprintf(ret, "<Error><Code>%s</Code></Error>", code);
        return status;
}

static int
put_object(const struct bucket *b, struct bucket_object *o, const char *body, const char *condition,
           char *ret, char ret_etag[32])
{
        const char *want = strstr(condition, "if-match: ");
        char now[32];

        make_etag(o, now);
        if (b->wants_unquoted) {
                memmove(now, now + 1, strlen(now));
                now[strlen(now) - 1] = '\0';
        }
        if (strcmp(condition, "if-none-match: *") == 0 && o->is_there)
                return fail_request(412, "PreconditionFailed", ret);
        if (want != NULL && !o->is_there)
                return fail_request(404, "NoSuchKey", ret);
        if (want != NULL && strcmp(want + strlen("if-match: "), now) != 0)
                return fail_request(412, "PreconditionFailed", ret);
        if (strlen(body) >= sizeof o->text)
                abort();
        strcpy(o->text, body);
        o->is_there = true;
        make_etag(o, ret_etag);
        return 200;
}

int
bucket_request(struct bucket *b, const char *method, const char *path, const char *body,
               const char *condition, char *ret, char ret_etag[32])
{
        struct bucket_object *o = find_object(b, path);
        bool fails = sim_chance(b->sim, b->fault_permille);
        int status;

        ret_etag[0] = '\0';
        if (fails && sim_chance(b->sim, 500))
                return fail_request(503, "SlowDown", ret);
        if (strcmp(method, "PUT") == 0) {
                status = put_object(b, o, body, condition, ret, ret_etag);
        } else if (o->is_there) {
                strcpy(ret, o->text);
                make_etag(o, ret_etag);
                status = 200;
        } else {
                status = fail_request(404, "NoSuchKey", ret);
        }
        return fails ? fail_request(500, "InternalError", ret) : status;
}

uint64_t
bucket_last_term(const struct bucket *b)
{
        json_t *root = b->objects[0].is_there ? json_loads(b->objects[0].text, 0, NULL) : NULL;
        uint64_t term = (uint64_t)json_integer_value(json_object_get(root, "term"));

        json_decref(root);
        return term;
}

/* --- trouble --- */

void
bucket_lose_holder(struct bucket *b)
{
        struct bucket_object *o = &b->objects[0];
        json_t *root = o->is_there ? json_loads(o->text, 0, NULL) : NULL;
        size_t n;

        if (root == NULL || json_object_size(root) == 0) {
                json_decref(root);
                return;
        }
        json_object_del(root, "holder");
        json_object_del(root, "session");
        json_object_del(root, "holder-revision");
        json_object_set_new(root, "revision",
                            json_integer(json_integer_value(json_object_get(root, "revision")) + 1));
        n = json_dumpb(root, o->text, sizeof o->text - 1, JSON_COMPACT);
        o->text[n] = '\0';
        json_decref(root);
}

static void
replace_lease(struct bucket *b, const struct bucket_object *by)
{
        b->objects[0].is_there = by->is_there;
        memcpy(b->objects[0].text, by->text, sizeof by->text);
}

void
bucket_empty(struct bucket *b)
{
        const struct bucket_object empty = { .is_there = true, .text = "{}" };

        replace_lease(b, &empty);
}

void
bucket_back_up(struct bucket *b, int64_t age_us)
{
        if (b->sim->now_us - b->backup_us < age_us || !b->objects[0].is_there)
                return;
        b->old_backup = b->backup;
        b->backup = b->objects[0];
        b->backup_us = b->sim->now_us;
}

void
bucket_restore(struct bucket *b)
{
        replace_lease(b, &b->old_backup);
}

void
bucket_exchange(struct bucket *b)
{
        struct bucket_object was = b->objects[0];

        if (!was.is_there)
                return;
        replace_lease(b, &b->other);
        b->other = was;
}
