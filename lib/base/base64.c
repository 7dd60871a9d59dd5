#include "base/base64.h"

#include <string.h>

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void
base64_encode(const void *data, size_t n, char *ret)
{
        const unsigned char *p = data;

        for (size_t i = 0; i < n; i += 3) {
                unsigned v = (unsigned)p[i] << 16;

                v |= i + 1 < n ? (unsigned)p[i + 1] << 8 : 0;
                v |= i + 2 < n ? p[i + 2] : 0;
                *ret++ = base64_digits[v >> 18];
                *ret++ = base64_digits[v >> 12 & 63];
                *ret++ = i + 1 < n ? base64_digits[v >> 6 & 63] : '=';
                *ret++ = i + 2 < n ? base64_digits[v & 63] : '=';
        }
        *ret = '\0';
}

int
base64_decode(const char *text, void *ret, size_t size)
{
        size_t len = strlen(text), n = 0;
        unsigned v = 0, bits = 0;

        if (len % 4 != 0)
                return -1;
        while (len > 0 && text[len - 1] == '=' && len % 4 != 1)
                len--; /* at most two: a third would leave a digit alone */
        if (len % 4 == 1)
                return -1;
        for (size_t i = 0; i < len; i++) {
                const char *digit = strchr(base64_digits, text[i]);

                if (digit == NULL)
                        return -1;
                v = v << 6 | (unsigned)(digit - base64_digits);
                bits += 6;
                if (bits < 8)
                        continue;
                if (n == size)
                        return -1;
                bits -= 8;
                ((unsigned char *)ret)[n++] = (unsigned char)(v >> bits);
        }
        return (int)n;
}
