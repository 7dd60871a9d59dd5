/* links: litefs_fuse litefs_lease sqlite3 */
/* What the kernel holds of the mount: ids of nodes and of open files. Requests come here as its bytes, so that they may be
 * about what is gone, or was never there. */
#define FUSE_USE_VERSION 312
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/workers.h"
#include "fuse/fuse_internal.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/files.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

#define BODY_MAX (8u << 10)

/* A mount without a kernel; one at a time, for libfuse has no room for it. */
static struct mount {
        char *dir, root[300];
        struct workers *workers, *visitors, *tellers;
        struct lease *lease;
        struct store *store;
        struct session *s;
        uint64_t unique;      /* of the last request */
        pthread_mutex_t lock; /* what follows comes from a worker, perhaps */
        unsigned n_answers;
        int error; /* of the last answer: 0 or negative */
        uint8_t body[BODY_MAX];
} m = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* --- the kernel's side --- */

static ssize_t
take_answer(int fd, struct iovec *iov, int count, void *userdata)
{
        struct {
                struct fuse_out_header head;
                uint8_t body[BODY_MAX];
        } out = { 0 };
        size_t n = 0, total = 0;

        (void)fd, (void)userdata;
        for (int i = 0; i < count; i++) {
                size_t room = sizeof out - n, part = iov[i].iov_len < room ? iov[i].iov_len : room;

                memcpy((uint8_t *)&out + n, iov[i].iov_base, part);
                n += part;
                total += iov[i].iov_len;
        }
        if (out.head.unique == 0)
                return (ssize_t)total; /* the kernel is told to forget something */
        pthread_mutex_lock(&m.lock);
        ck_assert_uint_eq(out.head.unique, m.unique);
        m.n_answers++;
        m.error = out.head.error;
        memcpy(m.body, out.body, sizeof m.body);
        pthread_mutex_unlock(&m.lock);
        return (ssize_t)total;
}

static ssize_t
read_nothing(int fd, void *buf, size_t n, void *userdata)
{
        (void)fd, (void)buf, (void)n, (void)userdata;
        errno = ENODEV;
        return -1;
}

static void
handle(void *bytes, size_t n)
{
        struct fuse_buf buf = { .size = n, .mem = bytes };
        bool is_aside;
        int n_tries = 0;

        do {
                ck_assert_int_lt(n_tries++, 1000);
                pthread_mutex_lock(&m.s->lock);
                m.s->wants_park = false;
                fuse_session_process_buf(m.s->se, &buf);
                is_aside = m.s->wants_park;
                m.s->wants_park = false;
                pthread_mutex_unlock(&m.s->lock);
                workers_drain(m.workers);
                workers_drain(m.visitors);
                workers_drain(m.tellers);
        } while (is_aside);
}

/* The error of the answer. Each request is answered once, and FORGET never. */
static int
ask(uint32_t opcode, uint64_t node, const void *body, size_t n)
{
        struct {
                struct fuse_in_header head;
                uint8_t body[BODY_MAX];
        } in = { .head = { .len = (uint32_t)(sizeof in.head + n),
                           .opcode = opcode,
                           .nodeid = node,
                           .uid = geteuid(),
                           .gid = getegid() } };
        bool is_forget = opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET;

        in.head.unique = ++m.unique;
        memcpy(in.body, body, n);
        m.n_answers = 0;
        handle(&in, in.head.len);
        ck_assert_uint_eq(m.n_answers, is_forget ? 0 : 1);
        return is_forget ? 0 : m.error;
}

