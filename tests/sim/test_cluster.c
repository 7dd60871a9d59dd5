/* Whole nodes, but for the mount, under crashes, power loss, pauses, cuts and hand-overs, from a seed. Each seed has a
 * process of its own, so that what dies in it may leave its memory behind.
 *
 *   sim_cluster                    seeds 1 to COUNT_DEFAULT
 *   FIRST=N COUNT=M JOBS=K sim_cluster
 *   SEED=N sim_cluster             one, with a trace on stderr
 *   BACKEND=etcd sim_cluster       with etcd alone, or consul, or bucket; else seeds are of each in turn */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/lib/tmpdir.h"
#include "tests/sim/world.h"

#define COUNT_DEFAULT 1000
#define JOBS_DEFAULT 2
#define N_TTLS 12 /* of trouble */

struct totals {
        uint64_t n_steps, n_commits, n_applied, n_snapshots, n_take_overs, n_handoffs, n_lost, n_power,
                n_heirless;
        int64_t longest_ms; /* until all was well again */
};

static int64_t
env_number(const char *name, int64_t otherwise)
{
        const char *text = getenv(name);

        return text != NULL ? strtoll(text, NULL, 10) : otherwise;
}

static void
run_until(struct world *w, int64_t at_us)
{
        struct sim *s = w->sim;

        while (!s->is_failed && s->now_us < at_us && sim_step(s))
                judge_step(w);
}

/* Without trouble, all is well within this: a session lives for two TTLs and leaves the lock-delay behind; requests,
 * connecting again, connections to hosts that are gone, applying what a reader held up, and letting a better candidate go
 * first take their time. */
static int64_t
patience_ms(const struct world *w)
{
        return 6 * w->ttl_ms + w->lock_delay_ms + 30000;
}

static bool
wait_until_well(struct world *w, char *ret_why, size_t size)
{
        struct sim *s = w->sim;
        int64_t end_us = s->now_us + patience_ms(w) * SIM_MS;

        while (!judge_converged(w, ret_why, size)) {
                if (s->is_failed || s->now_us >= end_us)
                        return false;
                run_until(w, s->now_us + 100 * SIM_MS);
                trouble_revive(w);
        }
        return true;
}

static int64_t
converge(struct world *w)
{
        struct sim *s = w->sim;
        int64_t begin_us = s->now_us;
        char why[160];

        w->is_read_only = true;
        if (!wait_until_well(w, why, sizeof why) && !s->is_failed) {
                if (judge_has_heir(w) || !trouble_ends(w) ||
                    (w->n_heirless++, begin_us = s->now_us, !wait_until_well(w, why, sizeof why)))
                        sim_fail(s, "%lld ms after the last trouble: %s", (long long)patience_ms(w),
                                 why);
        }
        return (s->now_us - begin_us) / SIM_MS;
}

/* All is well, and stays so: with commits. */
static void
hold(struct world *w)
{
        struct machine *leader = w->leader;

        w->is_read_only = false;
        run_until(w, w->sim->now_us + 2 * w->ttl_ms * SIM_MS);
        if (!w->sim->is_failed && w->leader != leader)
                sim_fail(w->sim, "the primary changed from %s to %s without need", leader->host.name,
                         w->leader->host.name);
        converge(w);
}

/* Every other one has an etcd, of the rest each has a Consul and a bucket in turn; or all have what BACKEND says. */
static enum service_kind
kind_of_seed(uint64_t seed)
{
        const char *backend = getenv("BACKEND");

        if (backend == NULL)
                return seed % 2 == 1 ? SERVICE_ETCD : seed % 4 == 2 ? SERVICE_BUCKET : SERVICE_CONSUL;
        return strcmp(backend, "etcd") == 0     ? SERVICE_ETCD
               : strcmp(backend, "bucket") == 0 ? SERVICE_BUCKET
                                                : SERVICE_CONSUL;
}

static bool
run_seed(uint64_t seed, bool is_tracing, const char *dir, struct totals *t)
{
        static struct world w;
        struct sim s;

        sim_init(&s, seed, is_tracing);
        world_init(&w, &s, kind_of_seed(seed), dir);
        for (int i = 0; i < w.n_machines; i++)
                machine_boot(&w.machines[i]);
        trouble_start(&w);
        run_until(&w, N_TTLS * w.ttl_ms * SIM_MS);
        trouble_heal(&w);
        t->longest_ms = converge(&w);
        /* The last troubles may show later: requests that were lost, a process that was about to end. */
        run_until(&w, s.now_us + 2 * w.ttl_ms * SIM_MS);
        converge(&w);
        if (!s.is_failed)
                hold(&w);
        t->n_steps = s.n_steps;
        t->n_commits = w.n_commits;
        t->n_applied = w.n_applied;
        t->n_snapshots = w.n_snapshots;
        t->n_take_overs = w.n_take_overs;
        t->n_handoffs = w.n_handoffs;
        t->n_lost = w.n_lost;
        t->n_power = w.n_power;
        t->n_heirless = w.n_heirless;
        if (s.is_failed)
                printf("SEED=%llu at %.3f s, step %llu: %s\n", (unsigned long long)seed,
                       (double)s.now_us / 1e6, (unsigned long long)s.n_steps, s.failure);
        fflush(stdout);
        return !s.is_failed;
}

