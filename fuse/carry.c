/* The state is that between two requests, so it is small: for each node and open file what inode.h and struct handle say of it.
 * What is made of a name and can be found again by it is not handed over: files that are open are, for they may have none. */
#include "fuse/carry.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/monotonic.h"
#include "fuse/fuse_internal.h"
#include "fuse/lost.h"
#include "fuse/moments.h"
#include "fuse/passthrough.h"
#include "fuse/wal_spoil.h"
#include "fuse/wal_watch.h"
#include "sqlite/wal_index.h"

#define SESSION_TAG 0x73657373696f6eu
#define WORK_MS 5000 /* that a pause may last for work to end that may wait for a disk; */
#define VISIT_MS 50  /* for work that may wait for an answer of the mount; */
#define BETWEEN_MS 2 /* then it is interrupted, so that it gets one */

/* --- stopping --- */

static bool
is_of_moment(const struct inode *in)
{
        return in->kind == INODE_MOMENT || (in->kind == INODE_HISTORY && in->moment != NULL);
}

int
session_may_be_carried(struct session *s, struct err *e)
{
        int r = 0;

        pthread_mutex_lock(&s->lock);
        for (uint32_t i = 1; i < s->handles.n && r == 0; i++) {
                const struct handle *h = s->handles.slots[i].item;

                if (h != NULL && (h->is_halt || h->is_opening))
                        r = err_text(e, -EBUSY,
                                     "the halt lock of %s is held here: let `litefs run` or the "
                                     "application end that has %s-lock open",
                                     db_name(h->inode->db), db_name(h->inode->db));
                else if (h != NULL && is_of_moment(h->inode))
                        r = err_text(e, -EBUSY, "a past state of %s is open: close it first",
                                     h->inode->db != NULL ? db_name(h->inode->db) : "a database");
        }
        pthread_mutex_unlock(&s->lock);
        return r;
}

unsigned
session_count_carried_fds(struct session *s)
{
        const struct id_table *t = &s->inodes.ids;
        unsigned n = 0;

        pthread_mutex_lock(&s->lock);
        for (uint32_t i = 1; i < t->n; i++) {
                const struct inode *in = t->slots[i].item;

                n += in != NULL && in->fd >= 0;
        }
        pthread_mutex_unlock(&s->lock);
        return n;
}

static void
carry_sleep_ms(long ms)
{
        struct timespec ts = { 0, ms * 1000000 };

        nanosleep(&ts, NULL);
}

static bool
is_idle_pool(struct workers *p)
{
        return p == NULL || workers_is_idle(p);
}

/* Of those that enter the mount. */
static bool
are_visitors_idle(struct session *s)
{
        const struct session_config *c = &s->config;

        return is_idle_pool(c->visitors) && is_idle_pool(c->tellers) && is_idle_pool(c->asker) &&
               is_idle_pool(c->appliers);
}

static bool
are_workers_idle(struct session *s, struct workers *const *others)
{
        for (struct workers *const *p = others; *p != NULL; p++)
                if (!workers_is_idle(*p))
                        return false;
        return is_idle_pool(s->config.workers) && is_idle_pool(s->historians);
}

/* Twice: a job may have left another one to a pool that was looked at before. */
static bool
are_all_idle(struct session *s, struct workers *const *others)
{
        return are_visitors_idle(s) && are_workers_idle(s, others) && are_visitors_idle(s) &&
               are_workers_idle(s, others);
}

/* During a pause: whether all work has ended, by @end_ns. */
static bool
wait_for_rest(struct session *s, struct workers *const *others, int64_t end_ns)
{
        int64_t begin_ns = monotonic_ns();

        while (!are_all_idle(s, others)) {
                int64_t now_ns = monotonic_ns();

                if (now_ns >= end_ns ||
                    now_ns - begin_ns >= (are_visitors_idle(s) ? WORK_MS : VISIT_MS) * (int64_t)1000000)
                        return false;
                carry_sleep_ms(1);
        }
        return true;
}

int
session_quiesce(struct session *s, struct workers *const *others, int timeout_ms, struct err *e)
{
        int64_t end_ns = monotonic_ns() + (int64_t)timeout_ms * 1000000;

        do {
                dispatch_pause(s);
                if (wait_for_rest(s, others, end_ns) && passthrough_is_settled(s) &&
                    are_all_idle(s, others))
                        return 0;
                dispatch_unpause(s);
                carry_sleep_ms(BETWEEN_MS);
        } while (monotonic_ns() < end_ns);
        return err_text(e, -ETIMEDOUT, "the mount did not come to rest within %d s", timeout_ms / 1000);
}

/* A look may have left a capture to a worker. */
void
session_end_looking(struct session *s)
{
        wal_watch_pause(s);
        if (s->config.workers != NULL)
                workers_drain(s->config.workers);
}

