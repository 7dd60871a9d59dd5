/* The machine under a node: FUSE, the mount, space, the address. */
#include <dirent.h>
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

#include "base/descriptors.h"
#include "cmd/litefs/access.h"
#include "cmd/litefs/bare_files.h"
#include "cmd/litefs/doctor.h"
#include "cmd/litefs/mount_point.h"

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

/* Whoever is not the one that mounts gets EACCES for all that is in there. */
static void
check_users(struct doctor *d)
{
        const struct config *c = &d->config;

        for (size_t i = 0; i < c->n_exec && !c->fuse.allow_other; i++)
                if (c->exec[i].user[0] != '\0') {
                        doctor_add(d, DOCTOR_FAIL, "fuse", "man litefs.yml",
                                   "exec.user is %s, but the mount is for the user of litefs alone: set "
                                   "fuse.allow-other: true",
                                   c->exec[i].user);
                        return;
                }
}

void
doctor_check_fuse(struct doctor *d)
{
        int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        int code = errno;

        if (fd >= 0) {
                close(fd);
                check_privileges(d);
                check_users(d);
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

static void
check_our_mount(struct doctor *d, const char *dir)
{
        char next[4300], file[4200];
        int r;

        snprintf(file, sizeof file, "%s/.lag", dir);
        r = mount_point_ask(dir);
        if (r == 0)
                r = mount_point_ask(file);
        snprintf(next, sizeof next, "fusermount3 -uz %s", dir);
        if (r == -ENOTCONN || r == -ECONNABORTED)
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

/* What programs have written there while litefs did not run. */
static void
check_bare_files(struct doctor *d, const char *dir)
{
        char next[2 * PATH_MAX];
        struct bare_files b;
        struct err e = ERR_INIT;

        if (bare_files_look(dir, &b, &e) < 0) {
                snprintf(next, sizeof next, "ls -la %s", dir);
                doctor_add(d, DOCTOR_WARN, "mount", next, "%s", e.text);
                return;
        }
        bare_files_suggest(dir, d->config.data.dir, &b, next, sizeof next);
        if (b.n_databases > 0)
                doctor_add(
                        d, DOCTOR_FAIL, "mount", next,
                        "%s/%s%s was written while litefs was not mounted there: litefs does not start over it",
                        dir, b.database, b.n_databases > 1 ? " and more" : "");
        snprintf(next, sizeof next, "ls -laR %s", dir);
        if (b.n_others > 0 || b.is_cut)
                doctor_add(d, DOCTOR_WARN, "mount", next,
                           "%s holds %s%u files, such as %s, which the mount will hide", dir,
                           b.is_cut ? "more than " : "", b.n_others, b.other);
        if (b.unreadable[0] != '\0')
                doctor_add(d, DOCTOR_WARN, "mount", next,
                           "this user may not look into %s/%s, which the mount will hide", dir,
                           b.unreadable);
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
        else {
                doctor_add(d, DOCTOR_OK, "mount", NULL,
                           "nothing is mounted at %s, and litefs does not run", dir);
                check_bare_files(d, dir);
        }
}

void
doctor_check_mount(struct doctor *d)
{
        const char *dir = d->config.fuse.dir;
        char type[64] = "", source[64] = "";

        if (!mount_point_find(dir, type, source))
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
        else if (access_is_open(c))
                doctor_add(
                        d, DOCTOR_WARN, "address", "openssl rand -hex 32 >/etc/litefs.token",
                        "%s is open to the network without http.token-file (the same on all nodes): anyone who reaches it can read and change databases",
                        c->http.addr);
        else
                doctor_add(d, DOCTOR_OK, "address", NULL, "%s asks for %s", c->http.addr,
                           c->http.tls.client_ca[0] != '\0' ? "a certificate" : "the token");
}

/* --- who gets in --- */

/* A service that does not run the application itself: it is another unit's, and seldom root's. */
static bool
is_service(int pid)
{
        char path[64], text[65536];
        size_t n = 0;
        FILE *f;

        snprintf(path, sizeof path, "/proc/%d/environ", pid);
        f = fopen(path, "re");
        if (f != NULL) {
                n = fread(text, 1, sizeof text - 1, f);
                fclose(f);
        }
        text[n] = '\0';
        for (const char *s = text; s < text + n; s += strlen(s) + 1)
                if (strncmp(s, "INVOCATION_ID=", 14) == 0)
                        return true;
        return false;
}

void
doctor_check_users(struct doctor *d)
{
        const struct config *c = &d->config;
        char path[64];
        struct stat st;

        snprintf(path, sizeof path, "/proc/%d", d->lock_pid);
        if (d->lock_pid == 0 || c->fuse.allow_other || c->n_exec > 0 || stat(path, &st) < 0 ||
            st.st_uid != 0 || !is_service(d->lock_pid))
                return;
        doctor_add(
                d, DOCTOR_WARN, "users",
                "sudo sed -i 's/^fuse:/fuse:\\n  allow-other: true/' /etc/litefs.yml; sudo systemctl restart litefs",
                "litefs runs as root, as a service, without fuse.allow-other: nobody but root gets into %s, and an "
                "application that is another user is told \"Permission denied\"",
                c->fuse.dir);
}

/* --- file descriptors --- */

static unsigned
read_limit(int pid)
{
        char path[64], line[256];
        unsigned limit = 0;
        FILE *f;

        snprintf(path, sizeof path, "/proc/%d/limits", pid);
        f = fopen(path, "re");
        while (f != NULL && limit == 0 && fgets(line, sizeof line, f) != NULL)
                (void)sscanf(line, "Max open files %u", &limit);
        if (f != NULL)
                fclose(f);
        return limit;
}

static unsigned
count_open_of_pid(int pid)
{
        char path[64];
        unsigned n = 0;
        DIR *dir;

        snprintf(path, sizeof path, "/proc/%d/fd", pid);
        dir = opendir(path);
        for (const struct dirent *en; dir != NULL && (en = readdir(dir)) != NULL;)
                n += en->d_name[0] != '.';
        if (dir != NULL)
                closedir(dir);
        return n;
}

/* Idle databases have closed theirs by the time that half are open: what is beyond that is in use. */
void
doctor_check_descriptors(struct doctor *d)
{
        unsigned limit = d->lock_pid != 0 ? read_limit(d->lock_pid) : 0, n, for_files;

        if (limit == 0)
                return;
        n = count_open_of_pid(d->lock_pid);
        for_files = descriptors_for_files(limit);
        if (n < for_files / 4 * 3)
                doctor_add(d, DOCTOR_OK, "descriptors", NULL, "%u of %u file descriptors are open", n,
                           limit);
        else
                doctor_add(
                        d, DOCTOR_WARN, "descriptors",
                        "sudo systemctl edit litefs   # [Service] LimitNOFILE=1048576; of a container: its ulimits",
                        "%u of %u file descriptors are open: from %u on no further database can be opened",
                        n, limit, for_files);
}
