#include "cmd/litefs/output.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/os.h"

#define NAME_TRIES 100

/* As mkostemp wants it. */
static int
make_template(struct output *o)
{
        return snprintf(o->tmp, sizeof o->tmp, "%s.XXXXXX", o->path) < (int)sizeof o->tmp
                       ? 0
                       : -ENAMETOOLONG;
}

static void
unlink_tmp(struct output *o)
{
        if (o->tmp[0] != '\0')
                (void)unlink(o->tmp);
        o->tmp[0] = '\0';
}

/* Its name is given by a link to the descriptor, which needs /proc. */
static int
open_unnamed(struct output *o)
{
        if (access("/proc/self/fd", F_OK) < 0)
                return -ENOTSUP;
        o->fd = os_open(os_host(), "output:open", o->dir, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
        return o->fd;
}

static int
open_named(struct output *o)
{
        int r = make_template(o);

        if (r == 0)
                o->fd = mkostemp(o->tmp, O_CLOEXEC);
        if (r == 0 && o->fd < 0)
                r = -errno;
        if (r < 0)
                o->tmp[0] = '\0'; /* it is nobody's */
        return r;
}

int
output_open(struct output *o, const char *path, struct err *e)
{
        char copy[PATH_MAX];
        int r;

        *o = (struct output){ .fd = -1 };
        if (snprintf(o->path, sizeof o->path, "%s", path) >= (int)sizeof o->path)
                return err_set(e, -ENAMETOOLONG, "%s", path);
        snprintf(copy, sizeof copy, "%s", path);
        snprintf(o->dir, sizeof o->dir, "%s", dirname(copy));
        r = open_unnamed(o);
        if (r == -ENOTSUP || r == -EISDIR || r == -EINVAL || r == -ENOENT)
                r = open_named(o);
        return r < 0 ? err_set(e, r, "create a file in %s", o->dir) : 0;
}

/* A name of its own first, since a link replaces nothing. */
static int
give_output_name(struct output *o)
{
        static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
        char from[64];
        unsigned char random[6];
        int r = make_template(o);
        size_t at = strlen(o->tmp) - sizeof random;

        snprintf(from, sizeof from, "/proc/self/fd/%d", o->fd);
        for (int i = 0; i < NAME_TRIES && r == 0; i++) {
                if (getrandom(random, sizeof random, 0) != sizeof random)
                        r = -EAGAIN;
                for (size_t k = 0; k < sizeof random; k++)
                        o->tmp[at + k] = letters[random[k] % 32];
                if (r == 0 && linkat(AT_FDCWD, from, AT_FDCWD, o->tmp, AT_SYMLINK_FOLLOW) == 0)
                        return 0;
                if (r == 0 && errno != EEXIST)
                        r = -errno;
        }
        o->tmp[0] = '\0'; /* it is nobody's, or another's */
        return r < 0 ? r : -EEXIST;
}

int
output_give_name(struct output *o, struct err *e)
{
        int r = o->tmp[0] == '\0' ? give_output_name(o) : 0;

        return r < 0 ? err_set(e, r, "name a file in %s", o->dir) : 0;
}

int
output_publish(struct output *o, struct err *e)
{
        int r = os_fsync(os_host(), "output:sync", o->fd);

        if (r == 0 && o->tmp[0] == '\0')
                r = give_output_name(o);
        if (r == 0)
                r = os_rename(os_host(), "output:rename", o->tmp, o->path);
        if (r == 0) {
                o->tmp[0] = '\0';
                r = os_sync_dir(os_host(), "output:rename", o->dir);
        }
        output_discard(o);
        return r < 0 ? err_set(e, r, "write %s", o->path) : 0;
}

void
output_discard(struct output *o)
{
        unlink_tmp(o);
        os_close(os_host(), "output:close", o->fd);
        o->fd = -1;
}
