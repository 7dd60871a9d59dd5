#include "cmd/litefs/port_owner.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/addr.h"

#define STATE_LISTEN 0x0a
#define OWNER_SIZE 64

/* The inode of a socket that listens at @port; 0: there is none. */
static unsigned long
find_inode(const char *table, int port)
{
        unsigned long inode = 0, candidate;
        unsigned local, state;
        char line[512];
        FILE *f = fopen(table, "re");

        while (f != NULL && inode == 0 && fgets(line, sizeof line, f) != NULL)
                if (sscanf(line, "%*s %*[0-9A-Fa-f]:%x %*s %x %*s %*s %*s %*s %*s %lu", &local, &state,
                           &candidate) == 3 &&
                    state == STATE_LISTEN && local == (unsigned)port)
                        inode = candidate;
        if (f != NULL)
                fclose(f);
        return inode;
}

static bool
has_socket(const char *pid, unsigned long inode)
{
        char dir[300], path[600], link[64], want[64];
        struct dirent *entry;
        bool found = false;
        DIR *d;

        snprintf(dir, sizeof dir, "/proc/%s/fd", pid);
        snprintf(want, sizeof want, "socket:[%lu]", inode);
        d = opendir(dir);
        while (d != NULL && !found && (entry = readdir(d)) != NULL) {
                ssize_t n;

                snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
                n = readlink(path, link, sizeof link - 1);
                if (n < 0)
                        continue;
                link[n] = '\0';
                found = strcmp(link, want) == 0;
        }
        if (d != NULL)
                closedir(d);
        return found;
}

static void
read_name(const char *pid, char *buf, size_t size)
{
        char path[300];
        FILE *f;

        snprintf(path, sizeof path, "/proc/%s/comm", pid);
        f = fopen(path, "re");
        if (f == NULL || fgets(buf, (int)size, f) == NULL)
                snprintf(buf, size, "a program");
        buf[strcspn(buf, "\n")] = '\0';
        if (f != NULL)
                fclose(f);
}

/* "nginx (pid 123)", or what can be said without the right to look. */
static void
find_port_owner(int port, char *buf, size_t size)
{
        unsigned long inode = find_inode("/proc/net/tcp", port);
        struct dirent *entry;
        DIR *d = opendir("/proc");

        snprintf(buf, size, "another program (`ss -ltnp` as root names it)");
        if (inode == 0)
                inode = find_inode("/proc/net/tcp6", port);
        while (d != NULL && inode != 0 && (entry = readdir(d)) != NULL) {
                char name[32];

                if (!isdigit((unsigned char)entry->d_name[0]) || !has_socket(entry->d_name, inode))
                        continue;
                read_name(entry->d_name, name, sizeof name);
                snprintf(buf, size, "%s (pid %.10s)", name, entry->d_name);
                break;
        }
        if (d != NULL)
                closedir(d);
}

int
port_owner_explain(const char *key, const char *address, int r, struct err *e)
{
        char owner[OWNER_SIZE] = "";
        struct addr a;

        if (addr_parse(address, &a, NULL) < 0)
                return r;
        if (r == -EADDRINUSE)
                find_port_owner(a.port, owner, sizeof owner);
        if (r == -EADDRINUSE)
                return err_text(
                        e, r,
                        "%s: cannot listen at %s: port %d is in use by %s; stop that one, or set %s to another "
                        "port",
                        key, address, a.port, owner, key);
        if (r == -EACCES)
                return err_text(
                        e, r,
                        "%s: cannot listen at %s: ports below 1024 are for root; set %s to a port above that",
                        key, address, key);
        if (r == -EADDRNOTAVAIL)
                return err_text(
                        e, r,
                        "%s: cannot listen at %s: this machine has no such address (`ip addr` lists them); set "
                        "%s to one of them",
                        key, address, key);
        return r;
}
