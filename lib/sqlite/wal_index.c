#include "sqlite/wal_index.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"

#define COPY_SIZE 48u
#define INDEX_VERSION 3007000u

/* Byte offsets in a copy of the header, and of nBackfill in the file. */
enum { AT_VERSION = 0, AT_IS_INIT = 12, AT_MX_FRAME = 16, AT_N_PAGE = 20, AT_SALT = 32, AT_CKSUM = 40 };
#define AT_BACKFILL 96

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

static int
is_checksum_right(const uint8_t *h)
{
        uint32_t s0 = 0, s1 = 0;

        for (unsigned i = 0; i < AT_CKSUM; i += 8) {
                s0 += get_native(h + i) + s1;
                s1 += get_native(h + i + 4) + s0;
        }
        return s0 == get_native(h + AT_CKSUM) && s1 == get_native(h + AT_CKSUM + 4);
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