static void
begin(void)
{
        struct fuse_custom_io io = { .writev = take_answer, .read = read_nothing };
        struct fuse_init_in init = { .major = 7, .minor = 31, .max_readahead = 4096 };
        struct lease_state holder = { .has_holder = true, .term = 1 };
        struct store_config config = { .os = os_host(), .clock = clock_host(), .data_dir = m.root };
        struct session_config session = { 0 };
        struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
        struct err e = ERR_INIT;

        m.dir = tmpdir_make();
        snprintf(m.root, sizeof m.root, "%s/data", m.dir);
        ck_assert_int_eq(workers_new(1, &m.workers), 0);
        ck_assert_int_eq(workers_new_for_mount(1, &m.visitors), 0);
        ck_assert_int_eq(workers_new_for_mount(1, &m.tellers), 0);
        ck_assert_int_eq(lease_static_new(true, "n", "", &m.lease), 0);
        config.workers = m.workers;
        ck_assert_msg(store_open(&config, m.lease, &m.store, &e) == 0, "%s", e.text);
        store_set_role(m.store, true, &holder);
        session.mount_dir = m.dir;
        session.store = m.store;
        session.workers = m.workers;
        session.visitors = m.visitors;
        session.tellers = m.tellers;
        ck_assert_int_eq(session_new(&session, &m.s), 0);
        ck_assert_int_eq(fuse_opt_add_arg(&args, "test"), 0);
        m.s->se = fuse_session_new(&args, &session_ops, sizeof session_ops, m.s);
        fuse_opt_free_args(&args);
        ck_assert_ptr_nonnull(m.s->se);
        ck_assert_int_eq(fuse_session_custom_io(m.s->se, &io, open("/dev/null", O_RDWR | O_CLOEXEC)), 0);
        ck_assert_int_eq(ask(FUSE_INIT, 0, &init, sizeof init), 0);
}

static void
end(void)
{
        store_stop_housekeeping(m.store);
        session_free(m.s);
        store_close(m.store);
        m.lease->ops->free(m.lease);
        workers_free(m.tellers);
        workers_free(m.visitors);
        workers_free(m.workers);
        tmpdir_remove(m.dir);
}

/* --- requests --- */

static int
ask_name(uint32_t opcode, uint64_t parent, const void *fixed, size_t n, const char *name)
{
        uint8_t body[512];
        size_t len = strlen(name) + 1;

        ck_assert_uint_le(n + len, sizeof body);
        if (n > 0)
                memcpy(body, fixed, n);
        memcpy(body + n, name, len);
        return ask(opcode, parent, body, n + len);
}

static uint64_t
looked_up(void)
{
        struct fuse_entry_out entry;

        memcpy(&entry, m.body, sizeof entry);
        return entry.nodeid;
}

static uint64_t
look_up(uint64_t parent, const char *name)
{
        ck_assert_int_eq(ask_name(FUSE_LOOKUP, parent, NULL, 0, name), 0);
        return looked_up();
}

static uint64_t
make_dir(const char *name)
{
        struct fuse_mkdir_in in = { .mode = 0755 };

        ck_assert_int_eq(ask_name(FUSE_MKDIR, FUSE_ROOT_ID, &in, sizeof in, name), 0);
        return looked_up();
}

/* The node; *@ret_fh is the open file. */
static uint64_t
create(uint64_t parent, const char *name, uint64_t *ret_fh)
{
        struct fuse_create_in in = { .flags = O_RDWR, .mode = 0644 };
        struct fuse_open_out opened;

        ck_assert_int_eq(ask_name(FUSE_CREATE, parent, &in, sizeof in, name), 0);
        memcpy(&opened, m.body + sizeof(struct fuse_entry_out), sizeof opened);
        *ret_fh = opened.fh;
        return looked_up();
}

static void
forget(uint64_t node, uint64_t n)
{
        struct fuse_forget_in in = { .nlookup = n };

        ask(FUSE_FORGET, node, &in, sizeof in);
}

static int
getattr(uint64_t node)
{
        return ask(FUSE_GETATTR, node, &(struct fuse_getattr_in){ 0 }, sizeof(struct fuse_getattr_in));
}

static int
read_file_at(uint64_t node, uint64_t fh)
{
        struct fuse_read_in in = { .fh = fh, .size = 100 };

        return ask(FUSE_READ, node, &in, sizeof in);
}

