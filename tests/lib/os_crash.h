/* tests/lib/os_crash.h - a `struct os` whose power can be cut.
 *
 * It works on a real directory, the root, and remembers of everything below it what is durable. When the power is
 * cut, by os_crash_now() or within the call that os_crash_after() names, every further call fails with -EIO, and
 * the root is made into one state that the disk may hold then; os_host() goes on from there. The state is chosen
 * by the seed.
 *
 * The model, which is what POSIX allows and at least what ext4, XFS and btrfs have been seen to do:
 *   data     A write is volatile until fsync or fdatasync of its file returned 0. Of unsynced writes each 512-byte
 *            sector survives on its own: it holds what was durable or what any of the writes to it since put there,
 *            whatever became of the others and of earlier sectors. A sector is never torn within.
 *   size     Extensions and truncations of a file reach the disk in order: a prefix of those since the last sync
 *            survives, the last or none of them too. Bytes of a surviving size whose write did not survive are
 *            zeros; so is what a surviving truncation cut away. fdatasync makes the size durable with the data.
 *   names    create, mkdir, unlink, rename and rmdir are durable when the directory that they changed was fsynced
 *            afterwards; fsync of the file itself does not help. Of unsynced ones either a prefix survives or, as
 *            the seed says, any subset. A rename is atomic, and durable when either of its directories is synced.
 *            A directory that does not survive takes what is below it along.
 *   identity A name stands for a file: a name that survives with the content of the file that it named.
 *            A file without a surviving name is gone.
 *   begin    What is in the root at os_crash_new() is durable. Paths outside it are not for this struct os.
 *   errors   A call that fails has changed nothing, but for a write that failed (an os_fault above this one).
 * Not modelled: what a failed fsync drops, modes, owners and times, links, and files mapped into memory. */
#ifndef LITEFS_TESTS_OS_CRASH_H
#define LITEFS_TESTS_OS_CRASH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/os.h"

struct os_crash;

/* @root must exist and is borrowed. Aborts when memory is out. */
struct os_crash *os_crash_new(const char *root, uint64_t seed);
/* Descriptors may stay open; the root stays as it is. */
void os_crash_free(struct os_crash *oc);
const struct os *os_crash_os(struct os_crash *oc);

/* The power is cut in the @n-th call from now on that changes or syncs anything (from 1; 0: in none): the call
 * may have happened, a write of it in part, and fails. */
void os_crash_after(struct os_crash *oc, uint64_t n);
/* Calls that changed or synced anything so far. */
uint64_t os_crash_calls(struct os_crash *oc);
bool os_crash_is_dead(struct os_crash *oc);
/* Cuts the power now, if it is not cut yet. Then the root holds what survives. */
void os_crash_now(struct os_crash *oc);

#endif
