/* cmd/litefs/command.h - the subcommands. Each gets the words behind its name and returns the exit status. */
#ifndef LITEFS_CMD_COMMAND_H
#define LITEFS_CMD_COMMAND_H

#define EXIT_USAGE 2

int command_mount(int argc, char **argv);
int command_init(int argc, char **argv);
int command_check(int argc, char **argv);
int command_version(int argc, char **argv);
int command_list(int argc, char **argv);
int command_clone(int argc, char **argv);
int command_diff(int argc, char **argv);
int command_log(int argc, char **argv);
int command_ltx(int argc, char **argv);
int command_export(int argc, char **argv);
int command_import(int argc, char **argv);
int command_handoff(int argc, char **argv);
int command_promote(int argc, char **argv);
int command_demote(int argc, char **argv);
int command_backup(int argc, char **argv);
int command_restore(int argc, char **argv);
int command_run(int argc, char **argv);
int command_upgrade(int argc, char **argv);
int command_status(int argc, char **argv);
int command_doctor(int argc, char **argv);
int command_help(int argc, char **argv);
/* For litefs itself: exec_as.c; mount.c. */
int command_exec_as(int argc, char **argv);
int command_takeover_check(int argc, char **argv);

/* "litefs <version>, commit=<commit>". Static storage. */
const char *version_text(void);

#endif
