#include "lease/file.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/os.h"
#include "lease/file_internal.h"

#define WATCH_MS 100 /* how long a lease that is given up may still be watched */

static struct file_lease *
file_lease_of(struct kv_lease *kv)
{
        return (struct file_lease *)kv;
}

/* --- sessions --- */

/* The byte of the lock file that is its own: by chance, so that none is given twice. */
static int
file_begin_session(struct kv_lease *kv, char ret[LEASE_SESSION_SIZE], int64_t *ret_ttl_ms, struct err *e)
{
        struct file_txn t;
        char session[LEASE_SESSION_SIZE];
        uint64_t id;
        int r = file_begin(file_lease_of(kv), FILE_CHANGE, &t, e);

        if (r < 0)
                return r;
        if (getrandom(&id, sizeof id, 0) != sizeof id)
                r = err_set(e, -EIO, "random numbers");
        snprintf(session, sizeof session, "%" PRIu64, (id >> 2) + 1);
        if (r == 0)
                r = file_lock_session(file_lease_of(kv), &t, session, e);
        file_end(&t);
        if (r == 0) {
                memcpy(ret, session, LEASE_SESSION_SIZE);
                *ret_ttl_ms = kv->base.ttl_ms;
        }
        return r;
}

/* A lock does not run out. Whether the lease is still this node's is seen as its mark is written. */
static int
keep_lock(struct kv_lease *kv, int64_t *ret_ttl_ms, struct err *e)
{
        (void)e;
        *ret_ttl_ms = kv->base.ttl_ms;
        return 0;
}

/* Of the change that file_save makes last. */
static uint64_t
file_mark(const struct file_txn *t)
{
        return document_number(t->root, "revision") + 1;
}

static int
file_end_session(struct kv_lease *kv, const char *session, uint64_t term)
{
        struct file_txn t;
        int r = file_begin(file_lease_of(kv), FILE_CHANGE, &t, NULL);

        if (r < 0)
                return r;
        if (document_is_held_by(t.root, session)) {
                document_free_key(t.root, term, file_mark(&t));
                r = file_save(file_lease_of(kv), &t, NULL);
        }
        if (r == 0)
                file_unlock_session(file_lease_of(kv), session);
        file_end(&t);
        return r;
}

/* --- reading --- */

static int
file_read_lease(struct kv_lease *kv, struct lease_state *ret, struct err *e)
{
        struct file_txn t;
        int r = file_begin(file_lease_of(kv), FILE_READ, &t, e);

        if (r < 0)
                return r;
        r = document_read(t.root, file_is_session_alive(&t), ret, e);
        if (r < 0)
                err_prefix(e, "%s", kv->key);
        file_end(&t);
        return r;
}

static int
file_read_heir(struct kv_lease *kv, char ret[LEASE_SESSION_SIZE], struct err *e)
{
        struct file_txn t;
        int r = file_begin(file_lease_of(kv), FILE_READ, &t, e);

        ret[0] = '\0';
        if (r < 0)
                return r;
        snprintf(ret, LEASE_SESSION_SIZE, "%s", document_text(t.root, "heir"));
        file_end(&t);
        return 0;
}

/* --- acquire and renew --- */

/* Which file the holder's byte is locked in. */
static int
file_set_identity(struct file_txn *t, struct err *e)
{
        char identity[FILE_IDENTITY_SIZE];
        int r = file_identity(t->fd, identity, e);

        if (r == 0)
                json_object_set_new(t->root, "lock-file", json_string(identity));
        return r;
}

static int
file_lock_key(struct kv_lease *kv, const struct kv_lock *what, struct err *e)
{
        struct file_txn t;
        int r = file_begin(file_lease_of(kv), FILE_CHANGE, &t, e);

        if (r < 0)
                return r;
        r = document_lock(t.root, file_is_session_alive(&t), what, file_mark(&t), e);
        if (r == 0)
                r = file_set_identity(&t, e);
        if (r == 0)
                r = file_save(file_lease_of(kv), &t, e);
        if (r == 0 && what->token != NULL)
                file_unlock_session(file_lease_of(kv),
                                    what->token); /* if it was this node's own offer */
        file_end(&t);
        return r;
}

/* Also that its byte is still in the file that has the name: where it is not, the others could not tell when this node ends. */
static int
file_write_value(struct kv_lease *kv, const char *value, struct err *e)
{
        char identity[FILE_IDENTITY_SIZE];
        struct file_txn t;
        int r = file_begin(file_lease_of(kv), FILE_CHANGE, &t, e);

        if (r < 0)
                return r;
        r = document_write_value(t.root, kv->session, value, file_mark(&t), e);
        if (r < 0)
                err_prefix(e, "%s", kv->key);
        if (r == 0)
                r = file_identity(t.fd, identity, e);
        if (r == 0 && strcmp(document_text(t.root, "lock-file"), identity) != 0)
                r = err_text(e, E_NOT_PRIMARY, "%s.lock was replaced", kv->key);
        if (r == 0)
                r = file_save(file_lease_of(kv), &t, e);
        file_end(&t);
        return r;
}

static int
file_break_key(struct kv_lease *kv, const struct lease_state *seen, struct err *e)
{
        struct file_txn t;
        int r = file_begin(file_lease_of(kv), FILE_CHANGE, &t, e);

        if (r < 0)
                return r;
        r = document_break(t.root, seen, file_mark(&t), e);
        if (r == 0)
                r = file_save(file_lease_of(kv), &t, e);
        file_end(&t);
        return r;
}

static int
file_raise_term(struct kv_lease *kv, const struct lease_state *seen, uint64_t term, struct err *e)
{
        struct file_txn t;
        int r = file_begin(file_lease_of(kv), FILE_CHANGE, &t, e);

        if (r < 0)
                return r;
        r = document_raise_term(t.root, file_is_session_alive(&t), seen, term, file_mark(&t), e);
        if (r == 0)
                r = file_save(file_lease_of(kv), &t, e);
        file_end(&t);
        return r;
}

