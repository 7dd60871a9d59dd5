#include "lease/object.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lease/document.h"
#include "s3/s3.h"

#define NONCE_SIZE 33
#define TRIES 8 /* of a change, while others change the object between our reading and our writing */
#define MARK_BITS 20
#define PROBE_CALLS 2 /* whose time a probe may take: it has more requests than any of them */

/* What is there at a moment: the next that is put has another ETag. */
struct object_version {
        bool is_there;
        char etag[S3_ETAG_SIZE];
};

/* The object as it was read, or as it was put. */
struct object_txn {
        json_t *root; /* NULL: nothing was read */
        struct object_version version;
};

struct object_lease {
        struct kv_lease kv; /* kv.key is the URL, without its query */
        struct s3 s3;
        char name[KV_KEY_SIZE], probe_name[KV_KEY_SIZE + LEASE_HOSTNAME_SIZE + 16];
        bool is_probed;
        char new_session[LEASE_SESSION_SIZE]; /* that no PUT was to make the holder yet; "": none */
        struct object_txn
                held; /* what this node put last as the holder: it is renewed without reading it before */
        /* What a PUT of unknown outcome was to replace. If that is still there, it may yet be done. */
        bool is_unsure;
        struct object_version unsure;
};

static struct object_lease *
object_lease_of(struct kv_lease *kv)
{
        return (struct object_lease *)kv;
}

static void
object_end(struct object_txn *t)
{
        json_decref(t->root);
        *t = (struct object_txn){ .root = NULL };
}

static int
draw_hex(char *ret, size_t size, struct err *e)
{
        unsigned char bytes[16];

        if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
                return err_set(e, -EIO, "random numbers");
        for (size_t i = 0; i < sizeof bytes; i++)
                snprintf(ret + 2 * i, size - 2 * i, "%02x", bytes[i]);
        return 0;
}

/* Later than all before, and, should the object be put back to what it was once, not that of another change. */
static uint64_t
object_mark(const struct object_txn *t)
{
        uint32_t chance = 0;

        (void)!getrandom(&chance, sizeof chance, 0);
        return (document_number(t->root, "revision") + 1) << MARK_BITS |
               (chance & ((1u << MARK_BITS) - 1));
}

/* --- reading --- */

static int
object_request(struct object_lease *o, struct s3_call *call, struct http_response *ret, struct err *e)
{
        int r;

        call->key = o->name;
        call->timeout_ms = kv_left_ms(&o->kv);
        if (call->timeout_ms == 0)
                return err_text(e, -ETIMEDOUT, "%s: no answer within %lld ms", o->kv.key,
                                (long long)o->kv.timeout_ms);
        r = s3_do(&o->s3, call, ret, e);
        if (r == -ENOTSUP) /* by which a lease says what it never does: lease/lease.h */
                r = err_text(e, -EINVAL, "%s: %s: the bucket does not know how to do that (501)",
                             o->kv.key, call->method);
        return r;
}

/* An empty object is what somebody has put, so that there is one. */
static bool
parse_object(const struct http_response *answer, json_t **ret)
{
        json_t *root = json_loadb(answer->body, answer->body_size, 0, NULL);

        if (json_is_object(root) && json_object_size(root) == 0) {
                *ret = root;
                return true;
        }
        json_decref(root);
        return document_parse(answer->body, answer->body_size, ret) &&
               document_number(*ret, "revision") < LEASE_TERM_MAX >> MARK_BITS;
}

/* On success, to be ended. An object that is not there is a lease that nobody has had. */
static int
object_begin(struct object_lease *o, struct object_txn *ret, struct err *e)
{
        struct s3_call call = { .method = "GET", .purpose = S3_READ };
        struct http_response answer;
        struct err why = ERR_INIT;
        int r = object_request(o, &call, &answer, &why);

        *ret = (struct object_txn){ .version.is_there = r == 0 };
        if (r < 0 && r != E_NOT_FOUND && e != NULL)
                *e = why;
        if (r == E_NOT_FOUND) {
                ret->root = json_object();
                return ret->root != NULL ? 0 : err_set(e, -ENOMEM, "lease");
        }
        if (r < 0)
                return r;
        if (answer.status != 200 || answer.text[0] == '\0')
                return err_text(e, -EPROTO, "GET %s: status %d%s", o->kv.key, answer.status,
                                answer.text[0] == '\0' ? " without an ETag" : "");
        snprintf(ret->version.etag, sizeof ret->version.etag, "%s", answer.text);
        if (!parse_object(&answer, &ret->root)) {
                object_end(ret);
                return err_text(
                        e, E_FORMAT,
                        "%s is not a lease that litefs wrote: choose the name of another object, or, with all nodes "
                        "stopped, remove this one",
                        o->kv.key);
        }
        return 0;
}

