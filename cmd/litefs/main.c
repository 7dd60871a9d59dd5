#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd/litefs/command.h"
#include "cmd/litefs/help.h"

static const struct help_command commands[] = {
        { "mount", command_mount, "mount the file system and replicate what is in it" },
        { "status", command_status, "show the cluster: nodes, roles, databases" },
        { "doctor", command_doctor, "look at all that a node needs, and say what to do" },
        { "export", command_export, "copy a database out of a running node" },
        { "import", command_import, "replace a database by a file" },
        { "promote", command_promote, "make this node the primary" },
        { "handoff", command_handoff, "pass the primary's part to another node" },
        { "demote", command_demote, "stop being the primary" },
        { "run", command_run, "run a command that writes on this node" },
        { "ltx", command_ltx, "list, show, verify and extract logged transactions" },
        { "version", command_version, "print the version" },
        { "help", command_help, "explain litefs, or one of its commands" },
};
#define N_COMMANDS (sizeof commands / sizeof commands[0])

static const struct help_command *
find(const char *name)
{
        for (size_t i = 0; i < N_COMMANDS; i++)
                if (strcmp(commands[i].name, name) == 0)
                        return &commands[i];
        return NULL;
}

/* What litefs without a command says, with the commands for its actions. */
static int
print_program(const char *generate, struct err *e)
{
        static const struct help_row examples[] = {
                { "litefs mount", "run the node that /etc/litefs.yml describes" },
                { "litefs status", "see the cluster" },
                { "litefs mount -h", "explain a command" },
                { 0 },
        };
        struct help_row rows[N_COMMANDS + 1] = { 0 };
        struct help help = {
                .name = "",
                .synopsis = "<command> [arguments]",
                .about = "litefs is a replicating file system for SQLite databases.",
                .actions = rows,
                .examples = examples,
        };

        for (size_t i = 0; i < N_COMMANDS; i++)
                rows[i] = (struct help_row){ commands[i].name, commands[i].summary };
        if (generate != NULL)
                return help_generate(&help, commands, N_COMMANDS, generate, e);
        return help_print(&help, NULL, "");
}

static int
unknown(const char *name)
{
        fprintf(stderr, "ERROR: litefs %s: unknown command\n", name);
        return 1;
}

static int
explain(const struct flag_words *w)
{
        char ask[] = "-h", *argv[] = { ask, NULL };
        const struct help_command *c = w->n > 0 ? find(w->words[0]) : NULL;

        if (w->n == 0)
                return print_program(NULL, NULL);
        return c == NULL ? unknown(w->words[0]) : c->fn(1, argv);
}

/* The build makes the manual pages and completions by the two flags, which nobody else needs. */
int
command_help(int argc, char **argv)
{
        static const struct help_row examples[] = { { "litefs help mount", "explain a command" },
                                                    { 0 } };
        static const struct help help = {
                .name = "help",
                .synopsis = "[COMMAND]",
                .about = "Explains litefs, or one of its commands.",
                .examples = examples,
        };
        const char *format = NULL, *config_page = NULL;
        const struct flag hidden[] = { { "format", "FORMAT", "", NULL, &format },
                                       { "config-page", "PATH", "", NULL, &config_page },
                                       { 0 } };
        struct err e = ERR_INIT;
        struct flag_words w;
        int r = flags_parse(hidden, argc, argv, &w, &e);

        if (r > 0)
                return help_print(&help, NULL, w.help);
        if (r == 0 && config_page != NULL)
                r = help_print_config_page(config_page, &e);
        else if (r == 0 && format != NULL)
                r = print_program(format, &e);
        else if (r == 0)
                return explain(&w);
        if (r < 0)
                fprintf(stderr, "ERROR: %s\n", e.text);
        return r < 0;
}

/* Half of a -json is worse than none: whoever wrote it to a full disk has to hear of it. */
static int
check_output(int status)
{
        int code = fflush(stdout) == 0 ? 0 : errno;

        if (!ferror(stdout))
                return status;
        fprintf(stderr, "ERROR: write the output: %s\n", code != 0 ? strerror(code) : "a part is lost");
        return status != 0 ? status : 1;
}

int
main(int argc, char **argv)
{
        const struct help_command *c;
        int status;

        if (argc < 2 || argv[1][0] == '-')
                return print_program(NULL, NULL);
        c = find(argv[1]);
        if (c == NULL)
                return unknown(argv[1]);
        status = c->fn(argc - 2, argv + 2);
        /* A node's status is that of its work, and of its application. */
        return c->fn == command_mount ? status : check_output(status);
}