/* --- out --- */

static void
put_ids(const struct id_table *t, struct parcel *p)
{
        parcel_put(p, t->n);
        for (uint32_t i = 1; i < t->n; i++)
                parcel_put(p, t->slots[i].generation);
}

static void
put_node(const struct inode *in, struct parcel *p)
{
        parcel_put(p, in->id);
        parcel_put(p, in->number);
        parcel_put(p, in->kind);
        parcel_put(p, is_of_moment(in));
        parcel_put_text(p, in->db != NULL ? db_name(in->db) : "");
        parcel_put(p, in->parent->id);
        parcel_put_text(p, in->name != NULL ? in->name : "");
        parcel_put(p, in->n_lookups);
        parcel_put_fd(p, in->fd);
        parcel_put(p, in->is_revoked);
        parcel_put(p, in->is_moved);
        parcel_put(p, in->was_passed);
        parcel_put(p, (uint64_t)in->backing_id);
}

static void
put_nodes(const struct session *s, struct parcel *p)
{
        const struct id_table *t = &s->inodes.ids;

        parcel_put(p, s->inodes.next_number);
        put_ids(t, p);
        for (uint32_t i = 1; i < t->n; i++) {
                parcel_put(p, t->slots[i].item != NULL);
                if (t->slots[i].item != NULL)
                        put_node(t->slots[i].item, p);
        }
}

static void
put_handles(const struct session *s, struct parcel *p)
{
        const struct id_table *t = &s->handles;

        put_ids(t, p);
        for (uint32_t i = 1; i < t->n; i++) {
                const struct handle *h = t->slots[i].item;

                parcel_put(p, h != NULL);
                if (h == NULL)
                        continue;
                parcel_put(p, h->id);
                parcel_put(p, h->inode->id);
                parcel_put(p, h->is_internal);
                parcel_put(p, h->has_written);
        }
}

static void
put_parked(const struct session *s, struct parcel *p)
{
        uint64_t n = 0;

        for (const struct parked *k = s->parked; k != NULL; k = k->next)
                n++;
        parcel_put(p, n);
        for (const struct parked *k = s->parked; k != NULL; k = k->next)
                parcel_put_bytes(p, k->bytes, k->size);
}

void
session_carry_out(struct session *s, struct parcel *p)
{
        const struct session_greeting *g = &s->greeting;

        pthread_mutex_lock(&s->lock);
        parcel_put(p, SESSION_TAG);
        parcel_put_text(p, s->mount_dir);
        parcel_put_fd(p, fuse_session_fd(s->se));
        parcel_put(p, s->passthrough.is_on);
        parcel_put_bytes(p, g->init, g->init_size);
        parcel_put(p, g->want);
        parcel_put(p, g->max_write);
        parcel_put(p, g->proto_minor);
        parcel_put(p, s->has_new_names);
        put_nodes(s, p);
        put_handles(s, p);
        put_parked(s, p);
        pthread_mutex_unlock(&s->lock);
}

void
session_go_on(struct session *s)
{
        wal_watch_go_on(s);
        dispatch_unpause(s);
}

void
session_leave(struct session *s)
{
        s->is_carried_out = true;
        fuse_session_exit(s->se);
        dispatch_unpause(s);
        dispatch_wake(s);
}

/* --- in --- */

/* INIT is given to libfuse once more, for what it makes of it. The kernel has its answer, and takes no other. */
static int
greet_again(struct session *s, struct parcel_reader *r, struct err *e)
{
        struct session_greeting *g = &s->greeting, now;
        const uint8_t *init;
        struct fuse_buf buf;

        init = parcel_get_bytes(r, &g->init_size);
        if (r->error < 0 || g->init_size == 0 || g->init_size > sizeof g->init)
                return err_text(e, -EPROTO,
                                "how the connection to the kernel began was not handed over");
        memcpy(g->init, init, g->init_size);
        buf = (struct fuse_buf){ .size = g->init_size, .mem = g->init };
        fuse_session_process_buf(s->se, &buf);
        now = *g;
        g->want = (uint32_t)parcel_get(r);
        g->max_write = (uint32_t)parcel_get(r);
        g->proto_minor = (uint32_t)parcel_get(r);
        if (fuse_session_exited(s->se) || now.want != g->want || now.max_write != g->max_write ||
            now.proto_minor != g->proto_minor)
                return err_text(
                        e, -EPROTO,
                        "this program wants another connection to the kernel than the one that it takes over "
                        "(capabilities %x, not %x)",
                        now.want, g->want);
        return 0;
}

