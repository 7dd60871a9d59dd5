/* links: litefs_store litefs_lease sqlite3 */
/* Renames of databases, cut short at each call of the operating system: all of it has happened then, or nothing has, and what
 * was answered has. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/workers.h"
#include "store/renames.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/files.h"
#include "tests/lib/os_crash.h"
#include "tests/lib/os_fault.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

/* --- a node --- */

/* What is renamed, and what there is before. */
struct scene {
        const char *from, *to;
        bool is_directory, is_removal; /* of databases; by a plain file */
        const char *names[5]; /* databases that are there, with as many rows as their place times 100 */
        int page_size[5];
};

static const struct scene scenes[] = {
        { "a.db", "b.db", false, false, { "a.db", "b.db" }, { 4096, 4096 } },
        { "a.db", "b.db", false, false, { "a.db", "b.db" }, { 1024, 4096 } },
        { "a.db", "new.db", false, false, { "a.db", "b.db" }, { 4096, 4096 } },
        { "d",
          "e",
          true,
          false,
          { "d/x.db", "d/y.db", "d/sub/z.db", "a.db" },
          { 4096, 1024, 4096, 4096 } },
        { "plain", "b.db", false, true, { "a.db", "b.db" }, { 4096, 4096 } },
};

struct world {
        const struct scene *scene;
        char *dir;
        char root[256], template[256], plain[5][256];
        struct workers *workers;
        struct lease *lease;
        struct store *store;
        struct err e;
};

static void
make_plain(struct world *w, int i)
{
        snprintf(w->plain[i], sizeof w->plain[i], "%s/plain%d", w->dir, i);
        db_driver_make_plain_of(w->plain[i], (i + 1) * 100, w->scene->page_size[i]);
}

static void
copy_file(const char *from, const char *to)
{
        size_t n;
        void *bytes = db_driver_read_file(from, &n);

        write_file(to, bytes, n);
        free(bytes);
}

static int
open_store(struct world *w, const struct os *os)
{
        struct store_config config = {
                .os = os, .clock = clock_host(), .workers = w->workers, .data_dir = w->root
        };
        struct lease_state holder = { .has_holder = true, .term = 1 };
        int r = store_open(&config, w->lease, &w->store, &w->e);

        if (r == 0)
                store_set_role(w->store, true, &holder);
        else
                w->store = NULL;
        return r;
}

static void
must_open(struct world *w)
{
        w->e = (struct err)ERR_INIT;
        ck_assert_msg(open_store(w, os_host()) == 0, "%s", w->e.text);
}

static void
close_store(struct world *w)
{
        store_close(w->store);
        w->store = NULL;
}

static void
make_file_at(struct world *w, const char *name)
{
        char path[600];
        FILE *f;

        snprintf(path, sizeof path, "%s/files/%s", w->root, name);
        f = fopen(path, "w");
        ck_assert_ptr_nonnull(f);
        fputs("plain", f);
        fclose(f);
}

static bool
has_file(struct world *w, const char *name)
{
        char path[600];
        struct stat st;

        snprintf(path, sizeof path, "%s/files/%s", w->root, name);
        return lstat(path, &st) == 0;
}

static void
begin(struct world *w, const struct scene *scene)
{
        char path[600], copy[300];

        *w = (struct world){ .scene = scene, .dir = tmpdir_make(), .e = ERR_INIT };
        ck_assert_int_eq(lease_static_new(true, "n", "", &w->lease), 0);
        ck_assert_int_eq(workers_new(1, &w->workers), 0);
        snprintf(w->root, sizeof w->root, "%s/node", w->dir);
        snprintf(w->template, sizeof w->template, "%s/template", w->dir);
        must_open(w);
        for (int i = 0; i < 5 && scene->names[i] != NULL; i++) {
                struct db *db;

                make_plain(w, i);
                snprintf(copy, sizeof copy, "%s/copy", w->dir);
                copy_file(w->plain[i], copy);
                ck_assert_int_eq(store_create_db(w->store, scene->names[i], &db, &w->e), 0);
                ck_assert_msg(db_adopt_file(db, copy, &w->e) == 0, "%s", w->e.text);
        }
        if (scene->is_directory) {
                snprintf(path, sizeof path, "%s/files/%s/sub", w->root, scene->from);
                ck_assert_int_eq(os_mkdir_all(os_host(), "t", path, 0755), 0);
        } else if (scene->is_removal) {
                make_file_at(w, scene->from);
        }
        close_store(w);
        ck_assert_int_eq(rename(w->root, w->template), 0);
}

static void
end(struct world *w)
{
        workers_free(w->workers);
        w->lease->ops->free(w->lease);
        tmpdir_remove(w->dir);
}

static void
restore(struct world *w)
{
        db_driver_remove_tree(w->root);
        db_driver_copy_tree(w->template, w->root);
        w->e = (struct err)ERR_INIT;
}

