/* lib/base/backoff.h - what fails again and again: when to try next, and which of the failures to log.
 *
 * A struct backoff says how long to wait: anything up to a bound that doubles with each failure ("full jitter": nodes
 * that have lost the same service must not come back in step). A struct trouble says what the log gets: the first
 * failure, a change of its cause, a count once a minute, and the end. Both are plain values without a lock: one thread
 * at a time; time and randomness come from the caller, so that a simulation can own them. */
#ifndef LITEFS_BASE_BACKOFF_H
#define LITEFS_BASE_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

struct backoff {
        int64_t first_ms, cap_ms; /* the bound after the first failure, and the highest; 1 or more */
        uint64_t random;
        unsigned n_failures; /* in a row */
};

void backoff_init(struct backoff *b, int64_t first_ms, int64_t cap_ms, uint64_t seed);
/* One more failure. How long to wait, in 1 .. the bound. */
int64_t backoff_next_ms(struct backoff *b);
/* It has worked. */
void backoff_reset(struct backoff *b);

#define TROUBLE_REPEAT_MS 60000 /* between two lines about the same */
#define TROUBLE_CHANGE_MS 1000  /* and, at the least, between two whose causes differ */
#define TROUBLE_COUNT_SIZE 64

/* Zeroes: there is none. */
struct trouble {
        int cause; /* that was logged last */
        uint64_t n_failures;
        int64_t since_ms, logged_ms;
};

/* One more failure, for @cause: an error code, or what else tells one from another. Whether to log it; if so, @ret_count
 * goes behind the line: "" for the first one, else " (failure 87 in 61 s)". */
bool trouble_note(struct trouble *t, int64_t now_ms, int cause, char ret_count[TROUBLE_COUNT_SIZE]);
/* It works. Whether to log that, because failures were: then @ret_count is "87 failures in 61 s". */
bool trouble_end(struct trouble *t, int64_t now_ms, char ret_count[TROUBLE_COUNT_SIZE]);

#endif
