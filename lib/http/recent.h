/* lib/http/recent.h - what a node keeps of its last hour, for who looks at it later: events, and lag and rate over time of
 * each node that it knows.
 *
 * Plain memory of a fixed size (some 170 KiB), gone with the process. One thread at a time; a copy is an assignment. */
#ifndef LITEFS_HTTP_RECENT_H
#define LITEFS_HTTP_RECENT_H

#include <stdbool.h>
#include <stdint.h>

#define RECENT_EVENTS 256
#define RECENT_TEXT 200
#define RECENT_SAME_MS 600000 /* the same within that time is one event that came several times */
#define RECENT_POINTS 360
#define RECENT_PERIOD_MS 10000
#define RECENT_NODES 32 /* of more, those that have been seen last */

enum recent_level { RECENT_INFO, RECENT_WARN, RECENT_ERROR };

struct recent_event {
        int64_t first_ms, last_ms; /* Unix */
        uint64_t n;
        enum recent_level level;
        char text[RECENT_TEXT]; /* a sentence, UTF-8 */
};

/* How a node was at one moment. */
struct recent_point {
        int32_t lag_ms; /* -1: it was not there */
        float rate;     /* transactions a second since the point before; of this node only */
};

struct recent_node {
        uint64_t boot_id;            /* 0: the place is free */
        char hostname[64], url[192]; /* cut to this */
        struct recent_point points[RECENT_POINTS];
};

struct recent {
        struct recent_event
                events[RECENT_EVENTS]; /* a ring: n_events % RECENT_EVENTS is the next to be written */
        uint64_t n_events;
        int64_t at_ms[RECENT_POINTS]; /* of the points, CLOCK_BOOTTIME; likewise */
        uint64_t n_points;
        struct recent_node nodes[RECENT_NODES];
};

/* @is_mergeable: the same text again within RECENT_SAME_MS raises the count of that event, as if all @n came at once. */
void recent_note(struct recent *r, int64_t wall_ms, enum recent_level level, bool is_mergeable,
                 uint64_t n, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
/* Begins a point; no node was there until recent_set_node says so. */
void recent_begin_point(struct recent *r, int64_t boot_ms);
void recent_set_node(struct recent *r, uint64_t boot_id, const char *hostname, const char *url,
                     int64_t lag_ms, double rate);
/* Points, or events, that are kept: the @i-th from 0, the oldest, is at recent_index(n_points or n_events, RING, i). */
static inline unsigned
recent_kept(uint64_t n, unsigned ring)
{
        return n < ring ? (unsigned)n : ring;
}
static inline unsigned
recent_index(uint64_t n, unsigned ring, unsigned i)
{
        return (unsigned)((n - recent_kept(n, ring) + i) % ring);
}

#endif
