#include "cmd/litefs/node_flags.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/litefs/access.h"
#include "cmd/litefs/config_keys.h"
#include "cmd/litefs/config_lease.h"
#include "cmd/litefs/real_path.h"

const char *
node_flags_any(const struct node_flags *f)
{
        return f->data != NULL         ? "data"
               : f->addr != NULL       ? "addr"
               : f->lease != NULL      ? "lease"
               : f->follow != NULL     ? "follow"
               : f->advertise != NULL  ? "advertise-url"
               : f->token_file != NULL ? "token-file"
               : f->backup != NULL     ? "backup"
               : f->allow_other        ? "allow-other"
                                       : NULL;
}

const char *
node_flags_of_key(const char *key)
{
        static const char *const flags[][2] = {
                { "data.dir", "-data" },
                { "http.addr", "-addr" },
                { "http.token-file", "-token-file" },
                { "lease.advertise-url", "-advertise-url" },
                { "backup.url", "-backup" },
        };

        for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
                if (strcmp(flags[i][0], key) == 0)
                        return flags[i][1];
        return strncmp(key, "lease.", 6) == 0 ? "-lease" : NULL;
}

/* Absolute, without symbolic links above it; the last part need not exist. */
static int
make_absolute(const char *path, char ret[PATH_MAX], struct err *e)
{
        char up[PATH_MAX], name[PATH_MAX];
        size_t n = (size_t)snprintf(up, sizeof up, "%s", path);
        int r;

        if (path[0] == '\0')
                return err_text(e, -EINVAL, "\"\" is not a directory: name one");
        if (n >= sizeof up)
                return err_text(e, -ENAMETOOLONG, "%s cannot be used: %s; choose another directory",
                                path, err_code_text(-ENAMETOOLONG));
        while (n > 1 && up[n - 1] == '/')
                up[--n] = '\0';
        r = real_path(up, ret);
        if (r == 0)
                return 0;
        if (r != -ENOENT && r != -ENOTCONN) /* the latter of a litefs that was killed */
                return err_text(e, r, "%s cannot be used: %s; choose another directory", path,
                                err_code_text(r));
        r = real_path_above(path, up, name);
        if (r < 0)
                return err_text(e, r, "%s cannot be made: %s; make the directory above it first", path,
                                err_code_text(r));
        n = (size_t)snprintf(ret, PATH_MAX, "%s/%s", up, name);
        return n < PATH_MAX ? 0 : err_set(e, -ENAMETOOLONG, "%s", path);
}

static int
set_node_dirs(const struct node_flags *f, const char *dir, struct config *c, struct err *e)
{
        char path[PATH_MAX], beside[PATH_MAX + 8];
        struct statx st;
        int r = make_absolute(dir, path, e);

        if (r < 0)
                return r;
        /* What the kernel knows is enough: a mount that hangs is not asked. */
        if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_TYPE, &st) == 0 && !S_ISDIR(st.stx_mode))
                return err_text(
                        e, -ENOTDIR,
                        "%s is a file: want the directory to mount at; a command to run goes behind `--`",
                        path);
        if (strcmp(path, "/") == 0)
                return err_text(e, -EINVAL,
                                "/ cannot be the mount: want a directory of its own, such as /litefs");
        snprintf(beside, sizeof beside, "%s.litefs", path);
        if (config_set_string(&c->fuse.dir, path) < 0)
                return err_set(e, -ENOMEM, "%s", dir);
        r = f->data != NULL ? make_absolute(f->data, path, e) : 0;
        if (r == 0 && config_set_string(&c->data.dir, f->data != NULL ? path : beside) < 0)
                r = err_set(e, -ENOMEM, "%s", dir);
        return r;
}

static int
check_node_flags(const struct node_flags *f, struct err *e)
{
        if (f->lease != NULL && f->follow != NULL)
                return err_text(
                        e, -EINVAL,
                        "-lease and -follow contradict each other: with a lease the primary is found "
                        "there; leave one of them out");
        if (f->lease != NULL && strncmp(f->lease, "http", 4) == 0)
                return err_text(e, -EINVAL, "-lease %.200s is the address of a node: give it as -follow",
                                f->lease);
        if (f->follow != NULL && strncmp(f->follow, "http", 4) != 0)
                return err_text(
                        e, -EINVAL,
                        "-follow %.200s is not the address of a node: want the primary's, such as "
                        "http://node1:20202",
                        f->follow);
        return 0;
}

/* What a node by itself is called; the others have their own way to a name (config_resolve). */
static int
set_own_hostname(struct config *c)
{
        char name[256] = "";

        return gethostname(name, sizeof name - 1) == 0 ? config_set_string(&c->lease.hostname, name) : 0;
}

/* Who may write, and where that makes the node listen when nothing else is said. */
static int
set_node_lease(const struct node_flags *f, struct config *c, struct err *e)
{
        const char *url = f->lease != NULL ? f->lease : f->follow, *host;
        struct err why = ERR_INIT;
        bool is_near;

        if ((url == NULL ? config_set_string(&c->lease.type, "static")
                         : config_set_string(&c->lease.url, url)) < 0)
                return err_set(e, -ENOMEM, "lease");
        if (url == NULL)
                return set_own_hostname(c) < 0 ? err_set(e, -ENOMEM, "lease") : 0;
        if (config_resolve_lease(c, &why) < 0)
                return err_text(e, why.code, "-%s %s", f->lease != NULL ? "lease" : "follow", why.text);
        if (f->follow == NULL || c->http.has_addr)
                return 0;
        /* The primary of this machine has the usual port. */
        host = strstr(url, "//");
        is_near = host != NULL && access_is_loopback(host + 2);
        c->http.has_addr = true;
        return config_set_string(&c->http.addr, is_near ? "127.0.0.1:0" : "127.0.0.1:20202") < 0
                       ? err_set(e, -ENOMEM, "-follow")
                       : 0;
}

static int
set_flag_member(char **at, const char *value)
{
        return value != NULL ? config_set_string(at, value) : 0;
}

/* A file of secrets is found from wherever the node is started. */
static int
set_token_file(const struct node_flags *f, struct config *c, struct err *e)
{
        char path[PATH_MAX];
        int r = 0;

        if (f->token_file == NULL)
                return 0;
        r = make_absolute(f->token_file, path, e);
        return r < 0 ? r : config_set_string(&c->http.token_file, path);
}

int
node_flags_apply(const struct node_flags *f, const char *dir, struct config *c, struct err *e)
{
        int r = check_node_flags(f, e);

        if (r == 0)
                r = set_node_dirs(f, dir, c, e);
        if (r < 0)
                return r;
        c->fuse.allow_other = f->allow_other;
        c->http.has_addr = f->addr != NULL;
        if (set_flag_member(&c->http.addr, f->addr) < 0 ||
            set_flag_member(&c->lease.advertise_url, f->advertise) < 0 ||
            set_flag_member(&c->backup.url, f->backup) < 0)
                return err_set(e, -ENOMEM, "flags");
        r = set_token_file(f, c, e);
        if (r == 0)
                r = set_node_lease(f, c, e);
        if (r == 0 && config_resolve(c) < 0)
                r = err_set(e, -ENOMEM, "flags");
        return r;
}
