/* cmd/litefs/passing.h - fuse.wal-passthrough of each database, and what to advise about it. */
#ifndef LITEFS_CMD_PASSING_H
#define LITEFS_CMD_PASSING_H

#include <stdbool.h>
#include <stddef.h>

#include "db/passed.h"

#define PASSING_ADVICE_SIZE 1024

struct config;

enum wal_passthrough passing_of(const struct config *c, const char *db_name);
/* Whether any database's WAL may be passed through. */
bool passing_any(const struct config *c);
/* One sentence, by what its applications did since it was opened; "" when there is nothing to be said. Any thread. */
void passing_advise(const struct config *c, struct db *db, char buf[PASSING_ADVICE_SIZE]);

#endif