static bool
is_same_version(const struct object_version *a, const struct object_version *b)
{
        return a->is_there == b->is_there && strcmp(a->etag, b->etag) == 0;
}

/* --- writing --- */

/* Whether the object may be what was put, though the answer was @r. */
static bool
may_be_done(int r)
{
        return r == -EEXIST || r == -ETIMEDOUT || r == -EIO || r == -EPROTO || r == -EMSGSIZE;
}

/* After a PUT over what *@t was, with the @nonce, that was answered by @r in the words of @e: 0, and *@t is its; -EEXIST: it was
 * not done, and never will be; else it is not known. *@ret_denied: by a condition that holds. */
static int
find_out(struct object_lease *o, struct object_txn *t, const char *nonce, int r, bool *ret_denied,
         struct err *e)
{
        struct object_txn now;

        o->is_unsure = true;
        o->unsure = t->version;
        if (object_begin(o, &now, NULL) < 0)
                return r == -EEXIST
                               ? err_text(e, -EIO, "%s: a PUT was refused, perhaps since it was done",
                                          o->kv.key)
                               : r;
        if (now.version.is_there && strcmp(document_text(now.root, "nonce"), nonce) == 0) {
                t->version = now.version;
                r = 0;
        } else if (!is_same_version(&now.version, &t->version)) {
                r = err_text(e, -EEXIST, "%s was changed meanwhile", o->kv.key);
        } else if (r == -EEXIST) {
                *ret_denied = true;
                r = err_text(e, -EPROTO, "%s: a condition that holds is refused", o->kv.key);
        }
        object_end(&now);
        o->is_unsure = r != 0 && r != -EEXIST;
        return r;
}

/* As object_save, once. */
static int
put_document(struct object_lease *o, struct object_txn *t, const char *text, size_t n, bool *ret_denied,
             struct err *e)
{
        char condition[S3_CONDITION_SIZE] = "if-none-match: *";
        struct s3_call call = { .method = "PUT",
                                .purpose = S3_STORE,
                                .body = text,
                                .body_size = n,
                                .headers = { condition } };
        struct http_response answer;
        int r;

        *ret_denied = false;
        if (t->version.is_there)
                s3_make_if_match(&o->s3, t->version.etag, condition);
        r = object_request(o, &call, &answer, e);
        if (r == 0 && answer.text[0] == '\0') /* which the next condition needs */
                r = err_text(e, -EPROTO, "PUT %s: the answer has no ETag", o->kv.key);
        if (r == E_NOT_FOUND) /* If-Match, and nothing there */
                return err_text(e, -EEXIST, "%s was removed", o->kv.key);
        if (may_be_done(r))
                return find_out(o, t, document_text(t->root, "nonce"), r, ret_denied, e);
        if (r < 0)
                return r;
        snprintf(t->version.etag, sizeof t->version.etag, "%s", answer.text);
        t->version.is_there = true;
        o->is_unsure = false;
        return 0;
}

/* Puts the document over what *@t was read as. 0: *@t is what is there. -EEXIST: it is another one by now, to be read again.
 * Else it is not known whether it was done. A program that goes on from another, or only breaks, has not probed how the bucket
 * wants an ETag: what is denied though it holds is put with the other way to write it, once. */
static int
object_save(struct object_lease *o, struct object_txn *t, struct err *e)
{
        char text[DOCUMENT_MAX_SIZE], nonce[NONCE_SIZE];
        struct err why = ERR_INIT; /* also of what came right in the end */
        bool is_denied;
        ssize_t n;
        int r = draw_hex(nonce, sizeof nonce, e);

        if (r < 0)
                return r;
        json_object_set_new(t->root, "nonce", json_string(nonce));
        n = document_format(t->root, text);
        if (n < 0)
                return err_set(e, (int)n, "%s", o->kv.key);
        r = put_document(o, t, text, (size_t)n, &is_denied, &why);
        if (is_denied && t->version.is_there) {
                o->s3.is_unquoted = !o->s3.is_unquoted;
                r = put_document(o, t, text, (size_t)n, &is_denied, &why);
                if (is_denied)
                        o->s3.is_unquoted = !o->s3.is_unquoted;
        }
        if (r < 0 && e != NULL)
                *e = why;
        return r;
}

