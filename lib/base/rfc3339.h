/* lib/base/rfc3339.h - moments as people and other programs write them. Milliseconds since the Unix epoch. */
#ifndef LITEFS_BASE_RFC3339_H
#define LITEFS_BASE_RFC3339_H

#include <stdint.h>

/* "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123+02:00". 0 or -EINVAL; what is smaller than a millisecond is left out. */
int rfc3339_parse(const char *s, int64_t *ret_ms);

#define RFC3339_SIZE 32
/* In UTC with up to milliseconds, zeros at the end left out, as Go writes it: "2026-11-21T01:37:19.62Z". */
void rfc3339_format(int64_t ms, char ret[RFC3339_SIZE]);

#endif