/* As fuse_session_mount, for which the name stands for a descriptor. */
static int
take_connection(struct session *s, struct parcel_reader *r, struct err *e)
{
        char name[32];
        int fd = parcel_get_fd(r), error;

        if (fd < 0)
                return err_text(e, -EPROTO, "no connection to the kernel was handed over");
        snprintf(name, sizeof name, "/dev/fd/%d", fd);
        if (fuse_session_mount(s->se, name) < 0)
                return err_text(e, -EIO, "libfuse does not take over the connection to the kernel");
        error = passthrough_take_on(s, parcel_get_flag(r), e);
        if (error < 0)
                return error;
        return greet_again(s, r, e);
}

static int
begin_ids(struct id_table *t, struct parcel_reader *r)
{
        uint32_t n = (uint32_t)parcel_get_below(r, (r->n - r->at) / sizeof(uint64_t));
        int error = r->error < 0 ? 0 : id_table_begin(t, n);

        for (uint32_t i = 1; i < n && error == 0; i++)
                t->slots[i].generation = (uint32_t)parcel_get_below(r, (uint64_t)UINT32_MAX + 1);
        return error;
}

/* The id that slot @i has to have now. */
static uint64_t
take_id(const struct id_table *t, uint32_t i, struct parcel_reader *r)
{
        uint64_t id = parcel_get(r);

        if (id != ((uint64_t)t->slots[i].generation << 32 | i) && r->error == 0)
                r->error = -EPROTO;
        return id;
}

/* Where a node is to be, once all are there. */
struct place {
        uint64_t parent;
        const char *name;
        const char
                *lost_db; /* that was not taken over, and where it was in it; NULL: it is where it was */
        const char *lost_name;
        enum live_kind live_kind;
};

/* Nobody's any more, whatever the kernel knows. */
static void
leave_node(struct inode *in, struct place *place)
{
        in->kind = in->kind == INODE_HISTORY ? INODE_DIR : INODE_PLAIN;
        in->db = NULL;
        in->is_moved = true;
        in->is_revoked = in->fd < 0;
        place->name = "";
}

/* A node of a database that is not there any more. A file that was unlinked is what it was, and a wal-index that may be mapped
 * is read on, as one that says nothing: whoever touches a page that is missing would be killed. */
static void
lose_node(struct inode *in, struct place *place, const char *db_name)
{
        static const uint8_t invalid[2 * WAL_INDEX_COPY_SIZE];
        struct stat st;

        if (in->kind == INODE_SHM && in->backing_id > 0)
                wal_spoil(in->fd); /* its users write the WAL without us */
        else if (in->kind == INODE_SHM && place->name[0] != '\0' && in->fd >= 0 &&
                 fstat(in->fd, &st) == 0 && st.st_size >= (off_t)sizeof invalid)
                (void)!pwrite(in->fd, invalid, sizeof invalid, 0);
        place->lost_db = place->name[0] != '\0' ? db_name : NULL;
        place->lost_name = place->name;
        place->live_kind = in->kind == INODE_SHM  ? LIVE_WAL_INDEX
                           : in->kind == INODE_DB ? LIVE_DATABASE
                                                  : LIVE_OTHER;
}

static int
take_node(struct session *s, uint32_t i, struct place *place, struct parcel_reader *r, struct err *e)
{
        uint64_t id = take_id(&s->inodes.ids, i, r), number = parcel_get(r);
        enum inode_kind kind = (enum inode_kind)parcel_get_below(r, INODE_HISTORY + 1);
        bool is_moment = parcel_get_flag(r);
        const char *name = parcel_get_text(r);
        struct db *db = name[0] != '\0' ? store_find(s->store, name) : NULL;
        struct inode *in;
        bool is_lost;

        if (r->error < 0)
                return 0;
        is_lost = name[0] != '\0' && db == NULL;
        if (is_lost && !store_is_broken(s->store, name))
                return err_text(e, E_CORRUPT_DB, "database %s, which was handed over, is not there",
                                name);
        in = inode_restore(&s->inodes, id, kind, db);
        if (in == NULL)
                return err_set(e, -ENOMEM, "take over the mount");
        in->number = number;
        place->parent = parcel_get(r);
        place->name = parcel_get_text(r);
        in->n_lookups = in->n_refs = parcel_get(r);
        in->fd = parcel_get_fd(r);
        in->is_revoked = parcel_get_flag(r);
        in->is_moved = parcel_get_flag(r);
        in->was_passed = parcel_get_flag(r);
        in->backing_id = (int)parcel_get_below(r, INT_MAX);
        if (is_lost)
                lose_node(in, place, name);
        if (is_lost || (is_moment && kind == INODE_MOMENT)) /* a moment is read anew, by who opens it */
                leave_node(in, place);
        else if (is_moment && (in->moment = calloc(1, sizeof *in->moment)) == NULL)
                return err_set(e, -ENOMEM, "take over the mount");
        return 0;
}

