/* fuse/fuse_internal.h - the inside of the mount, for the files of fuse/ only.
 *
 *   session.c       connection, dispatch loop, requests put aside, shutdown
 *   ops.c           the request table
 *   request.c       what is the same for all requests; handle.c: open files
 *   fs_*.c          its handlers: decode, find the node, call its kind
 *   resolve.c       what a name stands for
 *   inode.c         the tree of names that the kernel knows
 *   node_*.c        one file a kind of node
 *   classify.c      plain file becomes database
 *   unprotected.c   what looks like a database, and is none
 *   barrier.c       write transactions end before a hand-over
 *   own_mount.c     the door to our own mount, and who may go through it
 *   passthrough.c   WALs that applications write to without us; wal_watch.c: looks after them
 *   self_mount.c    the daemon as a SQLite process on its own mount
 *   reply.c         results to errnos, attributes */
#ifndef LITEFS_FUSE_FUSE_INTERNAL_H
#define LITEFS_FUSE_FUSE_INTERNAL_H

#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>

#include "fuse/inode.h"
#include "fuse/session.h"

#define CACHE_FOREVER 86400.0 /* seconds; nothing changes but through this mount */
#define CACHE_MOMENT 1.0      /* mode and owner are a database's, which may change */
#define READ_MAX (1u << 20)
#define N_TOLD_NAMES 64u

/* Requests as they are counted and logged. */
/* clang-format off */
#define REQUEST_TYPES(X) \
        X(LOOKUP) X(GETATTR) X(SETATTR) X(READLINK) X(MKDIR) X(UNLINK) X(RMDIR) X(SYMLINK) \
        X(RENAME) X(OPEN) X(CREATE) X(READ) X(WRITE) X(FLUSH) X(RELEASE) X(FSYNC) X(READDIR) \
        X(FSYNCDIR) X(STATFS) X(MKNOD) X(FALLOCATE) X(LINK)
/* clang-format on */

enum request_type {
#define REQUEST_ENUM(name) REQUEST_##name,
        REQUEST_TYPES(REQUEST_ENUM)
#undef REQUEST_ENUM
                N_REQUEST_TYPES
};

struct moment_job;

struct parked {
        struct parked *next;
        size_t size;
        char bytes[];
};

/* How the connection to the kernel began: for the process that takes this one's place, which answers none of it anew. */
#define INIT_BYTES_MAX 256u
struct session_greeting {
        char init[INIT_BYTES_MAX]; /* the kernel's first request */
        size_t init_size;
        uint32_t want, max_write, proto_minor; /* that was agreed upon */
};

struct session {
        struct session_config config;
        struct session_halts halts; /* of zeros: none */
        struct store *store;
        struct fuse_session *se;
        char *mount_dir;
        int files_fd; /* DATA/files */
        pthread_mutex_t lock;
        struct inode_table inodes;
        struct id_table handles;
        bool has_new_names; /* plain files were created or renamed: directory syncs matter */
        uint64_t told_names
                [N_TOLD_NAMES]; /* hashes: of files that no more has to be said of (unprotected.h) */
        unsigned n_told_names;
        struct barrier *barrier; /* a pause of writes: its thread's alone */
        bool has_told_foreigner; /* that only its own user creates files in the mount of an unprivileged litefs */
        bool wants_park;       /* set by a handler: keep this request for later */
        struct parked *parked; /* oldest first */
        struct parked **parked_tail;
        atomic_bool is_resume_due;    /* by whoever has the lock */
        uint8_t *read_buf;            /* READ_MAX bytes, for the holder of the lock */
        pthread_mutex_t receive_lock; /* held by the thread that receives; above every other lock */
        pthread_mutex_t pause_lock;   /* held while nobody is to receive; above even that */
        atomic_bool is_paused;
        struct session_greeting greeting;
        atomic_int n_standing_by; /* threads that wait for it */
        bool is_spinning;
        int receive_error; /* under receive_lock: why the session ended */
        int wake_fd;       /* eventfd: look again whether the session is over */
        atomic_bool is_running;
        atomic_bool is_stopping;
        atomic_bool is_over;            /* nothing is read any more */
        bool is_carried_out;            /* the connection is another process's: the mount stays */
        struct lost_node *lost;         /* of which the kernel is to be told (lost.h) */
        struct workers *historians;     /* read the log for moments, each as long as that takes */
        struct moment_job *moment_jobs; /* that they have, or have done (moments.h) */
        uint64_t moment_bytes;          /* that all moments take which are open, or are being opened */
        atomic_int n_open;              /* handles */
        atomic_ullong counts[N_REQUEST_TYPES];
        atomic_ullong n_io_errors, n_no_space, n_readonly; /* answers of EIO, ENOSPC, EROFS */
        atomic_bool is_awaited; /* the next request that is more than a look; then: */
        void (*on_awaited)(void *arg);
        void *on_awaited_arg;
        struct {
                bool is_settled; /* INIT is answered */
                bool is_offered, is_on;
        } passthrough;               /* passthrough.h */
        struct wal_watch *wal_watch; /* NULL: none */
        _Atomic(struct db *)
                fresh; /* whose commit was synced last, and is about to be published; or NULL */
        struct dirty_name *touched; /* databases whose mtime has moved; under touched_lock */
        pthread_mutex_t touched_lock;
};

