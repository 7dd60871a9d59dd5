/* litefs demote: this node stops being the primary. */
#include <stdio.h>

#include "cmd/litefs/client.h"
#include "cmd/litefs/command.h"
#include "cmd/litefs/say.h"

int
command_demote(int argc, char **argv)
{
        static const struct help_row examples[] = {
                { "litefs demote", "take the primary role from this node, before work on its machine" },
                { 0 },
        };
        static const struct help help = {
                .name = "demote",
                .synopsis = "[flags]",
                .about =
                        "Stops this node from being the primary. It hands the lease over to a replica that has\n"
                        "everything. If there is none, it gives the lease up and does not take it again for\n"
                        "lease.demote-delay.",
                .examples = examples,
        };
        struct client c = { 0 };
        struct say say = { 0 };
        const struct flag flags[] = { SAY_FLAGS(&say), CLIENT_FLAGS(&c), { 0 } };
        struct flag_words w;
        struct err e = ERR_INIT;
        int r = client_parse(flags, argc, argv, 0, &help, &w);

        if (r > 0)
                return r - 1;
        r = client_open(&c, &e);
        if (r == 0)
                r = client_post(&c, "/demote", NULL, NULL, NULL, &e);
        client_close(&c);
        if (r == 0)
                say_done(&say, json_pack("{s:s}", "result", "demoted"), "demoted");
        return client_exit(r, &e);
}
