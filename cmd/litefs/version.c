#include <stdio.h>

#include "cmd/litefs/command.h"

/* Set by cmd/litefs/CMakeLists.txt from git; "" when unknown. */
#ifndef LITEFS_VERSION
#define LITEFS_VERSION ""
#endif
#ifndef LITEFS_COMMIT
#define LITEFS_COMMIT ""
#endif

void
print_version(void)
{
        if (LITEFS_VERSION[0] != '\0')
                printf("LiteFS %s, commit=%s\n", LITEFS_VERSION, LITEFS_COMMIT);
        else if (LITEFS_COMMIT[0] != '\0')
                printf("LiteFS commit=%s\n", LITEFS_COMMIT);
        else
                printf("LiteFS development build\n");
        fflush(stdout);
}

int
command_version(int argc, char **argv)
{
        (void)argc;
        (void)argv;
        print_version();
        return 0;
}