/* --- the rename --- */

static int
add(void *arg, struct db *db)
{
        struct world *w = ((void **)arg)[0];
        size_t n = strlen(w->scene->from);
        char to[300];

        if (!db_exists(db) || strncmp(db_name(db), w->scene->from, n) != 0 || db_name(db)[n] != '/')
                return 0;
        snprintf(to, sizeof to, "%s%s", w->scene->to, db_name(db) + n);
        return renames_add(((void **)arg)[1], db, to, &w->e);
}

static int
do_rename(struct world *w)
{
        const struct scene *scene = w->scene;
        struct renames *rs;
        void *arg[2] = { w, NULL };
        int r = renames_new(w->store, 4, &rs);

        if (r < 0)
                return r;
        arg[1] = rs;
        if (scene->is_directory)
                r = store_each(w->store, add, arg);
        else if (scene->is_removal)
                r = renames_add_removal(rs, store_find(w->store, scene->to), &w->e);
        else
                r = renames_add(rs, store_find(w->store, scene->from), scene->to, &w->e);
        if (r == 0 && (scene->is_directory || scene->is_removal))
                r = renames_set_plain(rs, scene->from, scene->to);
        if (r == 0)
                r = renames_begin(rs, NULL, &w->e);
        if (r == 0)
                r = renames_perform(rs, NULL, &w->e);
        renames_free(rs);
        return r;
}

/* --- what there is --- */

/* But for what a rename marks page 1 with. */
static void
unmark(uint8_t *page)
{
        memset(page + 24, 0, 8);
        memset(page + 40, 0, 4);
        memset(page + 92, 0, 8);
}

/* Which of the databases of the scene it holds, from 0; -1: there is none of that name. */
static int
content_of(struct world *w, const char *name)
{
        struct db *db = store_find(w->store, name);
        uint8_t *bytes;
        uint64_t n;
        int found = -2;

        if (db == NULL || !db_exists(db))
                return -1;
        n = db_size_bytes(db);
        bytes = malloc(n);
        ck_assert_ptr_nonnull(bytes);
        ck_assert_int_eq(db_read(db, bytes, n, 0), (ssize_t)n);
        unmark(bytes);
        for (int i = 0; i < 5 && w->scene->names[i] != NULL; i++) {
                size_t size;
                uint8_t *want = db_driver_read_file(w->plain[i], &size);

                unmark(want);
                if (size == n && memcmp(want, bytes, n) == 0)
                        found = i;
                free(want);
        }
        free(bytes);
        ck_assert_msg(found >= 0, "%s holds what nobody wrote", name);
        return found;
}

static bool
is_source(const struct scene *scene, const char *name)
{
        size_t n = strlen(scene->from);

        return strncmp(name, scene->from, n) == 0 && (name[n] == '\0' || name[n] == '/');
}

/* 0: nothing has happened, 1: all has; fails for anything else. */
static int
state_of(struct world *w, const char *when)
{
        const struct scene *scene = w->scene;
        int n_old = 0, n_new = 0;
        char to[300];

        for (int i = 0; i < 5 && scene->names[i] != NULL; i++) {
                const char *name = scene->names[i];
                int is = content_of(w, name);

                if (!is_source(scene, name)) {
                        if (strcmp(name, scene->to) != 0)
                                ck_assert_msg(is == i, "%s: %s was touched", when, name);
                        else if (scene->is_removal) {
                                n_old += is == i;
                                n_new += is == -1;
                        }
                        continue;
                }
                snprintf(to, sizeof to, "%s%s", scene->to, name + strlen(scene->from));
                n_old += is == i && content_of(w, to) != i;
                n_new += is == -1 && content_of(w, to) == i;
                ck_assert_msg((is == i) != (content_of(w, to) == i), "%s: %s is both, or neither", when,
                              name);
        }
        if (scene->is_removal || scene->is_directory) {
                n_old += has_file(w, scene->from) && !has_file(w, scene->to);
                n_new += !has_file(w, scene->from) && has_file(w, scene->to);
                ck_assert_msg(has_file(w, scene->from) != has_file(w, scene->to),
                              "%s: %s is both, or neither", when, scene->from);
        }
        ck_assert_msg((n_old == 0) != (n_new == 0), "%s: %d are as before, %d are renamed", when, n_old,
                      n_new);
        return n_new > 0;
}

/* After a restart: what was answered holds, and a second restart changes nothing. */
static void
check_restart(struct world *w, int result, const char *when)
{
        int is;

        must_open(w);
        renames_redo(w->store, NULL);
        is = state_of(w, when);
        ck_assert_msg(result < 0 || is == 1, "%s: it was answered, and is lost", when);
        ck_assert(!renames_are_wanted(w->store));
        close_store(w);
        must_open(w);
        renames_redo(w->store, NULL);
        ck_assert_msg(state_of(w, when) == is, "%s: it was changed by a restart", when);
        close_store(w);
}

