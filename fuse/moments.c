#include "fuse/moments.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/rfc3339.h"
#include "base/text.h"
#include "history/images.h"

#define LIST_NAME "."                 /* which the kernel never asks for */
#define TRIES 100                     /* while the log is being replaced */
#define OPEN_BYTES_MAX (512ull << 20) /* of memory that all states take which are open */

/* What a historian does for a request: finds what a name stands for, or opens what a node is. */
struct moment_job {
        struct work work;
        struct moment_job *next; /* session.moment_jobs */
        struct session *s;
        struct inode
                *in; /* the node to open, or the directory that the name was looked up in; referenced */
        char *name;  /* NULL: a node is opened; LIST_NAME: the states of a database are listed */
        struct db *db;
        struct moment_spec spec;
        bool is_done;
        int result;
        struct moment_info info;
        uint64_t past_version; /* of the database, before it was looked for */
        struct moment *moment;
        struct text names;
        struct err e;
};

static void
job_free(struct moment_job *job)
{
        moment_close(job->moment);
        text_release(&job->names);
        free(job->name);
        free(job);
}

/* --- the historian's part --- */

/* The last state of a minute. */
struct listed {
        int64_t minute, time_ms;
        bool exists; /* the database was not deleted then */
};

struct listing_states {
        uint64_t kept_txid; /* of the oldest whole database beside the log; UINT64_MAX: there is none */
        struct listed ring[LISTED_MAX];
        uint64_t n;
        bool is_whole; /* the log leads on from a whole database, in it or beside it */
};

static int
note_state(void *arg, const struct txlog_record *rec)
{
        struct listing_states *l = arg;
        int64_t minute = rec->timestamp_ms / 60000;

        l->is_whole = l->is_whole || rec->min_txid == 1 || rec->max_txid >= l->kept_txid;
        if (!l->is_whole)
                return 0;
        if (l->n == 0 || l->ring[(l->n - 1) % LISTED_MAX].minute != minute)
                l->n++;
        l->ring[(l->n - 1) % LISTED_MAX] = (struct listed){ minute, rec->timestamp_ms, rec->commit > 0 };
        return 0;
}

static int
each_state(struct moment_job *job, struct listing_states *l, uint64_t last_txid)
{
        char buf[PATH_MAX];
        const char *dir = history_images_dir(job->s->store, job->db, buf);

        l->kept_txid = dir == NULL ? UINT64_MAX
                                   : history_images_begin(store_env(job->s->store)->os, dir);
        return moment_each(db_log(job->db), last_txid, note_state, l, &job->e);
}

static int
list_states(struct moment_job *job, uint64_t last_txid)
{
        struct listing_states *l = calloc(1, sizeof *l);
        int r = l == NULL ? err_set(&job->e, -ENOMEM, "list past states")
                          : each_state(job, l, last_txid);

        for (uint64_t i = r == 0 && l->n > LISTED_MAX ? l->n - LISTED_MAX : 0; r == 0 && i < l->n; i++) {
                char name[RFC3339_SIZE];

                rfc3339_format(l->ring[i % LISTED_MAX].time_ms, name);
                if (l->ring[i % LISTED_MAX].exists)
                        text_add(&job->names, name, strlen(name) + 1);
        }
        text_add(&job->names, "", 1);
        free(l);
        return r == 0 && job->names.is_cut ? -ENOMEM : r;
}

static int
work_once(struct moment_job *job)
{
        struct db_info info;
        char dir[PATH_MAX];

        if (job->name == NULL)
                return moment_open(store_env(job->s->store)->os, db_log(job->db),
                                   history_images_dir(job->s->store, job->db, dir), &job->info,
                                   &job->moment, &job->e);
        job->past_version = db_past_version(job->db);
        db_get_info(job->db, &info);
        if (strcmp(job->name, LIST_NAME) == 0)
                return list_states(job, info.pos.txid);
        return moment_find(db_log(job->db), &job->spec, info.pos.txid, &job->info, &job->e);
}

static void
run_moment_job(struct work *w)
{
        struct moment_job *job = (struct moment_job *)w;
        struct session *s = job->s;
        int r = work_once(job);

        for (int i = 0; i < TRIES && r == -EAGAIN; i++) {
                nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
                r = work_once(job);
        }
        pthread_mutex_lock(&s->lock);
        job->result = r;
        job->is_done = true;
        pthread_mutex_unlock(&s->lock);
        session_resume(s);
}

/* --- the requests' part --- */

