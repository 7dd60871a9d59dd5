#include "base/file_version.h"

#include <sys/stat.h>

bool
file_version_notice(struct file_version *v, const char *path)
{
        struct file_version now = { 0 };
        struct stat st;
        bool is_changed;

        if (stat(path, &st) == 0)
                now = (struct file_version){ st.st_mtim, st.st_size, st.st_ino };
        is_changed = now.changed.tv_sec != v->changed.tv_sec ||
                     now.changed.tv_nsec != v->changed.tv_nsec || now.size != v->size ||
                     now.inode != v->inode;
        *v = now;
        return is_changed;
}
