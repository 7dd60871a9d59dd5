/* fuse/id_table.h - what the kernel holds of ours: numbers, and what they stand for.
 *
 * A number is an index into one flat array with a generation above it, and never an address: one that is made up, or
 * that stood for what is gone, is told from one that holds, and the numbers of a daemon that has ended mean the same to
 * one that fills the array anew. No number is less than 2^32, so that 0 and the root's 1 are never among them.
 *
 * Not locked: the session's lock guards the tables of the mount. */
#ifndef LITEFS_FUSE_ID_TABLE_H
#define LITEFS_FUSE_ID_TABLE_H

#include <stdint.h>

struct id_slot {
        void *item;          /* NULL: free */
        uint32_t generation; /* of the item, or of the last; never 0 once it was used */
        uint32_t next_free;
};

struct id_table {
        struct id_slot *slots; /* slots[0] is not used */
        uint32_t n, capacity;
        uint32_t first_free; /* 0: none below n */
};

/* Of zeros: an empty one. Frees the array; calls @free_item (NULL: nothing) for each item that is left. */
void id_table_release(struct id_table *t, void (*free_item)(void *item));
/* The number of @item from now on; 0 when memory is out. */
uint64_t id_table_add(struct id_table *t, void *item);
/* NULL when the number stands for nothing, or nothing any more. */
void *id_table_find(const struct id_table *t, uint64_t id);
/* @id stands for something. */
void id_table_remove(struct id_table *t, uint64_t id);

/* An empty table gets @n slots, slots[0] among them, whose generations and items are for the caller to fill in; then the free
 * ones are found. 0 or -ENOMEM. */
int id_table_begin(struct id_table *t, uint32_t n);
void id_table_settle(struct id_table *t);

/* The place in the array: what has one at the same time as others has one of its own. */
static inline uint32_t
id_index(uint64_t id)
{
        return (uint32_t)id;
}

#endif
