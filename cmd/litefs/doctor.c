/* litefs doctor: looks at everything that a node needs. */
#include "cmd/litefs/doctor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cmd/litefs/command.h"
#include "cmd/litefs/secrets.h"

/* Without a configuration there is no node that could be looked at. */
static bool
check_config(struct doctor *d)
{
        const char *path = d->client.config_path;
        struct err e = ERR_INIT;
        int r = config_init(&d->config);

        if (r == 0)
                r = config_load(&d->config, path, false, &e);
        if (r == 0)
                r = config_validate(&d->config, &e);
        if (r < 0) {
                doctor_add(d, DOCTOR_FAIL, "config", "man litefs.yml", "%s",
                           e.code != 0 ? e.text : err_code_text(r));
                return false;
        }
        doctor_add(d, DOCTOR_OK, "config", NULL, "%s", d->config.path);
        return true;
}

static void
open_client(struct doctor *d)
{
        struct err e = ERR_INIT;

        if (client_open(&d->client, &e) == 0)
                d->has_client = true;
        else
                doctor_add(d, DOCTOR_FAIL, "http", "litefs doctor -url URL", "%s", e.text);
}

static void
report_exposed(void *arg, const char *key, const char *path, mode_t mode)
{
        char next[4200];

        snprintf(next, sizeof next, "chmod 600 %s", path);
        doctor_add(arg, DOCTOR_WARN, "config", next,
                   "%s (%s) can be read or written by other users than its owner (mode %03o)", path, key,
                   (unsigned)mode);
}

static void
run_examinations(struct doctor *d)
{
        secrets_each_exposed(&d->config, report_exposed, d);
        doctor_check_fuse(d);
        doctor_check_data(d);
        doctor_check_mount(d);
        doctor_check_space(d);
        doctor_check_address(d);
        doctor_check_users(d);
        doctor_check_descriptors(d);
        open_client(d);
        doctor_check_node(d);
        doctor_check_lease(d);
        doctor_check_clock(d);
        doctor_check_cluster_id(d);
        doctor_check_positions(d);
        doctor_check_backups(d);
}

static void
release_doctor(struct doctor *d)
{
        json_decref(d->findings);
        json_decref(d->info);
        json_decref(d->databases);
        json_decref(d->primary_info);
        client_close(&d->client);
        config_release(&d->config);
}

int
command_doctor(int argc, char **argv)
{
        static const struct help_row examples[] = {
                { "litefs doctor", "diagnose the node of this machine, running or not" },
                { "litefs doctor -q", "diagnose it from cron: prints nothing if all is in order" },
                { "litefs doctor -json | jq '.[] | select(.level != \"OK\")'",
                  "show what is wrong, for a program" },
                { 0 },
        };
        static const struct help_row exits[] = {
                { "0", "nothing failed; there may be warnings" },
                { "1", "a line begins with FAIL" },
                { "2", "an argument is wrong" },
                { 0 },
        };
        static const struct help help = {
                .name = "doctor",
                .synopsis = "[flags]",
                .about =
                        "Diagnoses a node: FUSE, the mount, the data directory, space, the lease, clocks, the cluster's\n"
                        "id, and each database's position against the primary's. Prints one line for each finding: OK,\n"
                        "WARN or FAIL, with the next command to type if something is wrong. Changes nothing, and works\n"
                        "whether the node runs or not.",
                .examples = examples,
                .exits = exits,
        };
        struct doctor d = { 0 };
        const struct log_config silent = { .fd = -1 };
        bool is_json = false, is_quiet = false;
        const struct flag flags[] = { { "json", NULL, "as JSON", &is_json, NULL },
                                      { "q", NULL, "print only what is wrong", &is_quiet, NULL },
                                      CLIENT_FLAGS(&d.client),
                                      { 0 } };
        struct flag_words w;
        int r = client_parse(flags, argc, argv, 0, &help, &w);

        if (r > 0)
                return r - 1;
        log_configure(&silent);
        d.findings = json_array();
        if (check_config(&d))
                run_examinations(&d);
        if (is_json)
                r = doctor_print_json(&d);
        else
                doctor_print(&d, is_quiet);
        r = r < 0 || doctor_has_failed(&d);
        release_doctor(&d);
        return r;
}
