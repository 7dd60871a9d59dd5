#include "sqlite/wal_index.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"

#define COPY_SIZE WAL_INDEX_COPY_SIZE
#define INDEX_VERSION 3007000u

/* Byte offsets in a copy of the header, and of nBackfill in the file. */
enum {
        AT_VERSION = 0,
        AT_CHANGE = 8,
        AT_IS_INIT = 12,
        AT_BIG_ENDIAN = 13,
        AT_PAGE_SIZE = 14,
        AT_MX_FRAME = 16,
        AT_N_PAGE = 20,
        AT_FRAME_CKSUM = 24,
        AT_SALT = 32,
        AT_CKSUM = 40
};
#define AT_BACKFILL WAL_INDEX_AT_BACKFILL
#define AT_READ_MARK WAL_INDEX_AT_READ_MARK(0)
#define AT_BACKFILL_ATTEMPTED WAL_INDEX_AT_BACKFILL_ATTEMPTED

/* Each block: page numbers of its frames, then a hash table of 2-byte slots: index within the block, from 1. */
#define BLOCK_FRAMES 4096u
#define FIRST_FRAMES (BLOCK_FRAMES - WAL_INDEX_HEADER_SIZE / 4)
#define HASH_SLOTS 8192u
#define HASH_FACTOR 383u

static uint32_t
get_native(const uint8_t *p)
{
        uint32_t v;

        memcpy(&v, p, sizeof v);
        return v;
}

/* Word by word and volatile: another process may be writing. */
static void
copy_shared(const volatile uint32_t *from, uint8_t *to)
{
        for (unsigned i = 0; i < COPY_SIZE / 4; i++) {
                uint32_t v = from[i];

                memcpy(to + i * 4, &v, sizeof v);
        }
}

static void
sum_header(const uint8_t *h, uint32_t ret[2])
{
        uint32_t s0 = 0, s1 = 0;

        for (unsigned i = 0; i < AT_CKSUM; i += 8) {
                s0 += get_native(h + i) + s1;
                s1 += get_native(h + i + 4) + s0;
        }
        ret[0] = s0;
        ret[1] = s1;
}

static int
is_checksum_right(const uint8_t *h)
{
        uint32_t s[2];

        sum_header(h, s);
        return s[0] == get_native(h + AT_CKSUM) && s[1] == get_native(h + AT_CKSUM + 4);
}

int
wal_index_read_header(const void *index, struct wal_index_header *ret)
{
        const volatile uint32_t *p = index;
        uint8_t a[COPY_SIZE], b[COPY_SIZE];

        copy_shared(p, a);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        copy_shared(p + COPY_SIZE / 4, b);
        if (memcmp(a, b, sizeof a) != 0 || a[AT_IS_INIT] == 0 ||
            get_native(a + AT_VERSION) != INDEX_VERSION || !is_checksum_right(a))
                return -EAGAIN;
        ret->mx_frame = get_native(a + AT_MX_FRAME);
        ret->n_pages = get_native(a + AT_N_PAGE);
        /* SQLite copies the salts from the WAL header as bytes. */
        ret->salt[0] = get_be32(a + AT_SALT);
        ret->salt[1] = get_be32(a + AT_SALT + 4);
        return 0;
}

uint32_t
wal_index_backfill(const void *index)
{
        const volatile uint32_t *p = index;

        return p[AT_BACKFILL / 4];
}

