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
#include "store/dbname.h"
#include "store/groups.h"
#include "store/node_id.h"
#include "store/orphans.h"
#include "store/spare.h"
#include "store/sync_all.h"

/* --- what the databases ask of their surroundings --- */

static int
env_may_commit(void *arg)
{
        return store_may_commit(arg);
}

static int
env_may_enter(void *arg, bool is_wal)
{
        return authority_may_enter(&((struct store *)arg)->authority, is_wal);
}

static uint64_t
env_term(void *arg)
{
        return authority_term(&((struct store *)arg)->authority);
}

static int
env_may_confirm(void *arg, uint64_t term, bool is_passed_on)
{
        return authority_may_confirm(&((struct store *)arg)->authority, term, is_passed_on);
}

void
store_tell_committed(struct store *s, struct db *db)
{
        if (s->config.committed != NULL)
                s->config.committed(s->config.arg, db);
        if (s->listener != NULL)
                s->listener(s->listener_arg, db);
}

static void
env_committed(void *arg, struct db *db)
{
        store_tell_committed(arg, db);
}

static void
env_idle(void *arg, struct db *db)
{
        struct store *s = arg;

        if (s->config.idle != NULL)
                s->config.idle(s->config.arg, db);
}

void
store_wants_tick(struct store *s)
{
        if (s->housekeeper != NULL)
                housekeeper_ask(s->housekeeper);
}

static void
env_wants_housekeeping(void *arg)
{
        store_wants_tick(arg);
}

static bool
env_may_wake(void *arg)
{
        bool may = spare_may_open(arg);

        spare_soon(arg);
        return may;
}

void
store_set_callbacks(struct store *s, void *arg, void (*committed)(void *, struct db *),
                    void (*idle)(void *, struct db *), void (*tick)(void *))
{
        s->config.arg = arg;
        s->config.committed = committed;
        s->config.idle = idle;
        s->config.tick = tick;
}

void
store_set_detach(struct store *s, const struct db_rename_detach *detach)
{
        s->detach = detach != NULL ? *detach : (struct db_rename_detach){ 0 };
}

/* --- the list --- */

struct db *
store_find(struct store *s, const char *name)
{
        return db_list_find(&s->dbs, name);
}

bool
store_is_broken(struct store *s, const char *name)
{
        return db_list_is_broken(&s->dbs, name);
}

bool
store_has_broken(struct store *s)
{
        return db_list_has_broken(&s->dbs);
}

int
store_each(struct store *s, int (*fn)(void *arg, struct db *db), void *arg)
{
        return db_list_each(&s->dbs, fn, arg);
}

static int
db_dir(struct store *s, const char *name, char *buf, size_t size)
{
        char dir[DBNAME_MAX + 1];
        int r = dbname_encode(name, dir);

        if (r == 0) {
                int n = snprintf(buf, size, "%s/dbs/%s", s->config.data_dir, dir);

                r = n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
        }
        return r;
}

int
store_db_path(struct store *s, const struct db *db, const char *file, char *buf, size_t size)
{
        size_t n;
        int r = db_dir(s, db_name(db), buf, size);

        if (r < 0)
                return r;
        n = strlen(buf);
        r = snprintf(buf + n, size - n, "/%s", file);
        return r < 0 || (size_t)r >= size - n ? -ENAMETOOLONG : 0;
}

/* Opens @name and enters it. With create_lock; the list is free for others meanwhile, for this waits for the disk. */
static int
open_new(struct store *s, const char *name, struct db **ret, struct err *e)
{
        char dir[PATH_MAX];
        struct db *db;
        int r = db_dir(s, name, dir, sizeof dir);

        if (r == -ENAMETOOLONG)
                return err_text(
                        e, r,
                        "the path of a database in the mount has %u bytes at most, a '/' or '%%' counts as "
                        "three: give it a shorter one",
                        DBNAME_MAX);
        if (r < 0)
                return err_set(e, r, "database %s", name);
        spare_descriptors(s);
        r = store_may_open(s, name)
                    ? 0
                    : err_text(e, -ENFILE, "too many files are open for one more database");
        if (r == 0)
                r = db_open(&s->env, name, dir, &db, e);
        if (r < 0)
                return r;
        r = db_list_put(&s->dbs, name, db);
        if (r < 0) {
                db_close(db);
                return err_set(e, r, "database %s", name);
        }
        *ret = db;
        spare_soon(s);
        return 0;
}

int
store_create_db(struct store *s, const char *name, struct db **ret, struct err *e)
{
        struct db *db = store_find(s, name);
        int r = 0;

        if (db == NULL) {
                pthread_mutex_lock(&s->create_lock);
                db = store_find(s, name);
                if (db == NULL)
                        r = store_is_broken(s, name) ? err_set(e, -EIO, "database %s did not open", name)
                                                     : open_new(s, name, &db, e);
                pthread_mutex_unlock(&s->create_lock);
        }
        if (r == 0)
                *ret = db;
        return r;
}