static void
forget_held(struct object_lease *o)
{
        object_end(&o->held);
}

/* For those whose conditions are of what they have seen. */
static int
object_save_once(struct object_lease *o, struct object_txn *t, struct err *e)
{
        int r = object_save(o, t, e);

        return r == -EEXIST ? err_text(e, E_NOT_PRIMARY, "the lease is not as it was seen") : r;
}

/* --- sessions --- */

/* By what conditions nobody is kept from writing, two nodes would lead. */
static int
object_probe(struct object_lease *o, struct err *e)
{
        bool honours = false;
        int r;

        if (o->is_probed)
                return 0;
        r = s3_probe(&o->s3, o->probe_name, PROBE_CALLS * o->kv.timeout_ms, &honours, e);
        if (r < 0)
                return r;
        if (!honours)
                return err_text(
                        e, E_CONFIG,
                        "%s: the bucket does not honour If-None-Match or If-Match, so that two nodes could lead at "
                        "once: keep the lease in another bucket, or in etcd or Consul",
                        o->kv.key);
        o->is_probed = true;
        return 0;
}

static int
object_begin_session(struct kv_lease *kv, char ret[LEASE_SESSION_SIZE], int64_t *ret_ttl_ms,
                     struct err *e)
{
        char session[NONCE_SIZE];
        struct object_lease *o = object_lease_of(kv);
        int r = object_probe(o, e);

        if (r == 0 && kv_left_ms(kv) == 0) /* once: the next call has it all */
                r = err_text(e, -ETIMEDOUT, "%s: to try its conditions took the time of this call",
                             kv->key);
        if (r == 0)
                r = draw_hex(session, sizeof session, e);
        if (r < 0)
                return r;
        memcpy(ret, session, sizeof session);
        memcpy(o->new_session, session, sizeof session);
        *ret_ttl_ms = kv->base.ttl_ms;
        return 0;
}

/* There is nothing but the mark. */
static int
keep_object(struct kv_lease *kv, int64_t *ret_ttl_ms, struct err *e)
{
        (void)e;
        *ret_ttl_ms = kv->base.ttl_ms;
        return 0;
}

/* A PUT that may yet be done finds another object than it wants. */
static int
end_session_once(struct object_lease *o, const char *session, uint64_t term)
{
        struct object_txn t;
        bool is_held;
        int r = object_begin(o, &t, NULL);

        if (r < 0)
                return r;
        is_held = document_is_held_by(t.root, session);
        if (is_held)
                document_free_key(t.root, term, object_mark(&t));
        o->is_unsure = o->is_unsure && is_same_version(&o->unsure, &t.version);
        if (is_held || o->is_unsure)
                r = object_save(o, &t, NULL);
        object_end(&t);
        return r;
}

static int
object_end_session(struct kv_lease *kv, const char *session, uint64_t term)
{
        struct object_lease *o = object_lease_of(kv);
        int r = -EEXIST;

        forget_held(o);
        if (strcmp(session, o->new_session) == 0)
                return 0; /* nobody was told of it */
        for (int i = 0; i < TRIES && r == -EEXIST; i++)
                r = end_session_once(o, session, term);
        return r;
}

/* --- acquire and renew --- */

static int
object_read_lease(struct kv_lease *kv, struct lease_state *ret, struct err *e)
{
        struct object_txn t;
        int r = object_begin(object_lease_of(kv), &t, e);

        if (r < 0)
                return r;
        r = document_read(t.root, true, ret, e);
        if (r < 0)
                err_prefix(e, "%s", kv->key);
        object_end(&t);
        return r;
}

static int
object_read_heir(struct kv_lease *kv, char ret[LEASE_SESSION_SIZE], struct err *e)
{
        struct object_txn t;
        int r = object_begin(object_lease_of(kv), &t, e);

        ret[0] = '\0';
        if (r < 0)
                return r;
        snprintf(ret, LEASE_SESSION_SIZE, "%s", document_text(t.root, "heir"));
        object_end(&t);
        return 0;
}

static int
object_lock_key(struct kv_lease *kv, const struct kv_lock *what, struct err *e)
{
        struct object_lease *o = object_lease_of(kv);
        struct object_txn t;
        int r = object_begin(o, &t, e);

        forget_held(o);
        if (r < 0)
                return r;
        r = document_lock(t.root, true, what, object_mark(&t), e);
        if (r == 0) {
                o->new_session[0] = '\0';
                r = object_save_once(o, &t, e);
        }
        if (r == 0)
                o->held = t;
        else
                object_end(&t);
        return r;
}

