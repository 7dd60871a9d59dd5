#include "cmd/litefs/backups.h"

#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/drill.h"
#include "backup/uploader.h"
#include "base/log.h"
#include "cmd/litefs/bucket.h"
#include "cmd/litefs/config.h"
#include "repl/cluster_id.h"

struct destination {
        struct backups *backups;
        const struct config_backup *config;
        struct uploader *uploader;
        struct drill *drill; /* NULL: none is asked for */
};

struct backups {
        char data_dir[PATH_MAX], tmp_dir[PATH_MAX];
        char writer[17];
        struct destination destinations[CONFIG_MAX_BACKUPS];
        size_t n;
};

/* --- which cluster --- */

/* A primary that has none yet is about to draw it. */
static int
read_lineage(void *arg, char ret[40], struct err *e)
{
        struct destination *d = arg;
        char id[LEASE_CLUSTER_ID_SIZE] = "";
        int r = cluster_id_load(os_host(), d->backups->data_dir, id, e);

        snprintf(ret, 40, "%s", id);
        return r < 0 ? r : id[0] == '\0' ? -EAGAIN : 0;
}

static bool
wants(const struct config_backup *backup, const char *db_name)
{
        for (size_t i = 0; i < backup->databases.n; i++)
                if (fnmatch(backup->databases.items[i], db_name, 0) == 0)
                        return true;
        return backup->databases.n == 0;
}

static bool
is_wanted_by_destination(void *arg, const char *db_name)
{
        return wants(((struct destination *)arg)->config, db_name);
}

/* --- life --- */

static int
open_bucket(const struct config_backup *backup, struct dest **ret, struct err *e)
{
        const struct bucket_config config = {
                .endpoint = backup->endpoint,
                .region = backup->region,
                .access_key_id = backup->access_key_id,
                .secret_access_key = backup->secret_access_key,
                .session_token = backup->session_token,
                .ca = backup->ca,
                .force_path_style = backup->force_path_style,
                .storage_class = backup->storage_class,
                .kms_key_id = backup->kms_key_id,
                .customer_key = backup->customer_key,
        };
        struct aws_sources sources;
        struct s3_options options;

        bucket_options(&config, &sources, &options);
        return dest_s3_open(backup->url, &options, ret, e);
}

int
backups_open_dest(const struct config_backup *backup, struct dest **ret, struct err *e)
{
        if (strcmp(backup->type, "file") == 0)
                return dest_file_open(os_host(), backup->path, ret, e);
        if (strncmp(backup->url, "s3://", 5) == 0)
                return open_bucket(backup, ret, e);
        return dest_file_open(os_host(), backup->url, ret, e);
}

static int
open_dest_of_url(const char *url, struct dest **ret, struct err *e)
{
        char none[] = "", *copy = strdup(url);
        struct config_backup backup = { .type = none,
                                        .path = none,
                                        .url = copy,
                                        .endpoint = none,
                                        .region = none,
                                        .access_key_id = none,
                                        .secret_access_key = none,
                                        .session_token = none,
                                        .storage_class = none,
                                        .kms_key_id = none,
                                        .customer_key = none,
                                        .ca = none };
        int r = copy == NULL ? err_set(e, -ENOMEM, "%s", url) : backups_open_dest(&backup, ret, e);

        free(copy);
        return r;
}

static int
open_configured(const char *name, const char *config_path, struct dest **ret, struct err *e)
{
        struct config c = { 0 };
        int r = config_init(&c);

        if (r == 0)
                r = config_load(&c, config_path, false, e);
        if (r == 0)
                r = config_validate(&c, e);
        if (r == 0) {
                r = err_text(e, E_NOT_FOUND, "no destination of %s has %s: name its URL", c.path, name);
                for (size_t i = 0; i < c.n_backups && r == E_NOT_FOUND; i++)
                        if (wants(&c.backups[i], name))
                                r = backups_open_dest(&c.backups[i], ret, e);
        }
        config_release(&c);
        return r;
}

int
backups_open_place(const char *word, const char *config_path, struct dest **ret, char ret_place[1024],
                   struct err *e)
{
        bool is_url = word[0] == '/' || strstr(word, "://") != NULL;

        ret_place[0] = '\0';
        if (is_url)
                return open_dest_of_url(word, ret, e);
        if (snprintf(ret_place, 1024, "%s", word) >= 1024)
                return err_set(e, -ENAMETOOLONG, "%s", word);
        return open_configured(word, config_path, ret, e);
}

struct find_followed {
        const struct db *db;
        bool is_followed;
};

static void
look_whether_followed(void *arg, struct db *db, const struct upload_status *s)
{
        struct find_followed *f = arg;

        if (db == f->db)
                f->is_followed = s->state == UPLOAD_FOLLOWING && s->snapshot_txid != 0;
}

