/* tests/lib/db_driver_fault.h - what the fault tests share: the kinds of failure, and a database that is opened
 * while something fails. Links with malloc_fault.h's options. */
#ifndef LITEFS_TESTS_DB_DRIVER_FAULT_H
#define LITEFS_TESTS_DB_DRIVER_FAULT_H

#include <stddef.h>

#include "tests/lib/db_driver.h"
#include "tests/lib/os_fault.h"

struct fault_kind {
        const char *name;
        bool is_malloc;
        struct os_fault_plan plan; /* but for nth and is_for_ever */
};
extern const struct fault_kind fault_kinds[];
extern const size_t n_fault_kinds;

/* From now on the @nth call of the kind fails. */
void fault_arm(struct os_fault *of, const struct fault_kind *kind, uint64_t nth, bool is_for_ever);
/* Nothing fails any more: how many calls did. */
uint64_t fault_disarm(struct os_fault *of, const struct fault_kind *kind);

/* A data directory and the state that each recovery of it must find. */
struct expected_open {
        const char *template;
        uint64_t segment_bytes;
        uint64_t txid;
        uint64_t state;         /* db_driver_digest(); 0: there is no database */
        const void *base_image; /* db_driver_check_files() */
        size_t base_size;
};
/* Whether the database at @root, opened through @os, is in that state, intact and with a log to match; *ret_is_open
 * tells an error of the opening itself, which leaves nothing open, from a wrong state. */
int check_open(const struct os *os, const char *root, const struct expected_open *expected,
               bool *ret_is_open, struct err *e);
/* Opens copies of it at @root while the n-th call of each kind fails, for all n; each is opened once more without
 * faults. 0, or what went wrong. */
int fail_each_open(const char *root, const struct expected_open *expected, struct err *e);
/* The same with the power cut in the n-th call, @n_seeds ways each. */
int cut_each_open(const char *root, const struct expected_open *expected, uint64_t seed,
                  unsigned n_seeds, struct err *e);

#endif
