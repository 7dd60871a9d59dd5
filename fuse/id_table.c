#include "fuse/id_table.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#define FIRST_CAPACITY 64u

void
id_table_release(struct id_table *t, void (*free_item)(void *item))
{
        for (uint32_t i = 1; i < t->n; i++)
                if (t->slots[i].item != NULL && free_item != NULL)
                        free_item(t->slots[i].item);
        free(t->slots);
        *t = (struct id_table){ 0 };
}

/* A slot that is free, or 0. */
static uint32_t
id_take_slot(struct id_table *t)
{
        uint32_t i = t->first_free;

        if (i != 0) {
                t->first_free = t->slots[i].next_free;
                return i;
        }
        if (t->n >= t->capacity) {
                uint32_t capacity = t->capacity > 0 ? t->capacity * 2 : FIRST_CAPACITY;
                struct id_slot *p = capacity > t->capacity ? realloc(t->slots, capacity * sizeof *p)
                                                           : NULL;

                if (p == NULL)
                        return 0;
                t->slots = p;
                t->capacity = capacity;
        }
        if (t->n == 0)
                t->slots[t->n++] = (struct id_slot){ 0 };
        t->slots[t->n] = (struct id_slot){ 0 };
        return t->n++;
}

uint64_t
id_table_add(struct id_table *t, void *item)
{
        uint32_t i = id_take_slot(t);
        struct id_slot *slot = &t->slots[i];

        if (i == 0)
                return 0;
        slot->item = item;
        if (++slot->generation == 0)
                slot->generation = 1;
        return (uint64_t)slot->generation << 32 | i;
}

void *
id_table_find(const struct id_table *t, uint64_t id)
{
        uint32_t i = id_index(id);

        return i < t->n && t->slots[i].generation == id >> 32 ? t->slots[i].item : NULL;
}

void
id_table_remove(struct id_table *t, uint64_t id)
{
        uint32_t i = id_index(id);

        t->slots[i].item = NULL;
        t->slots[i].next_free = t->first_free;
        t->first_free = i;
}

int
id_table_begin(struct id_table *t, uint32_t n)
{
        struct id_slot *slots = calloc(n > FIRST_CAPACITY ? n : FIRST_CAPACITY, sizeof *slots);

        if (slots == NULL)
                return -ENOMEM;
        *t = (struct id_table){ .slots = slots,
                                .n = n,
                                .capacity = n > FIRST_CAPACITY ? n : FIRST_CAPACITY };
        return 0;
}

void
id_table_settle(struct id_table *t)
{
        for (uint32_t i = t->n; i > 1; i--) {
                struct id_slot *slot = &t->slots[i - 1];

                if (slot->item != NULL)
                        continue;
                slot->next_free = t->first_free;
                t->first_free = i - 1;
        }
}
