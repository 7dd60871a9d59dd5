#include "base/workers.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/thread.h"

#define WORKERS_MAX 32

struct workers {
        pthread_mutex_t lock; /* guards all below but tids */
        pthread_cond_t wake;
        pthread_cond_t idle;
        struct work *head;
        struct work **tail;
        unsigned n_running;
        unsigned n_waiting;
        unsigned n_threads;
        bool is_stopping;
        bool is_for_mount;
        pthread_t threads[WORKERS_MAX];
        _Atomic pid_t tids[WORKERS_MAX]; /* set by each thread before its first job */
};

/* Where this thread takes on a job of its own; see workers_offer. */
static _Thread_local struct work **offered_slot;

struct thread_arg {
        struct workers *pool;
        unsigned index;
};

static struct work *
next_job(struct workers *p)
{
        struct work *w;

        while (p->head == NULL && !p->is_stopping) {
                p->n_waiting++;
                pthread_cond_wait(&p->wake, &p->lock);
                p->n_waiting--;
        }
        w = p->head;
        if (w != NULL) {
                p->head = w->next;
                if (p->head == NULL)
                        p->tail = &p->head;
                p->n_running++;
        }
        return w;
}

static void
workers_end_job(struct workers *p)
{
        p->n_running--;
        if (p->n_running == 0 && p->head == NULL)
                pthread_cond_broadcast(&p->idle);
}

static void *
workers_run_thread(void *arg)
{
        struct thread_arg a = *(struct thread_arg *)arg;
        struct workers *p = a.pool;
        struct work *w;

        free(arg);
        if (p->is_for_mount)
                thread_allow_own_mount(true);
        atomic_store(&p->tids[a.index], gettid());
        pthread_mutex_lock(&p->lock);
        while ((w = next_job(p)) != NULL) {
                pthread_mutex_unlock(&p->lock);
                w->run(w);
                pthread_mutex_lock(&p->lock);
                workers_end_job(p);
        }
        pthread_mutex_unlock(&p->lock);
        return NULL;
}

static int
start_thread(struct workers *p, unsigned index)
{
        struct thread_arg *a = malloc(sizeof *a);
        int r;

        if (a == NULL)
                return -ENOMEM;
        *a = (struct thread_arg){ p, index };
        r = thread_start(&p->threads[index], workers_run_thread, a);
        if (r < 0)
                free(a);
        return r;
}

static int
new_pool(unsigned n_threads, bool is_for_mount, struct workers **ret)
{
        struct workers *p;
        int r = 0;

        if (n_threads == 0 || n_threads > WORKERS_MAX)
                return -EINVAL;
        p = calloc(1, sizeof *p);
        if (p == NULL)
                return -ENOMEM;
        pthread_mutex_init(&p->lock, NULL);
        pthread_cond_init(&p->wake, NULL);
        pthread_cond_init(&p->idle, NULL);
        p->tail = &p->head;
        p->is_for_mount = is_for_mount;
        while (p->n_threads < n_threads && r == 0) {
                r = start_thread(p, p->n_threads);
                if (r == 0)
                        p->n_threads++;
        }
        if (r < 0) {
                workers_free(p);
                return r;
        }
        *ret = p;
        return 0;
}

int
workers_new(unsigned n_threads, struct workers **ret)
{
        return new_pool(n_threads, false, ret);
}

int
workers_new_for_mount(unsigned n_threads, struct workers **ret)
{
        return new_pool(n_threads, true, ret);
}

void
workers_post(struct workers *p, struct work *w)
{
        w->next = NULL;
        pthread_mutex_lock(&p->lock);
        *p->tail = w;
        p->tail = &w->next;
        if (p->n_waiting > 0)
                pthread_cond_signal(&p->wake);
        pthread_mutex_unlock(&p->lock);
}

void
workers_post_here(struct workers *p, struct work *w)
{
        if (offered_slot == NULL || *offered_slot != NULL) {
                workers_post(p, w);
                return;
        }
        *offered_slot = w;
        pthread_mutex_lock(&p->lock);
        p->n_running++; /* so that workers_drain waits for it */
        pthread_mutex_unlock(&p->lock);
}

void
workers_offer(struct work **slot)
{
        offered_slot = slot;
}

void
workers_run_here(struct workers *p, struct work *w)
{
        w->run(w);
        pthread_mutex_lock(&p->lock);
        workers_end_job(p);
        pthread_mutex_unlock(&p->lock);
}

bool
workers_has_tid(struct workers *p, pid_t tid)
{
        for (unsigned i = 0; i < p->n_threads; i++)
                if (atomic_load(&p->tids[i]) == tid)
                        return true;
        return false;
}

bool
workers_is_idle(struct workers *p)
{
        bool is_idle;

        pthread_mutex_lock(&p->lock);
        is_idle = p->n_running == 0 && p->head == NULL;
        pthread_mutex_unlock(&p->lock);
        return is_idle;
}

void
workers_drain(struct workers *p)
{
        pthread_mutex_lock(&p->lock);
        while (p->n_running > 0 || p->head != NULL)
                pthread_cond_wait(&p->idle, &p->lock);
        pthread_mutex_unlock(&p->lock);
}

void
workers_free(struct workers *p)
{
        if (p == NULL)
                return;
        workers_drain(p);
        pthread_mutex_lock(&p->lock);
        p->is_stopping = true;
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
        for (unsigned i = 0; i < p->n_threads; i++)
                pthread_join(p->threads[i], NULL);
        pthread_cond_destroy(&p->idle);
        pthread_cond_destroy(&p->wake);
        pthread_mutex_destroy(&p->lock);
        free(p);
}

struct call {
        struct work work;
        int (*fn)(void *arg);
        void *arg;
        int result;
        bool is_done;
        pthread_mutex_t lock;
        pthread_cond_t done;
};

static void
workers_run_call(struct work *w)
{
        struct call *call = (struct call *)w;
        int r = call->fn(call->arg);

        pthread_mutex_lock(&call->lock);
        call->result = r;
        call->is_done = true;
        pthread_cond_signal(&call->done);
        pthread_mutex_unlock(&call->lock);
}

int
workers_call(struct workers *p, int (*fn)(void *arg), void *arg)
{
        struct call call = { .work.run = workers_run_call, .fn = fn, .arg = arg };

        pthread_mutex_init(&call.lock, NULL);
        pthread_cond_init(&call.done, NULL);
        workers_post(p, &call.work);
        pthread_mutex_lock(&call.lock);
        while (!call.is_done)
                pthread_cond_wait(&call.done, &call.lock);
        pthread_mutex_unlock(&call.lock);
        pthread_cond_destroy(&call.done);
        pthread_mutex_destroy(&call.lock);
        return call.result;
}
