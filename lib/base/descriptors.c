#include "base/descriptors.h"

#include <dirent.h>
#include <limits.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define RESERVE_MIN 32u
#define RESERVE_MAX 1024u
#define OWN_DIRECTORY "/proc/self/fd"

unsigned
descriptors_limit(void)
{
        struct rlimit rl;

        if (getrlimit(RLIMIT_NOFILE, &rl) < 0 || rl.rlim_cur > INT_MAX)
                return INT_MAX;
        return (unsigned)rl.rlim_cur;
}

unsigned
descriptors_for_files(unsigned limit)
{
        unsigned n = limit / 4;

        n = n < RESERVE_MIN ? RESERVE_MIN : n > RESERVE_MAX ? RESERVE_MAX : n;
        return limit > n ? limit - n : 0;
}

unsigned
descriptors_told(void)
{
        struct stat st;

        return stat(OWN_DIRECTORY, &st) < 0 ? 0 : (unsigned)st.st_size;
}

unsigned
descriptors_counted(void)
{
        DIR *dir = opendir(OWN_DIRECTORY);
        unsigned n = 0;

        if (dir == NULL)
                return descriptors_limit(); /* there is none to count with */
        for (const struct dirent *en; (en = readdir(dir)) != NULL;)
                n += en->d_name[0] != '.';
        closedir(dir);
        return n - 1; /* the directory itself */
}
