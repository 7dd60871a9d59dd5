#include "proxy/pattern.h"

#include <string.h>

#include "proxy/syntax.h"

/* Without recursion: a later * makes it needless to try others for an earlier one. */
bool
pattern_matches(const char *pattern, struct slice path)
{
        const char *star = NULL;
        size_t i = 0, retry = 0;

        while (i < path.n) {
                if (*pattern == '*') {
                        star = ++pattern;
                        retry = i;
                } else if (*pattern != '\0' && *pattern == path.p[i]) {
                        pattern++;
                        i++;
                } else if (star != NULL) {
                        pattern = star;
                        i = ++retry;
                } else {
                        return false;
                }
        }
        while (*pattern == '*')
                pattern++;
        return *pattern == '\0';
}

struct slice
pattern_path(struct slice target, char *buf)
{
        size_t n = 0;

        for (size_t i = 0; i < target.n && target.p[i] != '?' && target.p[i] != '#'; i++) {
                if (target.p[i] == '%' && i + 2 < target.n && syntax_hex_value(target.p[i + 1]) >= 0 &&
                    syntax_hex_value(target.p[i + 2]) >= 0) {
                        buf[n++] = (char)(16 * syntax_hex_value(target.p[i + 1]) +
                                          syntax_hex_value(target.p[i + 2]));
                        i += 2;
                } else {
                        buf[n++] = target.p[i];
                }
        }
        return (struct slice){ buf, n };
}