static struct moment_job **
find_job(struct session *s, const struct inode *in, const char *name)
{
        struct moment_job **p = &s->moment_jobs;

        while (*p != NULL && ((*p)->in != in || ((*p)->name == NULL) != (name == NULL) ||
                              (name != NULL && strcmp((*p)->name, name) != 0)))
                p = &(*p)->next;
        return p;
}

/* The job's end is the request's: it comes back by then. */
static int
start_job(fuse_req_t req, struct inode *in, const char *name, struct db *db,
          const struct moment_spec *spec)
{
        struct session *s = session_of(req);
        struct moment_job *job = calloc(1, sizeof *job);

        if (job == NULL || (name != NULL && (job->name = strdup(name)) == NULL)) {
                free(job);
                return -ENOMEM;
        }
        job->work.run = run_moment_job;
        job->s = s;
        job->in = in;
        job->db = db;
        if (spec != NULL)
                job->spec = *spec;
        else if (name == NULL)
                job->info = in->moment->info;
        inode_ref(in);
        job->next = s->moment_jobs;
        s->moment_jobs = job;
        workers_post(s->historians, &job->work);
        return 0;
}

/* A job that is done, out of the list. */
static struct moment_job *
take_job(struct moment_job **p)
{
        struct moment_job *job = *p;

        *p = job->next;
        return job;
}

static void
end_job(struct session *s, struct moment_job *job)
{
        inode_unref(&s->inodes, job->in, 1);
        job_free(job);
}

/* What is not to be had is told, for the application only hears that there is no such file. */
static void
tell_missing(const struct moment_job *job, const char *name)
{
        log_event(LOG_INFO, db_name(job->db), "%s: no such state: %s", name, job->e.text);
}

/* --- LOOKUP --- */

/* The state's own name, which no file can have. */
static void
name_of_state(const char *db_part, size_t n, uint64_t txid, char ret[NAME_MAX + 32])
{
        snprintf(ret, NAME_MAX + 32, "%.*s/%016llx", (int)n, db_part, (unsigned long long)txid);
}

static struct inode *
node_of_state(struct session *s, struct inode *parent, const struct moment_job *job)
{
        const char *at = strrchr(job->name, '@');
        char name[NAME_MAX + 32];
        struct inode *in;

        name_of_state(job->name, at != NULL ? (size_t)(at - job->name) : 0, job->info.pos.txid, name);
        in = inode_child(&s->inodes, parent, name);
        if (in != NULL && ltx_pos_equal(in->moment->info.pos, job->info.pos) && in->db == job->db) {
                in->moment->info.is_hidden = job->info.is_hidden;
                in->moment->past_version = job->past_version;
                inode_ref(in);
                return in;
        }
        /* Another history: who has that one open reads on in it. */
        if (in != NULL)
                inode_unlink(&s->inodes, in);
        in = inode_add(&s->inodes, parent, name, INODE_MOMENT, job->db);
        if (in == NULL)
                return NULL;
        in->moment = calloc(1, sizeof *in->moment);
        if (in->moment == NULL) {
                inode_unref(&s->inodes, in, 1);
                return NULL;
        }
        in->moment->info = job->info;
        in->moment->past_version = job->past_version;
        return in;
}

static void
answer_lookup(fuse_req_t req, struct inode *parent, struct moment_job *job)
{
        struct session *s = session_of(req);
        struct inode *in = NULL;

        if (job->result < 0) {
                if (job->result == E_NOT_FOUND)
                        tell_missing(job, job->name);
                reply_result(req, job->result);
        } else if ((in = node_of_state(s, parent, job)) == NULL) {
                fuse_reply_err(req, ENOMEM);
        } else {
                reply_entry(req, in, NULL);
        }
        end_job(s, job);
}

/* The database and the moment that @name in @parent speaks of: 0; -EINVAL: it speaks of none; -ENOENT: of a moment of what is
 * no database. */
static int
parse_name(struct session *s, struct inode *parent, const char *name, struct db **ret_db,
           struct moment_spec *ret_spec)
{
        const char *at = strrchr(name, '@');
        char path[PATH_MAX];

        if (parent->kind == INODE_HISTORY) {
                *ret_db = parent->db;
                return parent->db == NULL
                               ? -EINVAL
                               : moment_spec_parse(name, clock_wall_ms(store_env(s->store)->clock),
                                                   ret_spec);
        }
        if (at == NULL || at == name ||
            moment_spec_parse(at + 1, clock_wall_ms(store_env(s->store)->clock), ret_spec) < 0)
                return -EINVAL;
        if (inode_child_path(parent, name, path, sizeof path) < 0)
                return -ENOENT;
        *strrchr(path, '@') = '\0';
        *ret_db = store_find(s->store, path);
        return *ret_db != NULL ? 0 : -ENOENT;
}

