/* lib/base/map.h - items by a key that they have in them: open addressing, nothing is taken out. One thread at a time. */
#ifndef LITEFS_BASE_MAP_H
#define LITEFS_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map_slot;

/* Zeroes are an empty one. */
struct map {
        struct map_slot *slots; /* at most half of them in use */
        size_t n_slots;         /* a power of two */
        size_t n;
};

uint64_t map_hash_text(const char *key);
uint64_t map_hash_pointer(const void *key);

/* The item with @hash of which @is says that it has @key, or NULL. */
void *map_find(const struct map *m, uint64_t hash, bool (*is)(const void *item, const void *key),
               const void *key);
/* @item is not in it. 0 or -ENOMEM. */
int map_put(struct map *m, uint64_t hash, void *item);
/* Calls @fn for each item. */
void map_each(const struct map *m, void (*fn)(void *item));
/* The items stay their owner's. */
void map_release(struct map *m);

#endif
