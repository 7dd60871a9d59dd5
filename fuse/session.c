#include "fuse/session.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "db/remote_commit.h"
#include "fuse/apply.h"
#include "fuse/carry.h"
#include "fuse/lost.h"
#include "fuse/fuse_internal.h"
#include "fuse/live_nodes.h"
#include "fuse/kernel_cache.h"
#include "fuse/moments.h"
#include "fuse/passthrough.h"
#include "fuse/wal_spoil.h"
#include "fuse/wal_watch.h"
#include "store/ownership.h"
#include "store/renames.h"

/* A database whose modification time applications should see move. */
struct dirty_name {
        struct dirty_name *next;
        struct db *db;
};

bool
session_is_internal(fuse_req_t req)
{
        const struct session_config *c = &session_of(req)->config;
        pid_t tid = fuse_req_ctx(req)->pid;

        return workers_has_tid(c->visitors, tid) ||
               (c->appliers != NULL && workers_has_tid(c->appliers, tid));
}

/* --- what the store tells --- */

static void
on_idle(void *arg, struct db *db)
{
        (void)db;
        session_resume(arg);
}

/* With the database's lock: only notes it. */
static void
session_on_committed(void *arg, struct db *db)
{
        struct session *s = arg;
        struct dirty_name *d;

        pthread_mutex_lock(&s->touched_lock);
        for (d = s->touched; d != NULL && d->db != db; d = d->next)
                ;
        if (d == NULL && (d = malloc(sizeof *d)) != NULL) {
                *d = (struct dirty_name){ s->touched, db };
                s->touched = d;
                store_wants_tick(s->store);
        }
        pthread_mutex_unlock(&s->touched_lock);
}

static int
probe_db(void *arg, struct db *db)
{
        struct session *s = arg;

        s->config.look_at(s->config.arg, db);
        if (!store_is_primary(s->store) && db_has_refused(db))
                apply_abandon_refused(s, db);
        else if (db_has_unjournaled(db) && !db_is_refused(db))
                (void)mount_probe(s, db, (struct db_done){ 0 });
        return 0;
}

/* A rename that a crash had cut short: what the kernel knows of either name is not so any more. */
static void
on_detach(void *arg, struct db *db, int fd, int wal_fd, bool is_final)
{
        notify_moved(arg, db, fd, wal_fd, is_final);
        notify_name_later(arg, db_name(db));
}

struct backfill_job {
        struct work work;
        struct session *s;
        struct db *db;
};

static void
run_backfill(struct work *w)
{
        struct backfill_job *job = (struct backfill_job *)w;

        mount_read_backfill(job->s, job->db);
        free(job);
}

/* The housekeeper's thread, which may not enter the mount itself. */
static void
session_on_tick(void *arg)
{
        struct session *s = arg;
        struct dirty_name *list, *d;

        if (!atomic_load(&s->is_running) || atomic_load(&s->is_stopping))
                return;
        pthread_mutex_lock(&s->touched_lock);
        list = s->touched;
        s->touched = NULL;
        pthread_mutex_unlock(&s->touched_lock);
        while ((d = list) != NULL) {
                struct backfill_job *job = malloc(sizeof *job);

                list = d->next;
                notify_attr(s, d->db);
                if (job != NULL) {
                        *job = (struct backfill_job){ { run_backfill, NULL }, s, d->db };
                        workers_post(s->config.visitors, &job->work);
                }
                free(d);
        }
        store_each(s->store, probe_db, s);
}

int
session_take_ownership(struct session *s, struct db *db, const struct path_ownership *po, struct err *e)
{
        int r = store_take_ownership(s->store, db, po, e);

        notify_ownership(s, db); /* also of what was done before an error */
        return r;
}

/* --- mounting --- */

