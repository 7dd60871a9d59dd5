/* The types of frames, and what each consists of: the function that reads one, with the layout above it, beside the one that
 * writes it. All integers are big-endian. */
#include <string.h>

#include "ltx/checksum.h"
#include "ltx/header.h"
#include "repl/frame_fields.h"
#include "repl/frame_types.h"

#define POSITION_MAX (1 + DBNAME_MAX + 16)
#define CLUSTER_ID_LEN (LEASE_CLUSTER_ID_SIZE - 1)

_Static_assert(LEASE_HOSTNAME_SIZE - 1 <= UINT8_MAX && LEASE_SESSION_SIZE - 1 <= UINT8_MAX &&
                       DBNAME_MAX <= UINT8_MAX,
               "their lengths are one byte");

static bool
is_cluster_id(const char *id)
{
        return id[0] == '\0' || (strlen(id) == CLUSTER_ID_LEN && memcmp(id, "LFSC", 4) == 0 &&
                                 strspn(id + 4, "0123456789ABCDEF") == CLUSTER_ID_LEN - 4);
}

/* u16 version, u64 boot id, u64 term, u8 length and cluster id, u8 length and hostname, u16 length and URL */
static void
read_hello(struct frame_reader *r, struct frame *ret)
{
        struct frame_hello *h = &ret->hello;
        size_t n;

        h->version = frame_take_u16(r, "version");
        frame_require(r, h->version != 0, "version", 2);
        h->boot_id = frame_take_u64(r, "boot id");
        h->term = frame_take_u64(r, "term");
        n = frame_take_u8(r, "length of the cluster id");
        frame_take_text(r, n, h->cluster_id, sizeof h->cluster_id, "cluster id");
        frame_require(r, is_cluster_id(h->cluster_id), "cluster id", n);
        n = frame_take_u8(r, "length of the hostname");
        frame_take_text(r, n, h->hostname, sizeof h->hostname, "hostname");
        n = frame_take_u16(r, "length of the URL");
        frame_take_text(r, n, h->advertise_url, sizeof h->advertise_url, "URL");
}

static void
write_hello(struct frame_writer *w, const struct frame *f)
{
        const struct frame_hello *h = &f->hello;

        frame_put_u16(w, h->version);
        frame_put_u64(w, h->boot_id);
        frame_put_u64(w, h->term);
        frame_put_text8(w, h->cluster_id, sizeof h->cluster_id);
        frame_put_text8(w, h->hostname, sizeof h->hostname);
        frame_put_text16(w, h->advertise_url, sizeof h->advertise_url);
}

/* u8 flags, u32 count, then each: u8 length and name, u64 TXID, u64 checksum */
static void
read_positions(struct frame_reader *r, struct frame *ret)
{
        struct frame_positions *p = &ret->positions;
        char name[DBNAME_MAX + 1];

        p->flags = frame_take_u8(r, "flags");
        frame_require(r, (p->flags & ~(FRAME_POSITIONS_LAST | FRAME_POSITIONS_ALL)) == 0, "flags", 1);
        p->count = frame_take_u32(r, "count");
        frame_require(r, p->count <= FRAME_POSITIONS_MAX, "count", 4);
        p->entries = r->base + r->off;
        p->size_bytes = r->n - r->off;
        for (uint32_t i = 0; i < p->count && r->field == NULL; i++) {
                frame_take_name(r, name);
                (void)frame_take_pos(r);
        }
}

static void
write_positions(struct frame_writer *w, const struct frame *f)
{
        frame_put_u8(w, f->positions.flags);
        frame_put_u32(w, f->positions.count);
        frame_put(w, f->positions.entries, f->positions.size_bytes);
}

/* The smallest LTX file is a header, an end of pages and a trailer; what lies between is its own decoder's. */
static bool
is_ltx_size(const struct txlog_record *rec)
{
        if (rec->size_bytes == 0)
                return rec->min_txid == 1;
        return rec->size_bytes > LTX_HEADER_SIZE + LTX_TRAILER_SIZE && rec->size_bytes <= INT64_MAX;
}

static bool
is_pre_apply_checksum(const struct txlog_record *rec)
{
        if (rec->min_txid == 1)
                return rec->pre_apply_checksum == 0;
        return (rec->pre_apply_checksum & LTX_CHECKSUM_FLAG) != 0;
}

/* u32 stream, u64 term, u64 min TXID, u64 max TXID, u64 pre-apply checksum, u64 post-apply checksum,
 * i64 timestamp, u32 page size, u32 commit, u64 size, u8 history, u8 length and name */