/* There is nothing to restore before something has gone there. */
static bool
is_followed(void *arg, struct db *db)
{
        struct find_followed f = { db, false };

        uploader_each(((struct destination *)arg)->uploader, look_whether_followed, &f);
        return f.is_followed;
}

/* With a destination of its own, so that it never holds an upload up. */
static int
open_drill(struct destination *d, struct store *store, struct err *e)
{
        struct drill_config config = {
                .store = store,
                .os = os_host(),
                .clock = clock_host(),
                .tmp_dir = d->backups->tmp_dir,
                .interval_ms = config_to_ms(d->config->drill_ns),
                .arg = d,
                .is_wanted = is_followed,
        };
        const struct config_backup *backup = d->config;
        int r = backups_open_dest(backup, &config.dest, e);

        if (r == 0)
                r = drill_new(&config, &d->drill, e);
        if (r < 0)
                dest_free(config.dest);
        return r;
}

static int
open_destination(struct backups *b, const struct config_backup *backup, struct store *store,
                 struct err *e)
{
        struct destination *d = &b->destinations[b->n];
        struct uploader_config config = {
                .store = store,
                .os = os_host(),
                .clock = clock_host(),
                .tmp_dir = b->tmp_dir,
                .is_compressed = true,
                .slot = (unsigned)b->n,
                .sync_ms = config_to_ms(backup->sync_interval_ns),
                .snapshot_ms = config_to_ms(backup->snapshot.interval_ns),
                .keep_ms = config_to_ms(backup->snapshot.retention_ns),
                .writer = b->writer,
                .arg = d,
                .lineage = read_lineage,
                .is_wanted = is_wanted_by_destination,
        };
        int r;

        d->backups = b;
        d->config = backup;
        r = backups_open_dest(backup, &config.dest, e);
        if (r == 0)
                r = uploader_new(&config, &d->uploader, e);
        if (r < 0) {
                dest_free(config.dest);
                return r;
        }
        b->n++;
        if (backup->drill_ns > 0)
                r = open_drill(d, store, e);
        if (r < 0)
                return r;
        log_info("backups go to: %s", config.dest->url);
        return 0;
}

int
backups_open(const struct config *c, struct store *store, const char *data_dir, uint64_t boot_id,
             struct backups **ret, struct err *e)
{
        struct backups *b;
        int r = 0;

        *ret = NULL;
        if (c->n_backups == 0)
                return 0;
        b = calloc(1, sizeof *b);
        if (b == NULL)
                return err_set(e, -ENOMEM, "backups");
        snprintf(b->data_dir, sizeof b->data_dir, "%s", data_dir);
        snprintf(b->writer, sizeof b->writer, "%016llx", (unsigned long long)boot_id);
        if (snprintf(b->tmp_dir, sizeof b->tmp_dir, "%s/tmp", data_dir) >= (int)sizeof b->tmp_dir)
                r = err_set(e, -ENAMETOOLONG, "%s", data_dir);
        for (size_t i = 0; i < c->n_backups && r == 0; i++)
                r = open_destination(b, &c->backups[i], store, e);
        if (r < 0) {
                backups_free(b);
                return r;
        }
        *ret = b;
        return 0;
}

void
backups_committed(struct backups *b, struct db *db)
{
        (void)db;
        for (size_t i = 0; b != NULL && i < b->n; i++)
                uploader_committed(b->destinations[i].uploader);
}

void
backups_role_changed(struct backups *b)
{
        for (size_t i = 0; b != NULL && i < b->n; i++)
                uploader_role_changed(b->destinations[i].uploader);
}

int
backups_sync(struct backups *b, int64_t timeout_ms, struct err *e)
{
        int64_t until_ms = clock_boot_ms(clock_host()) + timeout_ms;
        int r = 0;

        for (size_t i = 0; b != NULL && i < b->n && r == 0; i++)
                r = uploader_sync(b->destinations[i].uploader, until_ms - clock_boot_ms(clock_host()),
                                  e);
        return r;
}

void
backups_each(struct backups *b, void (*fn)(void *arg, struct uploader *up, struct drill *drill),
             void *arg)
{
        for (size_t i = 0; b != NULL && i < b->n; i++)
                fn(arg, b->destinations[i].uploader, b->destinations[i].drill);
}

void
backups_stop(struct backups *b, int64_t timeout_ms)
{
        for (size_t i = 0; b != NULL && i < b->n; i++)
                uploader_stop(b->destinations[i].uploader, timeout_ms);
}

void
backups_free(struct backups *b)
{
        for (size_t i = 0; b != NULL && i < b->n; i++) {
                drill_free(b->destinations[i].drill);
                uploader_free(b->destinations[i].uploader);
        }
        free(b);
}
