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
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuse/live_nodes.h"
#include "fuse/wal_spoil.h"

#define DEATH_SIGNAL SIGUSR1
#define REVOKE_SECONDS 5
#define SPOILED_MAX 900u /* wal-indexes that are spoilt once more */
#define FUSECTL "/sys/fs/fuse/connections"

struct guard {
        pid_t pid;
        int fd; /* a socket to it, for the connection */
        struct live_nodes *nodes;
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

/* After the abort nothing is under way that this could wait for. Where it could not be aborted, a dead man's handle: the
 * connection ends with the last descriptor, and the guard has it. */
static void
revoke_what_is_left(struct live_nodes *nodes, int fuse_fd)
{
        sigset_t alarm_only;

        if (nodes == NULL || fuse_fd < 0)
                return;
        sigemptyset(&alarm_only);
        sigaddset(&alarm_only, SIGALRM);
        sigprocmask(SIG_UNBLOCK, &alarm_only, NULL);
        alarm(REVOKE_SECONDS);
        live_nodes_revoke_after_death(nodes, fuse_fd);
}

/* WALs that are passed through can be read and written whoever is dead. Again a moment later, for commits that were under way
 * then: in the same files, since the next daemon makes its own. */
static void
spoil_again(const int *fds, size_t n)
{
        for (int i = 0; i < 4 && n > 0; i++) {
                (void)usleep(i == 0 ? 5000 : 200000);
                for (size_t k = 0; k < n; k++)
                        wal_spoil(fds[k]);
        }
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

/* What the parent says of the mount: its number, and the descriptor. False: it says no more. */
static bool
receive_connection(int fd, unsigned *ret, int *ret_fuse_fd)
{
        union {
                struct cmsghdr head;
                char space[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec iov = { ret, sizeof *ret };
        struct msghdr m = { .msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = control.space,
                            .msg_controllen = sizeof control.space };
        struct cmsghdr *c;

        if (recvmsg(fd, &m, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof *ret)
                return false;
        c = CMSG_FIRSTHDR(&m);
        if (c != NULL && c->cmsg_type == SCM_RIGHTS)
                memcpy(ret_fuse_fd, CMSG_DATA(c), sizeof *ret_fuse_fd);
        return true;
}

/* Until the parent is dead, perhaps by half: then the socket stays open. Returns what it has said of the mount. */
static unsigned
wait_for_death(int death_fd, int socket_fd, int *ret_fuse_fd)
{
        struct pollfd fds[2] = { { death_fd, POLLIN, 0 }, { socket_fd, POLLIN, 0 } };
        unsigned connection = 0;

        while (fds[0].revents == 0) {
                if (poll(fds, 2, -1) < 0 || fds[1].revents == 0)
                        continue;
                if (!receive_connection(socket_fd, &connection, ret_fuse_fd))
                        break;
        }
        return connection;
}

static _Noreturn void
run_child(pid_t parent, int socket_fd, const struct guarded *what, struct live_nodes *nodes)
{
        int death_fd = listen_for_death(parent), fuse_fd = -1;
        static int spoiled[SPOILED_MAX];
        size_t n_spoiled = 0;
        unsigned connection;

        prctl(PR_SET_NAME, "litefs-guard");
        connection = wait_for_death(death_fd, socket_fd, &fuse_fd);
        if (nodes != NULL && live_nodes_are_passed(nodes))
                n_spoiled = wal_spoil_all(what->dbs_dir, spoiled, SPOILED_MAX);
        if (connection != 0)
                end_connection(connection, what->mount_dir);
        revoke_what_is_left(nodes, fuse_fd);
        spoil_again(spoiled, n_spoiled);
        _exit(0);
}

/* --- the daemon --- */

int
guard_start(const struct guarded *what, struct guard **ret)
{
        struct guard *g = calloc(1, sizeof *g);
        pid_t parent = getpid();
        int fds[2], error;

        if (g == NULL)
                return -ENOMEM;
        g->nodes = live_nodes_new();
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
                goto fail;
        g->pid = fork();
        if (g->pid < 0)
                goto fail_fork;
        if (g->pid == 0) {
                if (fds[0] > 0)
                        (void)close_range(0, (unsigned)fds[0] - 1, 0);
                (void)close_range((unsigned)fds[0] + 1, ~0U, 0);
                run_child(parent, fds[0], what, g->nodes);
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

struct live_nodes *
guard_nodes(const struct guard *g)
{
        return g->nodes;
}

void
guard_arm(struct guard *g, const char *mount_dir, int fuse_fd)
{
        struct stat st;
        unsigned connection;
        union {
                struct cmsghdr head;
                char space[CMSG_SPACE(sizeof(int))];
        } control = { .head = { .cmsg_len = CMSG_LEN(sizeof(int)),
                                .cmsg_level = SOL_SOCKET,
                                .cmsg_type = SCM_RIGHTS } };
        struct iovec iov = { &connection, sizeof connection };
        struct msghdr m = { .msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = control.space,
                            .msg_controllen = sizeof control.space };

        if (stat(mount_dir, &st) < 0)
                return;
        connection = minor(st.st_dev);
        memcpy(CMSG_DATA(&control.head), &fuse_fd, sizeof fuse_fd);
        (void)!sendmsg(g->fd, &m, MSG_NOSIGNAL);
}

void
guard_get(const struct guard *g, int *ret_fd, pid_t *ret_pid)
{
        *ret_fd = g->fd;
        *ret_pid = g->pid;
}

void
guard_leave(struct guard *g)
{
        close(g->fd);
        free(g);
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