static int
release(uint64_t node, uint64_t fh)
{
        struct fuse_release_in in = { .fh = fh };

        return ask(FUSE_RELEASE, node, &in, sizeof in);
}

/* A request of any kind: about a node, a name in it, an open file, and for RENAME and LINK a second node. */
static int
ask_named(uint32_t opcode, uint64_t node, uint64_t fh, uint64_t other, const char *name)
{
        uint8_t body[1024] = { 0 };

        switch (opcode) {
        case FUSE_LOOKUP:
        case FUSE_UNLINK:
        case FUSE_RMDIR:
                return ask_name(opcode, node, NULL, 0, name);
        case FUSE_SYMLINK: /* the new name, and where it leads */
                return ask_name(opcode, node, "b", 2, name);
        case FUSE_MKNOD: {
                struct fuse_mknod_in in = { .mode = S_IFREG | 0644 };

                return ask_name(opcode, node, &in, sizeof in, name);
        }
        case FUSE_MKDIR: {
                struct fuse_mkdir_in in = { .mode = 0755 };

                return ask_name(opcode, node, &in, sizeof in, name);
        }
        case FUSE_CREATE: {
                struct fuse_create_in in = { .flags = O_RDWR, .mode = 0644 };

                return ask_name(opcode, node, &in, sizeof in, name);
        }
        case FUSE_RENAME:
                memcpy(body, &other, sizeof other);
                memcpy(body + sizeof other, "a", 2);
                return ask_name(opcode, node, body, sizeof other + 2, name);
        case FUSE_LINK:
                return ask_name(opcode, node, &other, sizeof other, name);
        case FUSE_GETATTR:
                return getattr(node);
        case FUSE_SETATTR: {
                struct fuse_setattr_in in = { .valid = FATTR_SIZE | (fh != 0 ? FATTR_FH : 0), .fh = fh };

                return ask(opcode, node, &in, sizeof in);
        }
        case FUSE_WRITE: {
                struct fuse_write_in in = { .fh = fh, .size = 100 };

                memcpy(body, &in, sizeof in);
                return ask(opcode, node, body, sizeof in + 100);
        }
        case FUSE_OPEN:
                return ask(opcode, node, &(struct fuse_open_in){ .flags = O_RDWR },
                           sizeof(struct fuse_open_in));
        default: /* a handle, if anything, and numbers that may be 0 */
                memcpy(body, &fh, sizeof fh);
                if (opcode == FUSE_READ || opcode == FUSE_READDIR)
                        ((struct fuse_read_in *)(void *)body)->size = 100;
                return ask(opcode, node, body, sizeof(struct fuse_read_in));
        }
}

static int
ask_any(uint32_t opcode, uint64_t node, uint64_t fh, uint64_t other)
{
        return ask_named(opcode, node, fh, other, "a");
}

static const uint32_t about_nodes[] = { FUSE_LOOKUP,  FUSE_GETATTR,  FUSE_SETATTR, FUSE_READLINK,
                                        FUSE_SYMLINK, FUSE_MKNOD,    FUSE_MKDIR,   FUSE_UNLINK,
                                        FUSE_RMDIR,   FUSE_RENAME,   FUSE_LINK,    FUSE_OPEN,
                                        FUSE_READ,    FUSE_WRITE,    FUSE_STATFS,  FUSE_FLUSH,
                                        FUSE_RELEASE, FUSE_FSYNC,    FUSE_READDIR, FUSE_FSYNCDIR,
                                        FUSE_CREATE,  FUSE_FALLOCATE };
static const uint32_t about_files[] = { FUSE_SETATTR, FUSE_READ,  FUSE_WRITE,    FUSE_FLUSH,
                                        FUSE_RELEASE, FUSE_FSYNC, FUSE_FALLOCATE };

/* --- what is gone, or was never there --- */

