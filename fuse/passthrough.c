#include "fuse/passthrough.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fuse.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/log.h"
#include "db/group.h"
#include "db/passed.h"
#include "fuse/fuse_internal.h"
#include "fuse/live_nodes.h"
#include "fuse/wal_watch.h"

/* What <linux/fuse.h> of Linux 6.9 has, and libfuse 3.14 does not know. */
#define INIT_EXT (1u << 30)
#define INIT2_PASSTHROUGH (1u << 5)
#define OPEN_PASSTHROUGH (1u << 7)
#define OPEN_NOFLUSH (1u << 5)
struct backing_map {
        int32_t fd;
        uint32_t flags;
        uint64_t padding;
};
/* struct fuse_open_out, whose last field headers before 6.9 call padding. */
struct open_out {
        uint64_t fh;
        uint32_t open_flags;
        int32_t backing_id;
};
_Static_assert(sizeof(struct open_out) == sizeof(struct fuse_open_out), "as the kernel has it");
#define BACKING_OPEN _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)

/* --- backing files --- */

static int
backing_open(struct session *s, int fd)
{
        struct backing_map map = { .fd = fd };
        int id = ioctl(fuse_session_fd(s->se), BACKING_OPEN, &map);

        return id > 0 ? id : id == 0 ? -EIO : -errno;
}

static void
backing_close(struct session *s, int id)
{
        uint32_t n = (uint32_t)id;

        (void)ioctl(fuse_session_fd(s->se), BACKING_CLOSE, &n);
}

static void
tell_passthrough_missing(struct session *s, const char *why)
{
        log_warn("fuse.wal-passthrough is not to be had here, and is off: %s", why);
        s->passthrough.is_on = false;
}

/* --- INIT, which libfuse 3.14 answers without it --- */

/* A file like those that are going to be passed through. */
static int
try_backing_file(struct session *s)
{
        char path[PATH_MAX];
        int fd, id;

        snprintf(path, sizeof path, "%s/../tmp/passthrough", store_files_dir(s->store));
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        (void)unlink(path);
        id = backing_open(s, fd);
        close(fd);
        if (id > 0)
                backing_close(s, id);
        return id < 0 ? id : 0;
}

static void
settle_init(struct session *s)
{
        int r = s->passthrough.is_offered ? try_backing_file(s) : 0;

        s->passthrough.is_settled = true;
        s->passthrough.is_on = s->passthrough.is_offered && r == 0;
        if (!s->passthrough.is_offered)
                tell_passthrough_missing(s, "this kernel does not offer FUSE passthrough (Linux 6.9)");
        else if (r == -EPERM)
                tell_passthrough_missing(
                        s, "it needs CAP_SYS_ADMIN outside of any user namespace: run litefs as root");
        else if (r == -ELOOP)
                tell_passthrough_missing(s, "data.dir lies on too many layers of file systems");
        else if (r < 0)
                tell_passthrough_missing(s, strerror(-r));
        else
                log_info("WALs are passed through to their files (fuse.wal-passthrough)");
        if (s->passthrough.is_on && s->config.live != NULL)
                live_nodes_set_passed(s->config.live);
}

static ssize_t
read_request(int fd, void *buf, size_t n, void *userdata)
{
        struct session *s = userdata;
        ssize_t got = read(fd, buf, n);
        struct fuse_in_header head;
        struct fuse_init_in init;

        if (got < (ssize_t)(sizeof head + sizeof init) || s->passthrough.is_settled)
                return got;
        memcpy(&head, buf, sizeof head);
        memcpy(&init, (const char *)buf + sizeof head, sizeof init);
        if (head.opcode == FUSE_INIT)
                s->passthrough.is_offered = (init.flags & INIT_EXT) != 0 &&
                                            (init.flags2 & INIT2_PASSTHROUGH) != 0;
        return got;
}

/* An overlay is a layer more. */
static uint32_t
stack_depth(struct session *s)
{
        struct statfs st;

        return fstatfs(s->files_fd, &st) == 0 && st.f_type == OVERLAYFS_SUPER_MAGIC ? 2 : 1;
}

/* The first answer is INIT's: max_stack_depth is the word behind flags2. */
static ssize_t
write_init(struct session *s, int fd, const struct iovec *iov)
{
        struct fuse_out_header head = *(const struct fuse_out_header *)iov[0].iov_base;
        struct fuse_init_out init = { 0 };
        struct iovec out[2] = { { &head, sizeof head }, { &init, sizeof init } };
        uint32_t depth = stack_depth(s);
        ssize_t n;

        memcpy(&init, iov[1].iov_base, iov[1].iov_len < sizeof init ? iov[1].iov_len : sizeof init);
        init.flags |= INIT_EXT;
        init.flags2 |= INIT2_PASSTHROUGH;
        memcpy((char *)&init + offsetof(struct fuse_init_out, flags2) + sizeof init.flags2, &depth,
               sizeof depth);
        head.len = sizeof head + sizeof init;
        n = writev(fd, out, 2);
        return n < 0 ? n : (ssize_t)(iov[0].iov_len + iov[1].iov_len);
}