static int
place_nodes(struct session *s, const struct place *places, struct err *e)
{
        const struct id_table *t = &s->inodes.ids;

        for (uint32_t i = 1; i < t->n; i++) {
                struct inode *in = t->slots[i].item;
                struct inode *parent = in != NULL ? inode_find(&s->inodes, places[i].parent) : NULL;
                const char *name = places[i].name;

                if (in == NULL)
                        continue;
                if (parent == NULL)
                        return err_text(e, -EPROTO, "a node that was handed over lies nowhere");
                if (inode_place_restored(&s->inodes, in, parent, name[0] != '\0' ? name : NULL) < 0)
                        return err_set(e, -ENOMEM, "take over the mount");
                if (places[i].lost_db != NULL)
                        lost_note(s, in, places[i].lost_name, places[i].lost_db, places[i].live_kind);
        }
        return 0;
}

static int
carry_take_nodes(struct session *s, struct parcel_reader *r, struct err *e)
{
        struct id_table *t = &s->inodes.ids;
        struct place *places;
        int error;

        s->inodes.next_number = parcel_get(r);
        error = begin_ids(t, r);
        places = error == 0 ? calloc((size_t)t->n + 1, sizeof *places) : NULL;
        if (places == NULL)
                return err_set(e, -ENOMEM, "take over the mount");
        for (uint32_t i = 1; i < t->n && error == 0 && r->error == 0; i++)
                if (parcel_get_flag(r))
                        error = take_node(s, i, &places[i], r, e);
        if (error == 0)
                error = parcel_check(r, e);
        if (error == 0)
                error = place_nodes(s, places, e);
        free(places);
        id_table_settle(t);
        return error;
}

static int
take_handle(struct session *s, uint32_t i, struct parcel_reader *r, struct err *e)
{
        struct handle *h = calloc(1, sizeof *h);

        if (h == NULL)
                return err_set(e, -ENOMEM, "take over the mount");
        h->id = take_id(&s->handles, i, r);
        h->inode = inode_find(&s->inodes, parcel_get(r));
        h->is_internal = parcel_get_flag(r);
        h->has_written = parcel_get_flag(r);
        if (r->error < 0 || h->inode == NULL) {
                free(h);
                return err_text(e, -EPROTO, "an open file that was handed over is of no node");
        }
        s->handles.slots[i].item = h;
        inode_ref(h->inode);
        h->inode->n_handles++;
        h->inode->n_writers += h->has_written;
        passthrough_take_handle(h);
        atomic_fetch_add(&s->n_open, !h->is_internal);
        return 0;
}

static int
take_handles(struct session *s, struct parcel_reader *r, struct err *e)
{
        int error = begin_ids(&s->handles, r);

        if (error < 0)
                return err_set(e, error, "take over the mount");
        for (uint32_t i = 1; i < s->handles.n && error == 0 && r->error == 0; i++)
                if (parcel_get_flag(r))
                        error = take_handle(s, i, r, e);
        id_table_settle(&s->handles);
        return error;
}

static int
take_parked(struct session *s, struct parcel_reader *r, struct err *e)
{
        uint64_t n = parcel_get(r);

        for (uint64_t i = 0; i < n && r->error == 0; i++) {
                size_t size;
                const uint8_t *bytes = parcel_get_bytes(r, &size);
                struct parked *k = malloc(sizeof *k + size);

                if (k == NULL)
                        return err_set(e, -ENOMEM, "take over the mount");
                *k = (struct parked){ .size = size };
                memcpy(k->bytes, bytes, size);
                *s->parked_tail = k;
                s->parked_tail = &k->next;
        }
        return 0;
}

int
session_carry_in(struct session *s, struct parcel_reader *r, struct err *e)
{
        int error;

        parcel_expect(r, SESSION_TAG);
        s->mount_dir = strdup(parcel_get_text(r));
        error = s->mount_dir == NULL ? err_set(e, -ENOMEM, "take over the mount") : parcel_check(r, e);
        if (error == 0)
                error = take_connection(s, r, e);
        if (error == 0) {
                s->has_new_names = parcel_get_flag(r);
                error = carry_take_nodes(s, r, e);
        }
        if (error == 0)
                error = take_handles(s, r, e);
        if (error == 0 && (error = passthrough_take_indexes(s)) < 0)
                err_set(e, error, "take over wal-indexes");
        if (error == 0)
                error = take_parked(s, r, e);
        return error == 0 ? parcel_check(r, e) : error;
}

void
session_begin_carried(struct session *s)
{
        passthrough_watch_taken(s);
        lost_tell(s);
}
