#include "tests/lib/os_fault.h"

#include <errno.h>
#include <string.h>

const char *
os_op_name(enum os_op op)
{
        static const char *const names[] = { "open",  "close",     "pread", "pwrite", "fdatasync",
                                             "fsync", "ftruncate", "fstat", "lstat",  "rename",
                                             "link",  "unlink",    "mkdir", "rmdir",  "any" };

        return names[op];
}

/* What becomes of one call. */
enum verdict { PASS, FAIL, CUT_SHORT };

static bool
matches(const struct os_fault_plan *plan, enum os_op op, const char *tag)
{
        return (plan->op == OS_ANY_OP || plan->op == op) &&
               (plan->tag == NULL || strncmp(tag, plan->tag, strlen(plan->tag)) == 0);
}

static enum verdict
judge(struct os_fault *of, enum os_op op, const char *tag, int *ret_error)
{
        const struct os_fault_plan *plan = &of->plan;
        enum verdict v = PASS;

        pthread_mutex_lock(&of->lock);
        of->counts[op]++;
        if (plan->nth > 0 && matches(plan, op, tag)) {
                of->n_matched++;
                if (of->n_matched == plan->nth || (plan->is_for_ever && of->n_matched > plan->nth)) {
                        v = plan->error == 0 ? CUT_SHORT : FAIL;
                        *ret_error = plan->error;
                        of->n_failed++;
                }
        }
        pthread_mutex_unlock(&of->lock);
        return v;
}

/* How many of @n bytes still fit on the disk. */
static size_t
take_space(struct os_fault *of, size_t n)
{
        uint64_t left;

        pthread_mutex_lock(&of->lock);
        if (of->plan.disk_bytes > 0) {
                left = of->plan.disk_bytes > of->written ? of->plan.disk_bytes - of->written : 0;
                if (left < n) {
                        n = (size_t)left;
                        of->n_failed++;
                }
        }
        of->written += n;
        pthread_mutex_unlock(&of->lock);
        return n;
}

static struct os_fault *
self(const struct os *os)
{
        return (struct os_fault *)(uintptr_t)os; /* the os is its first member */
}

#define JUDGE(op) \
        struct os_fault *of = self(os); \
        int error = 0; \
        enum verdict v = judge(of, op, tag, &error)

static int
fault_open(const struct os *os, const char *tag, const char *path, int flags, mode_t mode)
{
        JUDGE(OS_OPEN);
        return v == FAIL ? error : of->under->open(of->under, tag, path, flags, mode);
}

/* A descriptor is closed all the same, as the kernel does. */
static int
fault_close(const struct os *os, const char *tag, int fd)
{
        JUDGE(OS_CLOSE);
        int r = of->under->close(of->under, tag, fd);

        return v == FAIL ? error : r;
}

static ssize_t
fault_pread(const struct os *os, const char *tag, int fd, void *buf, size_t n, off_t off)
{
        JUDGE(OS_PREAD);
        if (v == FAIL)
                return error;
        if (v == CUT_SHORT && n > 1)
                n /= 2;
        return of->under->pread(of->under, tag, fd, buf, n, off);
}

static ssize_t
fault_pwrite(const struct os *os, const char *tag, int fd, const void *buf, size_t n, off_t off)
{
        JUDGE(OS_PWRITE);
        if (v == FAIL) {
                if (of->plan.is_torn && n > 1)
                        (void)of->under->pwrite(of->under, tag, fd, buf, n / 2, off);
                return error;
        }
        if (v == CUT_SHORT && n > 1)
                n /= 2;
        n = take_space(of, n);
        return n == 0 ? -ENOSPC : of->under->pwrite(of->under, tag, fd, buf, n, off);
}

static int
fault_fdatasync(const struct os *os, const char *tag, int fd)
{
        JUDGE(OS_FDATASYNC);
        if (v == FAIL)
                return error;
        return of->skips_sync ? 0 : of->under->fdatasync(of->under, tag, fd);
}

static int
fault_fsync(const struct os *os, const char *tag, int fd)
{
        JUDGE(OS_FSYNC);
        if (v == FAIL)
                return error;
        return of->skips_sync ? 0 : of->under->fsync(of->under, tag, fd);
}

static int
fault_ftruncate(const struct os *os, const char *tag, int fd, off_t size)
{
        JUDGE(OS_FTRUNCATE);
        return v == FAIL ? error : of->under->ftruncate(of->under, tag, fd, size);
}

static int
fault_fstat(const struct os *os, const char *tag, int fd, struct stat *ret)
{
        JUDGE(OS_FSTAT);
        return v == FAIL ? error : of->under->fstat(of->under, tag, fd, ret);
}

static int
fault_lstat(const struct os *os, const char *tag, const char *path, struct stat *ret)
{
        JUDGE(OS_LSTAT);
        return v == FAIL ? error : of->under->lstat(of->under, tag, path, ret);
}

static int
fault_rename(const struct os *os, const char *tag, const char *from, const char *to)
{
        JUDGE(OS_RENAME);
        return v == FAIL ? error : of->under->rename(of->under, tag, from, to);
}

static int
fault_link(const struct os *os, const char *tag, const char *from, const char *to)
{
        JUDGE(OS_LINK);
        return v == FAIL ? error : of->under->link(of->under, tag, from, to);
}

static int
fault_unlink(const struct os *os, const char *tag, const char *path)
{
        JUDGE(OS_UNLINK);
        return v == FAIL ? error : of->under->unlink(of->under, tag, path);
}

static int
fault_mkdir(const struct os *os, const char *tag, const char *path, mode_t mode)
{
        JUDGE(OS_MKDIR);
        return v == FAIL ? error : of->under->mkdir(of->under, tag, path, mode);
}

static int
fault_rmdir(const struct os *os, const char *tag, const char *path)
{
        JUDGE(OS_RMDIR);
        return v == FAIL ? error : of->under->rmdir(of->under, tag, path);
}

void
os_fault_init(struct os_fault *of, const struct os *under)
{
        static const struct os calls = {
                .open = fault_open,
                .close = fault_close,
                .pread = fault_pread,
                .pwrite = fault_pwrite,
                .fdatasync = fault_fdatasync,
                .fsync = fault_fsync,
                .ftruncate = fault_ftruncate,
                .fstat = fault_fstat,
                .lstat = fault_lstat,
                .rename = fault_rename,
                .link = fault_link,
                .unlink = fault_unlink,
                .mkdir = fault_mkdir,
                .rmdir = fault_rmdir,
        };

        memset(of, 0, sizeof *of);
        of->os = calls;
        of->under = under;
        pthread_mutex_init(&of->lock, NULL);
}

void
os_fault_release(struct os_fault *of)
{
        pthread_mutex_destroy(&of->lock);
}

void
os_fault_plan(struct os_fault *of, const struct os_fault_plan *plan)
{
        pthread_mutex_lock(&of->lock);
        of->plan = plan != NULL ? *plan : (struct os_fault_plan){ .op = OS_ANY_OP };
        of->n_matched = of->n_failed = of->written = 0;
        pthread_mutex_unlock(&of->lock);
}

uint64_t
os_fault_failed(struct os_fault *of)
{
        uint64_t n;

        pthread_mutex_lock(&of->lock);
        n = of->n_failed;
        pthread_mutex_unlock(&of->lock);
        return n;
}
