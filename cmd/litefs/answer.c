#include "cmd/litefs/answer.h"

#include <stdio.h>

const char *
answer_text(const json_t *o, const char *key)
{
        const char *s = json_string_value(json_object_get(o, key));

        return s != NULL ? s : "";
}

const char *
answer_cell(const json_t *o, const char *key)
{
        const char *s = answer_text(o, key);

        return s[0] != '\0' ? s : "-";
}

long long
answer_number(const json_t *o, const char *key)
{
        return json_integer_value(json_object_get(o, key));
}

int
answer_print(const char *s)
{
        int n = 0;

        for (; *s != '\0'; s++) {
                putchar((unsigned char)*s < 0x20 || *s == 0x7f ? '?' : *s);
                n += ((unsigned char)*s & 0xc0) !=
                     0x80; /* bytes that continue a character take no room */
        }
        return n;
}
