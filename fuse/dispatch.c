/* Receiving requests and handing them to their handlers.
 *
 * One thread at a time receives, and answers what it received before it receives again: a second thread would
 * have to be woken for each request, which costs more than most of them. But a job that waits for the disk
 * must not hold up other databases. So a receiver that is left with one (workers_post_here) passes the
 * receiving on to a thread that stands by, and does the job itself, awake as it is; if nobody stands by, the
 * job goes to the pool.
 *
 * A receiver that has just answered polls for SPIN_NS before it sleeps, because the answer makes the
 * application send its next request, and being woken takes longer than that. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/thread.h"
#include "base/monotonic.h"
#include "db/passed.h"
#include "fuse/fuse_internal.h"

#define N_DISPATCHERS 3
#define SPIN_NS 20000

/* --- requests put aside --- */

void
session_park(struct session *s, fuse_req_t req)
{
        s->wants_park = true;
        fuse_reply_none(req); /* frees libfuse's part; the kernel goes on waiting */
}

/* Answers a request of which only its bytes are left: without it the application would wait for ever. */
static void
refuse_request(struct session *s, const void *bytes, int error)
{
        struct fuse_in_header in;
        struct fuse_out_header out = { .len = sizeof out, .error = error };
        ssize_t n;

        memcpy(&in, bytes, sizeof in);
        out.unique = in.unique;
        n = write(fuse_session_fd(s->se), &out, sizeof out);
        (void)n; /* the request was interrupted, or the mount is gone */
}

static void
keep_request(struct session *s, const void *bytes, size_t size)
{
        struct parked *p = malloc(sizeof *p + size);

        if (p == NULL) {
                refuse_request(s, bytes, -ENOMEM);
                return;
        }
        p->next = NULL;
        p->size = size;
        memcpy(p->bytes, bytes, size);
        *s->parked_tail = p;
        s->parked_tail = &p->next;
}

/* Under the lock. No handler enters our own mount, whoever's thread it runs on: one that may otherwise (an applier that
 * resumes what waited for it) has a request to answer meanwhile. */
static void
process(struct session *s, const struct fuse_buf *buf)
{
        bool may_enter = thread_allow_own_mount(false);

        s->wants_park = false;
        fuse_session_process_buf(s->se, buf);
        if (s->wants_park)
                keep_request(s, buf->mem, buf->size);
        s->wants_park = false;
        thread_allow_own_mount(may_enter);
}

/* With the lock. */
static void
process_parked(struct session *s)
{
        struct parked *list = s->parked;

        s->parked = NULL;
        s->parked_tail = &s->parked;
        while (list != NULL) {
                struct parked *p = list;
                struct fuse_buf buf = { .size = p->size, .mem = p->bytes };

                list = p->next;
                process(s, &buf);
                free(p);
        }
}

void
session_resume(struct session *s)
{
        pthread_mutex_lock(&s->lock);
        process_parked(s);
        pthread_mutex_unlock(&s->lock);
}

bool
session_resume_within(struct session *s, int ms)
{
        while (pthread_mutex_trylock(&s->lock) != 0) {
                if (ms < 0)
                        return false;
                if (ms == 0) /* and once more: whoever had it may just have gone */
                        atomic_store(&s->is_resume_due, true);
                nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
                ms--;
        }
        atomic_store(&s->is_resume_due, false);
        process_parked(s);
        pthread_mutex_unlock(&s->lock);
        return true;
}

/* --- receiving --- */

static void
sleep_until_request(struct session *s)
{
        struct pollfd fds[2] = { { .fd = fuse_session_fd(s->se), .events = POLLIN },
                                 { .fd = s->wake_fd, .events = POLLIN } };

        (void)poll(fds, 2, -1);
}

/* Its writer publishes what it has synced as soon as it is answered: those who wait for that hear of it before anybody else
 * has to be woken. */
static void
look_at_fresh(struct session *s)
{
        struct db *db = atomic_load(&s->fresh);
        struct db_look look;

        if (db != NULL && (db_wal_look(db, &look) < 0 || !look.is_prepared))
                (void)atomic_compare_exchange_strong(&s->fresh, &db, NULL);
}