void
wal_index_invalidate(void *index)
{
        volatile uint32_t *p = index;

        /* The version word of either copy: then neither their equality nor the checksum holds. The second
         * first, as a writer does, so that a reader who is between the two sees them differ. */
        p[COPY_SIZE / 4] = 0;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        p[0] = 0;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        /* With both versions 0 the copies would be equal and only the checksum wrong: good enough for
         * SQLite, and made plain for whoever looks. */
        p[AT_IS_INIT / 4] = 0;
        p[(COPY_SIZE + AT_IS_INIT) / 4] = 0;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void
wal_index_spoil(void *ret)
{
        uint32_t words[COPY_SIZE / 4] = { [AT_VERSION / 4] = UINT32_MAX }, sum[2];
        uint8_t *h = (uint8_t *)words;

        h[AT_IS_INIT] = 1;
        h[AT_BIG_ENDIAN] = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
        sum_header(h, sum);
        memcpy(h + AT_CKSUM, sum, sizeof sum);
        memcpy(ret, h, COPY_SIZE);
        memcpy((uint8_t *)ret + COPY_SIZE, h, COPY_SIZE);
}

/* --- writing --- */

struct block {
        volatile uint32_t *pgnos; /* [index - 1] */
        volatile uint16_t *hash;
        uint32_t n_frames; /* that it has room for */
};

/* The block of @frame, and *@ret_at: its index there, from 1. */
static struct block
block_of(void *index, uint32_t frame, uint32_t *ret_at)
{
        uint32_t i = (frame - 1 + (BLOCK_FRAMES - FIRST_FRAMES)) / BLOCK_FRAMES;
        uint8_t *start = (uint8_t *)index + (size_t)i * WAL_INDEX_BLOCK_SIZE;
        struct block b = { (uint32_t *)(start + (i == 0 ? WAL_INDEX_HEADER_SIZE : 0)),
                           (uint16_t *)(start + BLOCK_FRAMES * 4),
                           i == 0 ? FIRST_FRAMES : BLOCK_FRAMES };

        *ret_at = i == 0 ? frame : (frame - 1 - FIRST_FRAMES) % BLOCK_FRAMES + 1;
        return b;
}

size_t
wal_index_size(uint32_t n_frames)
{
        uint64_t blocks = 1;

        if (n_frames > FIRST_FRAMES)
                blocks += ((uint64_t)n_frames - FIRST_FRAMES + BLOCK_FRAMES - 1) / BLOCK_FRAMES;
        return (size_t)blocks * WAL_INDEX_BLOCK_SIZE;
}

static void
clear_from(struct block b, uint32_t at)
{
        for (uint32_t i = 0; i < HASH_SLOTS; i++)
                if (b.hash[i] >= at)
                        b.hash[i] = 0;
        for (uint32_t i = at; i <= b.n_frames; i++)
                b.pgnos[i - 1] = 0;
}

static void
extend(struct wal_index_range *r, const void *index, const volatile void *from, size_t n)
{
        size_t off = (size_t)((const volatile uint8_t *)from - (const volatile uint8_t *)index);

        if (r->to == 0 || off < r->from)
                r->from = off;
        if (off + n > r->to)
                r->to = off + n;
}

void
wal_index_enter(void *index, uint32_t frame, uint32_t pgno, struct wal_index_range *pgnos,
                struct wal_index_range *slots)
{
        uint32_t at, slot;
        struct block b = block_of(index, frame, &at);

        if (at == 1 || b.pgnos[at - 1] != 0) {
                clear_from(b, at);
                extend(pgnos, index, b.pgnos, b.n_frames * sizeof *b.pgnos);
                extend(slots, index, b.hash, HASH_SLOTS * sizeof *b.hash);
        }
        for (slot = pgno * HASH_FACTOR % HASH_SLOTS; b.hash[slot] != 0; slot = (slot + 1) % HASH_SLOTS)
                ;
        b.pgnos[at - 1] = pgno;
        b.hash[slot] = (uint16_t)at;
        extend(pgnos, index, &b.pgnos[at - 1], sizeof *b.pgnos);
        extend(slots, index, &b.hash[slot], sizeof *b.hash);
}

static void
put_native(uint8_t *p, uint32_t v)
{
        memcpy(p, &v, sizeof v);
}

void
wal_index_publish(void *index, const struct wal_index_commit *commit)
{
        volatile uint32_t *p = index;
        uint16_t page_size = (uint16_t)(commit->page_size == 65536 ? 1 : commit->page_size);
        uint8_t h[COPY_SIZE] = { 0 };
        uint32_t sum[2], word;

        put_native(h + AT_VERSION, INDEX_VERSION);
        put_native(h + AT_CHANGE, p[AT_CHANGE / 4] + 1);
        h[AT_IS_INIT] = 1;
        h[AT_BIG_ENDIAN] = commit->is_big_endian_cksum;
        memcpy(h + AT_PAGE_SIZE, &page_size, sizeof page_size);
        put_native(h + AT_MX_FRAME, commit->mx_frame);
        put_native(h + AT_N_PAGE, commit->n_pages);
        put_native(h + AT_FRAME_CKSUM, commit->frame_cksum[0]);
        put_native(h + AT_FRAME_CKSUM + 4, commit->frame_cksum[1]);
        put_be32(h + AT_SALT, commit->salt[0]);
        put_be32(h + AT_SALT + 4, commit->salt[1]);
        sum_header(h, sum);
        put_native(h + AT_CKSUM, sum[0]);
        put_native(h + AT_CKSUM + 4, sum[1]);
        for (unsigned i = 0; i < COPY_SIZE / 4; i++) {
                memcpy(&word, h + i * 4, sizeof word);
                p[COPY_SIZE / 4 + i] = word;
        }
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        for (unsigned i = 0; i < COPY_SIZE / 4; i++) {
                memcpy(&word, h + i * 4, sizeof word);
                p[i] = word;
        }
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

uint32_t
wal_index_read_mark(const void *index, int i)
{
        const volatile uint32_t *p = index;

        return p[AT_READ_MARK / 4 + i];
}

void
wal_index_set_read_mark(void *index, int i, uint32_t mark)
{
        volatile uint32_t *p = index;

        p[AT_READ_MARK / 4 + i] = mark;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void
wal_index_set_backfill_attempted(void *index, uint32_t n_frames)
{
        volatile uint32_t *p = index;

        p[AT_BACKFILL_ATTEMPTED / 4] = n_frames;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void
wal_index_set_backfill(void *index, uint32_t n_frames)
{
        volatile uint32_t *p = index;

        p[AT_BACKFILL / 4] = n_frames;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void
wal_index_restart(void *index)
{
        wal_index_set_backfill(index, 0);
        wal_index_set_backfill_attempted(index, 0);
        wal_index_set_read_mark(index, 0, 0);
        wal_index_set_read_mark(index, 1, 0);
        for (int i = 2; i < WAL_READ_MARKS; i++)
                wal_index_set_read_mark(index, i, WAL_READ_MARK_NOT_USED);
}
