#include <stdio.h>

#include "cmd/litefs/command.h"
#include "cmd/litefs/help.h"

/* Set by cmd/litefs/CMakeLists.txt; "" where it was built without git. */
#ifndef LITEFS_COMMIT
#define LITEFS_COMMIT ""
#endif

const char *
version_text(void)
{
        return LITEFS_COMMIT[0] != '\0' ? "litefs " LITEFS_VERSION ", commit=" LITEFS_COMMIT
                                        : "litefs " LITEFS_VERSION;
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
        bool is_json = false;
        const struct flag flags[] = { { "json", NULL, "as JSON", &is_json, NULL }, { 0 } };
        struct err e = ERR_INIT;
        struct flag_words w;
        int r = flags_parse(flags, argc, argv, &w, &e);

        if (r > 0)
                return help_print(&help, flags, w.help);
        if (r < 0)
                return help_mistake(help.name, e.text);
        if (flag_words_count(&w) > 0)
                return help_mistake(help.name, "too many arguments");
        if (is_json)
                puts("{\"version\": \"" LITEFS_VERSION "\", \"commit\": \"" LITEFS_COMMIT "\"}");
        else
                puts(version_text());
        return 0;
}
