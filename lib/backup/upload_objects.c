/* Objects of a database at its destination: put, and removed. */
#include <errno.h>
#include <stdlib.h>

#include "backup/upload_internal.h"
#include "base/log.h"

typedef unsigned long long ull;

static int
note_object(struct upload *u, const struct backup_object *o, struct err *e)
{
        int r = backup_objects_add(&u->objects, o);

        u->n_objects++;
        return r < 0 ? err_set(e, r, "objects of %s", u->place) : 0;
}

/* A key that is taken: ours, of a request whose answer did not come, if it is the same piece of the same history. */
static int
resolve_taken(struct upload *u, const struct backup_object *o, const struct ltx_header *want,
              struct err *e)
{
        struct ltx_header h;
        int r = backup_read_header(u->dest, u->place, o, &h, e);

        if (r < 0)
                return r;
        if (h.chain_post == want->chain_post && h.chain_pre == want->chain_pre &&
            h.commit == want->commit && h.page_size == want->page_size)
                return 0;
        return err_text(e, -EEXIST, "%s has another object of %016llx to %016llx", u->dest->url,
                        (ull)o->min_txid, (ull)o->max_txid);
}

int
upload_begin_object(struct upload *u, const struct backup_object *o, struct dest_put **ret,
                    struct err *e)
{
        struct dest_put_options options = { .condition = DEST_IF_ABSENT, .time_ms = o->time_ms };
        char name[BACKUP_NAME_SIZE], key[DEST_KEY_SIZE];
        int r;

        backup_object_name(u->dest->layout, o, name);
        r = dest_key(u->place, name, key);
        return r < 0 ? err_set(e, r, "%s", u->place) : dest_put_begin(u->dest, key, &options, ret, e);
}

int
upload_end_object(struct upload *u, struct dest_put *p, int r, const struct backup_object *o,
                  const struct ltx_header *h, struct err *e)
{
        char etag[DEST_ETAG_SIZE];

        if (r < 0) {
                dest_put_abort(p);
                return r;
        }
        r = dest_put_finish(p, etag, e);
        if (r == -EEXIST)
                r = resolve_taken(u, o, h, e);
        return r == 0 ? note_object(u, o, e) : r;
}

int
upload_put_range(struct upload *u, struct backup_range *rg, unsigned level, struct err *e)
{
        const struct ltx_header *h = backup_range_header(rg);
        struct backup_object o = { .level = level,
                                   .min_txid = h->min_txid,
                                   .max_txid = h->max_txid,
                                   .time_ms = h->timestamp_ms };
        struct dest_put *p = NULL;
        int r = upload_begin_object(u, &o, &p, e);

        return r < 0 ? r : upload_end_object(u, p, backup_range_write(rg, &p->sink, e), &o, h, e);
}

static int
make_object_key(const struct upload *u, size_t i, char ret[DEST_KEY_SIZE])
{
        char name[BACKUP_NAME_SIZE];

        backup_object_name(u->dest->layout, &u->objects.items[i], name);
        return dest_key(u->place, name, ret);
}

/* After a removal of them that gave @r in the words of @why. */
static int
note_removed(struct upload *u, const size_t *which, size_t n, int r, const struct err *why,
             struct err *e)
{
        if (r == -EACCES || r == -EPERM || r == -EROFS) {
                if (!u->cannot_remove)
                        log_event(LOG_WARN, u->place,
                                  "backup to %s: objects cannot be removed there (%s): they stay",
                                  u->dest->url, why->text);
                u->cannot_remove = true;
                return 0;
        }
        if (r < 0) {
                if (e != NULL)
                        *e = *why;
                return r;
        }
        for (size_t k = 0; k < n; k++)
                u->objects.items[which[k]] = u->objects.items[--u->objects.n];
        return 0;
}

int
upload_remove(struct upload *u, size_t i, struct err *e)
{
        char key[DEST_KEY_SIZE];
        struct err why = ERR_INIT;
        int r = make_object_key(u, i, key);

        if (r == 0)
                r = dest_remove(u->dest, key, &why);
        return note_removed(u, &i, 1, r, &why, e);
}

int
upload_remove_all(struct upload *u, const size_t *which, size_t n, struct err *e)
{
        char(*keys)[DEST_KEY_SIZE] = malloc(n * sizeof *keys);
        struct err why = ERR_INIT;
        int r = keys == NULL ? err_set(&why, -ENOMEM, "%s", u->place) : 0;

        for (size_t k = 0; k < n && r == 0; k++)
                r = make_object_key(u, which[k], keys[k]);
        if (r == 0)
                r = dest_remove_all(u->dest, keys, n, &why);
        free(keys);
        return note_removed(u, which, n, r, &why, e);
}
