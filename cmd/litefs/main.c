#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd/litefs/command.h"
#include "cmd/litefs/help.h"
#include "cmd/litefs/similar.h"
#include "cmd/litefs/takeover.h"

static const struct help_command commands[] = {
        { "mount", command_mount, "mount the file system and replicate what is in it" },
        { "init", command_init, "write the configuration of a node" },
        { "check", command_check, "check a configuration before a node starts with it" },
        { "status", command_status, "show the cluster: nodes, roles, databases" },
        { "list", command_list, "list the databases of a node, or the nodes" },
        { "doctor", command_doctor, "diagnose a node, and say what to do" },
        { "export", command_export, "copy a database from a running node to a file" },
        { "import", command_import, "replace a database with the content of a file" },
        { "backup", command_backup, "show, list and verify backups, or wait for them" },
        { "restore", command_restore, "restore a database from a backup, or to a moment of its log" },
        { "promote", command_promote, "make this node the primary" },
        { "handoff", command_handoff, "pass the primary role to another node" },
        { "demote", command_demote, "stop being the primary" },
        { "upgrade", command_upgrade, "replace the program of a running node by the installed one" },
        { "run", command_run, "run a command that writes to a database from this node" },
        { "clone", command_clone, "copy a past state of a database to a file" },
        { "diff", command_diff, "show the difference between two states of a database" },
        { "log", command_log, "show the transactions of a database" },
        { "ltx", command_ltx, "list, show, verify and extract logged transactions" },
        { "version", command_version, "print the version" },
        { "help", command_help, "show the help of litefs or of a command" },
};
#define N_COMMANDS (sizeof commands / sizeof commands[0])

static const struct help_command *
find_command(const char *name)
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
                { "litefs mount ./db", "open databases in ./db, as a single node" },
                { "litefs mount", "run the node that /etc/litefs.yml describes" },
                { "litefs status", "show the cluster" },
                { "litefs mount -h", "show the help of a command" },
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
fail_unknown_command(const char *name)
{
        struct similar near = similar_to(name);

        for (size_t i = 0; i < N_COMMANDS; i++)
                similar_offer(&near, commands[i].name, strlen(commands[i].name));
        fprintf(stderr, "ERROR: litefs has no command %s", name);
        if (near.best != NULL)
                fprintf(stderr, " (did you mean `litefs %s`?)", near.best);
        fprintf(stderr, "; run `litefs help` for a list\n");
        return EXIT_USAGE;
}

/* The words before any command. */
static int
take_program_flag(const char *word)
{
        const char *name = word + (word[1] == '-' ? 2 : 1);

        if (strcmp(name, "h") == 0 || strcmp(name, "help") == 0)
                return print_program(NULL, NULL);
        if (strcmp(name, "version") == 0)
                return command_version(0, NULL);
        fprintf(stderr,
                "ERROR: litefs has no flag %s: flags follow a command, as in `litefs status -json`; run "
                "`litefs help` for a list of commands\n",
                word);
        return EXIT_USAGE;
}

static int
explain_words(const struct flag_words *w)
{
        char ask[] = "-h", *argv[] = { ask, NULL };
        const struct help_command *c = w->n > 0 ? find_command(w->words[0]) : NULL;

        if (w->n == 0)
                return print_program(NULL, NULL);
        return c == NULL ? fail_unknown_command(w->words[0]) : c->fn(1, argv);
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
                .about = "Shows the help of litefs or of a command.",
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
        if (r < 0 || flag_words_count(&w) > 1)
                return help_mistake(help.name, r < 0 ? e.text : "too many arguments");
        if (r == 0 && config_page != NULL)
                r = help_print_config_page(config_page, &e);
        else if (r == 0 && format != NULL)
                r = print_program(format, &e);
        else if (r == 0)
                return explain_words(&w);
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

/* Where one of them is closed, the next file that is opened gets its number: what is printed or logged would go into a
 * database. */
static bool
open_standard_streams(void)
{
        int fd;

        do
                fd = open("/dev/null", O_RDWR);
        while (fd >= 0 && fd <= STDERR_FILENO);
        if (fd > STDERR_FILENO)
                close(fd);
        return fd > STDERR_FILENO;
}

int
main(int argc, char **argv)
{
        const struct help_command *c;
        int status;

        if (!open_standard_streams() &&
            (fcntl(0, F_GETFD) < 0 || fcntl(1, F_GETFD) < 0 || fcntl(2, F_GETFD) < 0))
                return 1;

        if (argc < 2) {
                (void)print_program(NULL, NULL);
                fprintf(stderr, "ERROR: no command is given; choose one of those above, or run `litefs "
                                "help COMMAND` for what it does\n");
                return EXIT_USAGE;
        }
        if (argv[1][0] == '-')
                return check_output(take_program_flag(argv[1]));
        if (strcmp(argv[1], "exec-as") == 0)
                return command_exec_as(argc - 2, argv + 2);
        if (strcmp(argv[1], "takeover-check") == 0)
                return command_takeover_check(argc - 2, argv + 2);
        takeover_remember(argv);
        c = find_command(argv[1]);
        if (c == NULL)
                return fail_unknown_command(argv[1]);
        status = c->fn(argc - 2, argv + 2);
        /* A node's status is that of its work, and of its application. */
        return c->fn == command_mount ? status : check_output(status);
}