START_TEST(what_was_never_told_is_stale)
{
        static const uint64_t made_up[] = {
                2,          256,        (uint64_t)1 << 32,  (uint64_t)1 << 32 | 3,
                UINT64_MAX, UINT32_MAX, 0x00007f0012345678, 0x0000555512345678
        };

        begin();
        for (int i = 0; i < COUNT(about_nodes); i++)
                for (int k = 0; k < COUNT(made_up); k++)
                        ck_assert_int_eq(ask_any(about_nodes[i], made_up[k], 0, FUSE_ROOT_ID), -ESTALE);
        for (int k = 0; k < COUNT(made_up); k++) {
                ck_assert_int_eq(ask_any(FUSE_RENAME, FUSE_ROOT_ID, 0, made_up[k]), -ESTALE);
                ck_assert_int_eq(ask_any(FUSE_LINK, FUSE_ROOT_ID, 0, made_up[k]), -ESTALE);
                forget(made_up[k], 1);
        }
        end();
}
END_TEST

START_TEST(what_was_forgotten_is_stale)
{
        uint64_t node, again, fh;

        begin();
        node = create(FUSE_ROOT_ID, "plain", &fh);
        ck_assert_int_eq(release(node, fh), 0);
        ck_assert_int_eq(getattr(node), 0);
        forget(node, 1);
        ck_assert_int_eq(getattr(node), -ESTALE);
        again = look_up(FUSE_ROOT_ID, "plain");
        ck_assert_uint_ne(again, node);
        for (int i = 0; i < COUNT(about_nodes); i++)
                ck_assert_int_eq(ask_any(about_nodes[i], node, 0, FUSE_ROOT_ID), -ESTALE);
        ck_assert_int_eq(getattr(again), 0);
        end();
}
END_TEST

START_TEST(a_closed_file_is_no_file)
{
        uint64_t node, other, fh, of_other;

        begin();
        node = create(FUSE_ROOT_ID, "plain", &fh);
        other = create(FUSE_ROOT_ID, "other", &of_other);
        for (int i = 0; i < COUNT(about_files); i++)
                ck_assert_int_eq(ask_any(about_files[i], node, of_other, 0), -EBADF);
        ck_assert_int_eq(read_file_at(node, fh), 0);
        ck_assert_int_eq(release(node, fh), 0);
        for (int i = 0; i < COUNT(about_files); i++)
                ck_assert_int_eq(ask_any(about_files[i], node, fh, 0), -EBADF);
        ck_assert_int_eq(read_file_at(node, (uint64_t)77 << 32 | 1), -EBADF);
        ck_assert_int_eq(read_file_at(other, of_other), 0);
        end();
}
END_TEST

/* As often as it was looked up, and not more: a handle and a child keep it, however often the kernel forgets it. */
START_TEST(a_node_is_forgotten_as_often_as_it_was_told)
{
        uint64_t dir, node, fh;

        begin();
        dir = make_dir("d");
        node = create(dir, "plain", &fh);
        ck_assert_uint_eq(look_up(dir, "plain"), node);
        forget(node, 1);
        ck_assert_int_eq(getattr(node), 0);
        forget(node, (uint64_t)1 << 40);
        forget(node, 1);
        ck_assert_int_eq(read_file_at(node, fh), 0);
        forget(dir, 1);
        forget(dir, 1000);
        forget(FUSE_ROOT_ID, 1000);
        ck_assert_int_eq(getattr(dir), 0); /* its child has it */
        ck_assert_int_eq(release(node, fh), 0);
        ck_assert_int_eq(getattr(node), -ESTALE);
        ck_assert_int_eq(getattr(dir), -ESTALE);
        ck_assert_int_eq(getattr(FUSE_ROOT_ID), 0);
        ck_assert_uint_eq(m.s->inodes.n_inodes, 0);
        end();
}
END_TEST

