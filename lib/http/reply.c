/* How answers look. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/utf8.h"
#include "http/api_internal.h"
#include "store/dbname.h"

void
api_reply_error(struct http_call *call, int status, const char *fmt, ...)
{
        char buf[1024];
        va_list ap;
        int n;

        va_start(ap, fmt);
        n = vsnprintf(buf, sizeof buf - 1, fmt, ap);
        va_end(ap);
        n = n < 0 ? 0 : n > (int)sizeof buf - 2 ? (int)sizeof buf - 2 : n;
        if (status >= 500)
                log_warn("http: %s %s: error: %.*s", http_call_method(call), http_call_path(call), n,
                         buf);
        else
                log_debug("http: %s %s: error: %.*s", http_call_method(call), http_call_path(call), n,
                          buf);
        buf[n++] = '\n';
        http_call_reply(call, status, API_TEXT, buf, (size_t)n);
}

void
api_reply_code(struct http_call *call, int code, const struct err *e)
{
        api_reply_error(call, api_status(code), "%s", e->code != 0 ? e->text : err_code_text(code));
}

void
api_reply_empty(struct http_call *call)
{
        http_call_reply(call, 200, NULL, NULL, 0);
}

void
api_reply_json(struct http_call *call, int status, json_t *json)
{
        char *s = json != NULL ? json_dumps(json, JSON_INDENT(2)) : NULL;
        size_t n = s != NULL ? strlen(s) : 0;

        json_decref(json);
        if (s == NULL) {
                api_reply_error(call, 500, "out of memory");
                return;
        }
        s[n] = '\n'; /* for the zero */
        http_call_reply(call, status, API_JSON, s, n + 1);
        free(s);
}

json_t *
api_name_json(const char *name)
{
        char shown[API_NAME_SIZE];

        return json_string(utf8_show(name, shown, sizeof shown));
}

const char *
api_database_name(struct http_call *call)
{
        const char *name = http_call_query(call, "name");

        if (name == NULL || name[0] == '\0') {
                api_reply_error(call, 400, "name required");
                return NULL;
        }
        if (!dbname_is_valid(name, strlen(name))) {
                api_reply_error(call, 400, "invalid database name");
                return NULL;
        }
        return name;
}