/* fusermount3 for users without privileges, the system call for root: @flags as umount2. */
static int
detach_mount(const char *dir, bool is_lazy)
{
        pid_t pid;
        int status;

        if (geteuid() == 0)
                return umount2(dir, is_lazy ? MNT_DETACH : 0) < 0 ? -errno : 0;
        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                execlp("fusermount3", "fusermount3", "-u", "-q", is_lazy ? "-z" : "--", dir,
                       (char *)NULL);
                _exit(127);
        }
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

/* A daemon that was killed leaves a mount on which every call fails with ENOTCONN: but stat, which the kernel answers
 * from what it remembers of the root. statfs asks. */
static bool
is_stale_mount(const char *dir)
{
        struct statfs st;

        return statfs(dir, &st) < 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

int
session_clear_stale(const char *dir, struct err *e)
{
        int r;

        while (is_stale_mount(dir)) {
                log_warn("unmounting %s, left over from a litefs that was killed", dir);
                r = detach_mount(dir, true);
                if (r < 0)
                        return err_set(
                                e, r,
                                "unmount the stale mount at %s; run `fusermount3 -uz %s` and start again",
                                dir, dir);
        }
        return 0;
}

/* libfuse's own words, as events like the others. */
__attribute__((format(printf, 2, 0))) static void
log_libfuse(enum fuse_log_level level, const char *fmt, va_list ap)
{
        char text[512];
        size_t n;

        vsnprintf(text, sizeof text, fmt, ap);
        n = strlen(text);
        if (n > 0 && text[n - 1] == '\n')
                text[n - 1] = '\0';
        log_event(level <= FUSE_LOG_ERR       ? LOG_ERROR
                  : level == FUSE_LOG_WARNING ? LOG_WARN
                  : level == FUSE_LOG_DEBUG   ? LOG_DEBUG
                                              : LOG_INFO,
                  NULL, "%s", text);
}

static int
make_fuse(struct session *s, struct err *e)
{
        struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
        int r = 0;

        fuse_set_log_func(log_libfuse);
        /* The kernel compares modes and owners with the caller, as on a disk: our handlers never see who may what. */
        if (fuse_opt_add_arg(&args, "litefs") < 0 ||
            fuse_opt_add_arg(&args, "-ofsname=litefs,default_permissions") < 0 ||
            (s->config.is_allow_other && fuse_opt_add_arg(&args, "-oallow_other") < 0))
                r = err_set(e, -ENOMEM, "mount");
        if (r == 0) {
                s->se = fuse_session_new(&args, &session_ops, sizeof session_ops, s);
                if (s->se == NULL)
                        r = err_text(e, -EINVAL, "libfuse does not accept the mount options");
        }
        fuse_opt_free_args(&args);
        if (r == 0 && s->config.carried != NULL)
                r = session_carry_in(s, s->config.carried, e);
        else if (r == 0 && fuse_session_mount(s->se, s->mount_dir) < 0)
                r = err_text(
                        e, -EIO,
                        "cannot mount %s: is /dev/fuse there, and fusermount3 (package fuse3) installed? "
                        "In a container, pass --device /dev/fuse --cap-add SYS_ADMIN",
                        s->mount_dir);
        if (r == 0 && s->config.carried == NULL)
                r = passthrough_set_up(s, e);
        if (r == 0 && s->config.is_wal_passed && (r = wal_watch_start(s)) < 0)
                err_set(e, r, "start a thread");
        return r;
}

static int
session_allocate(struct session *s, const struct session_config *config)
{
        char path[PATH_MAX];
        int r;

        s->config = *config;
        s->store = config->store;
        s->files_fd = -1;
        s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        s->parked_tail = &s->parked;
        pthread_mutex_init(&s->lock, NULL);
        pthread_mutex_init(&s->receive_lock, NULL);
        pthread_mutex_init(&s->pause_lock, NULL);
        pthread_mutex_init(&s->touched_lock, NULL);
        r = inode_table_init(&s->inodes);
        s->inodes.live = config->live;
        s->read_buf = malloc(READ_MAX);
        if (r == 0)
                r = workers_new(N_HISTORIANS, &s->historians);
        if (r < 0 || s->read_buf == NULL)
                return -ENOMEM;
        if (s->wake_fd < 0)
                return -EMFILE;
        s->files_fd = open(store_files_dir(s->store), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (s->files_fd < 0)
                return -errno;
        if (config->carried != NULL)
                return 0; /* the mount's path is handed over: nobody answers who asks where it leads */
        /* Workers reach the mount by its full path, wherever the process stands. */
        s->mount_dir = realpath(config->mount_dir, path) != NULL ? strdup(path) : NULL;
        return s->mount_dir == NULL ? -ENOMEM : 0;
}

int
session_new(const struct session_config *config, struct session **ret)
{
        struct session *s = calloc(1, sizeof *s);
        int r = s == NULL ? -ENOMEM : session_allocate(s, config);

        if (r < 0)
                session_free(s);
        else
                *ret = s;
        return r;
}

static int
count_database(void *arg, struct db *db)
{
        if (db_exists(db))
                ++*(int *)arg;
        return 0;
}

/* LiteFS let everybody in who reached the mount: an application that is another user is told once what it needs now. */
static void
tell_owner(struct session *s)
{
        struct stat st;
        int n = 0;

        if (!s->config.is_allow_other || !store_is_first_start(s->store) || geteuid() != 0 ||
            fstat(s->files_fd, &st) < 0 || st.st_uid != 0 || (st.st_mode & 0002) != 0)
                return;
        (void)store_each(s->store, count_database, &n);
        log_warn(
                "%s belongs to user %u, group %u, mode %03o, and so do the %d databases that were found: an "
                "application that is another user can read there, but not write. If yours is, type once: "
                "chown -R USER: %s",
                s->mount_dir, (unsigned)st.st_uid, (unsigned)st.st_gid, (unsigned)st.st_mode & 07777, n,
                s->mount_dir);
}

int
session_mount(const struct session_config *config, struct session **ret, struct err *e)
{
        struct session *s;
        int r = config->carried != NULL ? 0
                                        : os_mkdir_all(os_host(), "fuse:mkdir", config->mount_dir, 0777);

        if (r < 0)
                return err_text(
                        e, r,
                        "cannot create fuse.dir %s: %s; create it, or choose a place where this user may",
                        config->mount_dir, err_code_text(r));
        r = session_new(config, &s);
        if (r < 0)
                return err_set(e, r, "mount %s", config->mount_dir);
        r = make_fuse(s, e);
        if (r < 0) {
                session_free(s);
                return r;
        }
        if (config->carried == NULL)
                tell_owner(s);
        store_set_callbacks(s->store, s, session_on_committed, on_idle, session_on_tick);
        store_set_detach(s->store, &(struct db_rename_detach){ on_detach, s });
        *ret = s;
        return 0;
}

void
session_set_halts(struct session *s, const struct session_halts *halts)
{
        s->halts = *halts;
}

/* --- running --- */

static void
sleep_ms(long ms)
{
        struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

        nanosleep(&ts, NULL);
}

int
session_connection(const struct session *s)
{
        return fuse_session_fd(s->se);
}

/* Whoever still has a database open hears from now on that nobody answers. By the teller. */
static int
revoke_nodes(void *arg)
{
        struct session *s = arg;

        char path[PATH_MAX];

        atomic_store(&s->is_over, true);
        snprintf(path, sizeof path, "%s/../dbs", store_files_dir(s->store));
        if (s->passthrough.is_on)
                (void)wal_spoil_all(path, NULL, 0);
        if (live_nodes_revoke(s->config.live, &s->lock, fuse_session_fd(s->se)) < 0)
                log_error(
                        "out of memory: connections that stay open may read what is not true any more");
        return 0;
}

void
session_stop(struct session *s, int drain_ms)
{
        int r, waited = 0;

        wal_watch_flush(s);
        atomic_store(&s->is_stopping, true);
        if (!s->passthrough.is_on || s->barrier != NULL) /* else commits that nobody asks for go on */
                store_stop_writes(s->store);
        if (s->barrier != NULL)
                session_pause_writes(s, false); /* node_stop's, which was for good */
        workers_drain(s->config.workers);
        workers_drain(s->config.visitors);
        workers_drain(s->config.tellers);
        r = detach_mount(s->mount_dir, true);
        if (r < 0)
                log_warn("unmount %s: %s", s->mount_dir, strerror(-r));
        if (atomic_load(&s->n_open) > 0)
                log_info("unmounting: %d files are still open, serving them for at most %d s",
                         atomic_load(&s->n_open), drain_ms / 1000);
        while (atomic_load(&s->is_running) && waited < drain_ms) {
                if (atomic_load(&s->n_open) == 0 && waited >= 200)
                        break;
                sleep_ms(10);
                waited += 10;
        }
        if (s->config.live != NULL)
                (void)workers_call(s->config.tellers, revoke_nodes, s);
        wal_watch_take_rest(s);
        workers_drain(s->config.workers); /* of a large one */
        store_stop_writes(s->store);
        while (atomic_load(&s->is_running)) {
                fuse_session_exit(s->se);
                dispatch_wake(s);
                sleep_ms(10);
        }
}

static const char *const request_names[] = {
#define REQUEST_NAME(n) #n,
        REQUEST_TYPES(REQUEST_NAME)
#undef REQUEST_NAME
};

void
session_each_request(struct session *s, void (*fn)(void *arg, const char *type, uint64_t n), void *arg)
{
        for (int i = 0; i < N_REQUEST_TYPES; i++)
                fn(arg, request_names[i], atomic_load(&s->counts[i]));
}

void
session_each_error(struct session *s, void (*fn)(void *arg, const char *name, uint64_t n), void *arg)
{
        fn(arg, "EIO", atomic_load(&s->n_io_errors));
        fn(arg, "ENOSPC", atomic_load(&s->n_no_space));
        fn(arg, "EROFS", atomic_load(&s->n_readonly));
}

void
session_log_requests(struct session *s)
{
        char text[900] = "";
        size_t n = 0;

        for (int i = 0; i < N_REQUEST_TYPES && n < sizeof text; i++)
                n += (size_t)snprintf(text + n, sizeof text - n, " %s=%llu", request_names[i],
                                      (unsigned long long)atomic_load(&s->counts[i]));
        log_info("fuse requests:%s", text);
}

void
session_free(struct session *s)
{
        if (s == NULL)
                return;
        wal_watch_stop(s);
        if (s->se != NULL && !s->is_carried_out)
                fuse_session_unmount(s->se);
        /* Whoever is in the mount got an error by that, and whoever comes finds no mount. */
        workers_drain(s->config.visitors);
        workers_drain(s->config.tellers);
        if (s->config.asker != NULL)
                workers_drain(s->config.asker);
        if (s->se != NULL)
                fuse_session_destroy(s->se);
        store_set_callbacks(s->store, NULL, NULL, NULL, NULL);
        store_set_detach(s->store, NULL);
        moments_end(s);
        lost_free(s->lost);
        while (s->parked != NULL) {
                struct parked *p = s->parked;

                s->parked = p->next;
                free(p);
        }
        while (s->touched != NULL) {
                struct dirty_name *d = s->touched;

                s->touched = d->next;
                free(d);
        }
        id_table_release(&s->handles, free);
        inode_table_release(&s->inodes);
        if (s->files_fd >= 0)
                close(s->files_fd);
        if (s->wake_fd >= 0)
                close(s->wake_fd);
        pthread_mutex_destroy(&s->touched_lock);
        pthread_mutex_destroy(&s->pause_lock);
        pthread_mutex_destroy(&s->receive_lock);
        pthread_mutex_destroy(&s->lock);
        free(s->read_buf);
        free(s->mount_dir);
        free(s);
}
