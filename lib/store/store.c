#include "store/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/log.h"
#include "store/groups.h"
#include "store/node_id.h"
#include "store/orphans.h"
#include "store/spare.h"
#include "store/sync_all.h"

const char *
store_files_dir(const struct store *s)
{
        return s->files_dir;
}

bool
store_is_first_start(const struct store *s)
{
        return s->is_first_start;
}

/* --- housekeeping --- */

struct round {
        struct db_retention retention;
        bool wants_more;
};

static int
housekeep_db(void *arg, struct db *db)
{
        struct round *round = arg;
        struct err e = ERR_INIT;

        if (db_housekeep(db, &round->retention, &e))
                round->wants_more = true;
        if (e.code != 0)
                log_event(LOG_WARN, db_name(db), "%s", e.text);
        return 0;
}

static bool
housekeep_all(void *arg, bool is_interval)
{
        struct store *s = arg;
        struct round round = { .retention.max_age_ms = is_interval ? s->config.retention_ms : 0 };

        store_sync_applied(s, NULL, NULL);
        store_each(s, housekeep_db, &round);
        spare_descriptors(s);
        round.wants_more |= spare_is_wanted(s); /* what is not idle now may be soon */
        if (renames_are_wanted(s))
                renames_redo(s, s->detach.fn != NULL ? &s->detach : NULL);
        if (rename_intents_are_wanted(s))
                rename_intents_finish(s, s->detach.fn != NULL ? &s->detach : NULL);
        if (s->config.tick != NULL)
                s->config.tick(s->config.arg);
        return round.wants_more ||
               ((renames_are_wanted(s) || rename_intents_are_wanted(s)) && store_may_commit(s) == 0);
}

/* --- open and close --- */

static int
join_path(char **ret, const char *dir, const char *name)
{
        return asprintf(ret, "%s/%s", dir, name) < 0 ? (*ret = NULL, -ENOMEM) : 0;
}

static int
take_lock(struct store *s, struct err *e)
{
        char *path;
        int r = join_path(&path, s->config.data_dir, "lock");

        if (r < 0)
                return err_set(e, r, "lock %s", s->config.data_dir);
        if (s->config.lock_fd > 0) /* the lock is the file's, and goes with its last descriptor */
                s->lock_fd = fcntl(s->config.lock_fd, F_DUPFD_CLOEXEC, 3);
        else
                s->lock_fd = os_open(s->config.os, "store:lock", path, O_RDWR | O_CREAT, 0600);
        if (s->lock_fd < 0)
                r = err_set(e, s->lock_fd, "open %s", path);
        else if (flock(s->lock_fd, LOCK_EX | LOCK_NB) < 0)
                r = err_text(e, -EBUSY,
                             "data directory %s is in use by another litefs process; stop that one "
                             "first, or choose another data.dir",
                             s->config.data_dir);
        free(path);
        return r;
}

/* What applications keep from each other by modes and owners in the mount must not be open to everybody here. A
 * directory that cannot be tightened is another user's: whoever gave it to litefs knows of it, and is told. */
static int
make_private_dir(struct store *s, const char *path)
{
        const struct os *os = s->config.os;
        struct stat st;
        int r = os_mkdir_all(os, "store:mkdir", path, 0700);

        if (r == 0)
                r = os_lstat(os, "store:mkdir", path, &st);
        if (r == 0 && S_ISDIR(st.st_mode) && (st.st_mode & 0077) != 0 && chmod(path, 0700) < 0)
                log_warn(
                        "other users may look into %s (mode %03o), where the databases are, and it could not "
                        "be closed to them: %s; run `chmod 0700 %s` as its owner",
                        path, (unsigned)st.st_mode & 0777, strerror(errno), path);
        return r;
}

/* Its mode is the one that the mount begins with. */
static int
make_files_dir(struct store *s)
{
        const struct os *os = s->config.os;
        struct stat st;
        int r;

        s->is_first_start = os_lstat(os, "store:mkdir", s->files_dir, &st) == -ENOENT;
        r = os_mkdir_all(os, "store:mkdir", s->files_dir, 0755);
        if (r == 0 && s->is_first_start && chmod(s->files_dir, 0755) < 0) /* whatever the umask */
                r = -errno;
        return r;
}

