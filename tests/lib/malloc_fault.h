/* tests/lib/malloc_fault.h - memory that runs out where a test wants it to.
 *
 * A test that uses it links with MALLOC_FAULT's options (its `links:` line):
 *      -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup
 * so that every call from the program's own objects passes here; shared libraries (SQLite) are left alone. */
#ifndef LITEFS_TESTS_MALLOC_FAULT_H
#define LITEFS_TESTS_MALLOC_FAULT_H

#include <stdbool.h>
#include <stdint.h>

/* The @nth allocation from now on fails (from 1; 0: none), and all after it with @is_for_ever. */
void malloc_fault_arm(uint64_t nth, bool is_for_ever);
/* Ends that, and returns how many allocations failed. */
uint64_t malloc_fault_disarm(void);

#endif