static void
read_ltx(struct frame_reader *r, struct frame *ret)
{
        struct frame_ltx *l = &ret->ltx;
        struct txlog_record *rec = &l->record;

        l->stream = frame_take_stream(r);
        l->term = frame_take_id64(r, "term");
        rec->min_txid = frame_take_id64(r, "min TXID");
        rec->max_txid = frame_take_u64(r, "max TXID");
        frame_require(r, rec->max_txid >= rec->min_txid && rec->max_txid <= LTX_TXID_MAX, "max TXID", 8);
        rec->pre_apply_checksum = frame_take_u64(r, "pre-apply checksum");
        frame_require(r, is_pre_apply_checksum(rec), "pre-apply checksum", 8);
        rec->post_apply_checksum = frame_take_u64(r, "post-apply checksum");
        frame_require(r, (rec->post_apply_checksum & LTX_CHECKSUM_FLAG) != 0, "post-apply checksum", 8);
        rec->timestamp_ms = (int64_t)frame_take_u64(r, "timestamp");
        rec->page_size = frame_take_u32(r, "page size");
        frame_require(r, ltx_is_page_size(rec->page_size), "page size", 4);
        rec->commit = frame_take_u32(r, "commit");
        rec->size_bytes = frame_take_u64(r, "size");
        frame_require(r, is_ltx_size(rec), "size", 8);
        l->history = frame_take_u8(r, "history");
        frame_require(r, l->history <= (rec->min_txid == 1 ? TXLOG_HISTORY_UNKNOWN : TXLOG_HISTORY_OURS),
                      "history", 1);
        frame_take_name(r, l->name);
}

static void
write_ltx(struct frame_writer *w, const struct frame *f)
{
        const struct txlog_record *rec = &f->ltx.record;

        frame_put_u32(w, f->ltx.stream);
        frame_put_u64(w, f->ltx.term);
        frame_put_u64(w, rec->min_txid);
        frame_put_u64(w, rec->max_txid);
        frame_put_u64(w, rec->pre_apply_checksum);
        frame_put_u64(w, rec->post_apply_checksum);
        frame_put_u64(w, (uint64_t)rec->timestamp_ms);
        frame_put_u32(w, rec->page_size);
        frame_put_u32(w, rec->commit);
        frame_put_u64(w, rec->size_bytes);
        frame_put_u8(w, f->ltx.history);
        frame_put_text8(w, f->ltx.name, sizeof f->ltx.name);
}

/* u32 stream, then the bytes */
static void
read_data(struct frame_reader *r, struct frame *ret)
{
        ret->data.stream = frame_take_stream(r);
        ret->data.n = r->n - r->off;
        ret->data.bytes = frame_take(r, ret->data.n, "bytes");
}

static void
write_data(struct frame_writer *w, const struct frame *f)
{
        frame_put_u32(w, f->data.stream);
        frame_put(w, f->data.bytes, f->data.n);
}

/* u32 stream, u8 status, u64 size */
static void
read_ltx_end(struct frame_reader *r, struct frame *ret)
{
        struct frame_ltx_end *l = &ret->ltx_end;

        l->stream = frame_take_stream(r);
        l->status = frame_take_u8(r, "status");
        frame_require(r, l->status <= FRAME_LTX_ABANDONED, "status", 1);
        l->size_bytes = frame_take_u64(r, "size");
}

static void
write_ltx_end(struct frame_writer *w, const struct frame *f)
{
        frame_put_u32(w, f->ltx_end.stream);
        frame_put_u8(w, f->ltx_end.status);
        frame_put_u64(w, f->ltx_end.size_bytes);
}

/* nothing */
static void
read_nothing(struct frame_reader *r, struct frame *ret)
{
        (void)r, (void)ret;
}

static void
write_nothing(struct frame_writer *w, const struct frame *f)
{
        (void)w, (void)f;
}

/* i64 wall time, u64 term, i64 time to the fence */
static void
read_heartbeat(struct frame_reader *r, struct frame *ret)
{
        struct frame_heartbeat *h = &ret->heartbeat;

        h->wall_ms = (int64_t)frame_take_u64(r, "wall time");
        h->term = frame_take_id64(r, "term");
        h->fence_ms = (int64_t)frame_take_u64(r, "time to the fence");
        frame_require(r, h->fence_ms >= -1, "time to the fence", 8);
}

static void
write_heartbeat(struct frame_writer *w, const struct frame *f)
{
        frame_put_u64(w, (uint64_t)f->heartbeat.wall_ms);
        frame_put_u64(w, f->heartbeat.term);
        frame_put_u64(w, (uint64_t)f->heartbeat.fence_ms);
}

/* u64 boot id, u8 length and token */
static void
read_handoff(struct frame_reader *r, struct frame *ret)
{
        struct frame_handoff *h = &ret->handoff;
        size_t n;

        h->boot_id = frame_take_u64(r, "boot id");
        n = frame_take_u8(r, "length of the token");
        frame_require(r, n != 0, "length of the token", 1);
        frame_take_text(r, n, h->token, sizeof h->token, "token");
}

