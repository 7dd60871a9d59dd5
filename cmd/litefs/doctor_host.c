/* The machine under a node: FUSE, the mount, space, the address. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cmd/litefs/access.h"
#include "cmd/litefs/doctor.h"

#define MOUNT_ANSWER_MS 3000
#define CAPABILITY_SYS_ADMIN 21
#define MIB (1024.0 * 1024.0)

/* --- FUSE --- */

static bool
is_sys_admin(void)
{
        FILE *f = fopen("/proc/self/status", "re");
        unsigned long long effective = 0;
        char line[256];

        if (f == NULL)
                return geteuid() == 0;
        while (fgets(line, sizeof line, f) != NULL)
                if (sscanf(line, "CapEff: %llx", &effective) == 1)
                        break;
        fclose(f);
        return (effective >> CAPABILITY_SYS_ADMIN & 1) != 0;
}

/* The helper that mounts for users: where it is in PATH, and set-uid root. */
static bool
has_fusermount(void)
{
        const char *dirs = getenv("PATH");
        char path[4096];
        struct stat st;

        for (size_t n; dirs != NULL && *dirs != '\0'; dirs += n + (dirs[n] == ':')) {
                n = strcspn(dirs, ":");
                snprintf(path, sizeof path, "%.*s/fusermount3", (int)n, dirs);
                if (stat(path, &st) == 0 && access(path, X_OK) == 0)
                        return st.st_uid == 0 && (st.st_mode & S_ISUID) != 0;
        }
        return false;
}

static bool
users_may_allow_other(void)
{
        FILE *f = fopen("/etc/fuse.conf", "re");
        char line[256];
        bool found = false;

        while (f != NULL && !found && fgets(line, sizeof line, f) != NULL)
                found = strncmp(line, "user_allow_other", 16) == 0;
        if (f != NULL)
                fclose(f);
        return found;
}

static void
check_privileges(struct doctor *d)
{
        if (geteuid() == 0 && is_sys_admin()) {
                doctor_add(d, DOCTOR_OK, "fuse", NULL, "/dev/fuse is there, and root may mount");
                return;
        }
        if (geteuid() == 0)
                doctor_add(d, DOCTOR_FAIL, "fuse",
                           "docker run --device /dev/fuse --cap-add SYS_ADMIN ...",
                           "root may not mount here: the capability SYS_ADMIN is missing");
        else if (!has_fusermount())
                doctor_add(
                        d, DOCTOR_FAIL, "fuse", "sudo apt-get install fuse3",
                        "users can only mount by fusermount3, which is not there, or not set-uid root");
        else if (d->config.fuse.allow_other && !users_may_allow_other())
                doctor_add(d, DOCTOR_FAIL, "fuse", "echo user_allow_other | sudo tee -a /etc/fuse.conf",
                           "fuse.allow-other needs user_allow_other in /etc/fuse.conf");
        else
                doctor_add(d, DOCTOR_OK, "fuse", NULL,
                           "/dev/fuse is there, and fusermount3 mounts for this user");
}

void
doctor_check_fuse(struct doctor *d)
{
        int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        int code = errno;

        if (fd >= 0) {
                close(fd);
                check_privileges(d);
                return;
        }
        if (code == ENOENT || code == ENODEV || code == ENXIO)
                doctor_add(d, DOCTOR_FAIL, "fuse", "sudo modprobe fuse",
                           "/dev/fuse: %s; in a container, pass --device /dev/fuse --cap-add SYS_ADMIN",
                           strerror(code));
        else
                doctor_add(d, DOCTOR_FAIL, "fuse", "ls -l /dev/fuse",
                           "/dev/fuse: %s; in a container, pass --device /dev/fuse --cap-add SYS_ADMIN",
                           strerror(code));
}

/* --- the mount --- */

/* What stat of @path says, by a child, since a mount whose server hangs holds whoever asks: 0, a negative errno, or
 * -ETIMEDOUT. */
static int
stat_in_time(const char *path, bool *ret_is_mount)
{
        const struct timespec pause = { 0, 5000000 };
        char parent[4200];
        int status;
        pid_t pid = fork();

        if (pid < 0)
                return -errno;
        if (pid == 0) {
                struct stat st, up;

                snprintf(parent, sizeof parent, "%s/..", path);
                if (stat(path, &st) < 0)
                        _exit(errno < 200 ? errno : EIO);
                _exit(stat(parent, &up) == 0 && up.st_dev != st.st_dev ? 200 : 0);
        }
        for (int ms = 0; waitpid(pid, &status, WNOHANG) == 0; ms += 5) {
                if (ms >= MOUNT_ANSWER_MS) {
                        kill(pid, SIGKILL); /* it ends when the call does; nobody waits for that */
                        return -ETIMEDOUT;
                }
                nanosleep(&pause, NULL);
        }
        if (!WIFEXITED(status))
                return -EIO;
        *ret_is_mount = WEXITSTATUS(status) == 200;
        return *ret_is_mount ? 0 : -WEXITSTATUS(status);
}

/* @dir as mountinfo writes it: links above it resolved, blanks as \\040. It itself is not looked at, since it may hang. */
static void
resolve_mount(const char *dir, char *ret, size_t size)
{
        const char *slash = strrchr(dir, '/');
        char up[4096], *real;
        size_t n;

        snprintf(up, sizeof up, "%.*s", slash == NULL ? 1 : (int)(slash - dir) + 1,
                 slash == NULL ? "." : dir);
        real = realpath(up, NULL);
        n = (size_t)snprintf(ret, size, "%s/", real != NULL && strcmp(real, "/") != 0 ? real : "");
        free(real);
        for (const char *s = slash == NULL ? dir : slash + 1; *s != '\0' && n + 5 < size; s++)
                n += (size_t)snprintf(ret + n, size - n, *s == ' ' ? "\\040" : "%c", *s);
}

