#include "tests/lib/db_driver_fault.h"

#include <errno.h>
#include <string.h>

#include "tests/lib/db_driver_check.h"
#include "tests/lib/malloc_fault.h"
#include "tests/lib/os_crash.h"

const struct fault_kind fault_kinds[] = {
        { "pwrite EIO", false, { .op = OS_PWRITE, .error = -EIO, .is_torn = true } },
        { "pwrite ENOSPC", false, { .op = OS_PWRITE, .error = -ENOSPC } },
        { "pwrite short", false, { .op = OS_PWRITE } },
        { "pwrite EINTR", false, { .op = OS_PWRITE, .error = -EINTR } },
        { "pread EIO", false, { .op = OS_PREAD, .error = -EIO } },
        { "pread short", false, { .op = OS_PREAD } },
        { "fdatasync", false, { .op = OS_FDATASYNC, .error = -EIO } },
        { "fsync", false, { .op = OS_FSYNC, .error = -EIO } },
        { "ftruncate", false, { .op = OS_FTRUNCATE, .error = -EIO } },
        { "open", false, { .op = OS_OPEN, .error = -EMFILE } },
        { "rename", false, { .op = OS_RENAME, .error = -EIO } },
        { "unlink", false, { .op = OS_UNLINK, .error = -EIO } },
        { "mkdir", false, { .op = OS_MKDIR, .error = -ENOSPC } },
        { "rmdir", false, { .op = OS_RMDIR, .error = -EIO } },
        { "fstat", false, { .op = OS_FSTAT, .error = -EIO } },
        { "lstat", false, { .op = OS_LSTAT, .error = -EIO } },
        { "malloc", true, { .op = OS_ANY_OP } },
};
const size_t n_fault_kinds = sizeof fault_kinds / sizeof fault_kinds[0];

void
fault_arm(struct os_fault *of, const struct fault_kind *kind, uint64_t nth, bool is_for_ever)
{
        struct os_fault_plan plan = kind->plan;

        plan.nth = nth;
        plan.is_for_ever = is_for_ever;
        if (kind->is_malloc)
                malloc_fault_arm(nth, is_for_ever);
        else
                os_fault_plan(of, &plan);
}

uint64_t
fault_disarm(struct os_fault *of, const struct fault_kind *kind)
{
        uint64_t n;

        if (kind->is_malloc)
                return malloc_fault_disarm();
        n = os_fault_failed(of);
        os_fault_plan(of, NULL);
        return n;
}

/* --- opening --- */

static int
check_content(struct db_driver *d, const struct expected_open *expected, struct err *e)
{
        uint64_t state = 0;
        sqlite3 *c;
        int rc;

        if (!db_exists(db_driver_db(d)))
                return expected->state == 0 ? 0 : err_text(e, E_CORRUPT_DB, "there is no database");
        if (db_driver_connect(d, 0, &c) != SQLITE_OK)
                return err_text(e, E_CORRUPT_DB, "no connection");
        rc = db_driver_digest(c, &state);
        if (rc != SQLITE_OK)
                (void)err_text(e, E_CORRUPT_DB, "cannot be read: %s", sqlite3_errmsg(c));
        else if (state != expected->state)
                rc = err_text(e, E_CORRUPT_DB, "another state");
        else if (!db_driver_is_intact(c))
                rc = err_text(e, E_CORRUPT_DB, "integrity_check");
        sqlite3_close(c);
        return rc;
}

static int
check_opened(struct db_driver *d, const char *root, const struct expected_open *expected, struct err *e)
{
        struct db_info info;
        int r;

        db_get_info(db_driver_db(d), &info);
        if (info.pos.txid != expected->txid)
                return err_text(e, E_POS_MISMATCH, "transaction %llu, not %llu",
                                (unsigned long long)info.pos.txid, (unsigned long long)expected->txid);
        r = db_driver_check_files(d, root, expected->base_image, expected->base_size, e);
        return r < 0 ? r : check_content(d, expected, e);
}

