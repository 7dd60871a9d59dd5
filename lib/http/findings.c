/* /findings: what somebody should look at on this node, and what to do about it, worst first for the status page. It is made of
 * what /info, /db, /cluster, /backup and /metrics tell, and takes as long as those. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/rfc3339.h"
#include "base/utf8.h"
#include "http/api_internal.h"

/* As in examples/monitoring/alerts.yml. */
#define LATE_MS 10000
#define FREE_MIN_BYTES 500000000u
#define NAMED_MAX 20u /* databases, or nodes, that have a finding of their own */

enum finding_level { FINDING_ERROR, FINDING_WARNING };

struct findings {
        const struct api_view *view;
        json_t *lists[2]; /* by level */
        unsigned n_failed, n_broken;
};

static void find(struct findings *f, enum finding_level level, const char *about, const char *next,
                 const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* @about is a database, a node or a part of this one; @next is "" where the text says it all. */
static void
find(struct findings *f, enum finding_level level, const char *about, const char *next, const char *fmt,
     ...)
{
        static const char *const levels[] = { "error", "warning" };
        char text[2 * ERR_TEXT_SIZE], shown[2 * ERR_TEXT_SIZE];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        json_array_append_new(f->lists[level],
                              json_pack("{s:s, s:o, s:s, s:s}", "level", levels[level], "about",
                                        api_name_json(about), "text",
                                        utf8_show(text, shown, sizeof shown), "next", next));
}

/* --- the node --- */

static void
check_role(struct findings *f)
{
        const struct node_status *st = &f->view->nodes.self;
        const struct api_config *c = &f->view->api->config;
        int64_t lag_ms = store_lag_ms(c->store);

        if (!api_is_mount_well(f->view->api))
                find(f, FINDING_ERROR, "mount", "litefs doctor", "The mount does not answer.");
        if (st->is_primary && st->lease_ms == 0)
                find(f, FINDING_ERROR, "lease", "litefs doctor",
                     "The lease has run out: this node stops writes until it is renewed.");
        if (st->wait.cause != NODE_WAIT_NOTHING)
                find(f, FINDING_ERROR, "role", st->wait.next, "This node waits: %s", st->wait.reason);
        else if (!st->is_primary && !st->is_connected)
                find(f, FINDING_WARNING, "role", "litefs doctor", "This node follows no primary.");
        else if (!st->is_primary && lag_ms == INT32_MAX)
                find(f, FINDING_WARNING, "role", "",
                     "This node has not caught up with the primary yet.");
        else if (!st->is_primary && lag_ms > LATE_MS)
                find(f, FINDING_WARNING, "role", "litefs doctor",
                     "This node is %lld s behind the primary.", (long long)(lag_ms / 1000));
}

static void
check_upgrade(struct findings *f)
{
        const struct api_config *c = &f->view->api->config;
        char text[ERR_TEXT_SIZE];

        if (c->upgrade_error != NULL && c->upgrade_error(c->arg, text, sizeof text))
                find(f, FINDING_WARNING, "upgrade", "litefs upgrade",
                     "The last upgrade was given up: %s", text);
}

static void
check_data_dir(struct findings *f)
{
        const char *dir = f->view->api->config.data_dir;
        unsigned long long n_orphans = api_count_orphans(dir), n_free;
        struct statvfs st;

        if (statvfs(dir, &st) == 0 &&
            (n_free = (unsigned long long)st.f_bavail * st.f_frsize) < FREE_MIN_BYTES)
                find(f, FINDING_ERROR, "disk", "",
                     "%llu MB are left on the disk of the data directory: commits fail when it is full. A shorter "
                     "data.retention frees log.",
                     n_free / 1000000);
        if (n_orphans > 0)
                find(f, FINDING_WARNING, "orphans", "litefs doctor",
                     "%llu databases with transactions that the cluster does not have were set aside in orphans/ of the "
                     "data directory. Take what is needed from them, then remove them.",
                     n_orphans);
}

/* --- databases, nodes, backups --- */

static int
find_failed(void *arg, struct db *db)
{
        struct findings *f = arg;
        struct db_info info;

        db_get_info(db, &info);
        if (info.is_failed && ++f->n_failed <= NAMED_MAX)
                find(f, FINDING_ERROR, db_name(db), "",
                     "It takes no more writes: an error left memory and disk in doubt, and the log names it. Mend the disk, "
                     "then restart litefs.");
        return 0;
}

static void
find_broken(void *arg, const char *name)
{
        struct findings *f = arg;

        if (++f->n_broken <= NAMED_MAX)
                find(f, FINDING_ERROR, name, "litefs doctor",
                     "It was not opened, and the log says why. Restore it from a backup, or move its directory out of dbs/ "
                     "in the data directory, then restart litefs.");
}

static void
check_databases(struct findings *f)
{
        struct store *s = f->view->api->config.store;

        store_each(s, find_failed, f);
        if (f->n_failed > NAMED_MAX)
                find(f, FINDING_ERROR, "databases", "", "%u more databases take no more writes.",
                     f->n_failed - NAMED_MAX);
        store_each_broken(s, find_broken, f);
        if (f->n_broken > NAMED_MAX)
                find(f, FINDING_ERROR, "databases", "", "%u more databases were not opened.",
                     f->n_broken - NAMED_MAX);
}

static void
check_peer(struct findings *f, const struct api_peer *p)
{
        int64_t now_ms = clock_wall_ms(f->view->api->config.clock), lag_ms = 0;
        unsigned long long n = 0;

        for (size_t i = 0; i < p->n_acks; i++) {
                struct api_behind behind;

                api_get_behind(&p->acks[i], now_ms, &behind);
                n += behind.n;
                lag_ms = behind.ms > lag_ms ? behind.ms : lag_ms;
        }
        if (lag_ms > LATE_MS)
                find(f, FINDING_WARNING, p->hostname, "", "It is %lld s behind, by %llu transactions.",
                     (long long)(lag_ms / 1000), n);
}

static void
check_nodes(struct findings *f)
{
        const struct api_nodes *n = &f->view->nodes;
        char when[RFC3339_SIZE];

        for (size_t i = 0; i < n->n_peers; i++)
                check_peer(f, &n->peers[i]);
        for (size_t i = 0; i < n->n_gone && i < NAMED_MAX; i++) {
                rfc3339_format(n->gone[i].seen_ms, when);
                find(f, FINDING_WARNING, n->gone[i].hostname, "",
                     "It follows no more. It was seen last at %s, as %s.", when,
                     n->gone[i].advertise_url);
        }
}

static void
add_backup_trouble(void *arg, const char *text)
{
        find(arg, FINDING_ERROR, "backup", "litefs doctor", "%s", text);
}

static void
reply_findings(struct http_call *call, void *view)
{
        struct findings f = { .view = view, .lists = { json_array(), json_array() } };
        const struct api_config *c = &f.view->api->config;

        check_role(&f);
        check_upgrade(&f);
        check_data_dir(&f);
        check_databases(&f);
        check_nodes(&f);
        if (c->each_backup_trouble != NULL)
                c->each_backup_trouble(c->arg, add_backup_trouble, &f);
        json_array_extend(f.lists[FINDING_ERROR], f.lists[FINDING_WARNING]);
        json_decref(f.lists[FINDING_WARNING]);
        api_reply_json(call, 200, json_pack("{s:o}", "findings", f.lists[FINDING_ERROR]));
}

void
api_findings(struct api *a, struct http_call *call)
{
        api_run_view(a, call, reply_findings);
}