static int
make_store_dirs(struct store *s, struct err *e)
{
        const struct os *os = s->config.os;
        char *dbs = NULL, *groups = NULL;
        int r;

        if ((r = join_path(&s->files_dir, s->config.data_dir, "files")) < 0 ||
            (r = join_path(&s->tmp_dir, s->config.data_dir, "tmp")) < 0 ||
            (r = join_path(&dbs, s->config.data_dir, "dbs")) < 0 ||
            (r = join_path(&groups, s->config.data_dir, "groups")) < 0 ||
            (r = make_private_dir(s, s->config.data_dir)) < 0 || (r = make_files_dir(s)) < 0 ||
            (r = make_private_dir(s, s->tmp_dir)) < 0 || (r = make_private_dir(s, dbs)) < 0 ||
            (r = make_private_dir(s, groups)) < 0 ||
            (r = os_sync_dir(os, "store:mkdir", s->config.data_dir)) < 0)
                err_text(
                        e, r,
                        "cannot use data.dir %s: %s; choose a directory that this user may create and write",
                        s->config.data_dir, err_code_text(r));
        free(dbs);
        free(groups);
        return r;
}

int
store_start_housekeeping(struct store *s, struct err *e)
{
        int r = housekeeper_new(s->config.retention_interval_ms, housekeep_all, s, &s->housekeeper);

        return r < 0 ? err_set(e, r, "start housekeeping") : 0;
}

static int
store_set_up(struct store *s, struct err *e)
{
        uint64_t node_id;
        int r;

        r = make_store_dirs(s, e);
        if (r == 0)
                r = take_lock(s, e);
        if (r < 0)
                return r;
        (void)os_empty_dir(s->config.os, "store:tmp", s->tmp_dir);
        r = node_id_load(s->config.os, s->config.data_dir, &node_id, e);
        if (r < 0)
                return r;
        store_fill_env(s, node_id);
        orphans_settle(s->config.os, s->config.data_dir);
        r = groups_settle(s, e);
        if (r < 0)
                return r;
        r = store_open_dbs(s, e);
        if (r == 0)
                r = rename_notes_load(s, e);
        return r < 0 || s->config.is_resumed ? r : store_start_housekeeping(s, e);
}

int
store_open(const struct store_config *config, struct lease *lease, struct store **ret, struct err *e)
{
        struct store *s = calloc(1, sizeof *s);
        int r;

        if (s == NULL)
                return err_set(e, -ENOMEM, "open the data directory");
        s->config = *config;
        s->lease = lease;
        authority_init(&s->authority, config->clock, lease);
        s->lock_fd = -1;
        pthread_mutex_init(&s->create_lock, NULL);
        db_list_init(&s->dbs);
        spare_init(s);
        pthread_mutex_init(&s->role_lock, NULL);
        pthread_mutex_init(&s->renames.lock, NULL);
        pthread_mutex_init(&s->intents.lock, NULL);
        r = store_set_up(s, e);
        if (r < 0) {
                store_close(s);
                return r;
        }
        *ret = s;
        return 0;
}

void
store_stop_housekeeping(struct store *s)
{
        housekeeper_stop(s->housekeeper);
}

void
store_close(struct store *s)
{
        if (s == NULL)
                return;
        store_stop_housekeeping(s);
        spare_end(s);
        if (s->config.remote_committers != NULL)
                workers_drain(s->config.remote_committers);
        workers_drain(s->config.workers);
        db_list_release(&s->dbs);
        housekeeper_free(s->housekeeper);
        spare_release(s);
        os_close(s->config.os, "store:lock", s->lock_fd);
        pthread_mutex_destroy(&s->create_lock);
        pthread_mutex_destroy(&s->role_lock);
        rename_notes_release(&s->renames);
        rename_intents_release(&s->intents);
        free(s->files_dir);
        free(s->tmp_dir);
        free(s);
}
