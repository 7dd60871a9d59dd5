/* lib/txlog/txlog_internal.h - the inside of the log, for txlog.c and txlog_*.c. They call each other downwards in this order:
 *
 *   txlog_open.c               what is valid of what is found
 *   txlog.c                    appends
 *   txlog_sync.c, txlog_rest.c   durability and space ahead; idle logs
 *   txlog_retain.c, txlog_reader.c
 *   txlog_segments.c           the list of segments, and one of them */
#ifndef LITEFS_TXLOG_INTERNAL_H
#define LITEFS_TXLOG_INTERNAL_H

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>

#include "txlog/segment.h"
#include "txlog/txlog.h"

#define MARK_EVERY (256u << 10) /* log bytes between entries of the sparse index */

/* An entry of the sparse index: a place where a frame begins. 24 bytes for 256 KiB of log. */
struct mark {
        uint64_t txid; /* the one after the record before; what begins here leads on from there */
        uint64_t off;
        uint64_t chain; /* of the frame before it */
};

/* Where a segment ended. */
struct segment_end {
        uint64_t off;
        uint64_t chain;
        bool has_records;
        struct txlog_record last;
};

struct segment {
        struct segment *next;
        struct segment_header header;
        int fd; /* of the last segment unless it rests, and of others until they are durable; else -1 */
        uint64_t inode; /* of a last segment that rests */
        uint64_t lsn_start;
        uint64_t end;       /* of the last record */
        uint64_t allocated; /* zero-filled and durable up to here */
        uint64_t chain;     /* of the last frame */
        bool is_durable;    /* all of it, its name too */
        bool has_name_synced;
        bool has_records;
        struct txlog_record first, last;
        struct segment_end before; /* the last record */
        struct mark *marks;
        uint32_t n_marks;
        uint32_t marks_capacity;
};

struct gather {
        struct byte_sink sink;
        struct txlog *log;
        uint8_t *buf; /* frame header and payload */
        size_t size;
        size_t capacity;
        uint64_t payload; /* bytes of it so far, written out or not */
        uint64_t crc;
        uint64_t written; /* bytes after the frame header that are in the file already */
        int error;
};

struct txlog {
        const struct os *os;
        char *dir;
        uint64_t segment_bytes;
        /* Guards the list and all in it, lsns, readers; never held over disk waits. */
        pthread_mutex_t lock;
        struct segment *head; /* oldest; NULL while there is none */
        struct segment *tail;
        uint64_t end_lsn;
        uint64_t synced_lsn;
        bool is_readonly;
        atomic_bool is_broken; /* no more appends: -EIO */
        bool wants_cut; /* behind the end there may be a record that is not to be; the appender's */
        uint64_t torn_bytes;
        struct txlog_reader *readers;
        bool is_swapping;          /* another log is about to take its place: no new readers */
        pthread_mutex_t sync_lock; /* one fdatasync at a time; rank above lock */
        bool is_sync_broken; /* by sync_lock: one failed, and what was not synced then never will be */
        bool has_synced;     /* since the last make_space: space ahead is worth its cost */
        struct segment *filling; /* make_space works on it: it stays in the list, and open */
        bool is_zeroing;         /* zeros are on their way to fill_from up to fill_to of it */
        uint64_t fill_from, fill_to;
        pthread_cond_t zeroed;
        struct gather gather;
};

struct txlog_reader {
        struct byte_src src;
        struct txlog *log;
        struct txlog_reader *next; /* log->readers */
        uint64_t seq;              /* the segment it stands in: pinned */
        int fd;
        uint64_t off;   /* of the next frame */
        uint64_t chain; /* of the frame before */
        uint64_t after_txid;
        struct record_frame frame; /* being read */
        uint64_t off_of_record;
        uint64_t payload_off, payload_left;
        uint64_t crc;
};

/* --- txlog_segments.c --- */
int txlog_segment_path(const struct txlog *log, uint64_t seq, char *buf, size_t size);
/* Takes a record at @off into the segment's summary and index. 0 or -ENOMEM (then only the index lacks it). */
void segment_note_record(struct segment *s, const struct record_frame *f, uint64_t off,
                         uint64_t previous_chain);
void segment_free(const struct os *os, struct segment *s);
int txlog_write_header(const struct txlog *log, const struct segment *s);
/* With the lock: the descriptor of a segment that will not be written or synced any more. */
void txlog_close_if_durable(struct txlog *log, struct segment *s);

/* --- txlog_sync.c --- */
/* Takes sync_lock, which somebody may hold over an fdatasync. */
void txlog_lock_syncs(struct txlog *log);

/* --- txlog_rest.c --- */
/* Opens what rests, for who appends. */
int txlog_wake(struct txlog *log);

#endif
