/* lib/base/parcel.h - what a process hands to the one that takes its place: numbers, bytes and descriptors, in order.
 *
 * It lies in a file in memory (memfd) that is inherited, behind a version and a checksum: who reads one of another version, or
 * a damaged one, has read nothing. Each part of the daemon begins with a tag of its own. Errors stick: putting and getting go
 * on without effect (a number is 0, bytes are empty), and parcel_finish or parcel_check says so once.
 *
 *   0   8  magic        8   8  version        16   8  size of what follows        24   8  its checksum
 *   then numbers of 8 bytes, and bytes behind their number; all of this machine's order
 *
 * One thread at a time. */
#ifndef LITEFS_BASE_PARCEL_H
#define LITEFS_BASE_PARCEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* --- to make one; of zeros: empty --- */

struct parcel {
        uint8_t *bytes;
        size_t n, capacity;
        int error;
};

void parcel_put(struct parcel *p, uint64_t value);
void parcel_put_bytes(struct parcel *p, const void *bytes, size_t n);
void parcel_put_text(struct parcel *p, const char *text);
/* A duplicate of @fd (negative: none), which the next program of this process has open. */
void parcel_put_fd(struct parcel *p, int fd);
/* Into a new file in memory that the next program has open, too: its descriptor, or negative. */
int parcel_finish(struct parcel *p, uint64_t version, struct err *e);
void parcel_release(struct parcel *p);

/* --- to read one --- */

struct parcel_reader {
        uint8_t *bytes;
        size_t n, at;
        int error;
        int *inherited; /* descriptors that were seen in it */
        size_t n_inherited;
};

/* All of it. -EPROTO: not of this version, or damaged. */
int parcel_open(int fd, uint64_t version, struct parcel_reader *ret, struct err *e);
uint64_t parcel_get(struct parcel_reader *r);
/* A number below @limit, else the parcel is damaged. */
uint64_t parcel_get_below(struct parcel_reader *r, uint64_t limit);
bool parcel_get_flag(struct parcel_reader *r);
/* Borrowed from @r. */
const uint8_t *parcel_get_bytes(struct parcel_reader *r, size_t *ret_n);
/* Borrowed from @r; never NULL. */
const char *parcel_get_text(struct parcel_reader *r);
/* A duplicate that is the caller's, -1 for none: what was inherited stays open for who reads the parcel after this one. */
int parcel_get_fd(struct parcel_reader *r);
/* All of those that parcel_get_fd has seen: nobody reads the parcel any more. */
void parcel_close_inherited(struct parcel_reader *r);
/* The part begins that was put as the number @tag. */
void parcel_expect(struct parcel_reader *r, uint64_t tag);
/* 0, or -EPROTO, -ENOMEM, -EMFILE: what was read so far is not to be relied on. */
int parcel_check(const struct parcel_reader *r, struct err *e);
void parcel_reader_release(struct parcel_reader *r);

#endif
