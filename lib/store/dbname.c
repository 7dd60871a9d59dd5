#include "store/dbname.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int
dbname_encode(const char *name, char ret[DBNAME_MAX + 1])
{
        size_t n = 0;

        for (; *name != '\0'; name++) {
                int is_escaped = *name == '/' || *name == '%';

                if (n + (is_escaped ? 3 : 1) > DBNAME_MAX)
                        return -ENAMETOOLONG;
                if (is_escaped)
                        n += (size_t)snprintf(ret + n, 4, "%%%02X", (unsigned char)*name);
                else
                        ret[n++] = *name;
        }
        ret[n] = '\0';
        return 0;
}

int
dbname_decode(const char *dir, char ret[DBNAME_MAX + 1])
{
        size_t n = 0;

        for (; *dir != '\0'; dir++) {
                if (n >= DBNAME_MAX)
                        return -EINVAL;
                if (*dir != '%') {
                        ret[n++] = *dir;
                        continue;
                }
                if (strncmp(dir, "%2F", 3) == 0)
                        ret[n++] = '/';
                else if (strncmp(dir, "%25", 3) == 0)
                        ret[n++] = '%';
                else
                        return -EINVAL;
                dir += 2;
        }
        ret[n] = '\0';
        return n > 0 ? 0 : -EINVAL;
}

enum dbname_kind
dbname_classify(const char *name, size_t *ret_len)
{
        static const struct {
                const char *suffix;
                enum dbname_kind kind;
        } suffixes[] = {
                { "-journal", DBNAME_JOURNAL },
                { "-wal", DBNAME_WAL },
                { "-shm", DBNAME_SHM },
                { "-pos", DBNAME_POS },
        };
        size_t n = strlen(name);

        for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
                size_t m = strlen(suffixes[i].suffix);

                if (n > m && strcmp(name + n - m, suffixes[i].suffix) == 0) {
                        *ret_len = n - m;
                        return suffixes[i].kind;
                }
        }
        *ret_len = n;
        return DBNAME_DATABASE;
}

/* The components of a path: not empty, so no '/' at either end, and none that leads elsewhere. */
static bool
is_relative_path(const char *name)
{
        for (;;) {
                size_t n = strcspn(name, "/");

                if (n == 0 || (n == 1 && name[0] == '.') || (n == 2 && memcmp(name, "..", 2) == 0))
                        return false;
                if (name[n] == '\0')
                        return true;
                name += n + 1;
        }
}

bool
dbname_is_valid(const char *name, size_t n)
{
        char copy[DBNAME_MAX + 1], escaped[DBNAME_MAX + 1];
        size_t len;

        if (n > DBNAME_MAX || memchr(name, '\0', n) != NULL)
                return false;
        memcpy(copy, name, n);
        copy[n] = '\0';
        return is_relative_path(copy) && dbname_encode(copy, escaped) == 0 &&
               dbname_classify(copy, &len) == DBNAME_DATABASE;
}

bool
dbname_is_lock(const char *name, size_t *ret_len)
{
        size_t n = strlen(name), m = strlen("-lock");

        *ret_len = n > m ? n - m : 0;
        return n > m && strcmp(name + n - m, "-lock") == 0;
}