int
check_open(const struct os *os, const char *root, const struct expected_open *expected,
           bool *ret_is_open, struct err *e)
{
        struct db_driver *d;
        int r = db_driver_open_with(os, root, expected->segment_bytes, &d, e);

        *ret_is_open = r == 0;
        if (r < 0)
                return r;
        r = check_opened(d, root, expected, e);
        db_driver_close(d);
        return r;
}

/* Once with the fault: an error or the expected state. Then without it: the expected state. */
static int
open_twice(const char *root, const struct expected_open *expected, const struct fault_kind *kind,
           uint64_t nth, bool is_for_ever, uint64_t *ret_failed, struct err *e)
{
        struct os_fault of;
        struct db_driver *d = NULL;
        bool is_open;
        int r;

        db_driver_remove_tree(root);
        db_driver_copy_tree(expected->template, root);
        os_fault_init(&of, os_host());
        of.skips_sync = true;
        fault_arm(&of, kind, nth, is_for_ever);
        r = db_driver_open_with(&of.os, root, expected->segment_bytes, &d, e);
        *ret_failed = fault_disarm(&of, kind);
        if (r == 0)
                r = check_opened(d, root, expected, e);
        else if (*ret_failed > 0)
                r = 0; /* an error is an answer */
        db_driver_close(d);
        if (r == 0)
                r = check_open(&of.os, root, expected, &is_open, e);
        os_fault_release(&of);
        return r;
}

static int
fail_each(const char *root, const struct expected_open *expected, const struct fault_kind *kind,
          bool is_for_ever, struct err *e)
{
        uint64_t n_failed = 1;

        for (uint64_t n = 1; n_failed > 0; n += 1 + n / 10) {
                int r = open_twice(root, expected, kind, n, is_for_ever, &n_failed, e);

                if (r != 0) {
                        err_prefix(e, "%s fails at call %llu%s", kind->name, (unsigned long long)n,
                                   is_for_ever ? " and for ever" : "");
                        return r;
                }
        }
        return 0;
}

int
fail_each_open(const char *root, const struct expected_open *expected, struct err *e)
{
        int r = 0;

        for (size_t i = 0; i < n_fault_kinds && r == 0; i++) {
                r = fail_each(root, expected, &fault_kinds[i], false, e);
                if (r == 0 && fault_kinds[i].plan.error != -EINTR) /* it would be retried for ever */
                        r = fail_each(root, expected, &fault_kinds[i], true, e);
        }
        return r;
}

/* Whether the power went during the opening; afterwards the state must be there. */
static int
cut_once(const char *root, const struct expected_open *expected, uint64_t n, uint64_t seed,
         bool *ret_was_cut, struct err *e)
{
        struct os_crash *oc;
        struct db_driver *d = NULL;
        struct err ignored = ERR_INIT;
        bool is_open;

        db_driver_remove_tree(root);
        db_driver_copy_tree(expected->template, root);
        oc = os_crash_new(root, seed);
        os_crash_after(oc, n);
        if (db_driver_open_with(os_crash_os(oc), root, expected->segment_bytes, &d, &ignored) < 0)
                d = NULL;
        *ret_was_cut = os_crash_is_dead(oc);
        os_crash_now(oc);
        db_driver_close(d);
        os_crash_free(oc);
        return check_open(os_host(), root, expected, &is_open, e);
}

int
cut_each_open(const char *root, const struct expected_open *expected, uint64_t seed, unsigned n_seeds,
              struct err *e)
{
        bool was_cut = true;

        for (uint64_t n = 1; was_cut; n++)
                for (unsigned i = 0; i < n_seeds; i++) {
                        int r = cut_once(root, expected, n, seed + i, &was_cut, e);

                        if (r != 0) {
                                err_prefix(e, "power lost in call %llu, seed %llu",
                                           (unsigned long long)n, (unsigned long long)(seed + i));
                                return r;
                        }
                }
        return 0;
}
