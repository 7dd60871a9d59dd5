#include "base/utf8.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

size_t
utf8_length(const char *text)
{
        const unsigned char *s = (const unsigned char *)text;
        uint32_t c;
        size_t n;

        if (s[0] < 0x80)
                return 1;
        n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
        if (s[0] < 0xc2 || s[0] > 0xf4)
                return 0;
        c = s[0] & (0x7fU >> n);
        for (size_t i = 1; i < n; i++) {
                if ((s[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (s[i] & 0x3f);
        }
        if ((n == 3 && c < 0x800) || (n == 4 && c < 0x10000) || c > 0x10ffff ||
            (c >= 0xd800 && c < 0xe000))
                return 0;
        return n;
}

char *
utf8_show(const char *s, char *ret, size_t size)
{
        size_t at = 0;

        while (*s != '\0') {
                size_t n = utf8_length(s);

                if (at + (n > 0 ? n : 4) >= size)
                        break;
                if (n > 0)
                        memcpy(ret + at, s, n);
                else
                        snprintf(ret + at, 5, "\\x%02x", (unsigned char)*s);
                at += n > 0 ? n : 4;
                s += n > 0 ? n : 1;
        }
        ret[at] = '\0';
        return ret;
}
