/* tests/lib/log_fixture.h - a transaction log in a directory of the test's own.
 *
 * check runs each test in a process of its own: there is one log at a time. Record n has checksums, a time and a payload
 * that are made from n (record_of, size_of), and whatever reads a record here compares all of it. */
#ifndef LITEFS_TESTS_LOG_FIXTURE_H
#define LITEFS_TESTS_LOG_FIXTURE_H

#include "base/err.h"
#include "base/os.h"
#include "txlog/txlog.h"
#include "tests/lib/files.h"

struct log_fixture {
        char *dir;
        const char *log_dir;
        struct txlog *tl; /* NULL: not open */
        struct os os;     /* the host's, but sync reaches no disk: nobody cuts the power here */
        struct err e;
};

extern struct log_fixture fx;

void log_set_up(void);
void log_tear_down(void);

/* Closes the log that is open. 0: segments of the usual size. */
void open_log(uint64_t segment_bytes);

struct txlog_record record_of(uint64_t min_txid, uint64_t max_txid);
/* Sizes that differ, so that records end anywhere in a word. */
uint32_t size_of(uint64_t txid);
int append_as(uint64_t min_txid, uint64_t max_txid, uint32_t size);
void append(uint64_t txid);
void append_range(uint64_t first, uint64_t last);
/* A log of @n records in one segment, closed: its bytes, and where each record begins; offs[n] is the end. */
struct file_bytes make_log(int n, uint64_t *offs);

/* Reads on from where @r stands: checks every record, and returns the last TXID (0: none came). */
uint64_t read_on(struct txlog_reader *r);
/* The same by a reader of its own, from behind @after. */
uint64_t read_all(struct txlog *log, uint64_t after);
uint64_t first_of(void);
uint64_t last_of(struct txlog *log);
uint32_t count_segments(void);
/* Valid until the next path. */
const char *segment_path(uint64_t seq);

#endif