/* As fuse_session_receive_buf: bytes, 0 when the session is over, or an error. */
static int
receive_request(struct session *s, struct fuse_buf *buf)
{
        int64_t spin_end = 0;
        int r;

        while (!fuse_session_exited(s->se) && !atomic_load(&s->is_paused)) {
                r = fuse_session_receive_buf(s->se, buf);
                if (r != -EAGAIN && r != -EINTR)
                        return r;
                look_at_fresh(s);
                if (spin_end == 0)
                        spin_end = s->is_spinning ? monotonic_ns() + SPIN_NS : -1;
                else if (spin_end < 0 || monotonic_ns() >= spin_end)
                        sleep_until_request(s);
        }
        return 0;
}

static void
keep_init(struct session *s, const struct fuse_buf *buf)
{
        struct fuse_in_header in;

        memcpy(&in, buf->mem, sizeof in);
        if (in.opcode != FUSE_INIT || buf->size > sizeof s->greeting.init)
                return;
        memcpy(s->greeting.init, buf->mem, buf->size);
        s->greeting.init_size = buf->size;
}

/* Receives and answers until the session ends or a job is left to this thread: returns that job. With the
 * receive lock. */
static struct work *
receive_until_job(struct session *s, struct fuse_buf *buf)
{
        struct work *job = NULL;
        int r = 0;

        while (job == NULL && (r = receive_request(s, buf)) > 0) {
                if (s->greeting.init_size == 0)
                        keep_init(s, buf);
                workers_offer(s->n_standing_by > 0 ? &job : NULL);
                pthread_mutex_lock(&s->lock);
                process(s, buf);
                if (atomic_exchange(&s->is_resume_due, false))
                        process_parked(s);
                pthread_mutex_unlock(&s->lock);
        }
        workers_offer(NULL);
        if (r < 0 && r != -ENODEV) {
                s->receive_error = r;
                fuse_session_exit(s->se);
        }
        return job;
}

static void *
dispatch(void *arg)
{
        struct session *s = arg;
        struct fuse_buf buf = { 0 };
        struct work *job;

        do {
                pthread_mutex_lock(&s->pause_lock);
                pthread_mutex_unlock(&s->pause_lock);
                s->n_standing_by++;
                pthread_mutex_lock(&s->receive_lock);
                s->n_standing_by--;
                job = receive_until_job(s, &buf);
                pthread_mutex_unlock(&s->receive_lock);
                if (job != NULL)
                        workers_run_here(s->config.workers, job);
        } while (!fuse_session_exited(s->se));
        free(buf.mem);
        return NULL;
}

void
dispatch_wake(struct session *s)
{
        uint64_t one = 1;
        ssize_t n = write(s->wake_fd, &one, sizeof one);

        (void)n; /* it fails only when it is readable already */
}

void
dispatch_pause(struct session *s)
{
        uint64_t count;
        ssize_t n;

        pthread_mutex_lock(&s->pause_lock);
        atomic_store(&s->is_paused, true);
        dispatch_wake(s);
        pthread_mutex_lock(&s->receive_lock);
        n = read(s->wake_fd, &count, sizeof count);
        (void)n; /* what it was woken for is done */
}

void
dispatch_unpause(struct session *s)
{
        atomic_store(&s->is_paused, false);
        pthread_mutex_unlock(&s->receive_lock);
        pthread_mutex_unlock(&s->pause_lock);
}

int
session_run(struct session *s, struct err *e)
{
        pthread_t others[N_DISPATCHERS - 1];
        int fd = fuse_session_fd(s->se), n = 0, r = 0;

        s->is_spinning = sysconf(_SC_NPROCESSORS_ONLN) > 1;
        if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
                return err_set(e, -errno, "set up the connection to the kernel");
        atomic_store(&s->is_running, true);
        session_resume(s); /* what another process has left */
        while (n < N_DISPATCHERS - 1 && r == 0) {
                r = -pthread_create(&others[n], NULL, dispatch, s);
                n += r == 0;
        }
        dispatch(s); /* fewer threads serve as well, only slower */
        dispatch_wake(s);
        while (n > 0)
                pthread_join(others[--n], NULL);
        atomic_store(&s->is_running, false);
        if (s->receive_error < 0)
                return err_set(e, s->receive_error, "read a request from the kernel");
        return 0;
}
