/* litefs promote: this node asks for the primary role, and waits until it has it. */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "cmd/litefs/client.h"
#include "cmd/litefs/command.h"
#include "cmd/litefs/promote.h"
#include "cmd/litefs/say.h"

#define WAIT_MS 10000

static int
wait_until_primary(struct client *c, struct err *e)
{
        struct timespec pause = { 0, 10000000 };

        for (int waited_ms = 0; waited_ms < WAIT_MS; waited_ms += 10) {
                json_t *info;
                int r = client_get_json(c, c->base, "/info", &info, e);
                bool is_primary;

                if (r < 0)
                        return r;
                is_primary = json_is_true(json_object_get(info, "isPrimary"));
                json_decref(info);
                if (is_primary)
                        return 0;
                nanosleep(&pause, NULL);
        }
        return err_text(
                e, -ETIMEDOUT,
                "the primary has handed over, but this node has not become the primary within %d s; `litefs status` shows "
                "who leads",
                WAIT_MS / 1000);
}

int
promote_node(struct client *c, struct err *e)
{
        int r = client_post(c, "/promote", NULL, NULL, NULL, e);

        return r < 0 ? r : wait_until_primary(c, e);
}

int
command_promote(int argc, char **argv)
{
        static const struct help_row examples[] = {
                { "litefs promote", "make the node of this machine the primary" },
                { "litefs promote -url http://node2:20202", "make another node the primary" },
                { 0 },
        };
        static const struct help help = {
                .name = "promote",
                .synopsis = "[flags]",
                .about =
                        "Makes this node the primary, by a handoff from the current one, and waits until it is.",
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
                r = promote_node(&c, &e);
        client_close(&c);
        if (r == 0)
                say_done(&say, json_pack("{s:s}", "result", "primary"), "this node is the primary");
        return client_exit(r, &e);
}