/* --- the watch --- */

static int
look_at_holder(struct file_lease *f, const char *session, struct err *e)
{
        json_t *root;
        int r = file_peek(f, &root, e);

        if (r < 0)
                return r;
        if (!document_is_held_by(root, session))
                r = err_text(e, E_NOT_PRIMARY,
                             "the lease in %s was taken away, or given to another node", f->kv.key);
        json_decref(root);
        return r;
}

/* Each change of PATH is a rename in its directory. */
static int
file_watch_key(struct kv_lease *kv, const struct lease_state *held, struct err *e)
{
        struct file_lease *f = file_lease_of(kv);
        struct pollfd p = { .fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), .events = POLLIN };
        int r;

        if (p.fd < 0)
                return err_set(e, -errno, "inotify");
        if (inotify_add_watch(p.fd, f->dir, IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE) < 0)
                r = err_set(e, -errno, "watch %s", f->dir);
        else
                r = look_at_holder(f, held->session, e);
        if (r == 0 && poll(&p, 1, WATCH_MS) > 0)
                r = look_at_holder(f, held->session, e);
        close(p.fd);
        return r;
}

/* --- the cluster's id --- */

/* Reads it; puts @id, when not NULL, if there is none. */
static int
file_cluster_id(struct file_lease *f, const char *id, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        struct file_txn t;
        const char *text;
        int r;

        kv_begin(&f->kv);
        r = file_begin(f, id != NULL ? FILE_CHANGE : FILE_READ, &t, e);
        if (r < 0)
                return r;
        text = document_text(t.root, "cluster-id");
        if (text[0] == '\0' && id != NULL) {
                text = id;
                json_object_set_new(t.root, "cluster-id", json_string(id));
                r = file_save(f, &t, e);
        }
        if (r == 0)
                r = kv_copy_cluster_id(text, strlen(text), ret, e);
        file_end(&t);
        return r;
}

static int
file_get_cluster_id(struct lease *l, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        ret[0] = '\0';
        return file_cluster_id((struct file_lease *)l, NULL, ret, e);
}

static int
file_put_cluster_id(struct lease *l, const char *id, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        int r = kv_copy_cluster_id(id, strlen(id), ret, e);

        return r < 0 ? r : file_cluster_id((struct file_lease *)l, id, ret, e);
}

/* --- from program to program --- */

/* The session lives for as long as the open file that has its byte locked. */
static void
file_hand_on(struct lease *l, struct lease_hold *ret)
{
        struct file_lease *f = (struct file_lease *)l;

        kv_hand_on(l, ret);
        ret->fd = f->session_fd;
        f->session_fd = -1;
}

static int
file_take_on(struct lease *l, const struct lease_hold *hold, struct lease_state *ret, struct err *e)
{
        struct file_lease *f = (struct file_lease *)l;
        int r = kv_take_on(l, hold, ret, e);

        if (r == 0 || r == E_NOT_PRIMARY) /* an offer, or a leftover, may be locked yet */
                f->session_fd = hold->fd;
        return r;
}

/* --- set-up --- */

static void
file_lease_free(struct lease *l)
{
        struct file_lease *f = (struct file_lease *)l;

        os_close(os_host(), "lease:lock", f->session_fd);
        kv_release(&f->kv);
        free(f);
}

static const struct kv_service file_service = {
        .create_session = file_begin_session,
        .keep_alive = keep_lock,
        .end_session = file_end_session,
        .read = file_read_lease,
        .read_term = file_read_lease,
        .read_heir = file_read_heir,
        .lock = file_lock_key,
        .write_value = file_write_value,
        .break_key = file_break_key,
        .raise_term = file_raise_term,
        .watch = file_watch_key,
};

static const struct lease_ops file_ops = {
        KV_LEASE_OPS,
        .get_cluster_id = file_get_cluster_id,
        .put_cluster_id = file_put_cluster_id,
        .hand_on = file_hand_on,
        .take_on = file_take_on,
        .free = file_lease_free,
};

/* That the lease can be read, so that a node does not start with a file that it will never lead by. */
static int
file_try(struct file_lease *f, struct err *e)
{
        struct file_txn t;
        int r;

        kv_begin(&f->kv);
        r = file_begin(f, FILE_READ, &t, e);
        if (r == 0)
                file_end(&t);
        return r == -ETIMEDOUT ? 0 : r;
}

int
lease_file_new(const struct lease_file_options *o, struct lease **ret, struct err *e)
{
        struct kv_options options = {
                .type = "file",
                .hostname = o->hostname,
                .advertise_url = o->advertise_url,
                .key = o->path,
                .ttl_ms = o->ttl_ms,
                .clock = o->clock,
        };
        struct file_lease *f = calloc(1, sizeof *f);
        int r;

        if (f == NULL)
                return err_set(e, -ENOMEM, "lease in a file");
        f->session_fd = -1;
        r = kv_init(&f->kv, &file_ops, &file_service, &options, e);
        if (r == 0) {
                snprintf(f->lock_path, sizeof f->lock_path, "%s.lock", f->kv.key);
                snprintf(f->new_path, sizeof f->new_path, "%s.new", f->kv.key);
                snprintf(f->dir, sizeof f->dir, "%.*s", (int)(strrchr(f->kv.key, '/') - f->kv.key),
                         f->kv.key);
                r = file_try(f, e);
                if (r < 0)
                        err_prefix(e, "lease.file.path");
        }
        if (r < 0) {
                file_lease_free(&f->kv.base);
                return r;
        }
        *ret = &f->kv.base;
        return 0;
}
