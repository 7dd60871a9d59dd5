#include "proxy/asks.h"

#include <errno.h>
#include <stdlib.h>

#include "base/map.h"

/* About one database. */
struct ask {
        struct ask *next;
        struct db *db;
        uint64_t asked;    /* the nonce of the question that is out; 0: none is */
        uint64_t answered; /* that of the answer */
        struct answer answer;
};

struct asks {
        void (*send)(void *arg, uint64_t nonce, struct db *db);
        void *arg;
        uint64_t now;
        struct ask *list;
        struct map by_db;
};

int
asks_new(void (*send)(void *arg, uint64_t nonce, struct db *db), void *arg, struct asks **ret)
{
        struct asks *a = calloc(1, sizeof *a);

        if (a == NULL)
                return -ENOMEM;
        a->send = send;
        a->arg = arg;
        *ret = a;
        return 0;
}

void
asks_clear(struct asks *a)
{
        while (a->list != NULL) {
                struct ask *next = a->list->next;

                free(a->list);
                a->list = next;
        }
        map_release(&a->by_db);
}

void
asks_free(struct asks *a)
{
        if (a == NULL)
                return;
        asks_clear(a);
        free(a);
}

uint64_t
asks_now(struct asks *a)
{
        return ++a->now;
}

static bool
is_about(const void *item, const void *db)
{
        return ((const struct ask *)item)->db == db;
}

static struct ask *
find_or_add_ask(struct asks *a, struct db *db)
{
        uint64_t hash = map_hash_pointer(db);
        struct ask *q = map_find(&a->by_db, hash, is_about, db);

        if (q != NULL)
                return q;
        q = calloc(1, sizeof *q);
        if (q == NULL || map_put(&a->by_db, hash, q) < 0) {
                free(q);
                return NULL;
        }
        q->db = db;
        q->next = a->list;
        a->list = q;
        return q;
}

const struct answer *
asks_get(struct asks *a, struct db *db, uint64_t since)
{
        struct ask *q = find_or_add_ask(a, db);

        if (q == NULL)
                return NULL;
        if (q->answered > since)
                return &q->answer;
        if (q->asked == 0) {
                q->asked = ++a->now;
                a->send(a->arg, q->asked, db);
        }
        return NULL;
}

void
asks_answered(struct asks *a, uint64_t nonce, const struct answer *answer)
{
        for (struct ask *q = a->list; q != NULL; q = q->next) {
                if (q->asked != nonce)
                        continue;
                q->answered = nonce;
                q->answer = *answer;
                q->asked = 0;
                return;
        }
}

void
asks_lost(struct asks *a)
{
        for (struct ask *q = a->list; q != NULL; q = q->next)
                q->asked = 0;
}
