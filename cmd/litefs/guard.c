/* The connection is aborted by its file in fusectl (Documentation/filesystems/fuse.rst of Linux), which belongs to
 * whoever mounted it. Where fusectl is not mounted, as in most containers, root can mount it; the last resort is
 * umount2(MNT_FORCE). */
#include "cmd/litefs/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEATH_SIGNAL SIGUSR1
#define FUSECTL "/sys/fs/fuse/connections"

struct guard {
        pid_t pid;
        int fd; /* a pipe to it, for the connection's number */
};

/* --- the child --- */

static bool
is_mounted(unsigned connection)
{
        FILE *f = fopen("/proc/self/mountinfo", "re");
        char line[2 * PATH_MAX];
        unsigned major, minor;
        bool ret = false;

        if (f == NULL)
                return false;
        while (!ret && fgets(line, sizeof line, f) != NULL)
                ret = sscanf(line, "%*d %*d %u:%u", &major, &minor) == 2 && major == 0 &&
                      minor == connection;
        fclose(f);
        return ret;
}

static bool
abort_by_file(unsigned connection)
{
        char path[64];
        bool is_done;
        int fd;

        snprintf(path, sizeof path, FUSECTL "/%u/abort", connection);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        is_done = fd >= 0 && write(fd, "1", 1) == 1;
        if (fd >= 0)
                close(fd);
        return is_done;
}

/* For this process alone. */
static bool
mount_fusectl(void)
{
        return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
               mount("none", FUSECTL, "fusectl", 0, NULL) == 0;
}

/* The mount itself stays, as an empty directory would take what applications write: their calls fail with ENOTCONN
 * until litefs is started again. */
static void
end_connection(unsigned connection, const char *dir)
{
        if (abort_by_file(connection) || (mount_fusectl() && abort_by_file(connection)))
                return;
        if (is_mounted(connection)) /* not what the next daemon has mounted there */
                (void)umount2(dir, MNT_FORCE);
}

/* Only the parent's death is of interest: what a terminal or a supervisor sends goes to the parent, too, which then
 * ends the guard. Returns a descriptor that can be read when the parent is dead. */
static int
listen_for_death(pid_t parent)
{
        sigset_t all, death;
        int fd;

        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        sigemptyset(&death);
        sigaddset(&death, DEATH_SIGNAL);
        fd = signalfd(-1, &death, SFD_CLOEXEC);
        prctl(PR_SET_PDEATHSIG, DEATH_SIGNAL);
        if (getppid() != parent) /* too late for the signal */
                raise(DEATH_SIGNAL);
        return fd;
}

/* Until the parent is dead, perhaps by half: then the pipe stays open. Returns what it has said of the mount. */
static unsigned
wait_for_death(int death_fd, int pipe_fd)
{
        struct pollfd fds[2] = { { death_fd, POLLIN, 0 }, { pipe_fd, POLLIN, 0 } };
        unsigned connection = 0;

        while (fds[0].revents == 0) {
                if (poll(fds, 2, -1) < 0 || fds[1].revents == 0)
                        continue;
                if (read(pipe_fd, &connection, sizeof connection) != sizeof connection)
                        break;
        }
        return connection;
}

static _Noreturn void
run_child(pid_t parent, int pipe_fd, const char *dir)
{
        int death_fd = listen_for_death(parent);
        unsigned connection;

        prctl(PR_SET_NAME, "litefs-guard");
        connection = wait_for_death(death_fd, pipe_fd);
        if (connection != 0)
                end_connection(connection, dir);
        _exit(0);
}

/* --- the daemon --- */

int
guard_start(const char *mount_dir, struct guard **ret)
{
        struct guard *g = calloc(1, sizeof *g);
        pid_t parent = getpid();
        int fds[2], error;

        if (g == NULL)
                return -ENOMEM;
        if (pipe2(fds, O_CLOEXEC) < 0)
                goto fail;
        g->pid = fork();
        if (g->pid < 0)
                goto fail_fork;
        if (g->pid == 0) {
                (void)close_range(0, (unsigned)fds[0] - 1, 0);
                (void)close_range((unsigned)fds[0] + 1, ~0U, 0);
                run_child(parent, fds[0], mount_dir);
        }
        close(fds[0]);
        g->fd = fds[1];
        *ret = g;
        return 0;

fail_fork:
        error = errno;
        close(fds[0]);
        close(fds[1]);
        errno = error;
fail:
        error = errno;
        free(g);
        return -error;
}

void
guard_arm(struct guard *g, const char *mount_dir)
{
        struct stat st;
        unsigned connection;

        if (stat(mount_dir, &st) < 0)
                return;
        connection = minor(st.st_dev);
        (void)!write(g->fd, &connection, sizeof connection);
}

void
guard_stop(struct guard *g)
{
        if (g == NULL)
                return;
        kill(g->pid, SIGKILL);
        while (waitpid(g->pid, NULL, 0) < 0 && errno == EINTR)
                ;
        close(g->fd);
        free(g);
}
