/* /import: a database file becomes the content of a database, in one transaction. /restore: the same, and the file may be one
 * of its own past states.
 *
 * The file is one that nobody else sees; it is looked at, and only then do SQLite's locks come into it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/rfc3339.h"
#include "db/import.h"
#include "history/images.h"
#include "history/moment.h"
#include "http/api_internal.h"

#define BODY_MAX ((uint64_t)1 << 47) /* more than SQLite can */
#define LOCK_WAIT_MS 10000
#define COPY_BYTES (1u << 20)

struct import {
        struct api *api;
        char *name;
        int fd;
        uint64_t size_bytes;
        struct import_file file;
        bool is_restore;
        struct moment_info restored; /* of its own past: the state that it is; else of zeros */
        struct ltx_pos before, after;
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
replace_once(struct import *im, struct db *db, void *handle, struct err *e)
{
        const struct api_config *c = &im->api->config;
        struct received rx;
        struct attempt at = { c->apply_ops, &rx };
        struct db_info info;
        int r;

        received_init(&rx, store_env(c->store));
        r = try_until(try_reserve, handle, &at, e);
        if (r == 0) {
                db_get_info(db, &info);
                im->before = info.pos;
        }
        if (r == 0)
                r = import_build(db, im->fd, &im->file, &rx, e);
        if (r == 0)
                r = try_until(try_apply, handle, &at, e);
        if (r == 0)
                im->after = (struct ltx_pos){ rx.record.max_txid, rx.record.post_apply_checksum };
        received_release(&rx);
        return r;
}

static int
replace_imported(struct import *im, struct db *db, struct err *e)
{
        const struct api_config *c = &im->api->config;
        void *handle;
        int r = c->apply_ops->begin(c->apply_arg, db, &handle);

        if (r < 0)
                return err_set(e, r, "import");
        r = replace_once(im, db, handle, e);
        /* A database that was not there cannot be reserved, and a copy in the mount has just become it: now it can. */
        if (r == E_POS_MISMATCH)
                r = replace_once(im, db, handle, e);
        if (r == 0 && (r = db_may_confirm(db)) < 0)
                err_set(e, r, "import");
        c->apply_ops->end(handle);
        return r;
}

#define REFUSAL_SIZE (LEASE_URL_SIZE + LEASE_HOSTNAME_SIZE + 64)

/* On a replica it is not the lease that has run out, and where to import is known. */
static const char *
describe_refusal(struct store *store, int code, bool is_restore, char *buf, size_t size)
{
        struct lease_state primary;

        if (code != E_NOT_PRIMARY)
                snprintf(buf, size, "lease expired");
        else if (store_primary(store, &primary))
                snprintf(buf, size, "this node is a replica: %s on the primary, %s at %s",
                         is_restore ? "restore" : "import", primary.hostname, primary.advertise_url);
        else
                snprintf(buf, size, "this node is not the primary, and knows of none");
        return buf;
}

/* On an applier, while a worker of the API waits. */
static int
run_import(void *arg)
{
        struct import *im = arg;
        struct store *store = im->api->config.store;
        char text[REFUSAL_SIZE];
        struct db *db;
        int r;

        r = store_may_commit(store);
        if (r < 0)
                err_text(&im->e, r, "%s", describe_refusal(store, r, im->is_restore, text, sizeof text));
        else
                r = store_create_db(store, im->name, &db, &im->e);
        if (r == 0)
                r = replace_imported(im, db, &im->e);
        return r;
}

/* --- answers --- */

static json_t *
pos_json(struct ltx_pos pos)
{
        return json_pack("{s:o, s:o}", "txid", json_sprintf("%016llx", (unsigned long long)pos.txid),
                         "postApplyChecksum", json_sprintf("%016llx", (unsigned long long)pos.checksum));
}

static void
answer_restore(struct http_call *call, const struct import *im)
{
        json_t *restored = NULL;
        char when[RFC3339_SIZE];

        if (im->restored.pos.txid != 0) {
                rfc3339_format(im->restored.time_ms, when);
                restored = pos_json(im->restored.pos);
                json_object_set_new(restored, "timestamp", json_string(when));
        }
        log_event(LOG_INFO, im->name, "restored: transaction %016llx is as it was after %016llx",
                  (unsigned long long)im->after.txid, (unsigned long long)im->restored.pos.txid);
        api_reply_json(call, 200,
                       json_pack("{s:o, s:o?, s:o, s:o}", "name", api_name_json(im->name), "restored",
                                 restored, "before", pos_json(im->before), "after",
                                 pos_json(im->after)));
}

static void
answer_import(struct http_call *call, const struct import *im)
{
        if (im->is_restore) {
                answer_restore(call, im);
                return;
        }
        log_event(LOG_INFO, im->name, "imported: %u pages of %u bytes", im->file.page_count,
                  im->file.page_size);
        api_reply_empty(call);
}

/* The file is there, unless @r says why not. */
static void
replace_and_answer(struct http_call *call, struct import *im, int r)
{
        if (r == 0 && im->fd < 0)
                r = err_text(&im->e, E_FORMAT, "read database header: EOF");
        if (r == 0)
                r = import_check(store_env(im->api->config.store)->os, im->fd, &im->file, &im->e);
        if (r == 0 && atomic_exchange(&im->api->is_importing, true)) {
                r = err_text(&im->e, -EBUSY, "another import is under way, try again");
        } else if (r == 0) {
                r = workers_call(im->api->config.appliers, run_import, im);
                atomic_store(&im->api->is_importing, false);
        }
        if (r < 0)
                api_reply_code(call, r, &im->e);
        else
                answer_import(call, im);
}

static void
end_body(struct http_call *call, void *data, int result)
{
        struct import *im = data;

        if (result < 0)
                err_set(&im->e, result, "receive the file");
        replace_and_answer(call, im, result);
}

/* --- of its own past --- */

static int
copy_moment(struct import *im, const struct moment *m)
{
        uint8_t *buf = malloc(COPY_BYTES);
        ssize_t n = buf == NULL ? err_set(&im->e, -ENOMEM, "restore") : 1;
        int r = 0;

        while (r == 0 && n > 0 && (n = moment_read(m, buf, COPY_BYTES, im->size_bytes, &im->e)) > 0)
                if ((r = write_body(im, buf, (size_t)n)) < 0)
                        err_set(&im->e, r, "keep the state");
        free(buf);
        return n < 0 ? (int)n : r;
}

/* -EAGAIN: the log is being replaced. */
static int
find_and_copy(struct import *im, struct db *db, const struct moment_spec *spec)
{
        struct moment *m = NULL;
        struct db_info info;
        char dir[PATH_MAX];
        int r;

        db_get_info(db, &info);
        r = moment_find(db_log(db), spec, info.pos.txid, &im->restored, &im->e);
        if (r == 0)
                r = moment_open(store_env(im->api->config.store)->os, db_log(db),
                                history_images_dir(im->api->config.store, db, dir), &im->restored, &m,
                                &im->e);
        if (r == 0)
                r = copy_moment(im, m);
        moment_close(m);
        return r;
}

static void
run_restore(struct http_call *call, void *data)
{
        struct import *im = data;
        struct store *store = im->api->config.store;
        const char *to = http_call_query(call, "to"); /* it is there */
        struct db *db = store_find(store, im->name);
        struct moment_spec spec;
        int r;

        if (moment_spec_parse(to, clock_wall_ms(store_env(store)->clock), &spec) < 0)
                r = err_text(&im->e, E_FORMAT,
                             "to: want a time such as 2026-01-02T03:04:05Z, -5m, or 16 hex digits");
        else if (db == NULL)
                r = err_text(&im->e, E_NOT_FOUND, "there is no such database");
        else
                r = find_and_copy(im, db, &spec);
        replace_and_answer(call, im, r);
}

/* The mount's own files: a database could not be opened behind them. */
static bool
is_taken(const char *name)
{
        return strcmp(name, ".lag") == 0 || strcmp(name, ".primary") == 0;
}

/* NULL: answered. */
static struct import *
begin_import(struct api *a, struct http_call *call, bool is_restore)
{
        const char *name = api_database_name(call);
        char text[REFUSAL_SIZE];
        struct import *im;
        int r;

        if (name == NULL)
                return NULL;
        if (is_taken(name)) {
                api_reply_error(call, 400, "invalid database name");
                return NULL;
        }
        r = store_may_commit(a->config.store);
        if (r < 0) {
                api_reply_error(call, 503, "%s",
                                describe_refusal(a->config.store, r, is_restore, text, sizeof text));
                return NULL;
        }
        if (atomic_load(&a->is_importing)) {
                api_reply_error(call, 503, "another import is under way, try again");
                return NULL;
        }
        im = calloc(1, sizeof *im);
        if (im == NULL || (im->name = strdup(name)) == NULL) {
                free(im);
                api_reply_error(call, 500, "out of memory");
                return NULL;
        }
        im->api = a;
        im->is_restore = is_restore;
        im->fd = -1;
        http_call_set_data(call, im, free_import);
        return im;
}

static const struct http_receiver import_receiver = { write_body, end_body };

void
api_import(struct api *a, struct http_call *call)
{
        if (begin_import(a, call, false) != NULL)
                http_call_receive(call, &import_receiver, BODY_MAX);
}

/* Without "to" it is the body that is the state. */
void
api_restore(struct api *a, struct http_call *call)
{
        struct import *im = begin_import(a, call, true);

        if (im == NULL)
                return;
        if (http_call_query(call, "to") != NULL)
                http_call_run(call, run_restore);
        else
                http_call_receive(call, &import_receiver, BODY_MAX);
}
