/* tests/lib/os_fault.h - a `struct os` that fails where a test wants it to.
 *
 * It passes calls on to another one (os_host(), or an os_crash) and counts them. A plan makes the n-th call that
 * matches fail, once or from then on; or cuts transfers short; or lets the disk be full after so many bytes.
 * Safe from any thread; a plan may be set at any time. */
#ifndef LITEFS_TESTS_OS_FAULT_H
#define LITEFS_TESTS_OS_FAULT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/os.h"

enum os_op {
        OS_OPEN,
        OS_CLOSE,
        OS_PREAD,
        OS_PWRITE,
        OS_FDATASYNC,
        OS_FSYNC,
        OS_FTRUNCATE,
        OS_FSTAT,
        OS_LSTAT,
        OS_RENAME,
        OS_LINK,
        OS_UNLINK,
        OS_MKDIR,
        OS_RMDIR,
        OS_N_OPS,
        OS_ANY_OP = OS_N_OPS
};
const char *os_op_name(enum os_op op);

struct os_fault_plan {
        enum os_op op;       /* OS_ANY_OP: every operation counts */
        const char *tag;     /* the call's tag begins with this; NULL: any */
        uint64_t nth;        /* the first call that fails, from 1; 0: none does */
        bool is_for_ever;    /* and all that match after it */
        int error;           /* negative errno; 0: transfers are cut short instead, to half */
        bool is_torn;        /* a write that fails has written its first half */
        uint64_t disk_bytes; /* > 0: so many bytes can be written, then -ENOSPC, whatever @op is */
};

struct os_fault {
        struct os os; /* hand out &of->os */
        const struct os *under;
        bool skips_sync; /* nobody cuts the power: fsync and fdatasync need not reach the disk */
        pthread_mutex_t lock;
        struct os_fault_plan plan;
        uint64_t n_matched; /* calls that matched the plan */
        uint64_t n_failed;  /* calls that failed by it, or were cut short */
        uint64_t written;   /* bytes since the plan was set */
        uint64_t counts[OS_N_OPS];
};

void os_fault_init(struct os_fault *of, const struct os *under);
void os_fault_release(struct os_fault *of);
/* Begins to count anew. NULL: nothing fails. */
void os_fault_plan(struct os_fault *of, const struct os_fault_plan *plan);
/* Calls that failed since the plan was set. */
uint64_t os_fault_failed(struct os_fault *of);

#endif
