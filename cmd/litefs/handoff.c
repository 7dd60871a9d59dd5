/* litefs handoff: the primary passes its role on. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd/litefs/client.h"
#include "cmd/litefs/command.h"
#include "cmd/litefs/say.h"

/* 16 hex digits are a node's id, anything else its hostname. */
static bool
is_boot_id(const char *s)
{
        return strlen(s) == 16 && strspn(s, "0123456789abcdefABCDEF") == 16;
}

int
command_handoff(int argc, char **argv)
{
        static const struct help_row examples[] = {
                { "litefs handoff", "pass it to any replica that has everything" },
                { "litefs handoff node2", "pass it to the node with that hostname" },
                { 0 },
        };
        static const struct help help = {
                .name = "handoff",
                .synopsis = "[flags] [NODE]",
                .about =
                        "Passes the primary role from this node to NODE (its hostname or id), or to any replica that\n"
                        "has everything. A write that comes too late fails (SQLITE_IOERR_* or SQLITE_READONLY_*, by\n"
                        "journal mode); no commit is lost.",
                .operands = "nodes",
                .examples = examples,
        };
        struct client c = { 0 };
        struct say say = { 0 };
        const struct flag flags[] = { SAY_FLAGS(&say), CLIENT_FLAGS(&c), { 0 } };
        const char *node = NULL;
        struct flag_words w;
        struct err e = ERR_INIT;
        int r = client_parse(flags, argc, argv, 1, &help, &w);

        if (r > 0)
                return r - 1;
        if (flag_words_count(&w) > 0)
                node = flag_words_get(&w, 0);
        r = client_open(&c, &e);
        if (r == 0)
                r = client_post(&c, "/handoff",
                                node == NULL       ? NULL
                                : is_boot_id(node) ? "nodeID"
                                                   : "hostname",
                                node, NULL, &e);
        client_close(&c);
        if (r == 0)
                say_done(&say, json_pack("{s:s, s:s?}", "result", "handed over", "to", node),
                         "handed over");
        return client_exit(r, &e);
}
