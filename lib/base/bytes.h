/* lib/base/bytes.h - integers to and from bytes, in the byte order that a format names.
 *
 * Works at any alignment and on hosts of either byte order. */
#ifndef LITEFS_BASE_BYTES_H
#define LITEFS_BASE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t
get_be16(const void *p)
{
        uint16_t v;

        memcpy(&v, p, sizeof v);
        return be16toh(v);
}

static inline uint32_t
get_be32(const void *p)
{
        uint32_t v;

        memcpy(&v, p, sizeof v);
        return be32toh(v);
}

static inline uint64_t
get_be64(const void *p)
{
        uint64_t v;

        memcpy(&v, p, sizeof v);
        return be64toh(v);
}

static inline uint32_t
get_le32(const void *p)
{
        uint32_t v;

        memcpy(&v, p, sizeof v);
        return le32toh(v);
}

static inline void
put_be16(void *p, uint16_t v)
{
        v = htobe16(v);
        memcpy(p, &v, sizeof v);
}

static inline void
put_be32(void *p, uint32_t v)
{
        v = htobe32(v);
        memcpy(p, &v, sizeof v);
}

static inline void
put_be64(void *p, uint64_t v)
{
        v = htobe64(v);
        memcpy(p, &v, sizeof v);
}

static inline void
put_le32(void *p, uint32_t v)
{
        v = htole32(v);
        memcpy(p, &v, sizeof v);
}

#endif
