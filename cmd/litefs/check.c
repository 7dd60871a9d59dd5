/* litefs check: would a node start with this configuration? */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/token.h"
#include "cmd/litefs/access.h"
#include "cmd/litefs/client.h"
#include "cmd/litefs/command.h"
#include "cmd/litefs/make.h"
#include "cmd/litefs/mount.h"
#include "cmd/litefs/say.h"
#include "cmd/litefs/secrets.h"

struct check {
        struct config config;
        struct say say;
        const char *path;
        bool no_expand_env;
};

/* The files that the configuration names are read as a start reads them. */
static int
read_named_files(const struct config *c, struct err *e)
{
        struct tls_context *tls = NULL, *peer = NULL, *proxy = NULL;
        struct token *token = NULL;
        int r = access_open_token(c, &token, e);

        if (r == 0)
                r = make_tls(c, &tls, &peer, &proxy, e);
        token_free(token);
        tls_context_free(tls);
        tls_context_free(peer);
        tls_context_free(proxy);
        return r;
}

static const char *
lease_text(const struct config *c)
{
        if (strcmp(c->lease.type, "static") == 0)
                return c->lease.candidate ? "always the primary" : "a replica of a primary that stays";
        return c->lease.candidate ? "a node that may be the primary" : "a replica";
}

static void
say_right(const struct check *ch)
{
        const struct config *c = &ch->config;
        json_t *result = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:i}", "config", c->path,
                                   "dir", c->fuse.dir, "dataDir", c->data.dir, "addr", c->http.addr,
                                   "leaseType", c->lease.type, "leaseURL", c->lease.url, "advertiseURL",
                                   c->lease.advertise_url, "candidate", c->lease.candidate, "backups",
                                   (int)c->n_backups);

        say_done(
                &ch->say, result,
                "%s is right: %s (lease %s), mounted at %s with its data in %s; API and status page at %s",
                c->path, lease_text(c), c->lease.url[0] != '\0' ? c->lease.url : c->lease.type,
                c->fuse.dir, c->data.dir, c->http.addr);
}

int
command_check(int argc, char **argv)
{
        static const struct help_row examples[] = {
                { "litefs check", "check the file that `litefs mount` would read here" },
                { "litefs check /etc/litefs.yml && systemctl restart litefs",
                  "restart with a configuration only if it is right" },
                { 0 },
        };
        static const struct help_row exits[] = {
                { "0", "a node would start with it, as far as can be told without starting one" },
                { "1", "a file that it names cannot be used: a token, a certificate, a key" },
                { "2", "it is wrong, or cannot be read: the line that begins with ERROR: says where" },
                { 0 },
        };
        static const struct help help = {
                .name = "check",
                .synopsis = "[flags] [PATH]",
                .about =
                        "Checks a configuration and the token and certificate files that it names, and warns of keys\n"
                        "without effect and of secrets that others can read. It starts nothing and asks no other machine:\n"
                        "`litefs doctor` does that. Without PATH it checks the file that `litefs mount` would read.",
                .examples = examples,
                .exits = exits,
        };
        struct check ch = { 0 };
        const struct flag flags[] = {
                { "config", "PATH", "configuration file", NULL, &ch.path },
                { "no-expand-env", NULL, "leave $VARIABLES in it as they are", &ch.no_expand_env, NULL },
                SAY_FLAGS(&ch.say),
                { 0 },
        };
        struct flag_words w;
        struct err e = ERR_INIT;
        int r = client_parse(flags, argc, argv, 1, &help, &w), status = EXIT_USAGE;

        if (r > 0)
                return r - 1;
        if (flag_words_count(&w) > 0)
                ch.path = flag_words_get(&w, 0);
        r = config_init(&ch.config);
        if (r == 0)
                r = config_load(&ch.config, ch.path, ch.no_expand_env, &e);
        if (r == 0)
                r = config_validate(&ch.config, &e);
        if (r == 0) {
                status = 1;
                warn_not_served(&ch.config);
                secrets_warn(&ch.config);
                r = read_named_files(&ch.config, &e);
        }
        if (r == 0)
                say_right(&ch);
        config_release(&ch.config);
        return client_exit(r, &e) == 0 ? 0 : status;
}
