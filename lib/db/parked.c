#include "db/parked.h"

#include <stdlib.h>

static void
run_parked_call(struct db_waiter *w)
{
        parked_call_go_on((char *)w - offsetof(struct parked_call, waiter), 0);
}

int
parked_call_begin(struct parked_call *c)
{
        struct db_access a;
        int r;

        c->waiter.fn = run_parked_call;
        r = db_access_begin_or_wait(c->db, DB_BY_CALL, &a, &c->waiter, NULL);
        if (r == E_BUSY)
                return DB_PENDING; /* and it is the waiter's by now */
        if (r == 0)
                r = c->run(&a, c);
        db_access_end(&a);
        if (r != DB_PENDING)
                free(c);
        return r;
}

void
parked_call_go_on(void *arg, int result)
{
        struct parked_call *c = arg;
        struct db_done done = c->done;

        if (result < 0)
                free(c);
        else
                result = parked_call_begin(c);
        if (result != DB_PENDING)
                done.fn(done.arg, result);
}
