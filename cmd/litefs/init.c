/* litefs init: the litefs.yml that says what the flags say, and for a service its unit. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"
#include "cmd/litefs/access.h"
#include "cmd/litefs/client.h"
#include "cmd/litefs/command.h"
#include "cmd/litefs/config_write.h"
#include "cmd/litefs/exec.h"
#include "cmd/litefs/node_flags.h"
#include "cmd/litefs/output.h"
#include "cmd/litefs/real_path.h"
#include "cmd/litefs/say.h"

#define SERVICE_CONFIG "/etc/litefs.yml"
#define UNIT_PATH "/etc/systemd/system/litefs.service"
#define UNIT_PROGRAM "ExecStart=litefs "
#define TOKEN_BYTES 24

extern const char unit_text[];
extern const size_t unit_text_size;

struct init {
        struct node_flags node;
        struct config config;
        struct say say;
        const char *path;
        bool is_service;
        bool makes_token, makes_unit;
        char token_path[PATH_MAX];
};

/* --- files --- */

static int
write_config_file(const char *path, const char *text, size_t n, mode_t mode, struct err *e)
{
        struct output out;
        int r = output_open(&out, path, e);

        if (r < 0)
                return r;
        r = os_pwrite_all(os_host(), "init:write", out.fd, text, n, 0);
        if (r == 0 && fchmod(out.fd, mode) < 0)
                r = -errno;
        if (r == 0)
                return output_publish(&out, e);
        output_discard(&out);
        return err_set(e, r, "write %s", path);
}

static int
write_token(const struct init *in, struct err *e)
{
        unsigned char random[TOKEN_BYTES];
        char text[2 * TOKEN_BYTES + 2];

        if (getrandom(random, sizeof random, 0) != sizeof random)
                return err_set(e, -EAGAIN, "make a token");
        for (size_t i = 0; i < sizeof random; i++)
                snprintf(text + 2 * i, sizeof text - 2 * i, "%02x", random[i]);
        strcat(text, "\n");
        return write_config_file(in->token_path, text, strlen(text), 0600, e);
}

/* The unit of the package, for this program wherever it is. */
static int
write_unit(struct err *e)
{
        const char *line = memmem(unit_text, unit_text_size, UNIT_PROGRAM, strlen(UNIT_PROGRAM)), *rest;
        char program[PATH_MAX];
        struct text t = { 0 };
        ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
        int r;

        if (n < 0)
                return err_set(e, -errno, "find the path of litefs");
        program[n] = '\0';
        rest = line + strlen(UNIT_PROGRAM);
        text_add(&t, unit_text, (size_t)(line - unit_text));
        text_printf(&t, "ExecStart=%s ", program);
        text_add(&t, rest, unit_text_size - (size_t)(rest - unit_text));
        r = t.is_cut ? err_set(e, -ENOMEM, "unit") : write_config_file(UNIT_PATH, t.s, t.n, 0644, e);
        text_release(&t);
        return r;
}

static bool
has_unit(void)
{
        static const char *const paths[] = { UNIT_PATH, "/lib/systemd/system/litefs.service",
                                             "/usr/lib/systemd/system/litefs.service",
                                             "/usr/local/lib/systemd/system/litefs.service" };

        for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
                if (access(paths[i], F_OK) == 0)
                        return true;
        return false;
}

static bool
is_to_stdout(const struct init *in)
{
        return strcmp(in->path, "-") == 0;
}

/* Nodes that others reach have a token: made beside the file, unless one is named or is there. */
static int
choose_token(struct init *in, struct err *e)
{
        char dir[PATH_MAX], name[PATH_MAX];
        int r;

        if (in->node.token_file != NULL || is_to_stdout(in) || !access_is_open(&in->config))
                return 0;
        r = real_path_above(in->path, dir, name);
        if (r < 0)
                return err_text(e, r, "%s cannot be written: %s; name a file elsewhere with -o",
                                in->path, err_code_text(r));
        if (snprintf(in->token_path, sizeof in->token_path, "%s/litefs.token", dir) >=
            (int)sizeof in->token_path)
                return err_set(e, -ENAMETOOLONG, "%s", dir);
        in->makes_token = access(in->token_path, F_OK) < 0;
        free(in->config.http.token_file);
        in->config.http.token_file = strdup(in->token_path);
        return in->config.http.token_file == NULL ? err_set(e, -ENOMEM, "token") : 0;
}

/* --- the configuration --- */

static int
set_exec_command(struct config *c, const struct flag_words *w)
{
        char *line = exec_join((const char *const *)w->rest, (size_t)w->n_rest);
        int r = line != NULL ? config_add_exec(c, line, "", false) : -ENOMEM;

        free(line);
        return r;
}

static int
describe_node(struct init *in, const struct flag_words *w, struct err *e)
{
        const char *dir = w->n > 0 ? w->words[0] : "/litefs";
        int r = config_init(&in->config);

        if (w->n == 0 && in->node.data == NULL)
                in->node.data = "/var/lib/litefs";
        if (r == 0)
                r = node_flags_apply(&in->node, dir, &in->config, e);
        if (r == 0 && w->n_rest > 0)
                r = set_exec_command(&in->config, w);
        if (r == 0)
                r = choose_token(in, e);
        return r == 0 ? config_validate(&in->config, e) : r;
}

