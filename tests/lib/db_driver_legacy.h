/* tests/lib/db_driver_legacy.h - a data directory as LiteFS 0.5 leaves it, made by hand. */
#ifndef LITEFS_TESTS_DB_DRIVER_LEGACY_H
#define LITEFS_TESTS_DB_DRIVER_LEGACY_H

#include <stdint.h>

enum legacy_kind {
        LEGACY_CLEAN,   /* database and its last LTX file */
        LEGACY_PLAIN,   /* a database alone */
        LEGACY_LTX,     /* the last LTX file has pages that the database lacks */
        LEGACY_JOURNAL, /* a torn transaction with its journal */
        LEGACY_WAL,     /* a WAL, with a transaction behind the last LTX file */
        LEGACY_N
};
const char *legacy_kind_name(enum legacy_kind kind);

/* ROOT/dbs/t.db of that kind, and ROOT/tmp. What a take-over must come to: position and db_driver_digest(). */
void legacy_make(const char *root, enum legacy_kind kind, uint64_t *ret_txid, uint64_t *ret_state);

#endif
