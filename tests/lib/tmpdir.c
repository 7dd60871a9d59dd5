#include "tests/lib/tmpdir.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

char *
tmpdir_make(void)
{
        const char *base = getenv("TMPDIR");
        char *path;

        if (asprintf(&path, "%s/litefs-test-XXXXXX", base != NULL ? base : "/tmp") < 0 ||
            mkdtemp(path) == NULL) {
                perror("tmpdir_make");
                abort();
        }
        return path;
}

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
        (void)st, (void)flag, (void)ftw;
        return remove(path);
}

void
tmpdir_remove(char *dir)
{
        nftw(dir, remove_one, 32, FTW_DEPTH | FTW_PHYS);
        free(dir);
}