/* --- processes --- */

struct job {
        pid_t pid;
        int64_t seed;
        char dir[120];
        struct totals *totals; /* shared with it */
};

static void
begin(struct job *job, int64_t seed, const char *root, bool is_tracing)
{
        job->seed = seed;
        snprintf(job->dir, sizeof job->dir, "%s/%lld", root, (long long)seed);
        memset(job->totals, 0, sizeof *job->totals);
        if (mkdir(job->dir, 0700) < 0)
                abort();
        fflush(stdout);
        job->pid = fork();
        if (job->pid == 0)
                _exit(run_seed((uint64_t)seed, is_tracing, job->dir, job->totals) ? 0 : 1);
        if (job->pid < 0)
                abort();
}

static void
add_totals(struct totals *t, const struct totals *one)
{
        t->n_steps += one->n_steps;
        t->n_commits += one->n_commits;
        t->n_applied += one->n_applied;
        t->n_snapshots += one->n_snapshots;
        t->n_take_overs += one->n_take_overs;
        t->n_handoffs += one->n_handoffs;
        t->n_lost += one->n_lost;
        t->n_power += one->n_power;
        t->n_heirless += one->n_heirless;
        if (one->longest_ms > t->longest_ms)
                t->longest_ms = one->longest_ms;
}

/* Whether the seed that has ended was good. */
static bool
finish_one(struct job *jobs, int n, struct job **ret, struct totals *t)
{
        int status;
        pid_t pid = wait(&status);

        for (int i = 0; i < n; i++)
                if (jobs[i].pid == pid) {
                        *ret = &jobs[i];
                        add_totals(t, jobs[i].totals);
                        if (getenv("KEEP") == NULL)
                                tmpdir_remove(strdup(jobs[i].dir));
                        jobs[i].pid = 0;
                        if (WIFSIGNALED(status))
                                printf("SEED=%lld: ended by signal %d\n", (long long)jobs[i].seed,
                                       WTERMSIG(status));
                        return WIFEXITED(status) && WEXITSTATUS(status) == 0;
                }
        abort();
}

static int
run_all(int64_t first, int64_t count, int n_jobs, const char *root, bool is_tracing, struct totals *t)
{
        struct totals *shared = mmap(NULL, sizeof *shared * (size_t)n_jobs, PROT_READ | PROT_WRITE,
                                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        struct job *jobs = calloc((size_t)n_jobs, sizeof *jobs), *free_job;
        int n_failed = 0, n_running = 0;
        int64_t next = first;

        if (shared == MAP_FAILED || jobs == NULL)
                abort();
        for (int i = 0; i < n_jobs; i++)
                jobs[i].totals = &shared[i];
        for (; n_running < n_jobs && next < first + count; n_running++)
                begin(&jobs[n_running], next++, root, is_tracing);
        while (n_running > 0) {
                n_failed += !finish_one(jobs, n_jobs, &free_job, t);
                n_running--;
                if (next < first + count && n_failed < 10) {
                        begin(free_job, next++, root, is_tracing);
                        n_running++;
                }
        }
        free(jobs);
        return n_failed;
}

int
main(void)
{
        int64_t first = env_number("FIRST", 1), count = env_number("COUNT", COUNT_DEFAULT);
        int64_t one = env_number("SEED", -1);
        struct log_config log = { .is_debug = one >= 0, .fd = one >= 0 ? 2 : -1 };
        struct totals t = { 0 };
        char *root;
        int n_failed;

        log_configure(&log);
        if (getenv("TMPDIR") == NULL && access("/dev/shm", W_OK) == 0)
                setenv("TMPDIR", "/dev/shm", 1); /* no real power is lost */
        root = tmpdir_make();
        if (one >= 0) {
                first = one;
                count = 1;
        }
        n_failed = run_all(first, count, (int)env_number("JOBS", JOBS_DEFAULT), root, one >= 0, &t);
        printf("seeds %lld to %lld: %llu steps, %llu commits, %llu applied, %llu of them snapshots; %llu take-overs, "
               "%llu of them handed over, %llu times a node that was behind took over, %llu times power was lost, "
               "%llu times all waited for one that was gone; at most %lld ms until all was well\n",
               (long long)first, (long long)(first + count - 1), (unsigned long long)t.n_steps,
               (unsigned long long)t.n_commits, (unsigned long long)t.n_applied,
               (unsigned long long)t.n_snapshots, (unsigned long long)t.n_take_overs,
               (unsigned long long)t.n_handoffs, (unsigned long long)t.n_lost,
               (unsigned long long)t.n_power, (unsigned long long)t.n_heirless, (long long)t.longest_ms);
        if (getenv("KEEP") == NULL)
                tmpdir_remove(root);
        return n_failed > 0;
}
