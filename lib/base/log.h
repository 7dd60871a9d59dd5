/* lib/base/log.h - one line an event, to stderr, as text or JSON.
 *
 * text:  level=INFO msg="litefs mounted to: /litefs" db=app.db     (time= first, when asked for)
 * json:  {"time":"...","level":"INFO","msg":"...","db":"app.db"}
 *
 * Bytes that are no UTF-8 are shown as in utf8.h. Lines are written with one write(2), so threads do not mix them. Configure before the first
 * thread starts; safe from any thread afterwards. Libraries log at debug only (docs/architecture.md). */
#ifndef LITEFS_BASE_LOG_H
#define LITEFS_BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_TEXT, LOG_JSON };

struct log_config {
        enum log_format format;
        bool is_debug;
        bool has_timestamp;
        int fd; /* where lines go; 2 for stderr */
};

void log_configure(const struct log_config *config);
bool log_is_debug(void);
bool log_is_json(void);

/* @db is the database concerned, or NULL. */
void log_event(enum log_level level, const char *db, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

#define log_error(...) log_event(LOG_ERROR, NULL, __VA_ARGS__)
#define log_warn(...) log_event(LOG_WARN, NULL, __VA_ARGS__)
#define log_info(...) log_event(LOG_INFO, NULL, __VA_ARGS__)
#define log_debug(...) \
        do { \
                if (log_is_debug()) \
                        log_event(LOG_DEBUG, NULL, __VA_ARGS__); \
        } while (0)

#endif