/* What is written is what a node will read. */
static int
make_config_text(const struct init *in, struct text *t, struct err *e)
{
        struct config again;
        int r = config_init(&again);

        config_write(&in->config, in->node.advertise != NULL ? in->node.advertise : "", t);
        if (r == 0 && t->is_cut)
                r = -ENOMEM;
        if (r == 0)
                r = config_parse(&again, in->path, t->s, false, e);
        if (r == 0)
                r = config_validate(&again, e);
        config_release(&again);
        return r;
}

static int
check_target_place(const struct init *in, struct err *e)
{
        if (!is_to_stdout(in) && access(in->path, F_OK) == 0)
                return err_text(
                        e, -EEXIST,
                        "%s is there already, and is not replaced: move it away, or name another file "
                        "with -o PATH",
                        in->path);
        return 0;
}

static int
write_config_text(struct init *in, struct err *e)
{
        struct text t = { 0 };
        int r = check_target_place(in, e);

        if (r == 0)
                r = make_config_text(in, &t, e);
        if (r == 0 && in->makes_token)
                r = write_token(in, e);
        in->makes_unit = in->is_service && !has_unit();
        if (r == 0 && in->makes_unit)
                r = write_unit(e);
        if (r == 0 && is_to_stdout(in))
                fwrite(t.s, 1, t.n, stdout);
        else if (r == 0)
                r = write_config_file(in->path, t.s, t.n, 0644, e);
        text_release(&t);
        return r;
}

static void
say_next(const struct init *in)
{
        const struct config *c = &in->config;
        bool is_cluster = c->http.token_file[0] != '\0' && strcmp(c->lease.type, "static") != 0;
        json_t *result = json_pack("{s:s, s:s, s:s}", "config", in->path, "dir", c->fuse.dir, "dataDir",
                                   c->data.dir);

        if (c->http.token_file[0] != '\0')
                json_object_set_new(result, "tokenFile", json_string(c->http.token_file));
        if (in->makes_unit)
                json_object_set_new(result, "unit", json_string(UNIT_PATH));
        say_done(&in->say, result, "%s is written%s%s%s. Next:%s%s%s\n    %s%s%s", in->path,
                 in->makes_token ? ", and a token in " : "", in->makes_token ? in->token_path : "",
                 in->makes_unit ? ", and " UNIT_PATH : "", is_cluster ? "\n    copy both it and " : "",
                 is_cluster ? c->http.token_file : "", is_cluster ? " to the other nodes" : "",
                 in->is_service ? "systemctl daemon-reload && systemctl enable --now litefs"
                                : "litefs mount -config ",
                 in->is_service ? "" : in->path, "");
}

int
command_init(int argc, char **argv)
{
        static const struct help_row examples[] = {
                { "litefs init ./db", "write litefs.yml for what `litefs mount ./db` runs" },
                { "litefs init -systemd -lease etcd://etcd1:2379/app",
                  "write /etc/litefs.yml for the service, and a token for the cluster" },
                { "litefs init -o - -backup s3://my-bucket/app -- ./app -port 8080",
                  "print it, with a backup and an application" },
                { 0 },
        };
        static const struct help help = {
                .name = "init",
                .synopsis = "[flags] [DIR] [-- CMD ARGS...]",
                .about =
                        "Writes litefs.yml for the node that the flags describe, with a comment for each key. The flags\n"
                        "are those of `litefs mount DIR`. Without DIR the mount is /litefs and the data is in\n"
                        "/var/lib/litefs. A node that others reach gets a token, in a file beside litefs.yml. Existing\n"
                        "files stay as they are.",
                .examples = examples,
        };
        struct init in = { 0 };
        const struct flag flags[] = {
                { "o", "PATH", "file to write, - for standard output, else litefs.yml", NULL, &in.path },
                { "systemd", NULL, "write /etc/litefs.yml, and the unit of the service if it is missing",
                  &in.is_service, NULL },
                NODE_FLAGS(&in.node),
                SAY_FLAGS(&in.say),
                { 0 },
        };
        struct flag_words w;
        struct err e = ERR_INIT;
        int r = client_parse(flags, argc, argv, INT_MAX, &help, &w);

        if (r > 0)
                return r - 1;
        if (w.n > 1)
                return help_mistake("init", "too many arguments: a command to run goes behind `--`");
        if (in.is_service && in.path != NULL)
                return help_mistake(
                        "init",
                        "-systemd and -o contradict each other: the service reads " SERVICE_CONFIG
                        "; leave one of them out");
        if (in.path == NULL)
                in.path = in.is_service ? SERVICE_CONFIG : "litefs.yml";
        if (is_to_stdout(&in) && in.say.is_json)
                return help_mistake("init",
                                    "-json would be in the middle of the file: name one with -o PATH");
        r = describe_node(&in, &w, &e);
        if (r < 0) {
                config_release(&in.config);
                (void)client_exit(r, &e);
                return EXIT_USAGE;
        }
        r = write_config_text(&in, &e);
        if (r == 0 && !is_to_stdout(&in))
                say_next(&in);
        config_release(&in.config);
        return client_exit(r, &e);
}
