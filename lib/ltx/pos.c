#include "ltx/pos.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

void
ltx_pos_format(struct ltx_pos pos, char ret[LTX_POS_TEXT_LEN + 1])
{
        snprintf(ret, LTX_POS_TEXT_LEN + 1, "%016" PRIx64 "/%016" PRIx64, pos.txid, pos.checksum);
}

static int
hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        return -1;
}

static int
parse_hex16(const char *text, uint64_t *ret)
{
        uint64_t v = 0;

        for (int i = 0; i < 16; i++) {
                int d = hex_digit(text[i]);

                if (d < 0)
                        return -EINVAL;
                v = v << 4 | (uint64_t)d;
        }
        *ret = v;
        return 0;
}

int
ltx_txid_parse(const char *text, uint64_t *ret)
{
        uint64_t v;

        if (parse_hex16(text, &v) < 0 || text[16] != '\0')
                return -EINVAL;
        *ret = v;
        return 0;
}

int
ltx_pos_parse(const char *text, struct ltx_pos *ret)
{
        struct ltx_pos pos;

        if (parse_hex16(text, &pos.txid) < 0 || text[16] != '/' ||
            parse_hex16(text + 17, &pos.checksum) < 0 || text[LTX_POS_TEXT_LEN] != '\0')
                return -EINVAL;
        *ret = pos;
        return 0;
}
