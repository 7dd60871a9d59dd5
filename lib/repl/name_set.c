#include "repl/name_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_SLOTS 64u

/* Open addressing; at most half full. */
struct name_set {
        char **slots;
        size_t n_slots; /* a power of two */
        size_t n;
        uint8_t all_flag;
};

static char **
find_slot(char **slots, size_t n_slots, const char *name)
{
        uint64_t h = 14695981039346656037u;
        size_t i;

        for (const char *p = name; *p != '\0'; p++)
                h = (h ^ (unsigned char)*p) * 1099511628211u;
        for (i = h & (n_slots - 1); slots[i] != NULL && strcmp(slots[i], name) != 0;)
                i = (i + 1) & (n_slots - 1);
        return &slots[i];
}

static int
grow(struct name_set *set)
{
        size_t want = set->n_slots == 0 ? FIRST_SLOTS : set->n_slots * 2;
        char **slots;

        if (set->n * 2 < set->n_slots)
                return 0;
        slots = calloc(want, sizeof *slots);
        if (slots == NULL)
                return -ENOMEM;
        for (size_t i = 0; i < set->n_slots; i++)
                if (set->slots[i] != NULL)
                        *find_slot(slots, want, set->slots[i]) = set->slots[i];
        free(set->slots);
        set->slots = slots;
        set->n_slots = want;
        return 0;
}

static int
add(struct name_set *set, const char *name, struct err *e)
{
        char **slot;

        if (set->n == NAME_SET_MAX)
                return err_text(e, E_FORMAT, "a list of more than %u databases", NAME_SET_MAX);
        if (grow(set) < 0)
                return err_set(e, -ENOMEM, "read a list of databases");
        slot = find_slot(set->slots, set->n_slots, name);
        if (*slot != NULL)
                return err_text(e, E_FORMAT, "%s is twice in a list", name);
        *slot = strdup(name);
        if (*slot == NULL)
                return err_set(e, -ENOMEM, "read a list of databases");
        set->n++;
        return 0;
}

int
name_set_add_list(struct name_set **set, const struct frame_positions *p, struct err *e)
{
        struct frame_positions rest = *p;
        uint8_t all_flag = p->flags & FRAME_POSITIONS_ALL;
        char name[DBNAME_MAX + 1];
        struct ltx_pos pos;
        int r = 0;

        if (*set == NULL) {
                *set = calloc(1, sizeof **set);
                if (*set == NULL)
                        return err_set(e, -ENOMEM, "read a list of databases");
                (*set)->all_flag = all_flag;
        }
        if ((*set)->all_flag != all_flag)
                return err_text(e, E_FORMAT, "a list that is complete in part");
        while (r == 0 && frame_positions_next(&rest, name, &pos))
                r = add(*set, name, e);
        return r;
}

bool
name_set_has(const struct name_set *set, const char *name)
{
        return set != NULL && set->n_slots > 0 && *find_slot(set->slots, set->n_slots, name) != NULL;
}

void
name_set_free(struct name_set *set)
{
        if (set == NULL)
                return;
        for (size_t i = 0; i < set->n_slots; i++)
                free(set->slots[i]);
        free(set->slots);
        free(set);
}
