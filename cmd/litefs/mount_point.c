#include "cmd/litefs/mount_point.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "cmd/litefs/bare_files.h"
#include "cmd/litefs/real_path.h"
#include "fuse/session.h"

int
mount_point_ask(const char *path)
{
        const struct timespec pause = { 0, 5000000 };
        int status;
        pid_t pid = fork();

        if (pid < 0)
                return -errno;
        if (pid == 0) {
                struct stat st;

                _exit(stat(path, &st) == 0 ? 0 : errno < 200 ? errno : EIO);
        }
        for (int ms = 0; waitpid(pid, &status, WNOHANG) == 0; ms += 5) {
                if (ms >= MOUNT_ANSWER_MS) {
                        kill(pid, SIGKILL); /* it ends when the call does; nobody waits for that */
                        return -ETIMEDOUT;
                }
                nanosleep(&pause, NULL);
        }
        return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}

/* @dir as mountinfo writes it: links above it resolved, blanks as \\040. It itself is not looked at, since it may hang. */
static void
resolve_mount(const char *dir, char *ret, size_t size)
{
        char up[PATH_MAX], name[PATH_MAX];
        size_t n;

        if (real_path_above(dir, up, name) < 0) {
                snprintf(ret, size, "%s", dir);
                return;
        }
        n = (size_t)snprintf(ret, size, "%s/", up);
        for (const char *s = name; *s != '\0' && n + 5 < size; s++)
                n += (size_t)snprintf(ret + n, size - n, *s == ' ' ? "\\040" : "%c", *s);
}

bool
mount_point_find(const char *dir, char type[64], char source[64])
{
        char real[2 * PATH_MAX];
        FILE *f = fopen("/proc/self/mountinfo", "re");
        char *line = NULL;
        size_t size = 0;
        bool found = false;

        resolve_mount(dir, real, sizeof real);
        while (f != NULL && getline(&line, &size, f) > 0) {
                char at[4096], *rest = strstr(line, " - ");

                if (rest == NULL || sscanf(line, "%*s %*s %*s %*s %4095s", at) != 1 ||
                    strcmp(at, real) != 0)
                        continue;
                found = sscanf(rest, " - %63s %63s", type, source) == 2;
        }
        free(line);
        if (f != NULL)
                fclose(f);
        return found;
}

static bool
is_litefs(const char *dir)
{
        char type[64] = "", source[64] = "";

        return mount_point_find(dir, type, source) && strncmp(type, "fuse", 4) == 0 &&
               strcmp(source, "litefs") == 0;
}

static int
check_mount_directory(const char *dir, struct err *e)
{
        char file[4200];
        struct stat st;
        int r;

        if (is_litefs(dir)) {
                snprintf(file, sizeof file, "%s/.lag", dir); /* the kernel may know the root by itself */
                r = mount_point_ask(file);
                if (r == -ETIMEDOUT)
                        return err_text(
                                e, -EBUSY,
                                "a litefs that does not answer is mounted at %s already: end it (`fuser -m %s` "
                                "names it), or choose another fuse.dir",
                                dir, dir);
                if (r != -ENOTCONN && r != -ECONNABORTED)
                        return err_text(
                                e, -EBUSY,
                                "a litefs that runs is mounted at %s already: stop it, or choose another fuse.dir "
                                "for this one",
                                dir);
                return 0; /* one that was killed: that mount is cleared away, or mounted over */
        }
        if (stat(dir, &st) < 0 && errno != ENOENT)
                return err_set(e, -errno,
                               "fuse.dir %s cannot be used: choose a directory that can be created",
                               dir);
        if (stat(dir, &st) == 0 && !S_ISDIR(st.st_mode))
                return err_text(e, -ENOTDIR,
                                "fuse.dir %s is not a directory: move it away, or choose another one",
                                dir);
        return 0;
}

static int
settle_bare_files(const char *dir, const char *data_dir, bool moves_aside, struct err *e)
{
        char command[1024];
        struct bare_files b;
        int r = bare_files_look(dir, &b, e);

        if (r < 0)
                return r;
        if (b.n_others > 0 || b.is_cut || b.unreadable[0] != '\0')
                log_warn("%s holds files that are hidden while litefs is mounted there, such as %s", dir,
                         b.n_others > 0 ? b.other : b.unreadable);
        if (b.n_databases == 0)
                return 0;
        if (moves_aside)
                return bare_files_move(dir, data_dir, e);
        bare_files_suggest(dir, data_dir, &b, command, sizeof command);
        return err_text(
                e, -ENOTEMPTY,
                "fuse.dir %s holds %s%s, written while litefs was not mounted there, and would hide it. Move it "
                "aside (%s), or start `litefs mount -move-aside`, which does",
                dir, b.database, b.n_databases > 1 ? " and more" : "", command);
}

int
mount_point_prepare(const char *dir, const char *data_dir, bool skip_unmount, bool moves_aside,
                    struct err *e)
{
        int r = check_mount_directory(dir, e);

        if (r == 0 && !skip_unmount)
                r = session_clear_stale(dir, e);
        /* A dead mount that shall stay cannot be looked into. */
        if (r == 0 && !is_litefs(dir))
                r = settle_bare_files(dir, data_dir, moves_aside, e);
        return r;
}
