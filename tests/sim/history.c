#include <stdlib.h>

#include "tests/sim/world.h"

int
history_find(const struct history *h, int db, struct ltx_pos pos)
{
        for (int i = h->n; i-- > 0;)
                if (h->v[i].pos.txid == pos.txid && h->v[i].pos.checksum == pos.checksum &&
                    h->v[i].db == db)
                        return i;
        return -1;
}

int
history_add(struct history *h, const struct txn *t)
{
        int i = history_find(h, t->db, t->pos);

        if (i >= 0)
                return i;
        if (h->n == h->capacity) {
                h->capacity = h->capacity == 0 ? 256 : 2 * h->capacity;
                h->v = realloc(h->v, (size_t)h->capacity * sizeof *h->v);
                if (h->v == NULL)
                        abort();
        }
        h->v[h->n] = *t;
        return h->n++;
}

bool
history_has(const struct history *h, int descendant, int txn)
{
        while (descendant > txn)
                descendant = h->v[descendant].parent;
        return descendant == txn;
}

void
history_release(struct history *h)
{
        free(h->v);
}
