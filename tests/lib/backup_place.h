/* tests/lib/backup_place.h - databases that are uploaded to a directory, and what can be restored from there.
 *
 * A `struct writer` is a node: a database of its own (db_driver.h), and its upload. All of them write to one place. Every
 * position that a writer has committed is noted, and a restore has to come to one of those. Needs litefs_backup and sqlite3. */
#ifndef LITEFS_TESTS_BACKUP_PLACE_H
#define LITEFS_TESTS_BACKUP_PLACE_H

#include "backup/restore.h"
#include "backup/upload.h"
#include "tests/lib/db_driver.h"
#include "tests/lib/os_fault.h"

#define PLACE_MAX_POSITIONS 4000

struct place {
        char *dir;
        struct os os;           /* of the databases: nobody cuts the power */
        struct os_fault faults; /* of the destination */
        struct dest *dest;
        struct dest *reader; /* the same without faults */
        struct clock clock;
        int64_t now_ms; /* what the clock says */
        struct ltx_pos committed[PLACE_MAX_POSITIONS];
        size_t n_committed;
};

struct writer {
        struct place *place;
        char root[256];
        struct db_driver *driver;
        sqlite3 *c;
        struct upload_config config;
        struct upload *upload;
        char lineage[40], writer[40];
        struct err e; /* of the last step */
};

void place_open(struct place *p);
void place_close(struct place *p);
/* Restores the newest state: 0, E_NOT_FOUND, or what is wrong with it. It has to be one that was committed. */
int place_restore(struct place *p, struct backup_image_state *ret);
/* Each border that a plan leads to is one. The number of them. */
size_t place_check_borders(struct place *p);
void place_list(struct place *p, struct backup_objects *ret);
size_t place_count(struct place *p, unsigned level);

/* A database of one small table. @of: begins as a copy of that one, which must be closed or idle; NULL: a new one. */
void writer_open(struct writer *w, struct place *p, const char *name, const struct writer *of);
void writer_close(struct writer *w);
/* Commits, one transaction a statement. */
void writer_run(struct writer *w, const char *sql);
void writer_delete(struct writer *w); /* the database */
struct ltx_pos writer_pos(struct writer *w);
/* upload_step until it has nothing to wait for: its result. */
int writer_step(struct writer *w);
enum upload_state writer_state(struct writer *w);

#endif
