#include "cmd/litefs/shell_word.h"

#include <stdio.h>
#include <string.h>

void
shell_word_add(char *buf, size_t size, const char *s)
{
        size_t n = strlen(buf);

        if (s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._+-%=:,@")] ==
            '\0') {
                snprintf(buf + n, size - n, "%s", s);
                return;
        }
        n += (size_t)snprintf(buf + n, size - n, "'");
        for (; *s != '\0' && n + 6 < size; s++)
                n += (size_t)snprintf(buf + n, size - n, *s == '\'' ? "'\\''" : "%c", *s);
        if (n + 1 < size)
                snprintf(buf + n, size - n, "'");
}
