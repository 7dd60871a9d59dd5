/* litefs upgrade: the program that is installed takes a running node over. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cmd/litefs/client.h"
#include "cmd/litefs/command.h"
#include "cmd/litefs/say.h"

#define WAIT_MS 60000

/* What of /info tells the programs of a node apart. */
struct program {
        char id[24], version[64], error[ERR_TEXT_SIZE];
};

static void
copy_member(json_t *info, const char *name, char *buf, size_t size)
{
        const char *text = json_string_value(json_object_get(info, name));

        snprintf(buf, size, "%s", text != NULL ? text : "");
}

static int
ask_program(struct client *c, struct program *ret, struct err *e)
{
        json_t *info;
        int r = client_get_json(c, c->base, "/info", &info, e);

        if (r < 0)
                return r;
        copy_member(info, "nodeID", ret->id, sizeof ret->id);
        copy_member(info, "version", ret->version, sizeof ret->version);
        copy_member(info, "upgradeError", ret->error, sizeof ret->error);
        json_decref(info);
        return 0;
}

/* Until another one answers, which may be the old one that has begun anew; or the same says why none does. */
static int
wait_for_next(struct client *c, const struct program *before, struct program *ret, struct err *e)
{
        struct timespec pause = { 0, 10000000 };
        struct err ignored = ERR_INIT;

        for (int waited_ms = 0; waited_ms < WAIT_MS; waited_ms += 10) {
                if (ask_program(c, ret, &ignored) == 0 &&
                    (strcmp(ret->id, before->id) != 0 || ret->error[0] != '\0'))
                        return ret->error[0] == '\0'
                                       ? 0
                                       : err_text(e, -EBUSY, "the node goes on with version %s: %s",
                                                  ret->version, ret->error);
                nanosleep(&pause, NULL);
        }
        return err_text(
                e, -ETIMEDOUT,
                "the node has begun to hand over, and no program has answered within %d s: its log "
                "says why",
                WAIT_MS / 1000);
}

static int
upgrade_node(struct client *c, struct program *ret, struct err *e)
{
        struct program before;
        struct err why = ERR_INIT;
        int status = 0, r = ask_program(c, &before, e);

        if (r < 0)
                return r;
        r = client_post(c, "/upgrade", NULL, NULL, &status, &why);
        if (r < 0 && status != 0) { /* without an answer it may have begun */
                *e = why;
                return r;
        }
        return wait_for_next(c, &before, ret, e);
}

int
command_upgrade(int argc, char **argv)
{
        static const struct help_row examples[] = {
                { "litefs upgrade", "upgrade after a new litefs was installed" },
                { 0 },
        };
        static const struct help help = {
                .name = "upgrade",
                .synopsis = "[flags]",
                .about =
                        "Replaces the program of a running node by the litefs that is installed now, with the\n"
                        "configuration as it is now. Files in the mount stay open: applications wait for a moment and see\n"
                        "no error. If the new program cannot take over, the old one goes on.",
                .examples = examples,
        };
        struct client c = { 0 };
        struct say say = { 0 };
        const struct flag flags[] = { SAY_FLAGS(&say), CLIENT_FLAGS(&c), { 0 } };
        struct program now = { 0 };
        struct flag_words w;
        struct err e = ERR_INIT;
        int r = client_parse(flags, argc, argv, 0, &help, &w);

        if (r > 0)
                return r - 1;
        r = client_open(&c, &e);
        if (r == 0)
                r = upgrade_node(&c, &now, &e);
        client_close(&c);
        if (r == 0)
                say_done(&say, json_pack("{s:s, s:s}", "result", "upgraded", "version", now.version),
                         "the node runs version %s", now.version);
        return client_exit(r, &e);
}
