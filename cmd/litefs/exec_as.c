/* litefs exec-as USER CMD ARGS...: becomes CMD as that user. litefs runs itself so for exec.user, because a process with
 * threads cannot change its user between fork and exec in safety; it is no command for people, and has no help. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "cmd/litefs/command.h"

#define EXIT_CANNOT 126
#define EXIT_NOT_FOUND 127

static int
fail_to_exec(const char *what)
{
        fprintf(stderr, "ERROR: cannot exec: %s: %s\n", what, strerror(errno));
        return EXIT_CANNOT;
}

/* A number need not have an entry: containers have users without. */
static int
become_number(const char *text)
{
        char *end;
        unsigned long id = strtoul(text, &end, 10);

        if (*text == '\0' || *end != '\0' || id > 0xfffffffeUL) {
                fprintf(stderr, "ERROR: cannot exec: there is no user called %s\n", text);
                return EXIT_CANNOT;
        }
        if (geteuid() == 0 && setgroups(0, NULL) < 0)
                return fail_to_exec(text);
        return setgid((gid_t)id) < 0 || setuid((uid_t)id) < 0 ? fail_to_exec(text) : 0;
}

static int
become(const char *user)
{
        const struct passwd *pw;

        errno = 0;
        pw = getpwnam(user);
        if (pw == NULL)
                return become_number(user);
        if ((geteuid() != pw->pw_uid && initgroups(user, pw->pw_gid) < 0) || setgid(pw->pw_gid) < 0 ||
            setuid(pw->pw_uid) < 0)
                return fail_to_exec(user);
        if (setenv("HOME", pw->pw_dir, 1) < 0 || setenv("USER", user, 1) < 0 ||
            setenv("LOGNAME", user, 1) < 0)
                return fail_to_exec(user);
        return 0;
}

int
command_exec_as(int argc, char **argv)
{
        int status;

        if (argc < 2)
                return EXIT_USAGE;
        status = become(argv[0]);
        if (status != 0)
                return status;
        /* What systemd gave to litefs is not for the application. */
        (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        execvp(argv[1], argv + 1);
        status = errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT;
        (void)fail_to_exec(argv[1]);
        return status;
}
