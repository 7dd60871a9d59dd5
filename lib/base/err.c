#include "base/err.h"

#include <stdio.h>
#include <string.h>

const char *
err_code_text(int code)
{
        switch (code) {
#define ERR_TEXT(name, value, text) \
        case name: \
                return text;
                ERR_CODES(ERR_TEXT)
#undef ERR_TEXT
        default:
                break;
        }
        if (code < 0 && code > -4096) {
                const char *s = strerrordesc_np(-code);

                if (s != NULL)
                        return s;
        }
        return "unknown error";
}

int
err_set(struct err *e, int code, const char *fmt, ...)
{
        va_list ap;
        size_t n;

        if (e == NULL)
                return code;
        e->code = code;
        va_start(ap, fmt);
        vsnprintf(e->text, sizeof e->text, fmt, ap);
        va_end(ap);
        n = strlen(e->text);
        snprintf(e->text + n, sizeof e->text - n, ": %s", err_code_text(code));
        return code;
}

int
err_text(struct err *e, int code, const char *fmt, ...)
{
        va_list ap;

        if (e == NULL)
                return code;
        e->code = code;
        va_start(ap, fmt);
        vsnprintf(e->text, sizeof e->text, fmt, ap);
        va_end(ap);
        return code;
}

int
err_prefix(struct err *e, const char *fmt, ...)
{
        char old[sizeof e->text];
        va_list ap;
        size_t n;

        if (e == NULL)
                return 0;
        memcpy(old, e->text, sizeof old);
        va_start(ap, fmt);
        vsnprintf(e->text, sizeof e->text, fmt, ap);
        va_end(ap);
        n = strlen(e->text);
        snprintf(e->text + n, sizeof e->text - n, ": %s", old);
        return e->code;
}
