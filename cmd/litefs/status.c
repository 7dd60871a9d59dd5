/* litefs status: the cluster as this node and its primary see it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/litefs/client.h"
#include "cmd/litefs/command.h"

struct view {
        json_t *info, *databases;            /* of this node */
        json_t *primary, *primary_databases; /* NULL when it is this node, or cannot be asked */
        struct err primary_error;
};

static void
release(struct view *v)
{
        json_decref(v->info);
        json_decref(v->databases);
        json_decref(v->primary);
        json_decref(v->primary_databases);
}

static const char *
text_of(const json_t *o, const char *key)
{
        const char *s = json_string_value(json_object_get(o, key));

        return s != NULL && s[0] != '\0' ? s : "-";
}

static long long
number_of(const json_t *o, const char *key)
{
        return json_integer_value(json_object_get(o, key));
}

static int
look(struct client *c, struct view *v, struct err *e)
{
        const char *url;
        int r = client_get_json(c, c->base, "/info", &v->info, e);

        if (r == 0)
                r = client_get_json(c, c->base, "/db", &v->databases, e);
        if (r < 0 || json_is_true(json_object_get(v->info, "isPrimary")))
                return r;
        url = text_of(json_object_get(v->info, "primary"), "url");
        if (strcmp(url, "-") != 0 &&
            client_get_json(c, url, "/info", &v->primary, &v->primary_error) == 0)
                (void)client_get_json(c, url, "/db", &v->primary_databases, &v->primary_error);
        return 0;
}

/* --- as a table --- */

static void
format_lag(char *buf, size_t size, long long ms)
{
        if (ms >= INT32_MAX)
                snprintf(buf, size, "never in sync");
        else
                snprintf(buf, size, "%lld.%03llds", ms / 1000, ms % 1000);
}

static void
print_node(const char *id, const char *hostname, const char *role, const char *lag, const char *url)
{
        printf("%-16s  %-20s  %-9s  %-13s  %s\n", id, hostname, role, lag, url);
}

static void
print_self(const json_t *info)
{
        char lag[32];

        format_lag(lag, sizeof lag, number_of(info, "lagMS"));
        print_node(text_of(info, "nodeID"), text_of(info, "hostname"), text_of(info, "role"), lag,
                   text_of(info, "url"));
}

/* What the replicas of the primary lack, over all databases. */
static long long
missing_of(const json_t *databases, const char *id)
{
        long long n = 0;
        size_t i, k;
        json_t *db, *rp;

        json_array_foreach(json_object_get(databases, "databases"), i, db) json_array_foreach(
                json_object_get(db, "replicas"), k, rp) if (strcmp(text_of(rp, "nodeID"), id) == 0)
                n += number_of(rp, "lagTransactions");
        return n;
}

static void
print_replicas(const json_t *primary, const json_t *databases, const char *but)
{
        char lag[40];
        size_t i;
        json_t *rp;

        json_array_foreach(json_object_get(primary, "replicas"), i, rp)
        {
                if (strcmp(text_of(rp, "nodeID"), but) == 0)
                        continue;
                snprintf(lag, sizeof lag, "%lld tx", missing_of(databases, text_of(rp, "nodeID")));
                print_node(text_of(rp, "nodeID"), text_of(rp, "hostname"), "replica", lag,
                           text_of(rp, "url"));
        }
}

static void
print_nodes(const struct view *v)
{
        const char *self = text_of(v->info, "nodeID");

        printf("cluster %s, term %lld\n\n", text_of(v->info, "clusterID"), number_of(v->info, "term"));
        print_node("NODE", "HOSTNAME", "ROLE", "LAG", "URL");
        print_self(v->info);
        if (v->primary != NULL) {
                print_self(v->primary);
                print_replicas(v->primary, v->primary_databases, self);
        } else {
                print_replicas(v->info, v->databases, self);
        }
        if (v->primary_error.code != 0)
                printf("\nthe primary (%s) could not be asked: %s\n",
                       text_of(json_object_get(v->info, "primary"), "hostname"), v->primary_error.text);
        else if (!json_is_true(json_object_get(v->info, "isPrimary")) && v->primary == NULL)
                printf("\nno primary is known: nobody can write\n");
}

static void
print_databases(const json_t *databases)
{
        size_t i;
        json_t *db;

        printf("\n%-24s  %-16s  %-16s  %12s  %12s  %s\n", "DATABASE", "TXID", "CHECKSUM", "SIZE", "LOG",
               "JOURNAL");
        json_array_foreach(json_object_get(databases, "databases"), i, db)
                printf("%-24s  %-16s  %-16s  %12lld  %12lld  %s%s\n", text_of(db, "name"),
                       text_of(db, "txid"), text_of(db, "postApplyChecksum"), number_of(db, "sizeBytes"),
                       number_of(json_object_get(db, "log"), "allocatedBytes"), text_of(db, "journal"),
                       json_is_true(json_object_get(db, "isFailed")) ? "  FAILED" : "");
}

/* --- as JSON --- */

static int
print_json(struct view *v)
{
        json_t *o = json_object();
        char *s;

        json_object_set(o, "node", v->info);
        json_object_set(o, "databases", json_object_get(v->databases, "databases"));
        json_object_set_new(o, "primary", v->primary != NULL ? json_incref(v->primary) : json_null());
        if (v->primary_databases != NULL)
                json_object_set(o, "primaryDatabases",
                                json_object_get(v->primary_databases, "databases"));
        s = json_dumps(o, JSON_INDENT(2));
        json_decref(o);
        if (s == NULL)
                return -ENOMEM;
        puts(s);
        free(s);
        return 0;
}

int
command_status(int argc, char **argv)
{
        static const struct help_row examples[] = {
                { "litefs status", "show the cluster as the node of this machine sees it" },
                { "litefs status -json | jq .node.role", "show this node's role" },
                { 0 },
        };
        static const struct help help = {
                .name = "status",
                .synopsis = "[flags]",
                .about =
                        "Shows this node, the other nodes that it or its primary knows of, and its databases.",
                .examples = examples,
        };
        struct client c = { 0 };
        bool is_json = false;
        const struct flag flags[] = { { "json", NULL, "as JSON", &is_json, NULL },
                                      CLIENT_FLAGS(&c),
                                      { 0 } };
        struct view v = { 0 };
        struct flag_words w;
        struct err e = ERR_INIT;
        int r = client_parse(flags, argc, argv, 0, &help, &w);

        if (r > 0)
                return r - 1;
        r = client_open(&c, &e);
        if (r == 0)
                r = look(&c, &v, &e);
        if (r == 0 && is_json) {
                r = print_json(&v);
        } else if (r == 0) {
                print_nodes(&v);
                print_databases(v.databases);
        }
        release(&v);
        client_close(&c);
        return client_exit(r, &e);
}
