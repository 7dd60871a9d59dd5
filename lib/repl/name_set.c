#include "repl/name_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"

struct name_set {
        struct map names;
        uint8_t all_flag;
};

static bool
is_same_name(const void *item, const void *key)
{
        return strcmp(item, key) == 0;
}

static int
name_set_add_one(struct name_set *set, const char *name, struct err *e)
{
        uint64_t hash = map_hash_text(name);
        char *copy;

        if (set->names.n == NAME_SET_MAX)
                return err_text(e, E_FORMAT, "a list of more than %u databases", NAME_SET_MAX);
        if (map_find(&set->names, hash, is_same_name, name) != NULL)
                return err_text(e, E_FORMAT, "%s is twice in a list", name);
        copy = strdup(name);
        if (copy == NULL || map_put(&set->names, hash, copy) < 0) {
                free(copy);
                return err_set(e, -ENOMEM, "read a list of databases");
        }
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
                r = name_set_add_one(*set, name, e);
        return r;
}

bool
name_set_has(const struct name_set *set, const char *name)
{
        return set != NULL && map_find(&set->names, map_hash_text(name), is_same_name, name) != NULL;
}

void
name_set_free(struct name_set *set)
{
        if (set == NULL)
                return;
        map_each(&set->names, free);
        map_release(&set->names);
        free(set);
}