START_TEST(a_file_is_no_directory)
{
        static const uint32_t in_directories[] = { FUSE_LOOKUP, FUSE_SYMLINK, FUSE_MKNOD,   FUSE_MKDIR,
                                                   FUSE_UNLINK, FUSE_RMDIR,   FUSE_RENAME,  FUSE_LINK,
                                                   FUSE_CREATE, FUSE_READDIR, FUSE_FSYNCDIR };
        uint64_t node, fh;

        begin();
        node = create(FUSE_ROOT_ID, "plain", &fh);
        for (int i = 0; i < COUNT(in_directories); i++)
                ck_assert_int_eq(ask_any(in_directories[i], node, 0, FUSE_ROOT_ID), -ENOTDIR);
        ck_assert_int_eq(ask_any(FUSE_RENAME, FUSE_ROOT_ID, 0, node), -ENOTDIR);
        end();
}
END_TEST

/* --- anything --- */

/* What the kernel would know: how often it was told of each node, and what is open. */
struct kernel {
        struct told {
                uint64_t node, n;
        } nodes[600];
        struct opened {
                uint64_t fh, node;
                bool is_open;
        } files[600];
        int n_nodes, n_files;
        uint32_t random;
};

static uint32_t
roll(struct kernel *k, uint32_t n)
{
        k->random = k->random * 1664525u + 1013904223u;
        return (k->random >> 8) % n;
}

static uint64_t
some_node(struct kernel *k)
{
        uint64_t node = k->n_nodes > 0 ? k->nodes[roll(k, (uint32_t)k->n_nodes)].node : 7;

        switch (roll(k, 10)) {
        case 0:
                return node ^ (uint64_t)1 << roll(k, 64);
        case 1:
        case 2:
                return FUSE_ROOT_ID;
        default:
                return node;
        }
}

static void
note_node(struct kernel *k)
{
        uint64_t node = looked_up();
        int i = 0;

        if (node == 0)
                return; /* there is none of that name */
        while (i < k->n_nodes && k->nodes[i].node != node)
                i++;
        if (i == k->n_nodes) {
                ck_assert_int_lt(k->n_nodes, COUNT(k->nodes));
                k->nodes[k->n_nodes++] = (struct told){ node, 0 };
        }
        k->nodes[i].n++;
}

static void
note_file(struct kernel *k, uint64_t node, const void *answer)
{
        struct fuse_open_out opened;

        memcpy(&opened, answer, sizeof opened);
        ck_assert_int_lt(k->n_files, COUNT(k->files));
        k->files[k->n_files++] = (struct opened){ opened.fh, node, true };
}

static void
note_answer(struct kernel *k, uint32_t opcode, uint64_t node)
{
        switch (opcode) {
        case FUSE_LOOKUP:
        case FUSE_MKNOD:
        case FUSE_MKDIR:
        case FUSE_SYMLINK:
        case FUSE_LINK:
                note_node(k);
                break;
        case FUSE_CREATE:
                note_node(k);
                note_file(k, looked_up(), m.body + sizeof(struct fuse_entry_out));
                break;
        case FUSE_OPEN:
                note_file(k, node, m.body);
                break;
        default:
                break;
        }
}

static void
release_some(struct kernel *k)
{
        struct opened *o = k->n_files > 0 ? &k->files[roll(k, (uint32_t)k->n_files)] : NULL;

        if (o == NULL)
                return;
        ck_assert_int_eq(release(o->node, o->fh) == 0, o->is_open);
        o->is_open = false;
}

/* No more often than it was told, as the kernel; what is open it does not forget. */
static void
forget_some(struct kernel *k)
{
        struct told *t = k->n_nodes > 0 ? &k->nodes[roll(k, (uint32_t)k->n_nodes)] : NULL;
        uint64_t n;

        if (t == NULL || t->n == 0)
                return;
        n = t->n == 1 ? 1 : 1 + roll(k, (uint32_t)t->n);
        for (int i = 0; i < k->n_files; i++)
                if (k->files[i].is_open && k->files[i].node == t->node && n == t->n)
                        return;
        forget(t->node, n);
        t->n -= n;
}

