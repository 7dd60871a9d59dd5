/* /import: a database file becomes the content of a database, in one transaction.
 *
 * The body goes to a file that nobody else sees, is looked at, and only then do SQLite's locks come into it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "db/import.h"
#include "http/api_internal.h"

#define BODY_MAX ((uint64_t)1 << 47) /* more than SQLite can */
#define LOCK_WAIT_MS 10000

struct import {
        struct api *api;
        char *name;
        int fd;
        uint64_t size_bytes;
        struct import_file file;
        struct err e;
};

static void
free_import(void *data)
{
        struct import *im = data;

        if (im->fd >= 0)
                close(im->fd);
        free(im->name);
        free(im);
}

/* --- the body --- */

static int
open_temporary(struct import *im)
{
        const struct db_env *env = store_env(im->api->config.store);
        int fd = os_open(env->os, "import:open", env->tmp_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

        im->fd = fd;
        return fd < 0 ? fd : 0;
}

static int
write_body(void *data, const void *buf, size_t n)
{
        struct import *im = data;
        int r = im->fd < 0 ? open_temporary(im) : 0;

        if (r == 0)
                r = os_pwrite_all(store_env(im->api->config.store)->os, "import:write", im->fd, buf, n,
                                  (off_t)im->size_bytes);
        im->size_bytes += n;
        return r;
}

/* --- the transaction --- */

/* Calls @fn until nobody is in its way. */
static int
try_until(int (*fn)(void *handle, void *arg, struct err *e), void *handle, void *arg, struct err *e)
{
        struct timespec pause = { 0, 2000000 };
        int r;

        for (int waited_ms = 0;; waited_ms += 2) {
                r = fn(handle, arg, e);
                if (r != -EAGAIN)
                        return r;
                if (waited_ms >= LOCK_WAIT_MS)
                        return err_text(e, E_BUSY_DB,
                                        "the database is in use: a transaction in it did not end within "
                                        "%d s, try again",
                                        LOCK_WAIT_MS / 1000);
                nanosleep(&pause, NULL);
        }
}

struct attempt {
        const struct apply_ops *ops;
        struct received *rx;
};

static int
try_reserve(void *handle, void *arg, struct err *e)
{
        return ((struct attempt *)arg)->ops->reserve(handle, e);
}

static int
try_apply(void *handle, void *arg, struct err *e)
{
        return ((struct attempt *)arg)->ops->apply(handle, ((struct attempt *)arg)->rx, e);
}

static int
replace(struct import *im, struct db *db, struct err *e)
{
        const struct api_config *c = &im->api->config;
        struct received rx;
        struct attempt at = { c->apply_ops, &rx };
        void *handle;
        int r = c->apply_ops->begin(c->apply_arg, db, &handle);

        if (r < 0)
                return err_set(e, r, "import");
        received_init(&rx, store_env(c->store));
        r = try_until(try_reserve, handle, &at, e);
        if (r == 0)
                r = import_build(db, im->fd, &im->file, &rx, e);
        if (r == 0)
                r = try_until(try_apply, handle, &at, e);
        if (r == 0 && (r = db_may_confirm(db)) < 0)
                err_set(e, r, "import");
        c->apply_ops->end(handle);
        received_release(&rx);
        return r;
}

/* On an applier, while a worker of the API waits. */
static int
run_import(void *arg)
{
        struct import *im = arg;
        struct store *store = im->api->config.store;
        struct db *db;
        int r;

        r = store_may_commit(store);
        if (r < 0)
                err_text(&im->e, r, "lease expired");
        else
                r = store_create_db(store, im->name, &db, &im->e);
        if (r == 0)
                r = replace(im, db, &im->e);
        return r;
}

static void
end_body(struct http_call *call, void *data, int result)
{
        struct import *im = data;
        int r = result;

        if (r < 0)
                err_set(&im->e, r, "receive the file");
        else if (im->fd < 0)
                r = err_text(&im->e, E_FORMAT, "read database header: EOF");
        if (r == 0)
                r = import_check(store_env(im->api->config.store)->os, im->fd, &im->file, &im->e);
        if (r == 0 && atomic_exchange(&im->api->is_importing, true)) {
                r = err_text(&im->e, -EBUSY, "another import is under way, try again");
        } else if (r == 0) {
                r = workers_call(im->api->config.appliers, run_import, im);
                atomic_store(&im->api->is_importing, false);
        }
        if (r < 0) {
                api_reply_code(call, r, &im->e);
                return;
        }
        log_event(LOG_INFO, im->name, "imported: %u pages of %u bytes", im->file.page_count,
                  im->file.page_size);
        api_reply_empty(call);
}

/* The mount's own files: a database could not be opened behind them. */
static bool
is_taken(const char *name)
{
        return strcmp(name, ".lag") == 0 || strcmp(name, ".primary") == 0;
}

void
api_import(struct api *a, struct http_call *call)
{
        static const struct http_receiver receiver = { write_body, end_body };
        const char *name = api_database_name(call);
        struct import *im;

        if (name == NULL)
                return;
        if (is_taken(name)) {
                api_reply_error(call, 400, "invalid database name");
                return;
        }
        if (store_may_commit(a->config.store) < 0) {
                api_reply_error(call, 503, "lease expired");
                return;
        }
        if (atomic_load(&a->is_importing)) {
                api_reply_error(call, 503, "another import is under way, try again");
                return;
        }
        im = calloc(1, sizeof *im);
        if (im == NULL || (im->name = strdup(name)) == NULL) {
                free(im);
                api_reply_error(call, 500, "out of memory");
                return;
        }
        im->api = a;
        im->fd = -1;
        http_call_set_data(call, im, free_import);
        http_call_receive(call, &receiver, BODY_MAX);
}
