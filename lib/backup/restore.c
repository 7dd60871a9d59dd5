#include "backup/restore.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* --- what there is --- */

struct listing {
        enum backup_layout layout;
        struct backup_objects *objects;
};

static int
add_object(void *arg, const char *name, uint64_t size_bytes, int64_t time_ms)
{
        struct listing *l = arg;
        struct backup_object o;

        /* Litestream passes over what is too short for a file, too. */
        if (size_bytes < LTX_HEADER_SIZE || !backup_object_parse(l->layout, name, &o))
                return 0;
        o.size_bytes = size_bytes;
        o.time_ms = time_ms;
        return backup_objects_add(l->objects, &o);
}

int
backup_list(struct dest *d, const char *place, struct backup_objects *ret, struct err *e)
{
        struct listing l = { d->layout, ret };
        int r;

        *ret = (struct backup_objects){ 0 };
        r = dest_list(d, place, add_object, &l, e);
        if (r == -ENOMEM)
                err_set(e, r, "list %s", d->url);
        if (r < 0) {
                backup_objects_release(ret);
                return r;
        }
        backup_objects_sort(ret);
        return 0;
}

static int
open_object(struct dest *d, const char *place, const struct backup_object *o, uint64_t max_bytes,
            struct dest_get **ret, struct err *e)
{
        char name[BACKUP_NAME_SIZE], key[DEST_KEY_SIZE];
        int r;

        backup_object_name(d->layout, o, name);
        r = dest_key(place, name, key);
        return r < 0 ? err_set(e, r, "%s", place) : dest_get_begin(d, key, 0, max_bytes, ret, e);
}

int
backup_read_header(struct dest *d, const char *place, const struct backup_object *o,
                   struct ltx_header *ret, struct err *e)
{
        uint8_t buf[LTX_HEADER_SIZE];
        struct dest_get *g = NULL;
        ssize_t n;
        int r = open_object(d, place, o, sizeof buf, &g, e);

        if (r < 0)
                return r;
        n = byte_src_read_all(&g->src, buf, sizeof buf);
        dest_get_end(g);
        if (n < 0)
                return err_set(e, (int)n, "%s: read the header of %016llx", d->url,
                               (unsigned long long)o->max_txid);
        r = (size_t)n < sizeof buf ? err_set(e, E_FORMAT, "header")
                                   : ltx_header_decode(buf, LTX_V3, ret, e);
        if (r < 0)
                err_prefix(e, "%s: %016llx", d->url, (unsigned long long)o->max_txid);
        return r;
}

/* --- times --- */

static int
compare_snapshot_ends(const void *a, const void *b)
{
        const struct backup_object *x = a, *y = b;

        return x->max_txid < y->max_txid ? -1 : x->max_txid > y->max_txid;
}

/* One object for each border, rising. */
static int
list_borders(const struct backup_objects *objects, struct backup_objects *ret)
{
        size_t n = 0;
        int r = 0;

        *ret = (struct backup_objects){ 0 };
        for (size_t i = 0; i < objects->n && r == 0; i++)
                r = backup_objects_add(ret, &objects->items[i]);
        if (r < 0 || ret->n == 0)
                return r;
        qsort(ret->items, ret->n, sizeof *ret->items, compare_snapshot_ends);
        for (size_t i = 1; i < ret->n; i++)
                if (ret->items[i].max_txid != ret->items[n].max_txid)
                        ret->items[++n] = ret->items[i];
        ret->n = n + 1;
        return 0;
}

int
backup_find_time(struct dest *d, const char *place, const struct backup_objects *objects,
                 int64_t time_ms, uint64_t *ret_txid, struct err *e)
{
        struct backup_objects borders;
        struct ltx_header h;
        size_t from = 0, to;
        int r = list_borders(objects, &borders);

        if (r < 0)
                err_set(e, r, "list %s", d->url);
        /* Those before `from` are no later, those from `to` on are later. */
        to = borders.n;
        while (r == 0 && from < to) {
                size_t middle = from + (to - from) / 2;

                r = backup_read_header(d, place, &borders.items[middle], &h, e);
                if (r == 0 && h.timestamp_ms <= time_ms)
                        from = middle + 1;
                else
                        to = middle;
        }
        if (r == 0 && borders.n == 0)
                r = err_text(e, E_NOT_FOUND, "no matching backup files available");
        else if (r == 0 && from == 0)
                r = err_text(e, E_NOT_FOUND, "timestamp does not exist: the backup begins later");
        else if (r == 0)
                *ret_txid = borders.items[from - 1].max_txid;
        backup_objects_release(&borders);
        return r;
}

/* --- a state --- */

/* An object that may be long, and that nobody waits for any more. */
struct stoppable {
        struct byte_src src;
        struct byte_src *from;
        const atomic_bool *is_stopped;
};

static ssize_t
read_stoppable(struct byte_src *src, void *buf, size_t n)
{
        struct stoppable *s = (struct stoppable *)src;

        return atomic_load(s->is_stopped) ? -ECANCELED : s->from->read(s->from, buf, n);
}

static int
apply_object(struct backup_image *im, struct dest *d, const char *place, const struct backup_object *o,
             const struct backup_progress *progress, struct err *e)
{
        struct stoppable stoppable = { { read_stoppable }, NULL, NULL };
        struct dest_get *g = NULL;
        int r = open_object(d, place, o, 0, &g, e);

        if (r < 0)
                return r;
        stoppable.from = &g->src;
        if (progress != NULL)
                stoppable.is_stopped = progress->is_stopped;
        r = backup_image_apply(im, o, stoppable.is_stopped != NULL ? &stoppable.src : &g->src, e);
        dest_get_end(g);
        return r;
}

int
backup_restore(struct dest *d, const char *place, const struct backup_objects *plan, const struct os *os,
               int fd, const struct backup_progress *progress, struct backup_image_state *ret,
               struct err *e)
{
        struct backup_image *im = NULL;
        int r = backup_image_new(os, fd, &im);

        if (r < 0)
                return err_set(e, r, "restore");
        for (size_t i = 0; i < plan->n && r == 0; i++) {
                r = apply_object(im, d, place, &plan->items[i], progress, e);
                if (r == 0 && progress != NULL && progress->done != NULL)
                        progress->done(progress->arg, &plan->items[i], i + 1, plan->n);
        }
        if (r == 0)
                backup_image_get_state(im, ret);
        backup_image_free(im);
        return r;
}
