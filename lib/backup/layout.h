/* lib/backup/layout.h - how the objects of one database are called at a destination: Litestream 0.5's names.
 *
 * Below the database's place: in a bucket LEVEL/MIN-MAX.ltx with a level of four hex digits, in a directory
 * ltx/LEVEL/MIN-MAX.ltx with a decimal one. MIN and MAX: 16 lower-case hex digits. Level 0 has what was written last,
 * higher ones cover more with fewer objects, level 9 has whole databases. HEAD_NAME lies beside them; Litestream passes
 * over names that it does not know. */
#ifndef LITEFS_BACKUP_LAYOUT_H
#define LITEFS_BACKUP_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BACKUP_LEVELS 10
#define BACKUP_SNAPSHOT_LEVEL 9
#define BACKUP_HEAD_NAME "litefs.json"
#define BACKUP_NAME_SIZE 64

enum backup_layout { BACKUP_IN_BUCKET, BACKUP_IN_DIRECTORY };

/* One LTX file at a destination. */
struct backup_object {
        unsigned level;
        uint64_t min_txid, max_txid;
        uint64_t size_bytes;
        int64_t time_ms; /* that the destination has for it; 0: none. Its header is the truth */
};

/* The name below the database's place. */
void backup_object_name(enum backup_layout layout, const struct backup_object *o,
                        char ret[BACKUP_NAME_SIZE]);
/* The part of it that ends in a slash. */
void backup_level_name(enum backup_layout layout, unsigned level, char ret[BACKUP_NAME_SIZE]);
/* Level and TXIDs; false for every other name, and then *@ret is untouched. */
bool backup_object_parse(enum backup_layout layout, const char *name, struct backup_object *ret);

/* A list of them; zeroes are an empty one. */
struct backup_objects {
        struct backup_object *items;
        size_t n, capacity;
};

int backup_objects_add(struct backup_objects *l, const struct backup_object *o); /* 0 or -ENOMEM */
/* By level, then by where they end. */
void backup_objects_sort(struct backup_objects *l);
void backup_objects_release(struct backup_objects *l);

#endif
