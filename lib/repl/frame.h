/* lib/repl/frame.h - the frames of a replication stream, as bytes.
 *
 * A frame is a u32 length of what follows, a u8 type and a payload; integers are big-endian
 * (docs/protocol.md has every byte and who sends what when). This is the codec of one frame and knows no
 * order of frames; frame_decoder.h cuts a stream into frames. Both directions apply the same rules, so that
 * nothing is sent which a peer of the same version refuses.
 *
 * Pure functions: any thread. */
#ifndef LITEFS_REPL_FRAME_H
#define LITEFS_REPL_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "db/ownership.h"
#include "txlog/txlog.h"
#include "lease/lease.h"
#include "ltx/pos.h"
#include "store/dbname.h"

#define FRAME_UPGRADE "litefs-stream/1" /* the token of the HTTP upgrade */
#define FRAME_VERSION 8                 /* the minor version that this code speaks, in HELLO */
#define FRAME_VERSION_PING 2            /* from which on PING, PONG and SUCCESSOR are understood */
#define FRAME_VERSION_DURABLE 3         /* from which on there are DURABLE and SYNC */
#define FRAME_VERSION_OWNERSHIP 4       /* OWNERSHIP */
#define FRAME_VERSION_CANDIDACY 5       /* CANDIDACY, PEER */
#define FRAME_VERSION_INTERLEAVED 7     /* records of several databases may be open at once */
#define FRAME_VERSION_FETCH 8           /* PEER also of nodes that may not lead; GET /transactions */
#define FRAME_OPEN_MAX 16               /* of them */

#define FRAME_HEADER_SIZE 5
#define FRAME_DATA_OVERHEAD (FRAME_HEADER_SIZE + 4) /* before the bytes of a DATA frame */
#define FRAME_DATA_MAX (256 * 1024)                 /* bytes that one DATA frame carries */
#define FRAME_POSITIONS_MAX 512                     /* entries of one POSITIONS frame */
#define FRAME_TEXT_MAX 400                          /* bytes of the text of an ERROR */
#define FRAME_STREAMS_MAX 16                        /* records open at a time; for sessions to hold to */
#define FRAME_POSITIONS_SIZE (FRAME_HEADER_SIZE + 5 + FRAME_POSITIONS_MAX * (17 + DBNAME_MAX))
#define FRAME_SMALL_SIZE 1400 /* holds any frame but DATA and POSITIONS, whole */

enum frame_type {
        FRAME_HELLO = 1,
        FRAME_POSITIONS = 2,
        FRAME_LTX = 3,
        FRAME_DATA = 4,
        FRAME_LTX_END = 5,
        FRAME_READY = 6,
        FRAME_HEARTBEAT = 7,
        FRAME_HANDOFF = 8,
        FRAME_ACK = 9,
        FRAME_ERROR = 10,
        FRAME_PING = 11,
        FRAME_PONG = 12,
        FRAME_SUCCESSOR = 13,
        FRAME_DURABLE = 14,
        FRAME_SYNC = 15,
        FRAME_OWNERSHIP = 16,
        FRAME_CANDIDACY = 17,
        FRAME_PEER = 18,
};

struct frame_hello {
        uint16_t version; /* >= 1; the lower of both sides' is spoken */
        uint64_t boot_id;
        uint64_t term;                          /* the primary's; a replica's last known, 0: none */
        char cluster_id[LEASE_CLUSTER_ID_SIZE]; /* "" when not known yet */
        char hostname[LEASE_HOSTNAME_SIZE];
        char advertise_url[LEASE_URL_SIZE];
};

#define FRAME_POSITIONS_LAST 0x1u /* no further batch of this list follows */
#define FRAME_POSITIONS_ALL \
        0x2u /* the list is complete: what it does not name, the sender does not have */

struct frame_positions {
        uint8_t flags;
        uint32_t count;
        const uint8_t *entries; /* for frame_positions_next; borrowed from the payload */
        size_t size_bytes;
};

/* Begins one record, a snapshot if record.min_txid is 1. A deletion is one with commit 0. */
struct frame_ltx {
        uint32_t stream; /* >= 1, names the record in DATA and LTX_END */
        uint64_t term;   /* of the primary that sends it, >= 1 */
        char name[DBNAME_MAX + 1];
        struct txlog_record record; /* size_bytes 0: a snapshot made while it is sent */
        uint8_t history; /* enum txlog_history: the replica's position, to the sender; of snapshots */
};

struct frame_data {
        uint32_t stream;
        const uint8_t *bytes; /* borrowed from the payload */
        size_t n;             /* 1 to FRAME_DATA_MAX */
};

enum frame_ltx_status { FRAME_LTX_COMPLETE = 0, FRAME_LTX_ABANDONED = 1 };

struct frame_ltx_end {
        uint32_t stream;
        uint8_t status;      /* enum frame_ltx_status */
        uint64_t size_bytes; /* sent in DATA, in sum */
};

struct frame_heartbeat {
        int64_t wall_ms; /* the primary's, since the Unix epoch */
        uint64_t term;
        int64_t fence_ms; /* until the primary fences itself; 0: it has, -1: its lease does not run out */
};