/* One open file. */
struct handle {
        uint64_t id; /* the kernel's */
        struct inode *inode;
        bool is_internal; /* opened by a worker of the daemon */
        bool has_written;
        bool is_halt;    /* it keeps the halt lock of its database */
        bool is_opening; /* the kernel has not been told of it yet */
};

static inline struct session *
session_of(fuse_req_t req)
{
        return fuse_req_userdata(req);
}
/* A session without a connection to the kernel. 0 or a negative errno. */
int session_new(const struct session_config *config, struct session **ret);
bool session_is_internal(fuse_req_t req);
/* One that was awaited, perhaps. */
void session_request_came(struct session *s, enum request_type type);
/* (dispatch.c) Keeps the request being handled, which is handled anew once a database that was somebody's is free; the
 * handler must return without answering. */
void session_park(struct session *s, fuse_req_t req);
/* Handles the parked requests again. From a worker, without locks. */
void session_resume(struct session *s);
/* The same, from a thread that must not wait for a request that hangs: false, if one has had the mount for so long; then it is done
 * once that one has ended. */
bool session_resume_within(struct session *s, int ms);

/* --- ops.c --- */
/* The request table for libfuse. */
extern const struct fuse_lowlevel_ops session_ops;

/* --- dispatch.c --- */
/* Nobody receives from the one to the other; handlers that run on have ended. From a thread that is not the mount's. */
void dispatch_pause(struct session *s);
void dispatch_unpause(struct session *s);
/* Makes the receiving thread see that the session is over. */
void dispatch_wake(struct session *s);

/* --- reply.c --- */
/* The errno (positive) for a negative result. */
int reply_errno(int r);
void reply_result(fuse_req_t req, int r); /* 0 or negative */
/* Gives a reference on @in to the kernel, or back: false when the kernel has not got it, and the open file neither. */
bool reply_entry(fuse_req_t req, struct inode *in, const struct fuse_file_info *create);
void reply_attr(fuse_req_t req, struct inode *in);

/* For WRITE: the answer is the size. NULL when memory is out. */
struct later_write;
struct later_write *later_write_new(fuse_req_t req, struct inode *in, size_t n);
struct later_write *later_sync_new(fuse_req_t req, struct inode *in);
void later_write_finish(struct later_write *lw, int r);
void later_write_cancel(struct later_write *lw); /* nothing is answered */
struct db_done later_write_done(struct later_write *lw);

