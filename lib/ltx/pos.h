/* lib/ltx/pos.h - a replication position: the last transaction and the checksum of the database
 * after it. Text form: "%016x/%016x", 33 characters, lower-case hex. */
#ifndef LITEFS_LTX_POS_H
#define LITEFS_LTX_POS_H

#include <stdbool.h>
#include <stdint.h>

#define LTX_POS_TEXT_LEN 33
#define LTX_TXID_MAX ((uint64_t)INT64_MAX) /* one more has no place in what takes them for signed */

struct ltx_pos {
        uint64_t txid;     /* 0: no transaction yet */
        uint64_t checksum; /* post-apply checksum of that transaction; 0 when txid is 0 */
};

static inline bool
ltx_pos_equal(struct ltx_pos a, struct ltx_pos b)
{
        return a.txid == b.txid && a.checksum == b.checksum;
}

/* Writes the text form and a NUL. */
void ltx_pos_format(struct ltx_pos pos, char ret[LTX_POS_TEXT_LEN + 1]);
/* 0, or -EINVAL when @text is not exactly the text form. */
int ltx_pos_parse(const char *text, struct ltx_pos *ret);
/* Exactly 16 hex digits: 0, else -EINVAL. */
int ltx_txid_parse(const char *text, uint64_t *ret);

#endif