static ssize_t
write_answer(int fd, struct iovec *iov, int count, void *userdata)
{
        struct session *s = userdata;
        bool is_init = !s->passthrough.is_settled && count == 2 &&
                       iov[1].iov_len >= offsetof(struct fuse_init_out, flags2);
        ssize_t n;

        if (is_init && s->passthrough.is_offered)
                n = write_init(s, fd, iov);
        else
                n = writev(fd, iov, count);
        if (is_init && n >= 0)
                settle_init(s);
        return n;
}

int
passthrough_set_up(struct session *s, struct err *e)
{
        static const struct fuse_custom_io io = { .read = read_request, .writev = write_answer };
        int r;

        if (!s->config.is_wal_passed)
                return 0;
        r = fuse_session_custom_io(s->se, &io, fuse_session_fd(s->se));
        return r < 0 ? err_set(e, r, "set up the connection to the kernel") : 0;
}

int
passthrough_take_on(struct session *s, bool is_on, struct err *e)
{
        s->passthrough.is_settled = true; /* INIT was answered once and for all */
        s->passthrough.is_offered = s->passthrough.is_on = is_on;
        if (is_on && s->config.live != NULL)
                live_nodes_set_passed(s->config.live);
        return passthrough_set_up(s, e);
}

/* --- from program to program --- */

static int
look_before_carry(void *arg, struct db *db)
{
        struct db_look look;
        int r = db_wal_look(db, &look);

        (void)arg;
        return r == E_BUSY || look.is_prepared;
}

bool
passthrough_is_settled(struct session *s)
{
        return !s->passthrough.is_on || store_each(s->store, look_before_carry, NULL) == 0;
}

/* --- which nodes --- */

/* Of NAME-wal its NAME-shm, and the other way round; NULL when the kernel does not know it. */
static struct inode *
partner_of(struct session *s, const struct inode *in)
{
        char name[NAME_MAX + 1];
        size_t n = in->name != NULL ? strlen(in->name) : 0;
        struct inode *other;

        if (n < 4 || n >= sizeof name)
                return NULL;
        memcpy(name, in->name, n + 1);
        memcpy(name + n - 4, in->kind == INODE_WAL ? "-shm" : "-wal", 4);
        other = inode_child(&s->inodes, in->parent, name);
        return other != NULL && other->db == in->db ? other : NULL;
}

/* Its file is no database's any more. */
static bool
is_left_behind(const struct inode *in)
{
        return in->is_moved || (in->kind == INODE_WAL ? in->fd >= 0 : in->name == NULL);
}

static enum wal_passthrough
wanted_passthrough(struct session *s, const struct inode *in)
{
        const struct inode *other = partner_of(s, in);
        bool is_passed = s->passthrough.is_on;

        if (is_passed && other != NULL && other->n_handles > 0)
                is_passed = other->backing_id > 0;
        else if (is_passed)
                is_passed = store_is_primary(s->store) && !db_commits_remotely(in->db) &&
                            !atomic_load(&s->is_stopping);
        return is_passed ? s->config.wal_passthrough(s->config.arg, db_name(in->db))
                         : WAL_PASSTHROUGH_OFF;
}

static int
open_backing(struct session *s, struct inode *in)
{
        int fd = in->kind == INODE_SHM ? in->fd : db_wal_dup(in->db);
        int id = fd < 0 ? fd : backing_open(s, fd);

        if (in->kind == INODE_WAL && fd >= 0)
                close(fd);
        if (id < 0)
                return id;
        in->backing_id = id;
        return 0;
}

static int
decide_passthrough(struct session *s, struct inode *in)
{
        enum wal_passthrough how = wanted_passthrough(s, in);
        int r = in->kind == INODE_WAL ? db_wal_pass_through(in->db, how) : 0;

        if (r < 0 || how == WAL_PASSTHROUGH_OFF)
                return r == E_BUSY ? r : 0; /* of one that has failed reads go on */
        r = open_backing(s, in);
        if (r == 0) {
                wal_watch_add(s, in->db);
                return 0;
        }
        log_event(LOG_WARN, db_name(in->db), "%s cannot be passed through: %s",
                  in->kind == INODE_WAL ? "the WAL" : "the wal-index", strerror(-r));
        if (in->kind == INODE_SHM) /* of a WAL that may be, so that its index has to be read */
                return r;
        r = db_wal_pass_through(in->db, WAL_PASSTHROUGH_OFF);
        return r == E_BUSY ? r : 0;
}

int
passthrough_open(struct session *s, struct inode *in)
{
        if (!s->config.is_wal_passed || (in->kind != INODE_WAL && in->kind != INODE_SHM) ||
            in->n_handles > 0 || is_left_behind(in))
                return 0;
        return decide_passthrough(s, in);
}

/* --- answers that libfuse 3.14 cannot give --- */

