/* tests/sim/sim.h - time, chance and threads of a simulated world, all in one real thread.
 *
 * Whatever happens is an event; the order of events follows from the seed alone. A host is a machine with a process
 * on it: its clock runs at a rate of its own, its events wait while it is paused (SIGSTOP: the clock goes on) and
 * are lost when it dies. Code that waits runs in a fiber. */
#ifndef LITEFS_TESTS_SIM_SIM_H
#define LITEFS_TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"

#define SIM_MS 1000LL /* a millisecond of true time */

/* Runs exactly once. @is_lost: the host has died meanwhile, or the simulation is over; only free what @arg holds. */
typedef void sim_fn(void *arg, bool is_lost);

struct sim_event {
        int64_t at_us;
        uint64_t seq;
        struct sim_host *host; /* NULL: the world's */
        uint64_t incarnation;  /* of the host */
        sim_fn *fn;
        void *arg;
};

struct sim_events {
        struct sim_event *v;
        size_t n, capacity;
};

struct sim_host {
        struct clock clock; /* first: see host_boot_ms */
        struct sim *sim;
        char name[16];
        int rate_ppm; /* how much faster than true time its clock runs */
        int64_t boot_offset_ms;
        bool is_up, is_paused;
        bool is_dark; /* without power: nothing answers for it */
        uint64_t incarnation;
        struct sim_events deferred; /* while paused */
};

struct sim {
        uint64_t seed, random;
        int64_t now_us; /* true time */
        uint64_t next_seq, n_steps;
        struct sim_events events; /* a heap */
        struct fiber *running, *free_fibers;
        struct sim_host *here; /* whose event or fiber runs; NULL: the world's */
        bool is_tracing;
        bool is_failed;
        char failure[256]; /* the first */
};

void sim_init(struct sim *s, uint64_t seed, bool is_tracing);
/* All events that are left are lost. */
void sim_release(struct sim *s);
/* One event; false: there is none. */
bool sim_step(struct sim *s);

uint64_t sim_random(struct sim *s);
/* [from, to] */
int64_t sim_between(struct sim *s, int64_t from, int64_t to);
bool sim_chance(struct sim *s, int permille);

void sim_post(struct sim *s, struct sim_host *host, int64_t delay_us, sim_fn *fn, void *arg);
void sim_trace(struct sim *s, const struct sim_host *host, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
/* What must hold does not. */
void sim_fail(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

void host_init(struct sim_host *h, struct sim *s, const char *name);
void host_release(struct sim_host *h);
int64_t host_now_ms(const struct sim_host *h);
/* True time until the host's clock shows @at_ms; 0 when it is past. */
int64_t host_until_us(const struct sim_host *h, int64_t at_ms);
void host_start(struct sim_host *h);
void host_pause(struct sim_host *h);
void host_resume(struct sim_host *h);
/* As a process dies: its fibers run no more, and what they hold is lost. */
void host_kill(struct sim_host *h);

/* Runs @fn until it waits or ends. @host may be NULL. */
void fiber_start(struct sim *s, struct sim_host *host, void (*fn)(void *arg), void *arg);
/* In a fiber only: until somebody calls fiber_wake. */
void fiber_wait(struct sim *s);
struct fiber *fiber_current(struct sim *s);
void fiber_wake(struct sim *s, struct fiber *f);
void fiber_sleep(struct sim *s, int64_t ms);

#endif