bool
moment_is_name(struct session *s, struct inode *parent, const char *name)
{
        struct moment_spec spec;
        struct db *db;

        return parse_name(s, parent, name, &db, &spec) == 0;
}

bool
moment_lookup(fuse_req_t req, struct inode *parent, const char *name)
{
        struct session *s = session_of(req);
        struct moment_spec spec;
        struct moment_job **p;
        struct db *db;
        int r = parse_name(s, parent, name, &db, &spec);

        if (r == -EINVAL)
                return false;
        p = find_job(s, parent, name);
        if (r == 0 && *p != NULL && (*p)->is_done) {
                answer_lookup(req, parent, take_job(p));
                return true;
        }
        if (r == 0 && *p == NULL)
                r = start_job(req, parent, name, db, &spec);
        if (r == 0)
                session_park(s, req);
        else
                reply_result(req, r); /* and the kernel does not remember it */
        return true;
}

/* --- OPEN and the end --- */

/* What the state takes at the least: whether it begins with a database beside the log shows only once it is opened. */
static uint64_t
least_bytes(const struct inode *in)
{
        return in->moment->info.page_count * 8ull;
}

static int
begin_open(fuse_req_t req, struct inode *in)
{
        struct session *s = session_of(req);
        int r = s->moment_bytes + least_bytes(in) > OPEN_BYTES_MAX
                        ? -ENFILE
                        : start_job(req, in, NULL, in->db, NULL);

        if (r == 0)
                s->moment_bytes += least_bytes(in);
        return r;
}

static int
finish_moment_open(struct session *s, struct inode *in, struct moment_job *job)
{
        int r = job->result;

        s->moment_bytes -= least_bytes(in);
        if (r == 0 && s->moment_bytes + moment_bytes(job->moment) > OPEN_BYTES_MAX)
                r = err_text(&job->e, -ENFILE,
                             "with it those that are open would take more than %llu MiB",
                             OPEN_BYTES_MAX >> 20);
        if (r == 0) {
                in->moment->moment = job->moment;
                s->moment_bytes += moment_bytes(job->moment);
                job->moment = NULL;
        } else if (r == E_NOT_FOUND) {
                tell_missing(job, in->name != NULL ? in->name : db_name(in->db));
        } else {
                log_event(LOG_ERROR, db_name(in->db), "cannot open a past state: %s", job->e.text);
        }
        end_job(s, job);
        return r;
}

bool
moment_open_node(fuse_req_t req, struct inode *in, int *ret_error)
{
        struct session *s = session_of(req);
        struct moment_job **p = find_job(s, in, NULL);

        *ret_error = 0;
        if (in->moment->moment != NULL)
                return false;
        if (*p == NULL) {
                *ret_error = begin_open(req, in);
                if (*ret_error < 0)
                        return false;
        }
        p = find_job(s, in, NULL);
        if (!(*p)->is_done) {
                session_park(s, req);
                return true;
        }
        *ret_error = finish_moment_open(s, in, take_job(p));
        return false;
}

void
moment_close_node(struct session *s, struct inode *in)
{
        if (in->moment == NULL || in->moment->moment == NULL)
                return;
        s->moment_bytes -= moment_bytes(in->moment->moment);
        moment_close(in->moment->moment);
        in->moment->moment = NULL;
}

bool
moment_list_states(fuse_req_t req, struct inode *dir, int *ret_error)
{
        struct session *s = session_of(req);
        struct moment_job **p = find_job(s, dir, LIST_NAME), *job;

        *ret_error = *p != NULL ? 0 : start_job(req, dir, LIST_NAME, dir->db, NULL);
        if (*ret_error < 0)
                return false;
        p = find_job(s, dir, LIST_NAME);
        if (!(*p)->is_done) {
                session_park(s, req);
                return true;
        }
        job = take_job(p);
        *ret_error = job->result;
        if (job->result == 0) {
                free(dir->moment->names);
                dir->moment->names = job->names.s;
                job->names = (struct text){ 0 };
        }
        end_job(s, job);
        return false;
}

void
moments_end(struct session *s)
{
        workers_free(s->historians);
        s->historians = NULL;
        while (s->moment_jobs != NULL)
                end_job(s, take_job(&s->moment_jobs));
}
