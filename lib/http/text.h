/* lib/http/text.h - times as the API writes them. */
#ifndef LITEFS_HTTP_TEXT_H
#define LITEFS_HTTP_TEXT_H

#include <stdint.h>

#include "base/text.h"

#define TEXT_TIME_SIZE 32
/* RFC 3339 in UTC with up to milliseconds, zeros at the end left out, as Go writes it: "2026-11-21T01:37:19.62Z". */
void text_format_time(int64_t wall_ms, char ret[TEXT_TIME_SIZE]);

#endif
