#include <stdio.h>

#include "cmd/litefs/command.h"
#include "cmd/litefs/help.h"

/* Set by cmd/litefs/CMakeLists.txt from git; "" when unknown. */
#ifndef LITEFS_VERSION
#define LITEFS_VERSION ""
#endif
#ifndef LITEFS_COMMIT
#define LITEFS_COMMIT ""
#endif

const char *
version_text(void)
{
        if (LITEFS_VERSION[0] != '\0')
                return "LiteFS " LITEFS_VERSION ", commit=" LITEFS_COMMIT;
        if (LITEFS_COMMIT[0] != '\0')
                return "LiteFS commit=" LITEFS_COMMIT;
        return "LiteFS development build";
}

int
command_version(int argc, char **argv)
{
        static const struct help_row examples[] = { { "litefs version", "print it" }, { 0 } };
        static const struct help help = {
                .name = "version",
                .synopsis = "",
                .about = "Prints the version, and the commit that it was built from.",
                .examples = examples,
        };
        static const struct flag flags[] = { { 0 } };
        struct err e = ERR_INIT;
        struct flag_words w;
        int r = flags_parse(flags, argc, argv, &w, &e);

        if (r > 0)
                return help_print(&help, flags, w.help);
        if (r < 0) {
                fprintf(stderr, "ERROR: %s\n", e.text);
                return 1;
        }
        puts(version_text());
        return 0;
}