struct frame_handoff {
        uint64_t boot_id; /* who is to take the lease over */
        char token[LEASE_SESSION_SIZE];
};

/* Whether the replica may lead. One that says nothing may. */
struct frame_candidacy {
        bool is_candidate;
};

#define FRAME_PEER_FIRST 0x1u
#define FRAME_PEER_LAST 0x2u

/* One of the list of nodes that may lead. */
struct frame_peer {
        uint8_t flags;
        char advertise_url[LEASE_URL_SIZE]; /* "": there is none */
};

struct frame_ack {
        char name[DBNAME_MAX + 1];
        struct ltx_pos pos; /* applied; in DURABLE: on the disk */
};

/* Mode and owner of a database that the replica has, and of the directories on its path. */
struct frame_ownership {
        char name[DBNAME_MAX + 1];
        struct path_ownership path; /* as many as the name has parts, and the root's */
};

/* What a peer may act upon; an unknown code is like FRAME_ERROR_INTERNAL. */
enum frame_error_code {
        FRAME_ERROR_INTERNAL = 1,
        FRAME_ERROR_PROTOCOL = 2,
        FRAME_ERROR_CLUSTER = 3,
        FRAME_ERROR_NOT_PRIMARY = 4,
        FRAME_ERROR_TERM = 5,
        FRAME_ERROR_LIMIT = 6,
        FRAME_ERROR_SHUTDOWN = 7,
};

struct frame_error {
        uint16_t code; /* >= 1 */
        char text[FRAME_TEXT_MAX + 1];
};

/* What a replica asks: where the primary is, after this was sent. */
struct frame_ping {
        uint64_t nonce;            /* >= 1 */
        char name[DBNAME_MAX + 1]; /* "": of no database, only whether it still leads */
};

struct frame_pong {
        uint64_t nonce;
        struct ltx_pos pos; /* 0: it has no such database */
};

/* Who the lease goes to, before the ERROR that ends the stream. */
struct frame_successor {
        uint64_t boot_id;
        char hostname[LEASE_HOSTNAME_SIZE];
        char advertise_url[LEASE_URL_SIZE];
};

struct frame {
        enum frame_type type;
        union {
                struct frame_hello hello;
                struct frame_positions positions;
                struct frame_ltx ltx;
                struct frame_data data;
                struct frame_ltx_end ltx_end;
                struct frame_heartbeat heartbeat;
                struct frame_handoff handoff;
                struct frame_ack ack; /* of ACK and DURABLE */
                struct frame_error error;
                struct frame_ping ping;
                struct frame_pong pong;
                struct frame_successor successor;
                struct frame_ownership ownership;
                struct frame_candidacy candidacy;
                struct frame_peer peer;
        };
};

/* "LTX_END"; NULL when @type is no type. */
const char *frame_type_name(uint8_t type);

/* Checks the first bytes of a frame, before anything is allocated for the rest: 0 and the payload's length,
 * else E_FORMAT. */
int frame_header_parse(const uint8_t header[FRAME_HEADER_SIZE], uint8_t *ret_type, size_t *ret_n,
                       struct err *e);
/* Reads the payload of a frame: 0, else E_FORMAT with the field, and its offset in the payload. *@ret may
 * borrow from @payload. */
int frame_parse(uint8_t type, const uint8_t *payload, size_t n, struct frame *ret, struct err *e);

/* The most bytes that the DATA of this transaction can have: as many as are announced, or else as its pages come to. E_FORMAT: that
 * many it cannot have. */
int frame_ltx_bound(const struct frame_ltx *ltx, uint64_t *ret, struct err *e);

/* Writes the whole frame: its length in bytes; -ENOBUFS when it is longer than @size; E_FORMAT when @f is
 * nothing that may be sent. For DATA, frame_data_header saves a copy. */
ssize_t frame_encode(const struct frame *f, uint8_t *buf, size_t size, struct err *e);
/* What comes before the @n bytes (1 to FRAME_DATA_MAX) of a DATA frame. */
void frame_data_header(uint32_t stream, size_t n, uint8_t ret[FRAME_DATA_OVERHEAD]);

/* Builds one POSITIONS frame in place: init, add until it returns 0, finish. */
struct frame_positions_writer {
        uint8_t *buf;
        size_t size;
        size_t n;
        uint32_t count;
};

/* @size of FRAME_POSITIONS_SIZE is enough for any batch; at least FRAME_HEADER_SIZE + 5. */
void frame_positions_init(struct frame_positions_writer *w, uint8_t *buf, size_t size);
/* 1: added, 0: the batch is full, E_FORMAT: nothing that may be sent. */
int frame_positions_add(struct frame_positions_writer *w, const char *name, struct ltx_pos pos,
                        struct err *e);
/* The length of the frame; @flags as in struct frame_positions. */
size_t frame_positions_finish(struct frame_positions_writer *w, uint8_t flags);

/* Takes the next entry off a parsed POSITIONS: false at the end. */
bool frame_positions_next(struct frame_positions *p, char ret_name[DBNAME_MAX + 1],
                          struct ltx_pos *ret_pos);

#endif