static int
set_damaged_aside(struct store *s, const char *name, struct err *e)
{
        char dir[DBNAME_MAX + 1];
        int r = dbname_encode(name, dir);

        if (r < 0)
                return err_set(e, r, "set %s aside", name);
        r = orphans_take_damaged(s->config.os, s->config.data_dir, dir, clock_wall_ms(s->config.clock),
                                 e);
        if (r == 0)
                log_event(LOG_WARN, name,
                          "it did not open, and the primary has it: what is here is kept in %s/orphans",
                          s->config.data_dir);
        return r;
}

int
store_replace_broken(struct store *s, const char *name, struct db **ret, struct err *e)
{
        int r = 0;

        pthread_mutex_lock(&s->create_lock);
        *ret = store_find(s, name);
        if (*ret == NULL) {
                r = set_damaged_aside(s, name, e);
                if (r == 0)
                        r = open_new(s, name, ret, e);
        }
        pthread_mutex_unlock(&s->create_lock);
        return r;
}

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

const struct db_meters *
store_meters(const struct store *s)
{
        return &s->meters;
}

const struct db_env *
store_env(const struct store *s)
{
        return &s->env;
}

void
store_set_listener(struct store *s, void *arg, void (*committed)(void *arg, struct db *db))
{
        s->listener_arg = arg;
        s->listener = committed;
}

struct confirmation {
        struct work work;
        struct store *s;
        uint64_t term;
};

static int
confirm(void *arg, struct db *db)
{
        db_confirm(db, *(uint64_t *)arg);
        return 0;
}

static void
run_confirm(struct work *w)
{
        struct confirmation *c = (struct confirmation *)w;

        store_each(c->s, confirm, &c->term);
        free(c);
}

/* What is asked for the databases' locks is a worker: the loop waits for none. */
void
store_confirm(struct store *s, uint64_t term)
{
        struct confirmation *c = malloc(sizeof *c);

        store_set_confirmed_term(s, term);
        if (c == NULL)
                return; /* each next commit is confirmed for itself */
        *c = (struct confirmation){ { run_confirm, NULL }, s, term };
        workers_post(s->config.workers, &c->work);
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
        if (s->config.tick != NULL)
                s->config.tick(s->config.arg);
        return round.wants_more || (renames_are_wanted(s) && store_may_commit(s) == 0);
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

static int
open_one(void *arg, const char *dir)
{
        struct store *s = arg;
        char name[DBNAME_MAX + 1], path[PATH_MAX];
        struct err e = ERR_INIT;
        struct db *db = NULL;
        struct stat st;
        int r;

        r = snprintf(path, sizeof path, "%s/dbs/%s", s->config.data_dir, dir);
        if (r < 0 || (size_t)r >= sizeof path || dbname_decode(dir, name) < 0 ||
            os_lstat(s->config.os, "store:list", path, &st) < 0 || !S_ISDIR(st.st_mode)) {
                log_warn("%s/dbs/%s is not a database directory, ignored", s->config.data_dir, dir);
                return 0;
        }
        r = db_open(&s->env, name, path, &db, &e);
        if (r < 0) {
                if (!s->config.is_resumed) /* else store_carry_in knows what comes of it */
                        log_event(LOG_ERROR, name, "not opened, the other databases serve: %s", e.text);
                return db_list_put_broken(&s->dbs, name, e.text);
        }
        if (spare_is_wanted(s))
                (void)db_rest(db);
        return db_list_put(&s->dbs, name, db);
}

static int
open_all(struct store *s, struct err *e)
{
        char *dbs;
        int r = join_path(&dbs, s->config.data_dir, "dbs");

        if (r == 0) {
                r = os_list_dir(s->config.os, "store:list", dbs, open_one, s);
                free(dbs);
        }
        return r < 0 ? err_set(e, r, "open the databases in %s/dbs", s->config.data_dir) : 0;
}

static void
fill_env(struct store *s, uint64_t node_id)
{
        s->env = (struct db_env){
                .os = s->config.os,
                .clock = s->config.clock,
                .workers = s->config.workers,
                .remote_committers = s->config.remote_committers,
                .tmp_dir = s->tmp_dir,
                .is_compressed = s->config.is_compressed,
                .keeps_log = s->config.keeps_log,
                .is_strict = s->config.is_strict,
                .takes_wal_tail = s->config.takes_wal_tail,
                .is_resumed = s->config.is_resumed,
                .node_id = node_id,
                .meters = &s->meters,
                .is_ending = s->config.is_ending,
                .arg = s,
                .may_commit = env_may_commit,
                .may_enter = env_may_enter,
                .term = env_term,
                .may_confirm = env_may_confirm,
                .committed = env_committed,
                .idle = env_idle,
                .wants_housekeeping = env_wants_housekeeping,
                .may_wake = env_may_wake,
        };
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
        fill_env(s, node_id);
        orphans_settle(s->config.os, s->config.data_dir);
        r = groups_settle(s, e);
        if (r < 0)
                return r;
        r = open_all(s, e);
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
        housekeeper_free(s->housekeeper);
        s->housekeeper = NULL;
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
        spare_release(s);
        os_close(s->config.os, "store:lock", s->lock_fd);
        pthread_mutex_destroy(&s->create_lock);
        pthread_mutex_destroy(&s->role_lock);
        rename_notes_release(&s->renames);
        free(s->files_dir);
        free(s->tmp_dir);
        free(s);
}
