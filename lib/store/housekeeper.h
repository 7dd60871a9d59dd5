/* lib/store/housekeeper.h - a thread that sleeps until something was asked for, then calls once a second
 * until nothing is. An idle node does not wake up but for the retention interval. */
#ifndef LITEFS_STORE_HOUSEKEEPER_H
#define LITEFS_STORE_HOUSEKEEPER_H

#include <stdbool.h>
#include <stdint.h>

struct housekeeper;

/* @run is called on the thread, @is_interval when the interval has passed; returns true when it wants to be
 * called again soon. @interval_ms <= 0: only when asked. */
int housekeeper_new(int64_t interval_ms, bool (*run)(void *arg, bool is_interval), void *arg,
                    struct housekeeper **ret);
/* Leaf lock: any thread, any lock held. */
void housekeeper_ask(struct housekeeper *h);
/* Waits for a running call to end: from then on asking does nothing. NULL is fine, as is a second time. */
void housekeeper_stop(struct housekeeper *h);
/* The same first, when nobody asks any more. */
void housekeeper_free(struct housekeeper *h);

#endif
