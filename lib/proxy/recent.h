/* lib/proxy/recent.h - which databases have committed since a given moment, and which database a hash means.
 *
 * So a write's cookie names what was written while it ran, and costs nothing for databases that rest. Any thread; the
 * lock is a leaf. What is named once stays for the life of this: 64 bytes a database. */
#ifndef LITEFS_PROXY_RECENT_H
#define LITEFS_PROXY_RECENT_H

#include <stdint.h>

struct db;
struct recent;

/* 0 or -ENOMEM. */
int recent_new(struct recent **ret);
void recent_free(struct recent *r);
/* @db, whose name has @hash, exists: -ENOMEM. */
int recent_add(struct recent *r, uint64_t hash, struct db *db);
/* It has committed. Without memory for it, no cookie will name it. */
void recent_mark(struct recent *r, uint64_t hash, struct db *db);
/* The moment of the last mark. */
uint64_t recent_now(struct recent *r);
/* NULL: unknown. */
struct db *recent_find(struct recent *r, uint64_t hash);
struct recent_entry {
        uint64_t hash;
        struct db *db;
};
/* Those that were marked after @since, latest first, up to @max: how many. */
unsigned recent_since(struct recent *r, uint64_t since, struct recent_entry *ret, unsigned max);

#endif
