#include "base/backoff.h"

#include <inttypes.h>
#include <stdio.h>

void
backoff_init(struct backoff *b, int64_t first_ms, int64_t cap_ms, uint64_t seed)
{
        *b = (struct backoff){ .first_ms = first_ms > 0 ? first_ms : 1, .random = seed };
        b->cap_ms = cap_ms > b->first_ms ? cap_ms : b->first_ms;
}

/* splitmix64: any seed will do, zero and neighbours, too. */
static uint64_t
next_random(struct backoff *b)
{
        uint64_t z = b->random += 0x9e3779b97f4a7c15u;

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
}

int64_t
backoff_next_ms(struct backoff *b)
{
        int64_t bound = b->first_ms;

        for (unsigned i = 0; i < b->n_failures && bound < b->cap_ms; i++)
                bound = bound > b->cap_ms / 2 ? b->cap_ms : bound * 2;
        if (b->n_failures < UINT32_MAX)
                b->n_failures++;
        return 1 + (int64_t)(next_random(b) % (uint64_t)bound);
}

void
backoff_reset(struct backoff *b)
{
        b->n_failures = 0;
}

/* --- what the log gets --- */

bool
trouble_note(struct trouble *t, int64_t now_ms, int cause, char ret_count[TROUBLE_COUNT_SIZE])
{
        bool is_first = t->n_failures == 0;
        int64_t silent_ms = now_ms - t->logged_ms;

        ret_count[0] = '\0';
        if (is_first)
                t->since_ms = now_ms;
        t->n_failures++;
        if (!is_first && silent_ms < (cause == t->cause ? TROUBLE_REPEAT_MS : TROUBLE_CHANGE_MS))
                return false;
        if (!is_first)
                snprintf(ret_count, TROUBLE_COUNT_SIZE, " (failure %" PRIu64 " in %" PRId64 " s)",
                         t->n_failures, (now_ms - t->since_ms) / 1000);
        t->cause = cause;
        t->logged_ms = now_ms;
        return true;
}

bool
trouble_end(struct trouble *t, int64_t now_ms, char ret_count[TROUBLE_COUNT_SIZE])
{
        bool is_known = t->n_failures > 0;

        ret_count[0] = '\0';
        if (is_known)
                snprintf(ret_count, TROUBLE_COUNT_SIZE, "%" PRIu64 " failure%s in %" PRId64 " s",
                         t->n_failures, t->n_failures == 1 ? "" : "s", (now_ms - t->since_ms) / 1000);
        *t = (struct trouble){ 0 };
        return is_known;
}
