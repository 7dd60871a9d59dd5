#include "fuse/wal_spoil.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sqlite/wal_index.h"

void
wal_spoil(int shm_fd)
{
        uint8_t spoiled[2 * WAL_INDEX_COPY_SIZE];
        struct stat st;

        wal_index_spoil(spoiled);
        if (shm_fd >= 0 && fstat(shm_fd, &st) == 0 && st.st_size >= (off_t)sizeof spoiled)
                (void)!pwrite(shm_fd, spoiled, sizeof spoiled, 0);
}

size_t
wal_spoil_all(const char *dbs_dir, int *ret_fds, size_t max)
{
        DIR *dir = opendir(dbs_dir);
        struct dirent *de;
        char path[PATH_MAX];
        size_t n = 0;

        while (dir != NULL && (de = readdir(dir)) != NULL) {
                int fd;

                if (de->d_name[0] == '.' ||
                    snprintf(path, sizeof path, "%s/%s/shm", dbs_dir, de->d_name) >= (int)sizeof path)
                        continue;
                fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
                wal_spoil(fd);
                if (fd >= 0 && n < max)
                        ret_fds[n++] = fd;
                else if (fd >= 0)
                        close(fd);
        }
        if (dir != NULL)
                closedir(dir);
        return n;
}
