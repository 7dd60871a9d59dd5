/* Backups: what the running node says of them, or else what is at each destination. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "backup/head.h"
#include "base/os.h"
#include "cmd/litefs/answer.h"
#include "cmd/litefs/backups.h"
#include "cmd/litefs/doctor.h"
#include "repl/cluster_id.h"

#define LAG_WARN_MS 300000
#define DATABASES_MAX 20 /* that are asked for, one request each */

/* --- a node that runs --- */

static void
report_database(struct doctor *d, const char *url, const json_t *db)
{
        long long lag_ms = json_integer_value(json_object_get(db, "lagMS"));

        if (strcmp(answer_text(db, "state"), "blocked") == 0)
                doctor_add(
                        d, DOCTOR_FAIL, "backup", "litefs backup list",
                        "%s does not go to %s: the place is another one's, or another node writes there; the log of "
                        "litefs says which",
                        answer_text(db, "name"), url);
        else if (lag_ms > LAG_WARN_MS)
                doctor_add(d, DOCTOR_WARN, "backup", "litefs backup status",
                           "%s has lacked transactions of %s for %lld s", url, answer_text(db, "name"),
                           lag_ms / 1000);
}

static void
report_destination(struct doctor *d, const json_t *dest)
{
        const char *url = answer_text(dest, "url");
        long long failures = json_integer_value(json_object_get(dest, "failures"));
        size_t i;
        json_t *db;

        if (failures > 0)
                doctor_add(d, DOCTOR_FAIL, "backup", "litefs backup status",
                           "%s: %lld attempts in a row failed: %s", url, failures,
                           answer_text(dest, "error"));
        if (json_integer_value(json_object_get(json_object_get(dest, "drill"), "failed")) > 0)
                doctor_add(d, DOCTOR_FAIL, "backup", "litefs backup verify", "%s cannot be restored: %s",
                           url, answer_text(json_object_get(dest, "drill"), "error"));
        if (json_is_true(json_object_get(dest, "ignoresConditions")))
                doctor_add(
                        d, DOCTOR_WARN, "backup", "litefs backup status",
                        "%s ignores If-None-Match: only the lease keeps two nodes from writing there at the same "
                        "time",
                        url);
        json_array_foreach(json_object_get(dest, "databases"), i, db)
        {
                report_database(d, url, db);
        }
        if (failures == 0)
                doctor_add(d, DOCTOR_OK, "backup", "", "%s: %s", url,
                           json_is_true(json_object_get(dest, "active")) ? "this node writes there"
                                                                         : "the primary writes there");
}

/* --- one that does not --- */

struct look {
        struct doctor *doctor;
        struct dest *dest;
        char lineage[LEASE_CLUSTER_ID_SIZE];
        unsigned n;
        bool has_failed;
};

static void
look_at_place(void *arg, const char *name)
{
        struct look *l = arg;
        char etag[DEST_ETAG_SIZE], next[1100];
        struct err e = ERR_INIT;
        struct backup_head h;
        int r;

        if (l->has_failed || l->n++ >= DATABASES_MAX)
                return;
        r = backup_head_read(l->dest, name, &h, etag, &e);
        snprintf(next, sizeof next, "litefs backup list %s", name);
        if (r == E_NOT_FOUND) {
                doctor_add(l->doctor, DOCTOR_WARN, "backup", "litefs mount",
                           "%s has no backup of %s yet", l->dest->url, name);
        } else if (r < 0) {
                l->has_failed = true;
                doctor_add(l->doctor, DOCTOR_FAIL, "backup", next, "%s", e.text);
        } else if (l->lineage[0] != '\0' && strcmp(h.lineage, l->lineage) != 0) {
                doctor_add(
                        l->doctor, DOCTOR_FAIL, "backup", next,
                        "%s/%s is the backup of another cluster (%s, this one is %s): name another place",
                        l->dest->url, name, h.lineage, l->lineage);
        } else {
                doctor_add(l->doctor, DOCTOR_OK, "backup", "", "%s has a backup of %s", l->dest->url,
                           name);
        }
}

static void
look_at_destination(struct doctor *d, const struct config_backup *backup)
{
        struct look l = { .doctor = d };
        struct err e = ERR_INIT;

        (void)cluster_id_load(os_host(), d->config.data.dir, l.lineage, NULL);
        if (backups_open_dest(backup, &l.dest, &e) < 0) {
                doctor_add(d, DOCTOR_FAIL, "backup", "litefs backup -h", "%s", e.text);
                return;
        }
        doctor_each_database(d, look_at_place, &l);
        dest_free(l.dest);
}

void
doctor_check_backups(struct doctor *d)
{
        json_t *all = NULL, *dest;
        size_t i;

        if (d->config.n_backups == 0)
                return;
        if (d->info != NULL && client_get_json(&d->client, d->client.base, "/backup", &all, NULL) == 0) {
                json_array_foreach(json_object_get(all, "destinations"), i, dest)
                {
                        report_destination(d, dest);
                }
                json_decref(all);
                return;
        }
        for (i = 0; i < d->config.n_backups; i++)
                look_at_destination(d, &d->config.backups[i]);
}
