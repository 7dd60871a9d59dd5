#include "http/recent.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

/* --- events --- */

static struct recent_event *
find_same_event(struct recent *r, const char *text, int64_t wall_ms)
{
        for (unsigned i = recent_kept(r->n_events, RECENT_EVENTS); i-- > 0;) {
                struct recent_event *e = &r->events[recent_index(r->n_events, RECENT_EVENTS, i)];

                if (strcmp(e->text, text) == 0)
                        return wall_ms - e->last_ms <= RECENT_SAME_MS ? e : NULL;
        }
        return NULL;
}

void
recent_note(struct recent *r, int64_t wall_ms, enum recent_level level, bool is_mergeable, uint64_t n,
            const char *fmt, ...)
{
        struct recent_event *same,
                e = { .first_ms = wall_ms, .last_ms = wall_ms, .n = n, .level = level };
        char text[2 * RECENT_TEXT];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        utf8_show(text, e.text, sizeof e.text);
        same = is_mergeable ? find_same_event(r, e.text, wall_ms) : NULL;
        if (same != NULL) {
                same->last_ms = wall_ms;
                same->n += n;
                return;
        }
        r->events[r->n_events++ % RECENT_EVENTS] = e;
}

/* --- points --- */

static struct recent_point *
newest_point(struct recent *r, struct recent_node *node)
{
        return &node->points[(r->n_points - 1) % RECENT_POINTS];
}

void
recent_begin_point(struct recent *r, int64_t boot_ms)
{
        r->at_ms[r->n_points++ % RECENT_POINTS] = boot_ms;
        for (unsigned i = 0; i < RECENT_NODES; i++)
                newest_point(r, &r->nodes[i])->lag_ms = -1;
}

/* How many points ago it was there last; RECENT_POINTS: not at all. */
static unsigned
points_since(const struct recent *r, const struct recent_node *node)
{
        unsigned kept = recent_kept(r->n_points, RECENT_POINTS);

        for (unsigned i = kept; node->boot_id != 0 && i-- > 0;)
                if (node->points[recent_index(r->n_points, RECENT_POINTS, i)].lag_ms >= 0)
                        return kept - 1 - i;
        return RECENT_POINTS;
}

/* Its place: the one it has, else that of the node that has been away for longest. NULL: all are there. */
static struct recent_node *
place_of(struct recent *r, uint64_t boot_id)
{
        struct recent_node *oldest = NULL;
        unsigned longest = 0;

        for (unsigned i = 0; i < RECENT_NODES; i++) {
                unsigned since = points_since(r, &r->nodes[i]);

                if (r->nodes[i].boot_id == boot_id)
                        return &r->nodes[i];
                if (since > longest) {
                        longest = since;
                        oldest = &r->nodes[i];
                }
        }
        return oldest;
}

void
recent_set_node(struct recent *r, uint64_t boot_id, const char *hostname, const char *url,
                int64_t lag_ms, double rate)
{
        struct recent_node *node = r->n_points > 0 ? place_of(r, boot_id) : NULL;

        if (node == NULL)
                return;
        if (node->boot_id != boot_id) {
                node->boot_id = boot_id;
                for (unsigned i = 0; i < RECENT_POINTS; i++)
                        node->points[i].lag_ms = -1;
        }
        utf8_show(hostname, node->hostname, sizeof node->hostname);
        utf8_show(url, node->url, sizeof node->url);
        *newest_point(r, node) = (struct recent_point){ lag_ms < 0           ? 0
                                                        : lag_ms > INT32_MAX ? INT32_MAX
                                                                             : (int32_t)lag_ms,
                                                        (float)rate };
}
