#include "cmd/litefs/config_write.h"

#include <string.h>

/* Within double quotes, so that YAML sees no more than text in it, and the expansion of variables no "$". */
static void
add_yaml_string(struct text *t, const char *s)
{
        text_printf(t, "\"");
        for (; *s != '\0'; s++) {
                unsigned char c = (unsigned char)*s;

                if (c == '"' || c == '\\')
                        text_printf(t, "\\%c", c);
                else if (c < ' ' || c == 0x7f || c == '$')
                        text_printf(t, "\\x%02x", c);
                else
                        text_add(t, s, 1);
        }
        text_printf(t, "\"\n");
}

static void
add_yaml_key(struct text *t, const char *key, const char *value, const char *comment)
{
        text_printf(t, "  # %s\n  %s: ", comment, key);
        add_yaml_string(t, value);
}

static void
add_yaml_lease(const struct config *c, const char *advertise_url, struct text *t)
{
        bool is_service = strcmp(c->lease.type, "static") != 0;

        if (c->lease.url[0] == '\0') {
                text_printf(
                        t,
                        "\n# Who may write: this node, always. In a cluster it is who holds the lease, such as\n"
                        "# lease: \"etcd://HOST:2379/app\", which is the same on all nodes.\n"
                        "lease: { type: static }\n");
                return;
        }
        text_printf(
                t,
                is_service
                        ? "\n# Who may write: the node that holds this lease. The same on all nodes.\n"
                        : "\n# Who may write: the node there. This one is a replica of it.\n");
        if (advertise_url[0] == '\0') {
                text_printf(t, "lease: ");
                add_yaml_string(t, c->lease.url);
                return;
        }
        text_printf(t, "lease:\n  url: ");
        add_yaml_string(t, c->lease.url);
        add_yaml_key(t, "advertise-url", advertise_url, "Where the other nodes reach this one.");
}

void
config_write(const struct config *c, const char *advertise_url, struct text *t)
{
        text_printf(
                t,
                "# Made by `litefs init`. All keys, with their defaults: man litefs.yml.\n"
                "# `litefs check` says whether it is right; `litefs mount` starts the node.\n\nfuse:\n");
        add_yaml_key(t, "dir", c->fuse.dir, "Applications open their databases here.");
        if (c->fuse.allow_other)
                text_printf(
                        t, "  # Users other than the one that runs litefs, too.\n  allow-other: true\n");
        text_printf(t, "\ndata:\n");
        add_yaml_key(t, "dir", c->data.dir, "Databases and their log are kept here.");
        text_printf(t, "\nhttp:\n");
        add_yaml_key(t, "addr", c->http.addr,
                     "The commands, the status page and other nodes are answered here.");
        if (c->http.token_file[0] != '\0')
                add_yaml_key(t, "token-file", c->http.token_file,
                             "The same token on all nodes: who has it may write, promote and follow.");
        add_yaml_lease(c, advertise_url, t);
        if (c->n_backups > 0) {
                text_printf(
                        t,
                        "\n# Where the primary's databases are backed up to; keys of a bucket come from\n"
                        "# AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.\nbackup: ");
                add_yaml_string(t, c->backups[0].url);
        }
        if (c->n_exec > 0) {
                text_printf(
                        t,
                        "\n# The application: started when the databases are there; litefs ends with it.\nexec: ");
                add_yaml_string(t, c->exec[c->n_exec - 1].cmd);
        }
}
