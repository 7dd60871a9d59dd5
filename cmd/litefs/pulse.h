/* cmd/litefs/pulse.h - asks the mount whether it answers, and says when it does not.
 *
 * A thread of its own asks (fuse/ask.h), for what hangs hangs whoever asks; the loop counts the seconds. After
 * PULSE_SILENT_S the mount is silent: an error in the log, bad health, and the node gives the lease up until an answer
 * comes. Nothing is asked while there are no requests that could have made it hang.
 *
 * Order: pulse_new, pulse_start when the mount answers, pulse_stop before the mount and the loop end, pulse_free after both.
 * pulse_is_silent: any thread, NULL too. */
#ifndef LITEFS_CMD_PULSE_H
#define LITEFS_CMD_PULSE_H

#include <stdbool.h>

#include "base/err.h"

#define PULSE_SILENT_S 10

struct node;
struct pulse;
struct session;
struct workers;

struct pulse_config {
        struct session *session;
        struct workers *asker; /* one thread, of the session's */
        struct node *node;
        const char *mount_dir;
        /* On the loop, when the mount falls silent and when it answers again. */
        void (*changed)(void *arg, bool is_silent);
        void *arg;
};

/* Strings are borrowed. */
int pulse_new(const struct pulse_config *config, struct pulse **ret, struct err *e);
void pulse_start(struct pulse *p);
bool pulse_is_silent(const struct pulse *p);
/* Again is fine, and NULL, as for the next. */
void pulse_stop(struct pulse *p);
void pulse_free(struct pulse *p);

#endif
