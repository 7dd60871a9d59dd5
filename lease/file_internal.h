/* lease/file_internal.h - the inside of the lease in a file, for file*.c only.
 *
 *   file.c        the lease: sessions, and who holds it
 *   file_state.c  the files: locked, read, replaced */
#ifndef LITEFS_LEASE_FILE_INTERNAL_H
#define LITEFS_LEASE_FILE_INTERNAL_H

#include <sys/types.h>

#include "lease/document.h"
#include "lease/file.h"
#include "lease/kv_lease.h"

#define FILE_PATH_SIZE (KV_KEY_SIZE + 8)

struct file_lease {
        struct kv_lease kv; /* kv.key is PATH */
        char lock_path[FILE_PATH_SIZE], new_path[FILE_PATH_SIZE], dir[FILE_PATH_SIZE];
        /* The lock file, opened once more: locks belong to what was opened, and those of sessions stay. -1: no session yet.
         * The worker's. */
        int session_fd;
};

/* The state while nobody else reads or changes it. */
struct file_txn {
        int fd; /* of the lock file, byte 0 locked; -1: there is none yet, and what only reads makes none */
        json_t *root; /* the state: document.h */
};

enum file_use { FILE_READ, FILE_CHANGE };

/* Waits for the lock until the call's deadline (-ETIMEDOUT). On success, to be ended. -EPERM: a file is another user's;
 * -ENOTSUP: a file system that is not trusted; E_FORMAT: not a state. */
int file_begin(struct file_lease *f, enum file_use use, struct file_txn *ret, struct err *e);
/* Makes the state last, with its next revision. */
int file_save(struct file_lease *f, struct file_txn *t, struct err *e);
void file_end(struct file_txn *t);

/* The state, by whoever does not wait for the lock: as it was a moment ago. */
int file_peek(struct file_lease *f, json_t **ret, struct err *e);

/* Which lock file a session's byte is locked in: a file of that name may be made anew, which has other locks. */
#define FILE_IDENTITY_SIZE 64
int file_identity(int fd, char ret[FILE_IDENTITY_SIZE], struct err *e);

/* Locks the byte of a new session's. */
int file_lock_session(struct file_lease *f, const struct file_txn *t, const char *session,
                      struct err *e);
void file_unlock_session(struct file_lease *f, const char *session);
/* False: the process that had the session has ended. True also where that cannot be told. */
bool file_is_session_alive(const struct file_txn *t);

#endif
