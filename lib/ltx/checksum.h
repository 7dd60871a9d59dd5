/* lib/ltx/checksum.h - CRC-64/GO-ISO and the checksums that LTX builds from it.
 *
 * CRC-64/GO-ISO: reflected polynomial 0xD800000000000000, initial and final value all ones;
 * check("123456789") = 0xb90956c775a41001. ISA-L's crc64_iso_refl computes it (docs/on-disk.md).
 * A checksum that is stored has LTX_CHECKSUM_FLAG set, so that 0 can mean "none". */
#ifndef LITEFS_LTX_CHECKSUM_H
#define LITEFS_LTX_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

#define LTX_CHECKSUM_FLAG ((uint64_t)1 << 63)

/* Continues @crc (0 to begin) over @n bytes. */
uint64_t ltx_crc64(uint64_t crc, const void *buf, size_t n);

/* FLAG | CRC64(pgno as u32 big-endian, page bytes). */
uint64_t ltx_page_checksum(uint32_t pgno, const void *page, size_t page_size);

/* The page that holds SQLite's lock bytes, at 1 GiB: never in an LTX file, never in a checksum. */
static inline uint32_t
ltx_lock_pgno(uint32_t page_size)
{
        return (uint32_t)(0x40000000 / page_size) + 1;
}

/* Whether SQLite and LTX allow @page_size: a power of two from 512 to 65536. */
static inline int
ltx_is_page_size(uint32_t page_size)
{
        return page_size >= 512 && page_size <= 65536 && (page_size & (page_size - 1)) == 0;
}

#endif