static struct open_out
open_out_of(const struct inode *in, const struct fuse_file_info *fi)
{
        struct open_out out = { .fh = fi->fh, .open_flags = OPEN_PASSTHROUGH };

        if (fi->noflush)
                out.open_flags |= OPEN_NOFLUSH;
        out.backing_id = in->backing_id;
        return out;
}

int
passthrough_reply_open(fuse_req_t req, const struct inode *in, const struct fuse_file_info *fi)
{
        struct open_out out = open_out_of(in, fi);

        return fuse_reply_buf(req, (const char *)&out, sizeof out);
}

static void
split_seconds(double seconds, uint64_t *ret_s, uint32_t *ret_ns)
{
        *ret_s = (uint64_t)seconds;
        *ret_ns = (uint32_t)((seconds - (double)*ret_s) * 1e9);
}

static struct fuse_attr
attr_of(const struct stat *st)
{
        return (struct fuse_attr){
                .ino = st->st_ino,
                .size = (uint64_t)st->st_size,
                .blocks = (uint64_t)st->st_blocks,
                .atime = (uint64_t)st->st_atim.tv_sec,
                .mtime = (uint64_t)st->st_mtim.tv_sec,
                .ctime = (uint64_t)st->st_ctim.tv_sec,
                .atimensec = (uint32_t)st->st_atim.tv_nsec,
                .mtimensec = (uint32_t)st->st_mtim.tv_nsec,
                .ctimensec = (uint32_t)st->st_ctim.tv_nsec,
                .mode = st->st_mode,
                .nlink = (uint32_t)st->st_nlink,
                .uid = st->st_uid,
                .gid = st->st_gid,
                .rdev = (uint32_t)st->st_rdev,
                .blksize = (uint32_t)st->st_blksize,
        };
}

int
passthrough_reply_create(fuse_req_t req, const struct inode *in, const struct fuse_entry_param *entry,
                         const struct fuse_file_info *fi)
{
        struct {
                struct fuse_entry_out entry;
                struct open_out open;
        } out = { .open = open_out_of(in, fi) };

        out.entry.nodeid = entry->ino;
        out.entry.generation = entry->generation;
        split_seconds(entry->entry_timeout, &out.entry.entry_valid, &out.entry.entry_valid_nsec);
        split_seconds(entry->attr_timeout, &out.entry.attr_valid, &out.entry.attr_valid_nsec);
        out.entry.attr = attr_of(&entry->attr);
        return fuse_reply_buf(req, (const char *)&out, sizeof out);
}

/* --- handles --- */

bool
passthrough_add_handle(const struct handle *h)
{
        struct inode *in = h->inode;
        int fd;

        if (in->backing_id == 0 || in->kind != INODE_SHM || h->is_internal)
                return true;
        if (in->n_index_users == 0) {
                fd = fcntl(in->fd, F_DUPFD_CLOEXEC, 3);
                if (fd < 0)
                        return false;
                db_wal_set_index(in->db, fd);
        }
        in->n_index_users++;
        return true;
}

static void
drop_index_user(struct inode *in)
{
        if (in->n_index_users > 0 && --in->n_index_users == 0)
                db_wal_set_index(in->db, -1);
}

void
passthrough_drop_handle(struct session *s, const struct handle *h)
{
        struct inode *in = h->inode;

        if (in->backing_id == 0)
                return;
        if (in->kind == INODE_SHM && !h->is_internal)
                drop_index_user(in);
        if (!is_left_behind(in))
                wal_watch_wake(s, in->db); /* its writer may be dead */
        if (in->n_handles > 1)
                return;
        backing_close(s, in->backing_id);
        in->backing_id = 0;
        in->was_passed = true;
}

void
passthrough_detach(struct inode *in)
{
        if (in->backing_id == 0)
                return;
        if (in->n_index_users > 0)
                db_wal_set_index(in->db, -1);
        in->n_index_users = 0;
}

void
passthrough_take_handle(const struct handle *h)
{
        struct inode *in = h->inode;

        if (in->backing_id > 0 && in->kind == INODE_SHM && !h->is_internal && !is_left_behind(in))
                in->n_index_users++;
}

int
passthrough_take_indexes(struct session *s)
{
        const struct id_table *t = &s->inodes.ids;

        for (uint32_t i = 1; i < t->n; i++) {
                const struct inode *in = t->slots[i].item;
                int fd;

                if (in == NULL || in->n_index_users == 0)
                        continue;
                fd = fcntl(in->fd, F_DUPFD_CLOEXEC, 3);
                if (fd < 0)
                        return -errno;
                db_wal_restore_index(in->db, fd);
        }
        return 0;
}

void
passthrough_watch_taken(struct session *s)
{
        const struct id_table *t = &s->inodes.ids;

        pthread_mutex_lock(&s->lock);
        for (uint32_t i = 1; i < t->n; i++) {
                const struct inode *in = t->slots[i].item;

                if (in != NULL && in->backing_id > 0 && in->db != NULL && !is_left_behind(in))
                        wal_watch_add(s, in->db);
        }
        pthread_mutex_unlock(&s->lock);
}
