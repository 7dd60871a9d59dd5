/* litefs diff: what SQLite's sqldiff says of two states of a database. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd/litefs/client.h"
#include "cmd/litefs/command.h"

static const struct help diff_help = {
        .name = "diff",
        .synopsis = "DB[@MOMENT] DB[@MOMENT]",
        .about =
                "Prints the SQL that turns the first state into the second, made by SQLite's program sqldiff.\n"
                "Both are paths of databases, or of past states in a mount of litefs: MOMENT is a time such as\n"
                "2026-01-02T03:04:05Z, or -5m, or the 16 hex digits of a transaction.",
        .examples =
                (const struct help_row[]){
                        { "litefs diff /mnt/app.db@-1h /mnt/app.db",
                          "show what the last hour has changed" },
                        { 0 },
                },
};

/* sqldiff says of what is not there that it is empty. */
static int
check_readable(const char *path, struct err *e)
{
        if (access(path, R_OK) == 0)
                return 0;
        return err_text(e, -errno,
                        "cannot read %s: %s; of a past state that is not there litefs's log says why",
                        path, strerror(errno));
}

int
command_diff(int argc, char **argv)
{
        const struct flag flags[] = { { 0 } };
        char program[] = "sqldiff", *args[4] = { program, NULL, NULL, NULL };
        struct flag_words w;
        struct err e = ERR_INIT;
        int r = client_parse(flags, argc, argv, 2, &diff_help, &w);

        if (r > 0)
                return r - 1;
        if (flag_words_count(&w) != 2)
                return help_mistake("diff", "two databases are wanted");
        for (int i = 0; i < 2 && r == 0; i++) {
                args[1 + i] = flag_words_get(&w, i);
                r = check_readable(args[1 + i], &e);
        }
        if (r == 0) {
                execvp(program, args);
                r = err_text(
                        &e, -errno,
                        "cannot run sqldiff: %s; it comes with SQLite (Debian's package sqlite3-tools, or "
                        "sqlite3)",
                        strerror(errno));
        }
        return client_exit(r, &e);
}