static void
write_handoff(struct frame_writer *w, const struct frame *f)
{
        frame_put_u64(w, f->handoff.boot_id);
        frame_put_text8(w, f->handoff.token, sizeof f->handoff.token);
}

/* u64 TXID, u64 checksum, u8 length and name */
static void
read_ack(struct frame_reader *r, struct frame *ret)
{
        ret->ack.pos = frame_take_pos(r);
        frame_take_name(r, ret->ack.name);
}

static void
write_ack(struct frame_writer *w, const struct frame *f)
{
        frame_put_u64(w, f->ack.pos.txid);
        frame_put_u64(w, f->ack.pos.checksum);
        frame_put_text8(w, f->ack.name, sizeof f->ack.name);
}

/* u16 code, u16 length and text */
static void
read_error(struct frame_reader *r, struct frame *ret)
{
        struct frame_error *f = &ret->error;
        size_t n;

        f->code = frame_take_u16(r, "code");
        frame_require(r, f->code != 0, "code", 2);
        n = frame_take_u16(r, "length of the text");
        frame_take_text(r, n, f->text, sizeof f->text, "text");
}

static void
write_error(struct frame_writer *w, const struct frame *f)
{
        frame_put_u16(w, f->error.code);
        frame_put_text16(w, f->error.text, sizeof f->error.text);
}

/* u64 nonce, u8 length and name, or 0 */
static void
read_ping(struct frame_reader *r, struct frame *ret)
{
        struct frame_ping *p = &ret->ping;

        p->nonce = frame_take_id64(r, "nonce");
        p->name[0] = '\0';
        if (r->off < r->n && r->base[r->off] == 0)
                (void)frame_take_u8(r, "length of the name");
        else
                frame_take_name(r, p->name);
}

static void
write_ping(struct frame_writer *w, const struct frame *f)
{
        frame_put_u64(w, f->ping.nonce);
        frame_put_text8(w, f->ping.name, sizeof f->ping.name);
}

/* u64 nonce, u64 TXID, u64 checksum */
static void
read_pong(struct frame_reader *r, struct frame *ret)
{
        ret->pong.nonce = frame_take_id64(r, "nonce");
        ret->pong.pos = frame_take_pos(r);
}

static void
write_pong(struct frame_writer *w, const struct frame *f)
{
        frame_put_u64(w, f->pong.nonce);
        frame_put_u64(w, f->pong.pos.txid);
        frame_put_u64(w, f->pong.pos.checksum);
}

/* u64 boot id, u8 length and hostname, u16 length and URL */
static void
read_successor(struct frame_reader *r, struct frame *ret)
{
        struct frame_successor *s = &ret->successor;
        size_t n;

        s->boot_id = frame_take_u64(r, "boot id");
        n = frame_take_u8(r, "length of the hostname");
        frame_take_text(r, n, s->hostname, sizeof s->hostname, "hostname");
        n = frame_take_u16(r, "length of the URL");
        frame_take_text(r, n, s->advertise_url, sizeof s->advertise_url, "URL");
}

static void
write_successor(struct frame_writer *w, const struct frame *f)
{
        frame_put_u64(w, f->successor.boot_id);
        frame_put_text8(w, f->successor.hostname, sizeof f->successor.hostname);
        frame_put_text16(w, f->successor.advertise_url, sizeof f->successor.advertise_url);
}

static unsigned
count_parts(const char *name)
{
        unsigned n = 1;

        while ((name = strchr(name, '/')) != NULL) {
                name++;
                n++;
        }
        return n;
}

/* u8 count, then each: u16 mode, u32 user, u32 group; u8 length and name */
static void
read_ownership(struct frame_reader *r, struct frame *ret)
{
        struct frame_ownership *f = &ret->ownership;
        struct path_ownership *po = &f->path;

        po->n = frame_take_u8(r, "count");
        frame_require(r, po->n >= 2 && po->n <= PATH_OWNERSHIP_MAX, "count", 1);
        for (unsigned i = 0; i < po->n && r->field == NULL; i++) {
                po->at[i].mode = frame_take_u16(r, "mode");
                frame_require(r, (po->at[i].mode & ~(i + 1 < po->n ? 03777 : 01777)) == 0, "mode", 2);
                po->at[i].uid = frame_take_u32(r, "user");
                po->at[i].gid = frame_take_u32(r, "group");
        }
        frame_take_name(r, f->name);
        frame_require(r, po->n == 1 + count_parts(f->name), "count", 0);
}

