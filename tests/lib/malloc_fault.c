#include "tests/lib/malloc_fault.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);

static atomic_bool is_armed, fails_for_ever;
static atomic_uint_fast64_t n_calls, nth_fails, n_failed;

void
malloc_fault_arm(uint64_t nth, bool is_for_ever)
{
        atomic_store(&n_calls, 0);
        atomic_store(&n_failed, 0);
        atomic_store(&nth_fails, nth);
        atomic_store(&fails_for_ever, is_for_ever);
        atomic_store(&is_armed, true);
}

uint64_t
malloc_fault_disarm(void)
{
        atomic_store(&is_armed, false);
        return atomic_load(&n_failed);
}

static bool
fails(void)
{
        uint64_t n, nth;

        if (!atomic_load(&is_armed))
                return false;
        n = atomic_fetch_add(&n_calls, 1) + 1;
        nth = atomic_load(&nth_fails);
        if (nth == 0 || (n != nth && !(n > nth && atomic_load(&fails_for_ever))))
                return false;
        atomic_fetch_add(&n_failed, 1);
        errno = ENOMEM;
        return true;
}

void *
__wrap_malloc(size_t n)
{
        return fails() ? NULL : __real_malloc(n);
}

void *
__wrap_calloc(size_t n, size_t size)
{
        return fails() ? NULL : __real_calloc(n, size);
}

void *
__wrap_realloc(void *p, size_t n)
{
        return fails() ? NULL : __real_realloc(p, n);
}

char *
__wrap_strdup(const char *s)
{
        return fails() ? NULL : __real_strdup(s);
}
