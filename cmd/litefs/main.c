#include <stdio.h>
#include <string.h>

#include "cmd/litefs/command.h"

static const struct {
        const char *name;
        int (*fn)(int argc, char **argv);
        const char *summary;
} commands[] = {
        { "mount", command_mount, "mount the file system and replicate what is in it" },
        { "status", command_status, "show the cluster: nodes, roles, databases" },
        { "export", command_export, "copy a database out of a running node" },
        { "import", command_import, "replace a database by a file" },
        { "promote", command_promote, "make this node the primary" },
        { "handoff", command_handoff, "pass the primary's part to another node" },
        { "demote", command_demote, "stop being the primary" },
        { "ltx", command_ltx, "list, show, verify and extract logged transactions" },
        { "version", command_version, "print the version" },
        { "help", command_help, "print this text" },
};
#define N_COMMANDS (sizeof commands / sizeof commands[0])

int
command_help(int argc, char **argv)
{
        (void)argc;
        (void)argv;
        printf("litefs is a replicating file system for SQLite databases.\n\n"
               "Usage:\n\n    litefs <command> [arguments]\n\nThe commands are:\n\n");
        for (size_t i = 0; i < N_COMMANDS; i++)
                printf("    %-10s %s\n", commands[i].name, commands[i].summary);
        printf("\n`litefs <command> -h` explains a command.\n");
        return EXIT_USAGE;
}

int
main(int argc, char **argv)
{
        if (argc < 2 || argv[1][0] == '-')
                return command_help(0, NULL);
        for (size_t i = 0; i < N_COMMANDS; i++)
                if (strcmp(commands[i].name, argv[1]) == 0)
                        return commands[i].fn(argc - 2, argv + 2);
        fprintf(stderr, "ERROR: litefs %s: unknown command\n", argv[1]);
        return 1;
}
