/* cmd/litefs/quantity.h - durations and sizes as people write them. */
#ifndef LITEFS_CMD_QUANTITY_H
#define LITEFS_CMD_QUANTITY_H

#include <stdint.h>

/* Go's form: "10s", "1m30s", "100ms", "1.5h", "-2s", "0". 0 or -EINVAL; nanoseconds. */
int quantity_parse_duration(const char *s, int64_t *ret_ns);
/* A whole number with an optional B, KB, MB, GB (1024 each; KiB... too). 0 or -EINVAL. @unit is what a bare
 * number counts in, in bytes. */
int quantity_parse_size(const char *s, int64_t unit, int64_t *ret_bytes);

#endif
