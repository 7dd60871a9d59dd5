#include "cmd/litefs/transfer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/monotonic.h"
#include "cmd/litefs/similar.h"

#define NAMES_SHOWN 5

/* --- the words --- */

static int
take_words(struct transfer *t, const struct flag_words *w, struct err *e)
{
        const char *words[2] = { NULL, NULL };
        int n = flag_words_count(w);

        for (int i = 0; i < n && i < 2; i++)
                words[i] = flag_words_get(w, i);
        if (t->name != NULL && n > 1)
                return err_text(e, -EINVAL, "too many arguments: -name names the database already");
        if (t->name == NULL) {
                t->name = words[0];
                words[0] = words[1];
        }
        if (t->name == NULL || t->name[0] == '\0')
                return err_text(e, -EINVAL, "no database is named");
        t->path = words[0] != NULL ? words[0] : "-";
        t->is_stream = strcmp(t->path, "-") == 0;
        return 0;
}

static int
check_stream(const struct transfer_kind *k, const struct transfer *t, struct err *e)
{
        bool is_output = k->stream_fd == STDOUT_FILENO;

        if (!t->is_stream)
                return 0;
        if (isatty(k->stream_fd) == 1)
                return err_text(e, -EINVAL,
                                "a database is not for a terminal: name a file, as in `litefs %s %s %s`",
                                k->help.name, t->name, is_output ? "copy.db" : "old.db");
        if (is_output && t->say.is_json)
                return err_text(
                        e, -EINVAL,
                        "-json would be in the middle of the database: name a file to export to");
        return 0;
}

/* --- errors --- */

/* "a.db, b.db and 7 more" of @list. */
static void
list_database_names(const json_t *list, char *buf, size_t size)
{
        size_t n = json_array_size(list), used = 0;

        buf[0] = '\0';
        for (size_t i = 0; i < n && i < NAMES_SHOWN && used < size; i++) {
                const char *name = json_string_value(json_object_get(json_array_get(list, i), "name"));

                used += (size_t)snprintf(buf + used, size - used, "%s%.60s", i > 0 ? ", " : "",
                                         name != NULL ? name : "?");
        }
        if (n > NAMES_SHOWN && used < size)
                snprintf(buf + used, size - used, " and %zu more", n - NAMES_SHOWN);
}

static const char *
nearest(const json_t *list, const char *name)
{
        struct similar near = similar_to(name);
        size_t i;
        json_t *db;

        json_array_foreach(list, i, db)
        {
                const char *known = json_string_value(json_object_get(db, "name"));

                if (known != NULL)
                        similar_offer(&near, known, strlen(known));
        }
        return near.best;
}

static int
fail_missing(struct transfer *t, struct err *e)
{
        json_t *answer = NULL, *list;
        char names[400];
        const char *near;

        if (client_get_json(&t->client, t->client.base, "/db", &answer, NULL) < 0)
                return err_text(
                        e, E_NOT_FOUND,
                        "the node has no database %.100s; `litefs list` shows the databases that it has",
                        t->name);
        list = json_object_get(answer, "databases");
        near = nearest(list, t->name);
        list_database_names(list, names, sizeof names);
        if (near != NULL)
                err_text(
                        e, E_NOT_FOUND,
                        "the node has no database %.100s (did you mean %.100s?); `litefs list` shows the databases that it has",
                        t->name, near);
        else if (names[0] != '\0')
                err_text(e, E_NOT_FOUND,
                         "the node has no database %.100s; it has %.250s: `litefs list` shows them",
                         t->name, names);
        else
                err_text(
                        e, E_NOT_FOUND,
                        "the node has no database %.100s: it has none; create one in its mount, or import a file "
                        "with `litefs import %.60s FILE`",
                        t->name, t->name);
        json_decref(answer);
        return E_NOT_FOUND;
}

static int
explain_transfer(const struct transfer_kind *k, struct transfer *t, int r, struct err *e)
{
        if (r == E_NOT_FOUND)
                return fail_missing(t, e);
        if (r == -EIO && strcmp(e->text, "invalid database name") != 0)
                return err_prefix(e, "cannot %s %.100s", k->help.name, t->name);
        if (strcmp(e->text, "invalid database name") == 0)
                return err_text(
                        e, r,
                        "cannot %s: %.100s is not a database name: want its path in the mount, such "
                        "as app.db or tenants/7.db; `litefs list` shows the databases",
                        k->help.name, t->name);
        return r;
}

/* --- */

int
transfer_command(const struct transfer_kind *k, int argc, char **argv)
{
        struct transfer t = { 0 };
        struct client *c = &t.client;
        const struct flag flags[] = { { "name", "NAME", "the database, as LiteFS has it named", NULL,
                                        &t.name },
                                      SAY_FLAGS(&t.say),
                                      CLIENT_FLAGS(c),
                                      { 0 } };
        struct flag_words w;
        struct err e = ERR_INIT;
        char took[64];
        int64_t begin_ns = monotonic_ns(), ns;
        int r = client_parse(flags, argc, argv, 2, &k->help, &w);

        if (r > 0)
                return r - 1;
        if (take_words(&t, &w, &e) < 0 || check_stream(k, &t, &e) < 0)
                return help_mistake(k->help.name, e.text);
        r = client_open(c, &e);
        if (r == 0 && (r = client_make_url(c->base, k->target, "name", t.name, t.url, sizeof t.url)) < 0)
                err_text(&e, r, "cannot %s: the name of the database is too long: at most 255 bytes",
                         k->help.name);
        if (r == 0) {
                say_begin(&t.say);
                r = k->run(&t, &e);
                say_end(&t.say);
        }
        if (r < 0)
                r = explain_transfer(k, &t, r, &e);
        client_close(c);
        if (r < 0)
                return client_exit(r, &e);
        ns = monotonic_ns() - begin_ns;
        client_format_duration(ns, took, sizeof took);
        if (!t.is_stream || k->stream_fd != STDOUT_FILENO)
                say_done(&t.say,
                         json_pack("{s:s, s:s, s:I, s:I}", "database", t.name, "path", t.path, "bytes",
                                   (json_int_t)t.done_bytes, "durationMS", (json_int_t)(ns / 1000000)),
                         "%s of database \"%s\" in %s", k->noun, t.name, took);
        return 0;
}