/* --- tests --- */

START_TEST(a_rename_is_done)
{
        struct world w;

        begin(&w, &scenes[_i]);
        restore(&w);
        must_open(&w);
        ck_assert_int_eq(state_of(&w, "before"), 0);
        ck_assert_msg(do_rename(&w) == 0, "%s", w.e.text);
        ck_assert_int_eq(state_of(&w, "after"), 1);
        close_store(&w);
        check_restart(&w, 0, "after a restart");
        end(&w);
}
END_TEST

START_TEST(the_power_is_cut_at_each_call)
{
        bool is_through = false;
        struct world w;

        begin(&w, &scenes[_i]);
        for (uint64_t n = 1; !is_through; n++) {
                struct os_crash *oc;
                char when[64];
                int r;

                snprintf(when, sizeof when, "power cut at call %d", (int)n);
                restore(&w);
                oc = os_crash_new(w.root, n);
                ck_assert_int_eq(open_store(&w, os_crash_os(oc)), 0);
                os_crash_after(oc, n);
                r = do_rename(&w);
                is_through = !os_crash_is_dead(oc);
                os_crash_now(oc);
                close_store(&w);
                os_crash_free(oc);
                check_restart(&w, r, when);
        }
        end(&w);
}
END_TEST

static void
fail_each_call(int scene, bool is_for_ever, int error)
{
        bool is_through = false;
        struct world w;

        begin(&w, &scenes[scene]);
        for (uint64_t n = 1; !is_through; n++) {
                struct os_fault of;
                char when[64];
                int r;

                snprintf(when, sizeof when, "call %d fails%s", (int)n, is_for_ever ? " for ever" : "");
                restore(&w);
                os_fault_init(&of, os_host());
                of.skips_sync = true;
                ck_assert_int_eq(open_store(&w, &of.os), 0);
                os_fault_plan(&of, &(struct os_fault_plan){ .op = OS_ANY_OP,
                                                            .nth = n,
                                                            .is_for_ever = is_for_ever,
                                                            .error = error });
                r = do_rename(&w);
                is_through = os_fault_failed(&of) == 0;
                os_fault_plan(&of, NULL);
                if (r == 0)
                        ck_assert_int_eq(state_of(&w, when), 1);
                close_store(&w);
                os_fault_release(&of);
                check_restart(&w, r, when);
        }
        end(&w);
}

START_TEST(each_call_fails_once)
{
        fail_each_call(_i, false, -EIO);
}
END_TEST

START_TEST(each_call_fails_from_then_on)
{
        fail_each_call(_i, true, -ENOSPC);
}
END_TEST

/* Who has written to the source since does not lose that. */
START_TEST(what_was_changed_since_stays)
{
        struct world w;
        struct db *db;
        char copy[300];
        int fd, wal_fd, n = 0;

        begin(&w, &scenes[0]);
        for (uint64_t at = 1; n == 0; at++) {
                struct os_crash *oc;

                restore(&w);
                oc = os_crash_new(w.root, at);
                ck_assert_int_eq(open_store(&w, os_crash_os(oc)), 0);
                os_crash_after(oc, at);
                ck_assert_int_lt(do_rename(&w), 0);
                os_crash_now(oc);
                close_store(&w);
                os_crash_free(oc);
                must_open(&w);
                if (renames_are_wanted(w.store)) {
                        n++;
                        break;
                }
                close_store(&w);
        }
        /* In place of the source there is another one. */
        db = store_find(w.store, "a.db");
        ck_assert_int_eq(db_drop(db, &fd, &wal_fd, &w.e), 0);
        os_close(os_host(), "t", fd);
        snprintf(copy, sizeof copy, "%s/copy", w.dir);
        copy_file(w.plain[1], copy);
        ck_assert_msg(db_adopt_file(db, copy, &w.e) == 0, "%s", w.e.text);
        renames_redo(w.store, NULL);
        ck_assert_int_eq(content_of(&w, "a.db"), 1);
        ck_assert(!renames_are_wanted(w.store));
        close_store(&w);
        end(&w);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("rename");

        tcase_set_timeout(tc, 300);
        log_configure(&(struct log_config){ .fd = -1 });
        db_driver_use_memory();
        tcase_add_loop_test(tc, a_rename_is_done, 0, COUNT(scenes));
        tcase_add_loop_test(tc, the_power_is_cut_at_each_call, 0, COUNT(scenes));
        tcase_add_loop_test(tc, each_call_fails_once, 0, COUNT(scenes));
        tcase_add_loop_test(tc, each_call_fails_from_then_on, 0, COUNT(scenes));
        tcase_add_test(tc, what_was_changed_since_stays);
        return run_tests("rename", tc);
}