/* Mostly by one request. What others have changed is read, and as long as the lease is still the session's it is put again. */
static int
object_write_value(struct kv_lease *kv, const char *value, struct err *e)
{
        struct object_lease *o = object_lease_of(kv);
        struct object_txn t = o->held;
        int r = -EEXIST;

        o->held = (struct object_txn){ .root = NULL };
        for (int i = 0; i < TRIES && r == -EEXIST; i++) {
                r = t.root == NULL ? object_begin(o, &t, e) : 0;
                if (r == 0)
                        r = document_write_value(t.root, kv->session, value, object_mark(&t), e);
                if (r == E_NOT_PRIMARY)
                        err_prefix(e, "%s", kv->key);
                if (r == 0)
                        r = object_save(o, &t, e);
                if (r == 0)
                        o->held = t;
                else
                        object_end(&t);
        }
        return r;
}

static int
object_break_key(struct kv_lease *kv, const struct lease_state *seen, struct err *e)
{
        struct object_lease *o = object_lease_of(kv);
        struct object_txn t;
        int r = object_begin(o, &t, e);

        if (r < 0)
                return r;
        r = document_break(t.root, seen, object_mark(&t), e);
        if (r == 0)
                r = object_save_once(o, &t, e);
        object_end(&t);
        return r;
}

/* Where there is no object this may be the wrong place, and others may lead by the right one. */
static int
check_there(const struct object_lease *o, const struct object_txn *t, struct err *e)
{
        if (t->version.is_there)
                return 0;
        return err_text(
                e, E_NOT_FOUND,
                "%s is not there, and this node was in a term already: the object was removed, or lease.object.url "
                "names another one. If it was removed, put an empty one there, from which the nodes go on: echo {} | aws s3 cp - %s",
                o->kv.key, o->kv.key);
}

static int
object_raise_term(struct kv_lease *kv, const struct lease_state *seen, uint64_t term, struct err *e)
{
        struct object_lease *o = object_lease_of(kv);
        struct object_txn t;
        int r = object_begin(o, &t, e);

        if (r < 0)
                return r;
        r = check_there(o, &t, e);
        if (r == 0)
                r = document_raise_term(t.root, true, seen, term, object_mark(&t), e);
        if (r == 0)
                r = object_save_once(o, &t, e);
        object_end(&t);
        return r;
}

/* Each look would cost a request, and until the deadline nobody else can have it. */
static int
object_watch_key(struct kv_lease *kv, const struct lease_state *held, struct err *e)
{
        (void)kv, (void)held;
        return err_set(e, -ENOTSUP, "watch");
}

/* --- the cluster's id --- */

static int
put_object_id(struct object_lease *o, const char *id, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        struct object_txn t;
        const char *text;
        int r = object_begin(o, &t, e);

        if (r < 0)
                return r;
        text = document_text(t.root, "cluster-id");
        if (text[0] == '\0' && id[0] != '\0') {
                text = id;
                json_object_set_new(t.root, "cluster-id", json_string(id));
                r = object_save(o, &t, e);
                forget_held(o);
        }
        if (r == 0)
                r = kv_copy_cluster_id(text, strlen(text), ret, e);
        object_end(&t);
        return r;
}

static int
object_get_cluster_id(struct lease *l, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        struct object_lease *o = (struct object_lease *)l;

        kv_begin(&o->kv);
        return put_object_id(o, "", ret, e);
}

static int
object_put_cluster_id(struct lease *l, const char *id, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        struct object_lease *o = (struct object_lease *)l;
        int r = kv_copy_cluster_id(id, strlen(id), ret, e);

        if (r < 0)
                return r;
        kv_begin(&o->kv);
        r = -EEXIST;
        for (int i = 0; i < TRIES && r == -EEXIST; i++)
                r = put_object_id(o, id, ret, e);
        return r;
}

/* --- set-up --- */

static void
object_lease_free(struct lease *l)
{
        struct object_lease *o = (struct object_lease *)l;

        forget_held(o);
        s3_release(&o->s3);
        kv_release(&o->kv);
        free(o);
}

static const struct kv_service object_service = {
        .create_session = object_begin_session,
        .keep_alive = keep_object,
        .end_session = object_end_session,
        .read = object_read_lease,
        .read_term = object_read_lease,
        .read_heir = object_read_heir,
        .lock = object_lock_key,
        .write_value = object_write_value,
        .break_key = object_break_key,
        .raise_term = object_raise_term,
        .watch = object_watch_key,
};

