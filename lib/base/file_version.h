/* lib/base/file_version.h - whether a file of the operator's was changed or replaced since it was last looked at. */
#ifndef LITEFS_BASE_FILE_VERSION_H
#define LITEFS_BASE_FILE_VERSION_H

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

struct file_version {
        struct timespec changed;
        off_t size;
        ino_t inode;
};

/* Looks, and remembers. One that is not there is a version, too; zeroes are that one. */
bool file_version_notice(struct file_version *v, const char *path);

#endif
