/* litefs list: the databases of a node, or the nodes of its cluster. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd/litefs/answer.h"
#include "cmd/litefs/client.h"
#include "cmd/litefs/command.h"

struct list {
        struct client client;
        bool is_json, is_quiet, has_nodes;
};

static void
print_database(const json_t *db)
{
        printf("%12lld  %s  ", (long long)json_integer_value(json_object_get(db, "sizeBytes")),
               answer_text(db, "txid"));
        (void)answer_print(answer_text(db, "name"));
        puts(json_is_true(json_object_get(db, "isFailed")) ? "  FAILED" : "");
}

static void
print_node(const json_t *node)
{
        printf("%-16.16s  %-9.9s  ", answer_text(node, "nodeID"), answer_text(node, "role"));
        (void)answer_print(answer_text(node, "hostname"));
        printf("  ");
        (void)answer_print(answer_text(node, "url"));
        putchar('\n');
}

/* With -q only what other commands take as an argument. */
static void
print_list_rows(const struct list *l, const json_t *rows)
{
        size_t i;
        json_t *row;

        if (!l->is_quiet)
                puts(l->has_nodes ? "NODE              ROLE       HOSTNAME  URL"
                                  : "  SIZE BYTES  TXID              DATABASE");
        json_array_foreach(rows, i, row)
        {
                if (l->is_quiet) {
                        (void)answer_print(answer_text(row, l->has_nodes ? "hostname" : "name"));
                        putchar('\n');
                } else if (l->has_nodes) {
                        print_node(row);
                } else {
                        print_database(row);
                }
        }
}

static int
show_list(struct list *l, struct err *e)
{
        json_t *answer = NULL, *rows;
        int r = client_get_json(&l->client, l->client.base, l->has_nodes ? "/cluster" : "/db", &answer,
                                e);

        if (r < 0)
                return r;
        rows = json_object_get(answer, l->has_nodes ? "nodes" : "databases");
        if (l->is_json)
                r = client_print_json(rows, e);
        else
                print_list_rows(l, rows);
        json_decref(answer);
        return r;
}

int
command_list(int argc, char **argv)
{
        static const struct help_row examples[] = {
                { "litefs list", "show the databases of the node of this machine" },
                { "litefs list -q | while read -r db; do litefs export \"$db\" \"/backup/${db//\\//_}\"; done",
                  "back up each of them" },
                { "litefs list -nodes", "show the nodes of its cluster" },
                { 0 },
        };
        static const struct help help = {
                .name = "list",
                .synopsis = "[flags]",
                .about =
                        "Lists the databases of a running node with their sizes and last transactions, or with -nodes the\n"
                        "nodes that it or its primary knows of. `litefs status` shows both together.",
                .examples = examples,
        };
        struct list l = { 0 };
        const struct flag flags[] = {
                { "nodes", NULL, "nodes instead of databases", &l.has_nodes, NULL },
                { "q", NULL, "names only, one a line", &l.is_quiet, NULL },
                { "json", NULL, "as JSON: what GET /db or /cluster has of each", &l.is_json, NULL },
                CLIENT_FLAGS(&l.client),
                { 0 },
        };
        struct flag_words w;
        struct err e = ERR_INIT;
        int r = client_parse(flags, argc, argv, 0, &help, &w);

        if (r > 0)
                return r - 1;
        r = client_open(&l.client, &e);
        if (r == 0)
                r = show_list(&l, &e);
        client_close(&l.client);
        return client_exit(r, &e);
}