/* Of the file system mounted last at @dir; false: there is none. /proc does not ask the mount. */
static bool
find_mount(const char *dir, char type[64])
{
        char real[4200];
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
                found = sscanf(rest, " - %63s", type) == 1;
        }
        free(line);
        if (f != NULL)
                fclose(f);
        return found;
}

static void
check_our_mount(struct doctor *d, const char *dir)
{
        char next[4300], file[4200];
        bool is_mount = false;
        int r;

        snprintf(file, sizeof file, "%s/.lag", dir);
        r = stat_in_time(dir, &is_mount);
        if (r == 0)
                r = stat_in_time(file, &is_mount);
        snprintf(next, sizeof next, "fusermount3 -uz %s", dir);
        if (r == -ENOTCONN)
                doctor_add(
                        d, DOCTOR_FAIL, "mount", next,
                        "%s is left over from a litefs that was killed; the next start clears it, too",
                        dir);
        else if (r == -ETIMEDOUT)
                doctor_add(d, DOCTOR_FAIL, "mount", d->lock_pid != 0 ? "systemctl restart litefs" : next,
                           "%s does not answer within %d s", dir, MOUNT_ANSWER_MS / 1000);
        else if (r < 0)
                doctor_add(d, DOCTOR_FAIL, "mount", next,
                           "%s is mounted, but does not answer as litefs does: %s", dir, strerror(-r));
        else if (d->lock_pid == 0)
                doctor_add(d, DOCTOR_FAIL, "mount", "litefs doctor -config PATH",
                           "a litefs with another data directory than %s is mounted at %s",
                           d->config.data.dir, dir);
        else
                doctor_add(d, DOCTOR_OK, "mount", NULL, "%s is mounted and answers", dir);
}

static void
check_mount_point(struct doctor *d, const char *dir)
{
        struct stat st;
        char next[4300];

        snprintf(next, sizeof next, "ls -la %s", dir);
        if (d->lock_pid != 0)
                doctor_add(d, DOCTOR_FAIL, "mount", "systemctl restart litefs",
                           "litefs runs (process %d), but nothing is mounted at %s", d->lock_pid, dir);
        else if (stat(dir, &st) < 0 && errno != ENOENT)
                doctor_add(d, DOCTOR_FAIL, "mount", next, "%s: %s", dir, strerror(errno));
        else if (stat(dir, &st) == 0 && !S_ISDIR(st.st_mode))
                doctor_add(d, DOCTOR_FAIL, "mount", next, "%s is not a directory", dir);
        else if (stat(dir, &st) == 0 && access(dir, W_OK) < 0)
                doctor_add(d, DOCTOR_FAIL, "mount", next, "this user may not mount at %s: %s", dir,
                           strerror(errno));
        else
                doctor_add(d, DOCTOR_OK, "mount", NULL,
                           "nothing is mounted at %s, and litefs does not run", dir);
}

void
doctor_check_mount(struct doctor *d)
{
        const char *dir = d->config.fuse.dir;
        char type[64] = "";

        if (!find_mount(dir, type))
                check_mount_point(d, dir);
        else if (strncmp(type, "fuse", 4) != 0)
                doctor_add(d, DOCTOR_WARN, "mount", "findmnt",
                           "%s is the mount point of a file system (%s) already", dir, type);
        else
                check_our_mount(d, dir);
}

/* --- space --- */

void
doctor_check_space(struct doctor *d)
{
        struct statvfs v;
        char next[4200];
        double free_bytes, percent;
        enum doctor_level level = DOCTOR_OK;

        if (statvfs(d->config.data.dir, &v) < 0)
                return; /* the check of the directory has said why */
        free_bytes = (double)v.f_bavail * (double)v.f_frsize;
        percent = v.f_blocks > 0 ? 100.0 * (double)v.f_bavail / (double)v.f_blocks : 0;
        if (free_bytes < 64 * MIB || (v.f_files > 0 && v.f_favail == 0))
                level = DOCTOR_FAIL;
        else if ((percent < 10 && free_bytes < 10240 * MIB) || free_bytes < 512 * MIB)
                level = DOCTOR_WARN;
        snprintf(next, sizeof next, "du -xh --max-depth=3 %s | sort -h | tail", d->config.data.dir);
        doctor_add(d, level, "space", level == DOCTOR_OK ? NULL : next,
                   "%.0f MiB (%.0f %%) and %llu files are free under %s", free_bytes / MIB, percent,
                   (unsigned long long)v.f_favail, d->config.data.dir);
}

/* --- the address --- */

void
doctor_check_address(struct doctor *d)
{
        const struct config *c = &d->config;

        if (c->http.addr[0] == '\0')
                doctor_add(
                        d, DOCTOR_WARN, "address", NULL,
                        "http.addr is empty: no replica can follow this node, and no command can ask it");
        else if (access_is_loopback(c->http.addr))
                doctor_add(d, DOCTOR_OK, "address", NULL, "%s is reached from this machine only",
                           c->http.addr);
        else if (c->http.token[0] == '\0' && c->http.token_file[0] == '\0' &&
                 c->http.tls.client_ca[0] == '\0')
                doctor_add(
                        d, DOCTOR_WARN, "address", "openssl rand -hex 32 >/etc/litefs.token",
                        "%s is open to the network without http.token-file (the same on all nodes): whoever reaches it reads and changes databases",
                        c->http.addr);
        else
                doctor_add(d, DOCTOR_OK, "address", NULL, "%s asks for %s", c->http.addr,
                           c->http.tls.client_ca[0] != '\0' ? "a certificate" : "the token");
}
