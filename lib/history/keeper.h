/* lib/history/keeper.h - a thread that keeps what past states of all databases need (keep.h), one database after the other.
 *
 * It rests as long as it works, so that a large database takes its time rather than the disk's. */
#ifndef LITEFS_HISTORY_KEEPER_H
#define LITEFS_HISTORY_KEEPER_H

#include "store/store.h"

struct keeper;

struct keeper_config {
        struct store *store; /* opened with keeps_log */
        int64_t keep_ms;
        uint64_t max_bytes;
        int64_t interval_ms; /* between two rounds; the first comes at once */
};
int keeper_new(const struct keeper_config *config, struct keeper **ret, struct err *e);
/* Gives up what it does; the databases go on keeping what they were told to. NULL is fine. */
void keeper_free(struct keeper *k);

#endif
