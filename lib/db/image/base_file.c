#include "db/image/base_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "ltx/checksum.h"

/* off size field (big-endian)
 *   0    8 magic "LFSBASE1"
 *   8    8 txid
 *  16    4 page size
 *  20    4 number of checksums, n
 *  24    8 timestamp of the transaction, ms since the epoch
 *  32    8 CRC-64/GO-ISO of bytes 0..31 and the checksums
 *  40  8*n page checksums, 0 for the lock page */
#define BASE_MAGIC "LFSBASE1"
#define BASE_HEADER_SIZE 40
#define BASE_PAGE_SIZE_AT 16
#define BASE_COUNT_AT 20
#define BASE_CRC_AT 32
#define SLICE 8192u /* checksums a write */

static int
base_path(const char *dir, const char *file, char *buf, size_t size)
{
        int n = snprintf(buf, size, "%s/%s", dir, file);

        return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

static void
encode_header(const struct base_info *info, uint8_t *buf)
{
        memcpy(buf, BASE_MAGIC, 8);
        put_be64(buf + 8, info->txid);
        put_be32(buf + BASE_PAGE_SIZE_AT, info->page_size);
        put_be32(buf + BASE_COUNT_AT, info->page_count);
        put_be64(buf + 24, (uint64_t)info->timestamp_ms);
}

struct slice {
        uint64_t sums[SLICE];
        uint8_t bytes[SLICE * 8];
};

static int
write_sums(const struct os *os, int fd, struct slice *s, struct base_info *info,
           uint32_t (*copy)(void *, uint32_t, uint64_t *, uint32_t), void *arg)
{
        uint32_t n, done = 0;
        int r;

        while ((n = copy(arg, done + 1, s->sums, SLICE)) > 0) {
                for (uint32_t i = 0; i < n; i++)
                        put_be64(s->bytes + i * 8, s->sums[i]);
                r = os_pwrite_all(os, "base:write", fd, s->bytes, n * 8,
                                  (off_t)BASE_HEADER_SIZE + (off_t)done * 8);
                if (r < 0)
                        return r;
                done += n;
        }
        info->page_count = done;
        return 0;
}

/* The header counts what was copied, so its checksum needs a second pass over the file just written. */
static int
checksum_sums(const struct os *os, int fd, struct slice *s, uint32_t n, uint64_t *crc)
{
        uint32_t done = 0;

        while (done < n) {
                uint32_t part = n - done < SLICE ? n - done : SLICE;
                ssize_t r = os_pread_all(os, "base:read", fd, s->bytes, part * 8,
                                         (off_t)BASE_HEADER_SIZE + (off_t)done * 8);

                if (r < 0)
                        return (int)r;
                if (r != (ssize_t)part * 8)
                        return E_FORMAT;
                *crc = ltx_crc64(*crc, s->bytes, part * 8);
                done += part;
        }
        return 0;
}

static int
write_all(const struct os *os, int fd, struct base_info *info,
          uint32_t (*copy)(void *, uint32_t, uint64_t *, uint32_t), void *arg)
{
        uint8_t header[BASE_HEADER_SIZE];
        struct slice *s = malloc(sizeof *s);
        uint64_t crc;
        int r;

        if (s == NULL)
                return -ENOMEM;
        r = write_sums(os, fd, s, info, copy, arg);
        encode_header(info, header);
        crc = ltx_crc64(0, header, BASE_CRC_AT);
        if (r == 0)
                r = checksum_sums(os, fd, s, info->page_count, &crc);
        put_be64(header + BASE_CRC_AT, crc);
        if (r == 0)
                r = os_pwrite_all(os, "base:write", fd, header, sizeof header, 0);
        if (r == 0)
                r = os_fsync(os, "base:write", fd);
        free(s);
        return r;
}

int
base_file_write(const struct os *os, const char *dir, struct base_info *info,
                uint32_t (*copy)(void *, uint32_t, uint64_t *, uint32_t), void *arg, struct err *e)
{
        char path[PATH_MAX];
        int fd, r;

        r = base_path(dir, "base.tmp", path, sizeof path);
        if (r < 0)
                return err_set(e, r, "%s/base.tmp", dir);
        fd = os_open(os, "base:write", path, O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (fd < 0)
                return err_set(e, fd, "create %s", path);
        r = write_all(os, fd, info, copy, arg);
        os_close(os, "base:write", fd);
        if (r < 0) {
                os_unlink(os, "base:write", path);
                return err_set(e, r, "write %s", path);
        }
        return 0;
}

int
base_file_publish(const struct os *os, const char *dir, struct err *e)
{
        char from[PATH_MAX], to[PATH_MAX];
        int r;

        r = base_path(dir, "base.tmp", from, sizeof from);
        if (r == 0)
                r = base_path(dir, "base", to, sizeof to);
        if (r == 0)
                r = os_rename(os, "base:publish", from, to);
        if (r == 0)
                r = os_sync_dir(os, "base:publish", dir);
        return r < 0 ? err_set(e, r, "publish %s/base", dir) : 0;
}

/* On failure *@ret_off is the place of what is wrong. */
static int
read_sums(const struct os *os, int fd, const uint8_t *header, const struct base_info *info,
          struct pagesum *sums, uint64_t *ret_off)
{
        struct slice *s = malloc(sizeof *s);
        uint64_t crc = ltx_crc64(0, header, BASE_CRC_AT);
        int r = s == NULL ? -ENOMEM : pagesum_resize(sums, info->page_count);
        uint32_t done = 0;

        while (r == 0 && done < info->page_count) {
                uint32_t part = info->page_count - done < SLICE ? info->page_count - done : SLICE;
                off_t off = BASE_HEADER_SIZE + (off_t)done * 8;
                ssize_t n = os_pread_all(os, "base:read", fd, s->bytes, part * 8, off);

                if (n != (ssize_t)part * 8) {
                        *ret_off = (uint64_t)off;
                        r = n < 0 ? (int)n : E_FORMAT;
                        break;
                }
                crc = ltx_crc64(crc, s->bytes, part * 8);
                for (uint32_t i = 0; i < part; i++)
                        pagesum_set(sums, done + i + 1, get_be64(s->bytes + i * 8));
                done += part;
        }
        free(s);
        if (r == 0 && crc != get_be64(header + BASE_CRC_AT)) {
                *ret_off = BASE_CRC_AT;
                r = E_CHECKSUM;
        }
        return r;
}

static int
read_base_header(const struct os *os, int fd, uint8_t *header, struct base_info *ret, uint64_t *ret_off)
{
        ssize_t n = os_pread_all(os, "base:read", fd, header, BASE_HEADER_SIZE, 0);

        *ret_off = 0;
        if (n < 0)
                return (int)n;
        if (n < BASE_HEADER_SIZE || memcmp(header, BASE_MAGIC, 8) != 0)
                return E_FORMAT;
        *ret = (struct base_info){ get_be64(header + 8), get_be32(header + BASE_PAGE_SIZE_AT),
                                   get_be32(header + BASE_COUNT_AT), (int64_t)get_be64(header + 24) };
        *ret_off = BASE_PAGE_SIZE_AT;
        return ret->page_count == 0 || ltx_is_page_size(ret->page_size) ? 0 : E_FORMAT;
}

/* A size that does not fit the file is refused before memory is asked for. */
static int
read_all(const struct os *os, int fd, struct base_info *ret, struct pagesum *sums, uint64_t *ret_off)
{
        uint8_t header[BASE_HEADER_SIZE];
        struct stat st;
        int r = read_base_header(os, fd, header, ret, ret_off);

        if (r == 0)
                r = os_fstat(os, "base:read", fd, &st);
        if (r < 0)
                return r;
        *ret_off = BASE_COUNT_AT;
        if (st.st_size != BASE_HEADER_SIZE + (off_t)ret->page_count * 8)
                return E_FORMAT;
        return read_sums(os, fd, header, ret, sums, ret_off);
}

int
base_file_read(const struct os *os, const char *dir, struct base_info *ret, struct pagesum *sums,
               struct err *e)
{
        char path[PATH_MAX];
        uint64_t off = 0;
        int fd, r;

        r = base_path(dir, "base", path, sizeof path);
        if (r < 0)
                return err_set(e, r, "%s/base", dir);
        fd = os_open(os, "base:read", path, O_RDONLY, 0);
        if (fd == -ENOENT)
                return 0;
        if (fd < 0)
                return err_set(e, fd, "open %s", path);
        r = read_all(os, fd, ret, sums, &off);
        os_close(os, "base:read", fd);
        return r < 0 ? err_set(e, r,
                               "%s is damaged at offset %llu (move it out and start again: the database is "
                               "rebuilt from its log, if that is complete; else restore it from a backup)",
                               path, (unsigned long long)off)
                     : 1;
}
