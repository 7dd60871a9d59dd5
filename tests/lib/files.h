/* tests/lib/files.h - whole files in one call. Everything aborts on failure: a test cannot go on. */
#ifndef LITEFS_TESTS_FILES_H
#define LITEFS_TESTS_FILES_H

#include <stddef.h>
#include <stdint.h>

struct file_bytes {
        uint8_t *data; /* the caller frees it */
        size_t n;
};

struct file_bytes read_file(const char *path);
void write_file(const char *path, const void *data, size_t n);
/* "<dir>/<name>" in memory that lives to the next call but seven. */
const char *path_in(const char *dir, const char *name);

#endif