static void
ask_something(struct kernel *k)
{
        static const char *const names[] = { "app.db",     "app.db-journal", "app.db-wal", "app.db-shm",
                                             "app.db-pos", "app.db-lock",    "a",          "b" };
        struct opened *o = k->n_files > 0 && roll(k, 5) > 0 ? &k->files[roll(k, (uint32_t)k->n_files)]
                                                            : NULL;
        uint32_t opcode = about_nodes[roll(k, COUNT(about_nodes))];
        uint64_t node = o != NULL && roll(k, 5) > 0 ? o->node : some_node(k);
        uint64_t fh = o == NULL ? 0 : roll(k, 8) > 0 ? o->fh : o->fh ^ (uint64_t)1 << roll(k, 64);

        if (opcode == FUSE_RELEASE)
                release_some(k);
        else if (opcode == FUSE_STATFS)
                forget_some(k);
        else if (ask_named(opcode, node, fh, some_node(k), names[roll(k, COUNT(names))]) == 0)
                note_answer(k, opcode, node);
}

/* A plain file that is one, taken over when it is synced. */
static void
make_database(struct kernel *k)
{
        struct fuse_fsync_in sync = { 0 };
        uint64_t node = look_up(FUSE_ROOT_ID, "app.db"), fh;
        struct file_bytes page = read_file(path_in(m.root, "files/app.db"));
        uint8_t body[sizeof(struct fuse_write_in) + 4096];
        struct fuse_write_in in = { .size = 4096 };

        note_node(k);
        ck_assert_int_eq(ask_any(FUSE_OPEN, node, 0, 0), 0);
        note_file(k, node, m.body);
        fh = sync.fh = in.fh = k->files[k->n_files - 1].fh;
        memcpy(body, &in, sizeof in);
        memcpy(body + sizeof in, page.data, 4096);
        ck_assert_int_eq(ask(FUSE_WRITE, node, body, sizeof body), 0);
        ck_assert_int_eq(ask(FUSE_FSYNC, node, &sync, sizeof sync), 0);
        ck_assert_ptr_nonnull(store_find(m.store, "app.db"));
        ck_assert_int_eq(read_file_at(node, fh), 0);
        free(page.data);
}

START_TEST(anything_is_answered_once_and_nothing_is_left)
{
        static struct kernel k;

        k = (struct kernel){ .random = (uint32_t)_i * 7919 + 1 };
        begin();
        db_driver_make_plain(path_in(m.root, "files/app.db"), 10);
        make_database(&k);
        while (k.n_nodes < COUNT(k.nodes) - 1 && k.n_files < COUNT(k.files) - 1 && m.unique < 4000)
                ask_something(&k);
        for (int i = 0; i < k.n_files; i++)
                if (k.files[i].is_open)
                        ck_assert_int_eq(release(k.files[i].node, k.files[i].fh), 0);
        for (int i = 0; i < k.n_nodes; i++)
                forget(k.nodes[i].node, k.nodes[i].n);
        for (int i = 0; i < k.n_nodes; i++)
                ck_assert_int_eq(getattr(k.nodes[i].node), -ESTALE);
        for (uint32_t i = 1; i < m.s->inodes.ids.n; i++)
                ck_assert_ptr_null(m.s->inodes.ids.slots[i].item);
        for (uint32_t i = 1; i < m.s->handles.n; i++)
                ck_assert_ptr_null(m.s->handles.slots[i].item);
        end();
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("ids");

        log_configure(&(struct log_config){ .fd = -1 });
        tcase_set_timeout(tc, 300);
        tcase_add_test(tc, what_was_never_told_is_stale);
        tcase_add_test(tc, what_was_forgotten_is_stale);
        tcase_add_test(tc, a_closed_file_is_no_file);
        tcase_add_test(tc, a_node_is_forgotten_as_often_as_it_was_told);
        tcase_add_test(tc, a_file_is_no_directory);
        tcase_add_loop_test(tc, anything_is_answered_once_and_nothing_is_left, 0, 8);
        return run_tests("mount_ids", tc);
}
