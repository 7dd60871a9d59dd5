#include "http/text.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

void
text_format_time(int64_t wall_ms, char ret[TEXT_TIME_SIZE])
{
        time_t s = (time_t)(wall_ms / 1000);
        int ms = (int)(wall_ms % 1000);
        struct tm tm;
        size_t n;

        if (ms < 0) {
                ms += 1000;
                s--;
        }
        if (gmtime_r(&s, &tm) == NULL)
                memset(&tm, 0, sizeof tm);
        n = strftime(ret, TEXT_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
        if (ms > 0) {
                n += (size_t)snprintf(ret + n, TEXT_TIME_SIZE - n, ".%03d", ms);
                while (ret[n - 1] == '0')
                        n--;
        }
        ret[n++] = 'Z';
        ret[n] = '\0';
}
