#include "repl/term_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "repl/small_file.h"

int
term_file_load(const struct os *os, const char *data_dir, uint64_t *ret, struct err *e)
{
        char buf[32];
        int r = small_file_read(os, data_dir, "term", buf, sizeof buf, e);

        *ret = r > 0 ? strtoull(buf, NULL, 10) : 0;
        return r < 0 ? r : 0;
}

int
term_file_save(const struct os *os, const char *data_dir, uint64_t term, struct err *e)
{
        char buf[32];
        int n = snprintf(buf, sizeof buf, "%" PRIu64 "\n", term);

        return small_file_write(os, data_dir, "term", buf, (size_t)n, e);
}
