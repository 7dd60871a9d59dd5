#include "tests/lib/backup_place.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/db_driver_check.h"
#include "tests/lib/files.h"
#include "tests/lib/os_no_sync.h"
#include "tests/lib/tmpdir.h"

static int64_t
wall_ms(const struct clock *c)
{
        return ((const struct place *)((uintptr_t)c - offsetof(struct place, clock)))->now_ms;
}

void
place_open(struct place *p)
{
        struct err e = ERR_INIT;

        memset(p, 0, sizeof *p);
        p->dir = tmpdir_make();
        p->clock = (struct clock){ wall_ms, wall_ms };
        p->now_ms = clock_wall_ms(clock_host());
        p->os = os_no_sync();
        os_fault_init(&p->faults, os_host());
        p->faults.skips_sync = true;
        ck_assert_int_eq(dest_file_open(&p->faults.os, path_in(p->dir, "backup"), &p->dest, &e), 0);
        ck_assert_int_eq(dest_file_open(os_host(), path_in(p->dir, "backup"), &p->reader, &e), 0);
}

void
place_close(struct place *p)
{
        dest_free(p->dest);
        dest_free(p->reader);
        os_fault_release(&p->faults);
        tmpdir_remove(p->dir);
}

void
place_list(struct place *p, struct backup_objects *ret)
{
        struct err e = ERR_INIT;

        ck_assert_msg(backup_list(p->reader, "t.db", ret, &e) == 0, "%s", e.text);
}

size_t
place_count(struct place *p, unsigned level)
{
        struct backup_objects l;
        size_t n = 0;

        place_list(p, &l);
        for (size_t i = 0; i < l.n; i++)
                n += l.items[i].level == level;
        backup_objects_release(&l);
        return n;
}

static bool
is_committed(const struct place *p, struct ltx_pos pos)
{
        for (size_t i = p->n_committed; i-- > 0;)
                if (ltx_pos_equal(p->committed[i], pos))
                        return true;
        return false;
}

static int
restore_plan(struct place *p, const struct backup_objects *plan, struct backup_image_state *ret)
{
        struct err e = ERR_INIT;
        int fd = open(p->dir, O_TMPFILE | O_RDWR, 0600), r;

        r = backup_restore(p->reader, "t.db", plan, os_host(), fd, NULL, ret, &e);
        close(fd);
        ck_assert_msg(r == 0, "%s", e.text);
        ck_assert(ret->is_proved);
        ck_assert_msg(is_committed(p, ret->pos), "%016llx/%016llx was never committed",
                      (unsigned long long)ret->pos.txid, (unsigned long long)ret->pos.checksum);
        return r;
}

static int
restore_to(struct place *p, uint64_t txid, struct backup_image_state *ret)
{
        struct backup_target target = { txid, txid != 0 };
        struct backup_objects objects, plan;
        int r;

        place_list(p, &objects);
        r = backup_plan_make(&objects, &target, &plan, NULL);
        if (r == 0)
                r = restore_plan(p, &plan, ret);
        backup_objects_release(&plan);
        backup_objects_release(&objects);
        return r;
}

int
place_restore(struct place *p, struct backup_image_state *ret)
{
        return restore_to(p, 0, ret);
}

size_t
place_check_borders(struct place *p)
{
        struct backup_image_state s;
        struct backup_objects l;
        size_t n = 0;

        place_list(p, &l);
        for (size_t i = 0; i < l.n; i++)
                n += restore_to(p, l.items[i].max_txid, &s) == 0;
        backup_objects_release(&l);
        return n;
}

/* --- writers --- */

static void
adopt_small_file(struct writer *w)
{
        char path[300];
        sqlite3 *plain;

        snprintf(path, sizeof path, "%s.plain", w->root);
        ck_assert_int_eq(sqlite3_open(path, &plain), SQLITE_OK);
        ck_assert_int_eq(
                db_driver_exec(plain,
                               "pragma synchronous=off; create table t(id integer primary key, x)"),
                SQLITE_OK);
        sqlite3_close(plain);
        ck_assert_msg(db_driver_adopt(w->driver, path, &w->e) == 0, "%s", w->e.text);
}

struct ltx_pos
writer_pos(struct writer *w)
{
        struct db_info info;

        db_get_info(db_driver_db(w->driver), &info);
        return info.pos;
}

static void
note_position(struct writer *w)
{
        struct place *p = w->place;

        ck_assert_uint_lt(p->n_committed, PLACE_MAX_POSITIONS);
        p->committed[p->n_committed++] = writer_pos(w);
}

void
writer_open(struct writer *w, struct place *p, const char *name, const struct writer *of)
{
        memset(w, 0, sizeof *w);
        w->place = p;
        snprintf(w->root, sizeof w->root, "%s/%s", p->dir, name);
        snprintf(w->lineage, sizeof w->lineage, "one cluster");
        snprintf(w->writer, sizeof w->writer, "%s", name);
        if (of != NULL)
                db_driver_copy_tree(of->root, w->root);
        ck_assert_msg(db_driver_open(&p->os, w->root, &w->driver, &w->e) == 0, "%s", w->e.text);
        if (of == NULL)
                adopt_small_file(w);
        ck_assert_int_eq(db_driver_connect(w->driver, 0, &w->c), SQLITE_OK);
        note_position(w);
        w->config = (struct upload_config){ .os = os_host(),
                                            .clock = &p->clock,
                                            .tmp_dir = p->dir,
                                            .is_compressed = true,
                                            .dest = p->dest,
                                            .lineage = w->lineage,
                                            .writer = w->writer,
                                            .level_ms = { 300000, 30000, 300000, 3600000 },
                                            .snapshot_ms = 86400000,
                                            .keep_ms = 86400000 };
        ck_assert_int_eq(upload_new(&w->config, db_driver_db(w->driver), &w->upload), 0);
}

void
writer_close(struct writer *w)
{
        upload_free(w->upload);
        sqlite3_close(w->c);
        db_driver_close(w->driver);
}

/* Each statement by itself, so that each position is seen. */
void
writer_run(struct writer *w, const char *sql)
{
        sqlite3_stmt *s;
        int rc;

        while (sql != NULL && sql[0] != '\0') {
                ck_assert_msg(sqlite3_prepare_v2(w->c, sql, -1, &s, &sql) == SQLITE_OK, "%s",
                              sqlite3_errmsg(w->c));
                while ((rc = sqlite3_step(s)) == SQLITE_ROW)
                        ;
                ck_assert_msg(s == NULL || rc == SQLITE_DONE, "%s", sqlite3_errmsg(w->c));
                sqlite3_finalize(s);
                db_driver_drain(w->driver);
                note_position(w);
        }
}

void
writer_delete(struct writer *w)
{
        sqlite3_close(w->c);
        w->c = NULL;
        ck_assert_msg(db_driver_drop(w->driver, &w->e) == 0, "%s", w->e.text);
        note_position(w);
}

int
writer_step(struct writer *w)
{
        int r = 0;

        for (int i = 0; i < 5 && r == 0; i++) {
                w->e = (struct err)ERR_INIT;
                r = upload_step(w->upload, &w->e);
                ck_assert_msg(r == 0 || w->e.text[0] != '\0', "%d without words", r);
                if (upload_due_ms(w->upload) > w->place->now_ms)
                        break;
        }
        return r;
}

enum upload_state
writer_state(struct writer *w)
{
        struct upload_status s;

        upload_get_status(w->upload, &s);
        return s.state;
}
