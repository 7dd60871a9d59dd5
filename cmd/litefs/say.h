/* cmd/litefs/say.h - what a command says when all goes well.
 *
 * To a terminal, a line for a person; to anything else nothing, so that cron mails nothing but failures. With -json an
 * object, wherever it goes. How far a long step has got is shown on a terminal only. One thread. */
#ifndef LITEFS_CMD_SAY_H
#define LITEFS_CMD_SAY_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct say {
        bool is_quiet, is_json; /* flags */
        int64_t begin_ns, shown_ns;
        bool is_shown;
};

#define SAY_FLAGS(s) \
        { "q", NULL, "print nothing but errors", &(s)->is_quiet, NULL }, \
        { \
                "json", NULL, "print the result as JSON", &(s)->is_json, NULL \
        }

/* The result, in one of the two forms. Takes the reference of @result. */
void say_done(const struct say *s, json_t *result, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

/* Begins a step that may take long. */
void say_begin(struct say *s);
/* How far it is, in place of what was shown before: from its second second on, ten times a second. */
void say_progress(struct say *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Its end: the line is empty again. */
void say_end(struct say *s);

#endif
