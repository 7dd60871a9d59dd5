/* lib/store/db_list.h - the databases of a node by name, also those that did not open. Any thread. */
#ifndef LITEFS_STORE_DB_LIST_H
#define LITEFS_STORE_DB_LIST_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct db;

struct db_list {
        pthread_rwlock_t lock;         /* guards the rest; rank above every database's lock */
        struct db_list_entry *entries; /* sorted by name */
        size_t n;
        size_t capacity;
};

void db_list_init(struct db_list *l);
/* Closes every database. */
void db_list_release(struct db_list *l);

/* Enters @db as @name, also in place of one that did not open. -ENOMEM. */
int db_list_put(struct db_list *l, const char *name, struct db *db);
/* Enters that @name did not open, and why; also in place of one that did, which is the caller's then. */
int db_list_put_broken(struct db_list *l, const char *name, const char *why);
/* Why it did not; "": it did, or is not there. */
void db_list_why_broken(struct db_list *l, const char *name, char buf[ERR_TEXT_SIZE]);
/* NULL: there is none, or it did not open. */
struct db *db_list_find(struct db_list *l, const char *name);
bool db_list_is_broken(struct db_list *l, const char *name);
bool db_list_has_broken(struct db_list *l);
/* Calls @fn for each that is open, in name order, until it returns non-zero, which is returned. Without the lock. */
int db_list_each(struct db_list *l, int (*fn)(void *arg, struct db *db), void *arg);
/* The names of those that did not open, likewise in order. Under the lock: @fn calls nothing of the list. */
void db_list_each_broken(struct db_list *l, void (*fn)(void *arg, const char *name), void *arg);

#endif