/* --- kinds of nodes: each entry NULL when the kind does not have it --- */
struct node_ops {
        int (*stat)(struct session *s, struct inode *in, struct stat *ret);
        ssize_t (*read)(struct session *s, struct inode *in, void *buf, size_t n, uint64_t off);
        /* 0: all written; DB_PENDING: @done is called; E_BUSY: nothing was done, the request is to be put aside. The same
         * for all that follow. */
        int (*write)(struct session *s, struct inode *in, const void *buf, size_t n, uint64_t off,
                     struct db_done done);
        int (*truncate)(struct session *s, struct inode *in, uint64_t size, struct db_done done);
        int (*fsync)(struct session *s, struct inode *in, bool is_data_only, struct db_done done);
        int (*chmod)(struct session *s, struct inode *in, mode_t mode);
        int (*chown)(struct session *s, struct inode *in, uid_t uid, gid_t gid);
        int (*utimens)(struct session *s, struct inode *in, const struct timespec tv[2]);
        bool is_uncached; /* content made by the daemon: direct_io, zero time-outs */
        bool has_flush;   /* close() matters */
};
/* Mode and owner of a database's companions are its own, whoever made them: 0, or -ENOENT when it is gone and they are
 * litefs's. For the stat of a kind. */
int stat_as_database(struct db *db, struct stat *ret);
/* chmod and chown of a companion, which SQLite as root makes like the database that it was made for: nothing. */
int chmod_companion(struct session *s, struct inode *in, mode_t mode);
int chown_companion(struct session *s, struct inode *in, uid_t uid, gid_t gid);

extern const struct node_ops node_dir_ops, node_plain_ops, node_db_ops, node_journal_ops, node_wal_ops,
        node_shm_ops, node_pos_ops, node_primary_ops, node_lag_ops, node_lock_ops, node_moment_ops,
        node_history_ops;
const struct node_ops *node_ops_of(const struct inode *in);

/* --- node_plain.c: names under DATA/files --- */
int plain_open_fd(struct session *s, struct inode *in);
/* Hard links, each of which is a node of its own. Of one that is open. */
bool plain_has_other_names(const struct inode *in);

/* --- node_shm.c --- */
int shm_open_fd(struct session *s, struct inode *in);
int shm_create(struct session *s, struct inode *in);
int shm_remove(struct session *s, struct inode *in);
bool shm_exists(struct session *s, struct db *db);

/* --- node_dir.c --- */
void dir_readdir(fuse_req_t req, struct inode *dir, size_t size, off_t off);

/* --- classify.c --- */
/* Whether this plain file is a complete SQLite database at a moment that may be a transaction boundary. */
bool classify_wants(struct session *s, struct inode *in, bool is_finalising);
/* Makes it one by a worker; requests on it are parked meanwhile. 0 or negative. */
int classify_start(struct session *s, struct inode *in);
/* Whether @in, if it is a journal, is one of a file that is plain or was until the same request came first. */
static inline bool
may_finalise(const struct inode *in)
{
        return in->kind == INODE_PLAIN || in->kind == INODE_JOURNAL;
}
/* When a plain journal goes or is cut to nothing, its database may have made its first commit: takes that over
 * first, and handles the request again. True when the request was put aside. */
bool classify_by_journal(fuse_req_t req, struct inode *parent, const char *name, int *ret_error);
/* Syncing or closing a plain file may show that it is a database. True when the request was put aside. */
bool classify_by_sync(fuse_req_t req, struct inode *in, int *ret_error);

/* --- halt.c --- */
/* Opens NAME-lock for writing: answers, now or when the lock is there. */
void halt_open(fuse_req_t req, struct handle *h, const struct fuse_file_info *fi);
void halt_close(struct session *s, struct handle *h);

/* --- self_mount.c --- */
/* Captures pages written without a journal if no SQLite process is in a transaction. @done, if it has a function, is
 * called from a worker. */
int mount_probe(struct session *s, struct db *db, struct db_done done);
/* Makes SQLite read the WAL anew (its wal-index misses captured frames): then calls @done. */
int mount_repair_wal_index(struct session *s, struct db *db, struct db_done done);
/* A handle on the WAL that had written was closed: if its writer died between commit frame and wal-index,
 * repairs. */
void mount_check_wal_index(struct session *s, struct db *db);
/* Learns how far checkpoints have come, so that the base can move. By a visitor. */
void mount_read_backfill(struct session *s, struct db *db);

#endif
