#include "fuse/ask.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "fuse/fuse_internal.h"
#include "fuse/own_mount.h"

/* The kernel does not remember that this name is absent: it asks for it each time, and holds the directory meanwhile. */
#define ASKED_NAME ".primary"

/* Directories as they follow each other in the order of the databases' names. */
struct tour {
        const char *last; /* a database's name */
        size_t n_last;    /* what of it is the directory, "" or with a slash at its end */
        size_t n, stop;
        char found[PATH_MAX]; /* the one numbered @stop */
};

static int
visit_directory_of(void *arg, struct db *db)
{
        struct tour *t = arg;
        const char *name = db_name(db), *slash = strrchr(name, '/');
        size_t n = slash != NULL ? (size_t)(slash - name) + 1 : 0;

        if (n == 0 || (t->last != NULL && n == t->n_last && memcmp(name, t->last, n) == 0))
                return 0;
        t->last = name;
        t->n_last = n;
        if (t->n++ == t->stop)
                snprintf(t->found, sizeof t->found, "%.*s", (int)n, name);
        return 0;
}

static void
ask_directory(struct session *s, const char *name)
{
        char path[2 * PATH_MAX];
        struct stat st;

        snprintf(path, sizeof path, "%s/%s" ASKED_NAME, s->mount_dir, name);
        (void)lstat(path, &st);
}

size_t
session_ask(struct session *s, size_t turn)
{
        struct tour t = { .stop = SIZE_MAX };

        if (own_mount_enter(s, "look") < 0)
                return 0;
        ask_directory(s, "");
        (void)store_each(s->store, visit_directory_of, &t);
        if (t.n == 0)
                return 0;
        t = (struct tour){ .stop = turn % t.n };
        (void)store_each(s->store, visit_directory_of, &t);
        if (t.found[0] != '\0')
                ask_directory(s, t.found);
        return t.n;
}

void
session_await_request(struct session *s, void (*fn)(void *arg), void *arg)
{
        s->on_awaited = fn;
        s->on_awaited_arg = arg;
        atomic_store(&s->is_awaited, true);
}

void
session_request_came(struct session *s, enum request_type type)
{
        if (type != REQUEST_LOOKUP && type != REQUEST_GETATTR && atomic_exchange(&s->is_awaited, false))
                s->on_awaited(s->on_awaited_arg);
}