static const struct lease_ops object_ops = {
        .read = kv_read,
        .acquire = kv_acquire,
        .renew = kv_renew,
        .release = kv_end,
        .break_stale = kv_break_stale,
        .offer = kv_offer,
        .withdraw = kv_withdraw,
        .take_over = kv_take_over,
        .get_cluster_id = object_get_cluster_id,
        .put_cluster_id = object_put_cluster_id,
        .get_heir = kv_get_heir,
        .raise_term = kv_raise_term,
        .watch = kv_watch,
        .hand_on = kv_hand_on,
        .take_on = kv_take_on,
        .deadline_ms = kv_deadline_ms,
        .free = object_lease_free,
};

/* "s3://BUCKET/PREFIX/NAME?QUERY" into the URL without its query, that of PREFIX with the query, and NAME. */
static int
split_object_url(const char *url, char key[KV_KEY_SIZE], char place[S3_URL_SIZE], char name[KV_KEY_SIZE],
                 struct err *e)
{
        size_t n = strcspn(url, "?"), slash;

        if (n >= KV_KEY_SIZE || strlen(url) >= S3_URL_SIZE)
                return err_text(e, E_CONFIG, "lease.object.url: longer than %d bytes", KV_KEY_SIZE - 1);
        for (slash = n; slash > 5 && url[slash - 1] != '/';)
                slash--;
        if (strncmp(url, "s3://", 5) != 0 || slash <= 6 || slash == n)
                return err_text(e, E_CONFIG,
                                "lease.object.url: want the name of an object, such as "
                                "s3://BUCKET/app.lease, not \"%.*s\"",
                                n < 200 ? (int)n : 200, url);
        if (strstr(url + n, "sseCustomerKey=") !=
            NULL) /* the URL is told to the next program, in its arguments */
                return err_text(e, E_CONFIG,
                                "lease.object.url: a lease is not encrypted with a customer's key "
                                "(sseCustomerKey): leave it out, there is no data in a lease");
        snprintf(key, KV_KEY_SIZE, "%.*s", (int)n, url);
        snprintf(place, S3_URL_SIZE, "%.*s%s", (int)slash, url, url + n);
        snprintf(name, KV_KEY_SIZE, "%.*s", (int)(n - slash), url + slash);
        return 0;
}

/* What is wrong for good is told now; what does not answer need not, for it may later. */
static int
try_object(struct object_lease *o, bool is_tried, struct err *ret_trouble, struct err *e)
{
        struct err why = o->s3.not_ready;
        int r = why.code;

        kv_begin(&o->kv);
        if (r == 0 && is_tried)
                r = object_probe(o, &why);
        if (r == E_CONFIG || r == -EACCES || r == -ENXIO || r == -EINVAL)
                return err_text(e, r, "lease.object: %s", why.text);
        if (r < 0 && ret_trouble != NULL)
                *ret_trouble = why;
        return 0;
}

int
lease_object_new(const struct lease_object_options *options, struct lease **ret, struct err *e)
{
        char key[KV_KEY_SIZE], place[S3_URL_SIZE], name[KV_KEY_SIZE];
        struct kv_options kv = {
                .type = "object",
                .hostname = options->hostname,
                .advertise_url = options->advertise_url,
                .key = key,
                .is_url = true,
                .ttl_ms = options->ttl_ms,
                .clock = options->clock,
        };
        int r = split_object_url(options->url != NULL ? options->url : "", key, place, name, e);
        struct object_lease *o = r == 0 ? calloc(1, sizeof *o) : NULL;

        if (o == NULL)
                return r < 0 ? r : err_set(e, -ENOMEM, "lease in a bucket");
        memcpy(o->name, name, sizeof o->name);
        o->kv.base.may_vanish = true;
        r = kv_init(&o->kv, &object_ops, &object_service, &kv, e);
        if (r == 0) {
                snprintf(o->probe_name, sizeof o->probe_name, "%s.probe.%s", name, o->kv.hostname);
                r = s3_init(&o->s3, place, options->bucket, e);
                if (r < 0)
                        err_prefix(e, "lease.object");
        }
        if (r == 0)
                r = try_object(o, options->is_tried, options->ret_trouble, e);
        if (r < 0) {
                object_lease_free(&o->kv.base);
                return r;
        }
        *ret = &o->kv.base;
        return 0;
}
