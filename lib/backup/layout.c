#include "backup/layout.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ltx/pos.h"

void
backup_level_name(enum backup_layout layout, unsigned level, char ret[BACKUP_NAME_SIZE])
{
        snprintf(ret, BACKUP_NAME_SIZE, layout == BACKUP_IN_BUCKET ? "%04x/" : "ltx/%u/", level);
}

void
backup_object_name(enum backup_layout layout, const struct backup_object *o, char ret[BACKUP_NAME_SIZE])
{
        char level[BACKUP_NAME_SIZE];

        backup_level_name(layout, o->level, level);
        snprintf(ret, BACKUP_NAME_SIZE, "%.10s%016llx-%016llx.ltx", level,
                 (unsigned long long)o->min_txid, (unsigned long long)o->max_txid);
}

bool
backup_object_parse(enum backup_layout layout, const char *name, struct backup_object *ret)
{
        struct backup_object o = { 0 };
        char txid[17] = "", again[BACKUP_NAME_SIZE];
        const char *base = strrchr(name, '/');

        if (base == NULL || strlen(base) != 1 + 16 + 1 + 16 + 4)
                return false;
        memcpy(txid, base + 1, 16);
        if (ltx_txid_parse(txid, &o.min_txid) < 0)
                return false;
        memcpy(txid, base + 18, 16);
        if (ltx_txid_parse(txid, &o.max_txid) < 0 || o.min_txid == 0 || o.max_txid < o.min_txid ||
            o.max_txid > LTX_TXID_MAX)
                return false;
        /* What it would be called has to be what it is called. */
        for (; o.level < BACKUP_LEVELS; o.level++) {
                backup_object_name(layout, &o, again);
                if (strcmp(again, name) == 0) {
                        *ret = o;
                        return true;
                }
        }
        return false;
}

int
backup_objects_add(struct backup_objects *l, const struct backup_object *o)
{
        if (l->n == l->capacity) {
                size_t capacity = l->capacity == 0 ? 64 : l->capacity * 2;
                struct backup_object *grown = realloc(l->items, capacity * sizeof *grown);

                if (grown == NULL)
                        return -ENOMEM;
                l->items = grown;
                l->capacity = capacity;
        }
        l->items[l->n++] = *o;
        return 0;
}

static int
compare_objects(const void *a, const void *b)
{
        const struct backup_object *x = a, *y = b;

        if (x->level != y->level)
                return x->level < y->level ? -1 : 1;
        if (x->max_txid != y->max_txid)
                return x->max_txid < y->max_txid ? -1 : 1;
        return x->min_txid < y->min_txid ? -1 : x->min_txid > y->min_txid;
}

void
backup_objects_sort(struct backup_objects *l)
{
        if (l->n > 0)
                qsort(l->items, l->n, sizeof *l->items, compare_objects);
}

void
backup_objects_release(struct backup_objects *l)
{
        free(l->items);
        *l = (struct backup_objects){ 0 };
}
