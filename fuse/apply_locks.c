/* SQLite's locks on NAME, as OFD locks that the kernel keeps. */
#include <errno.h>
#include <fcntl.h>

#include "fuse/apply_internal.h"

void
apply_release_exclusive(struct apply *a)
{
        (void)own_lock(&a->file, F_UNLCK, SQLITE_SHARED_FIRST, SQLITE_SHARED_SIZE);
        (void)own_lock(&a->file, F_UNLCK, SQLITE_PENDING_BYTE, 1);
        a->is_pending = false;
        a->hold = HOLD_NOTHING;
}

/* Keeps SQLite's last connection from taking the WAL away. */
int
apply_take_shared(struct apply *a)
{
        int r;

        if (a->hold == HOLD_SHARED)
                return 0;
        if (a->hold == HOLD_EXCLUSIVE || a->is_pending)
                apply_release_exclusive(a);
        r = own_lock(&a->file, F_RDLCK, SQLITE_SHARED_FIRST, SQLITE_SHARED_SIZE);
        if (r == 0)
                a->hold = HOLD_SHARED;
        return r;
}

int
apply_take_exclusive(struct apply *a)
{
        int64_t now_ms = clock_boot_ms(clock_host());
        int r = 0;

        if (a->hold == HOLD_EXCLUSIVE)
                return 0;
        if (a->is_pending && now_ms - a->pending_since_ms > a->pending_ms) {
                apply_release_exclusive(a);
                a->rest_until_ms = now_ms + RESTS * a->pending_ms;
                a->pending_ms = a->pending_ms * 2 > PENDING_MAX_MS ? PENDING_MAX_MS : a->pending_ms * 2;
                return -EAGAIN;
        }
        if (!a->is_pending)
                a->pending_since_ms = now_ms;
        if (!a->is_pending)
                r = own_lock(&a->file, F_WRLCK, SQLITE_PENDING_BYTE, 1);
        if (r < 0)
                return r;
        a->is_pending = true;
        r = own_lock(&a->file, F_WRLCK, SQLITE_SHARED_FIRST, SQLITE_SHARED_SIZE);
        if (r == 0)
                a->hold = HOLD_EXCLUSIVE;
        else if (now_ms < a->rest_until_ms)
                apply_release_exclusive(a); /* a moment without readers would have done */
        return r;
}
