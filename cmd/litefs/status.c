/* litefs status: the cluster as this node and its primary see it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/litefs/answer.h"
#include "cmd/litefs/client.h"
#include "cmd/litefs/command.h"

#define WATCH_SECONDS 1

static void
print_cell(const char *s, int width)
{
        int n = answer_print(s);

        printf("%*s", n < width ? width - n + 2 : 2, "");
}

/* --- as tables --- */

static void
format_lag(char *buf, size_t size, const json_t *node)
{
        long long ms = answer_number(node, "lagMS");
        const char *seen = json_string_value(json_object_get(node, "lastSeen"));

        if (seen != NULL) /* it is gone */
                snprintf(buf, size, "seen %s", seen);
        else if (ms >= INT32_MAX)
                snprintf(buf, size, "never in sync");
        else
                snprintf(buf, size, "%lld.%03llds", ms / 1000, ms % 1000);
}

static void
print_node_cells(const char *id, const char *hostname, const char *role, const char *term,
                 const char *lag)
{
        print_cell(id, 16);
        print_cell(hostname, 20);
        print_cell(role, 9);
        print_cell(term, 6);
        print_cell(lag, 13);
}

static void
print_nodes(const json_t *cluster)
{
        char lag[40], term[24];
        size_t i;
        json_t *node;

        print_node_cells("NODE", "HOSTNAME", "ROLE", "TERM", "LAG");
        puts("URL");
        json_array_foreach(json_object_get(cluster, "nodes"), i, node)
        {
                format_lag(lag, sizeof lag, node);
                snprintf(term, sizeof term, "%lld", answer_number(node, "term"));
                print_node_cells(answer_cell(node, "nodeID"), answer_cell(node, "hostname"),
                                 answer_cell(node, "role"), term, lag);
                print_cell(answer_cell(node, "url"), 0);
                putchar('\n');
        }
}

static void
print_position(const char *name, const char *hostname, const json_t *db)
{
        char behind[24], size[24] = "";

        snprintf(behind, sizeof behind, "%lld", answer_number(db, "lagTransactions"));
        if (json_object_get(db, "sizeBytes") != NULL)
                snprintf(size, sizeof size, "%lld", answer_number(db, "sizeBytes"));
        print_cell(name, 24);
        print_cell(hostname, 20);
        print_cell(answer_cell(db, "txid"), 16);
        print_cell(answer_cell(db, "postApplyChecksum"), 16);
        print_cell(behind, 6);
        print_cell(size, 12);
        puts(json_is_true(json_object_get(db, "isFailed")) ? "FAILED" : "");
}

static json_t *
find_node_database(const json_t *node, const char *name)
{
        size_t i;
        json_t *db;

        json_array_foreach(json_object_get(node, "databases"), i, db)
        {
                if (strcmp(answer_cell(db, "name"), name) == 0)
                        return db;
        }
        return NULL;
}

/* Where the nodes are in one database: the line of the first has its name. */
static void
print_positions(const json_t *cluster, const char *name)
{
        const char *shown = name;
        size_t i;
        json_t *node, *db;

        json_array_foreach(json_object_get(cluster, "nodes"), i, node)
        {
                db = find_node_database(node, name);
                if (db == NULL)
                        continue;
                print_position(shown, answer_cell(node, "hostname"), db);
                shown = "";
        }
}

/* Whether one of the first @n nodes has it. */
static bool
is_seen(const json_t *cluster, size_t n, const char *name)
{
        for (size_t i = 0; i < n; i++)
                if (find_node_database(json_array_get(json_object_get(cluster, "nodes"), i), name) !=
                    NULL)
                        return true;
        return false;
}

static void
print_databases(const json_t *cluster)
{
        size_t i, k;
        json_t *node, *db;

        print_cell("DATABASE", 24);
        print_cell("NODE", 20);
        print_cell("TXID", 16);
        print_cell("CHECKSUM", 16);
        print_cell("BEHIND", 6);
        puts("SIZE");
        json_array_foreach(json_object_get(cluster, "nodes"), i, node)
        {
                json_array_foreach(json_object_get(node, "databases"), k, db)
                {
                        if (!is_seen(cluster, i, answer_cell(db, "name")))
                                print_positions(cluster, answer_cell(db, "name"));
                }
        }
}

