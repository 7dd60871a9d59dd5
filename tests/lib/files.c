#include "tests/lib/files.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

static void
die(const char *path)
{
        perror(path);
        abort();
}

struct file_bytes
read_file(const char *path)
{
        FILE *f = fopen(path, "rb");
        struct file_bytes b;
        long size = -1;

        if (f == NULL || fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) < 0)
                die(path);
        rewind(f);
        b.n = (size_t)size;
        b.data = malloc(b.n + 1);
        if (b.data == NULL || fread(b.data, 1, b.n, f) != b.n)
                die(path);
        fclose(f);
        return b;
}

void
write_file(const char *path, const void *data, size_t n)
{
        FILE *f = fopen(path, "wb");

        if (f == NULL || (n > 0 && fwrite(data, 1, n, f) != n) || fclose(f) != 0)
                die(path);
}

const char *
path_in(const char *dir, const char *name)
{
        static char paths[8][PATH_MAX];
        static unsigned next;
        char *p = paths[next++ % 8];

        if (snprintf(p, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
                abort();
        return p;
}
