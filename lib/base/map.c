#include "base/map.h"

#include <errno.h>
#include <stdlib.h>

#define FIRST_SLOTS 64u

struct map_slot {
        uint64_t hash;
        void *item; /* NULL: free */
};

/* FNV-1a. */
uint64_t
map_hash_text(const char *key)
{
        uint64_t h = 14695981039346656037u;

        for (const char *p = key; *p != '\0'; p++)
                h = (h ^ (unsigned char)*p) * 1099511628211u;
        return h;
}

/* The finalizer of splitmix64: the low bits of addresses are all alike. */
uint64_t
map_hash_pointer(const void *key)
{
        uint64_t h = (uint64_t)(uintptr_t)key;

        h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
        h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
        return h ^ (h >> 31);
}

void *
map_find(const struct map *m, uint64_t hash, bool (*is)(const void *item, const void *key),
         const void *key)
{
        if (m->n_slots == 0)
                return NULL;
        for (size_t i = hash & (m->n_slots - 1); m->slots[i].item != NULL;
             i = (i + 1) & (m->n_slots - 1))
                if (m->slots[i].hash == hash && is(m->slots[i].item, key))
                        return m->slots[i].item;
        return NULL;
}

static void
place(struct map_slot *slots, size_t n_slots, uint64_t hash, void *item)
{
        size_t i = hash & (n_slots - 1);

        while (slots[i].item != NULL)
                i = (i + 1) & (n_slots - 1);
        slots[i] = (struct map_slot){ hash, item };
}

static int
map_grow(struct map *m)
{
        size_t want = m->n_slots == 0 ? FIRST_SLOTS : m->n_slots * 2;
        struct map_slot *slots;

        if (m->n * 2 < m->n_slots)
                return 0;
        slots = calloc(want, sizeof *slots);
        if (slots == NULL)
                return -ENOMEM;
        for (size_t i = 0; i < m->n_slots; i++)
                if (m->slots[i].item != NULL)
                        place(slots, want, m->slots[i].hash, m->slots[i].item);
        free(m->slots);
        m->slots = slots;
        m->n_slots = want;
        return 0;
}

int
map_put(struct map *m, uint64_t hash, void *item)
{
        int r = map_grow(m);

        if (r < 0)
                return r;
        place(m->slots, m->n_slots, hash, item);
        m->n++;
        return 0;
}

void
map_each(const struct map *m, void (*fn)(void *item))
{
        for (size_t i = 0; i < m->n_slots; i++)
                if (m->slots[i].item != NULL)
                        fn(m->slots[i].item);
}

void
map_release(struct map *m)
{
        free(m->slots);
        *m = (struct map){ 0 };
}