/* What this node waits for, when it neither leads nor follows. */
static void
print_wait(const json_t *cluster)
{
        const json_t *waits = json_object_get(json_array_get(json_object_get(cluster, "nodes"), 0),
                                              "waits");

        if (waits == NULL)
                return;
        printf("\nthis node waits: ");
        answer_print(answer_cell(waits, "reason"));
        printf("\n  next: ");
        answer_print(answer_cell(waits, "next"));
        putchar('\n');
}

/* What the nodes advise, each of its own databases. */
static void
print_advice(const json_t *cluster)
{
        size_t i, k;
        json_t *node, *db;

        json_array_foreach(json_object_get(cluster, "nodes"), i, node)
        {
                json_array_foreach(json_object_get(node, "databases"), k, db)
                {
                        const char *advice = json_string_value(json_object_get(db, "advice"));

                        if (advice == NULL)
                                continue;
                        putchar('\n');
                        answer_print(advice);
                        putchar('\n');
                }
        }
}

static void
print_tables(const json_t *cluster)
{
        const char *error = json_string_value(json_object_get(cluster, "error"));

        printf("cluster %s, term %lld\n\n", answer_cell(cluster, "clusterID"),
               answer_number(cluster, "term"));
        print_nodes(cluster);
        putchar('\n');
        print_databases(cluster);
        if (error != NULL)
                printf("\n%s\n", error);
        print_wait(cluster);
        print_advice(cluster);
}

/* --- once, or again and again --- */

static int
print_status_json(const json_t *cluster, size_t flags)
{
        char *s = json_dumps(cluster, flags);

        if (s == NULL)
                return -ENOMEM;
        puts(s);
        free(s);
        return 0;
}

struct status_view {
        bool is_json, is_quiet, is_watching;
};

static int
show_status(struct client *c, const struct status_view *v, struct err *e)
{
        json_t *cluster = NULL;
        int r = client_get_json(c, c->base, "/cluster", &cluster, e);

        if (r == 0 && v->is_watching && !v->is_json && !v->is_quiet && isatty(STDOUT_FILENO))
                fputs("\033[H\033[J", stdout);
        if (r == 0 && v->is_json)
                r = print_status_json(cluster, v->is_watching ? JSON_COMPACT : JSON_INDENT(2));
        else if (r == 0 && !v->is_quiet)
                print_tables(cluster);
        json_decref(cluster);
        return r;
}

/* Until it is killed, or nobody reads it any more. A node that is away may come back. */
static int
watch_status(struct client *c, const struct status_view *v, struct err *e)
{
        for (;;) {
                struct err now = ERR_INIT;
                int r = show_status(c, v, &now);

                if (r < 0)
                        fprintf(stderr, "ERROR: %s\n", now.text);
                else if (!v->is_json && !v->is_quiet && !isatty(STDOUT_FILENO))
                        putchar('\n');
                if (fflush(stdout) != 0)
                        return err_set(e, -errno, "write");
                sleep(WATCH_SECONDS);
        }
}

int
command_status(int argc, char **argv)
{
        static const struct help_row examples[] = {
                { "litefs status", "show the cluster as the node of this machine sees it" },
                { "litefs status -watch", "show it again each second" },
                { "litefs status -json | jq '.nodes[0].role'", "show this node's role" },
                { 0 },
        };
        static const struct help help = {
                .name = "status",
                .synopsis = "[flags]",
                .about =
                        "Shows this node, the other nodes that it or its primary knows of, and the position of each node\n"
                        "in each database.",
                .examples = examples,
        };
        struct client c = { 0 };
        struct status_view v = { 0 };
        const struct flag flags[] = {
                { "json", NULL, "as JSON; with -watch one object a line", &v.is_json, NULL },
                { "q", NULL, "print nothing but errors: does the node answer?", &v.is_quiet, NULL },
                { "watch", NULL, "repeat each second until interrupted", &v.is_watching, NULL },
                CLIENT_FLAGS(&c),
                { 0 }
        };
        struct flag_words w;
        struct err e = ERR_INIT;
        int r = client_parse(flags, argc, argv, 0, &help, &w);

        if (r > 0)
                return r - 1;
        r = client_open(&c, &e);
        if (r == 0)
                r = v.is_watching ? watch_status(&c, &v, &e) : show_status(&c, &v, &e);
        client_close(&c);
        return client_exit(r, &e);
}
