/* fuse/session.h - the mount: one connection to the kernel, one thread at a time that answers it.
 *
 * Requests are answered one after the other, under the session's lock (dispatch.c says by whom); what would
 * wait for the disk is answered later, without it. A request for a database or file that is busy with a long
 * capture is put aside as the bytes it came in and handled again when that has ended.
 *
 * Lock ranks: session lock > store lock > database lock > leaf locks. Threads that enter the mount (own_mount.h) hold
 * none of them: the answer comes from the thread that may want them. */
#ifndef LITEFS_FUSE_SESSION_H
#define LITEFS_FUSE_SESSION_H

#include <stdbool.h>

#include "base/err.h"
#include "db/ownership.h"
#include "db/passed.h"
#include "store/store.h"

struct live_nodes;
struct parcel_reader;
struct session;

/* Who gets a database's halt lock of the primary, so that it may be written on this node, which is a replica. */
struct session_halts {
        void *arg;
        /* 0, DB_PENDING (then @done), or an error; must not wait. Each 0, now or later, is closed once. */
        int (*open)(void *arg, struct db *db, struct db_done done);
        void (*close)(void *arg, struct db *db);
};

struct session_config {
        const char *mount_dir;
        struct store *store;
        struct workers *workers;
        struct workers *visitors; /* may enter the mount (own_mount.h), as may these two: */
        struct workers *tellers;
        struct workers *asker;    /* of session_ask; NULL: none */
        struct workers *appliers; /* NULL: none */
        struct live_nodes *live;  /* NULL: readers that outlive the daemon are not told */
        struct parcel_reader
                *carried; /* the mount is there, and this its state (carry.h); NULL: a new one */
        bool is_allow_other;
        bool is_debug;      /* log every request */
        bool is_wal_passed; /* WALs may be passed through; then which ones: */
        enum wal_passthrough (*wal_passthrough)(void *arg, const char *db_name);
        void (*look_at)(void *arg, struct db *db); /* at each, after commits; housekeeping's thread */
        void *arg;
};

/* Unmounts a stale mount that a killed daemon left. */
int session_clear_stale(const char *dir, struct err *e);
/* Makes the directory and mounts. */
int session_mount(const struct session_config *config, struct session **ret, struct err *e);
/* Before session_run. Without it NAME-lock cannot be opened for writing on a replica. */
void session_set_halts(struct session *s, const struct session_halts *halts);
/* Answers requests until the file system is unmounted or session_stop's time is over. 0 or negative. */
int session_run(struct session *s, struct err *e);
/* A database's mode and owner on the primary are given to it here. Any thread that holds no lock. */
int session_take_ownership(struct session *s, struct db *db, const struct path_ownership *po,
                           struct err *e);
/* A barrier for writes: has those wait that would begin a transaction, and gives those of applications that have begun a
 * while to end; then as store_pause_writes. Each true needs its false, by the same caller and before the next true. Any
 * thread that may wait and is none of the mount's. */
void session_pause_writes(struct session *s, bool is_paused);
/* From any thread: refuses further writes, detaches the mount so that no new open can come, and lets
 * session_run go on for open handles, at most @drain_ms. */
void session_stop(struct session *s, int drain_ms);
/* Writes one log line with the number of requests by type since the mount. Any thread. */
void session_log_requests(struct session *s);
/* The same numbers. Any thread. */
void session_each_request(struct session *s, void (*fn)(void *arg, const char *type, uint64_t n),
                          void *arg);
/* What applications were told, by the name of the errno: those that point to a fault or a role. Any thread. */
void session_each_error(struct session *s, void (*fn)(void *arg, const char *name, uint64_t n),
                        void *arg);
/* The descriptor of the connection to the kernel. */
int session_connection(const struct session *s);
/* After session_run has returned. NULL is fine. */
void session_free(struct session *s);

#endif