static void
write_ownership(struct frame_writer *w, const struct frame *f)
{
        const struct path_ownership *po = &f->ownership.path;

        frame_put_u8(w, (uint8_t)po->n);
        for (unsigned i = 0; i < po->n && i < PATH_OWNERSHIP_MAX; i++) {
                frame_put_u16(w, po->at[i].mode);
                frame_put_u32(w, po->at[i].uid);
                frame_put_u32(w, po->at[i].gid);
        }
        frame_put_text8(w, f->ownership.name, sizeof f->ownership.name);
}

/* u8: 1 if it may lead */
static void
read_candidacy(struct frame_reader *r, struct frame *ret)
{
        uint8_t v = frame_take_u8(r, "candidacy");

        frame_require(r, v <= 1, "candidacy", 1);
        ret->candidacy.is_candidate = v == 1;
}

static void
write_candidacy(struct frame_writer *w, const struct frame *f)
{
        frame_put_u8(w, f->candidacy.is_candidate);
}

/* u8 flags, u16 length and URL */
static void
read_peer(struct frame_reader *r, struct frame *ret)
{
        ret->peer.flags = frame_take_u8(r, "flags");
        frame_require(r, (ret->peer.flags & ~(FRAME_PEER_FIRST | FRAME_PEER_LAST)) == 0, "flags", 1);
        frame_take_text(r, frame_take_u16(r, "URL length"), ret->peer.advertise_url,
                        sizeof ret->peer.advertise_url, "URL");
}

static void
write_peer(struct frame_writer *w, const struct frame *f)
{
        frame_put_u8(w, f->peer.flags);
        frame_put_text16(w, f->peer.advertise_url, sizeof f->peer.advertise_url);
}

#define OWNERSHIP_SIZE (2 + 4 + 4)
#define LTX_FIXED (4 + 5 * 8 + 8 + 4 + 4 + 8 + 1)
#define HELLO_FIXED (2 + 8 + 8 + 1 + 1 + 2)

static const struct frame_layout types[] = {
        [FRAME_HELLO] = { "HELLO", HELLO_FIXED,
                          HELLO_FIXED + CLUSTER_ID_LEN + LEASE_HOSTNAME_SIZE - 1 + LEASE_URL_SIZE - 1,
                          read_hello, write_hello },
        [FRAME_POSITIONS] = { "POSITIONS", 5, 5 + FRAME_POSITIONS_MAX *POSITION_MAX, read_positions,
                              write_positions },
        [FRAME_LTX] = { "LTX", LTX_FIXED + 2, LTX_FIXED + 1 + DBNAME_MAX, read_ltx, write_ltx },
        [FRAME_DATA] = { "DATA", 4 + 1, 4 + FRAME_DATA_MAX, read_data, write_data },
        [FRAME_LTX_END] = { "LTX_END", 13, 13, read_ltx_end, write_ltx_end },
        [FRAME_READY] = { "READY", 0, 0, read_nothing, write_nothing },
        [FRAME_HEARTBEAT] = { "HEARTBEAT", 24, 24, read_heartbeat, write_heartbeat },
        [FRAME_HANDOFF] = { "HANDOFF", 8 + 1 + 1, 8 + LEASE_SESSION_SIZE, read_handoff, write_handoff },
        [FRAME_ACK] = { "ACK", 16 + 1 + 1, 16 + 1 + DBNAME_MAX, read_ack, write_ack },
        [FRAME_ERROR] = { "ERROR", 4, 4 + FRAME_TEXT_MAX, read_error, write_error },
        [FRAME_PING] = { "PING", 8 + 1, 8 + 1 + DBNAME_MAX, read_ping, write_ping },
        [FRAME_OWNERSHIP] = { "OWNERSHIP", 1 + 2 * OWNERSHIP_SIZE + 2,
                              1 + PATH_OWNERSHIP_MAX *OWNERSHIP_SIZE + 1 + DBNAME_MAX, read_ownership,
                              write_ownership },
        [FRAME_PONG] = { "PONG", 8 + 16, 8 + 16, read_pong, write_pong },
        [FRAME_SUCCESSOR] = { "SUCCESSOR", 8 + 1 + 2,
                              8 + 1 + LEASE_HOSTNAME_SIZE - 1 + 2 + LEASE_URL_SIZE - 1, read_successor,
                              write_successor },
        [FRAME_DURABLE] = { "DURABLE", 16 + 1 + 1, 16 + 1 + DBNAME_MAX, read_ack, write_ack },
        [FRAME_CANDIDACY] = { "CANDIDACY", 1, 1, read_candidacy, write_candidacy },
        [FRAME_PEER] = { "PEER", 1 + 2, 1 + 2 + LEASE_URL_SIZE - 1, read_peer, write_peer },
        [FRAME_SYNC] = { "SYNC", 0, 0, read_nothing, write_nothing },
};

const struct frame_layout *
frame_find_layout(unsigned type)
{
        if (type >= sizeof types / sizeof types[0] || types[type].name == NULL)
                return NULL;
        return &types[type];
}
