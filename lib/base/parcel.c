#include "base/parcel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC 0x6c69746566732d70u
#define FIRST_FD 3 /* below are the standard streams */

struct parcel_head {
        uint64_t magic, version, size, checksum;
};

static uint64_t
parcel_checksum(const uint8_t *bytes, size_t n)
{
        uint64_t h = 14695981039346656037u;

        for (size_t i = 0; i < n; i++)
                h = (h ^ bytes[i]) * 1099511628211u;
        return h;
}

/* --- to make one --- */

static uint8_t *
parcel_grow(struct parcel *p, size_t n)
{
        size_t capacity = p->capacity == 0 ? 4096 : p->capacity;
        uint8_t *bytes;

        if (p->error < 0)
                return NULL;
        while (capacity - p->n < n)
                capacity *= 2;
        if (capacity != p->capacity) {
                bytes = realloc(p->bytes, capacity);
                if (bytes == NULL) {
                        p->error = -ENOMEM;
                        return NULL;
                }
                p->bytes = bytes;
                p->capacity = capacity;
        }
        p->n += n;
        return p->bytes + p->n - n;
}

void
parcel_put(struct parcel *p, uint64_t value)
{
        uint8_t *to = parcel_grow(p, sizeof value);

        if (to != NULL)
                memcpy(to, &value, sizeof value);
}

void
parcel_put_bytes(struct parcel *p, const void *bytes, size_t n)
{
        uint8_t *to;

        parcel_put(p, n);
        to = parcel_grow(p, n);
        if (to != NULL && n > 0)
                memcpy(to, bytes, n);
}

void
parcel_put_text(struct parcel *p, const char *text)
{
        parcel_put_bytes(p, text, strlen(text) + 1);
}

void
parcel_put_fd(struct parcel *p, int fd)
{
        int copy = fd < 0 ? -1 : fcntl(fd, F_DUPFD, FIRST_FD);

        if (fd >= 0 && copy < 0 && p->error == 0)
                p->error = -errno;
        parcel_put(p, copy < 0 ? 0 : (uint64_t)copy);
}

static int
parcel_write_all(int fd, const void *bytes, size_t n)
{
        const uint8_t *from = bytes;

        while (n > 0) {
                ssize_t done = write(fd, from, n);

                if (done < 0 && errno == EINTR)
                        continue;
                if (done <= 0)
                        return done < 0 ? -errno : -EIO;
                from += done;
                n -= (size_t)done;
        }
        return 0;
}

int
parcel_finish(struct parcel *p, uint64_t version, struct err *e)
{
        struct parcel_head head = { MAGIC, version, p->n, 0 };
        int fd, r;

        if (p->error < 0)
                return err_set(e, p->error, "gather the state of this process");
        head.checksum = parcel_checksum(p->bytes, p->n);
        fd = memfd_create("litefs-state", 0);
        if (fd < 0)
                return err_set(e, -errno, "make a file in memory");
        r = parcel_write_all(fd, &head, sizeof head);
        if (r == 0)
                r = parcel_write_all(fd, p->bytes, p->n);
        if (r == 0)
                return fd;
        close(fd);
        return err_set(e, r, "write the state of this process");
}

void
parcel_release(struct parcel *p)
{
        free(p->bytes);
        *p = (struct parcel){ 0 };
}

/* --- to read one --- */

static int
parcel_read_all(int fd, void *bytes, size_t n, off_t off)
{
        uint8_t *to = bytes;

        while (n > 0) {
                ssize_t got = pread(fd, to, n, off);

                if (got < 0 && errno == EINTR)
                        continue;
                if (got <= 0)
                        return got < 0 ? -errno : -EPROTO;
                to += got;
                off += got;
                n -= (size_t)got;
        }
        return 0;
}

int
parcel_open(int fd, uint64_t version, struct parcel_reader *ret, struct err *e)
{
        struct parcel_head head;
        struct stat st;
        int r;

        *ret = (struct parcel_reader){ 0 };
        if (fstat(fd, &st) < 0)
                return err_set(e, -errno, "read the state of the process before this one");
        r = parcel_read_all(fd, &head, sizeof head, 0);
        if (r == 0 && (head.magic != MAGIC || head.size != (uint64_t)st.st_size - sizeof head))
                r = -EPROTO;
        if (r < 0)
                return err_set(e, r, "read the state of the process before this one");
        if (head.version != version)
                return err_text(e, -EPROTO,
                                "the state of the process before this one has version %llu, this "
                                "program reads version %llu",
                                (unsigned long long)head.version, (unsigned long long)version);
        ret->bytes = malloc(head.size + 1);
        ret->n = head.size;
        r = ret->bytes == NULL ? -ENOMEM : parcel_read_all(fd, ret->bytes, ret->n, (off_t)sizeof head);
        if (r == 0 && parcel_checksum(ret->bytes, ret->n) != head.checksum)
                r = -EPROTO;
        if (r == 0)
                return 0;
        parcel_reader_release(ret);
        return err_set(e, r, "read the state of the process before this one");
}

static void
parcel_fail(struct parcel_reader *r, int error)
{
        if (r->error == 0)
                r->error = error;
}

uint64_t
parcel_get(struct parcel_reader *r)
{
        uint64_t value = 0;

        if (r->error == 0 && r->n - r->at < sizeof value)
                parcel_fail(r, -EPROTO);
        if (r->error < 0)
                return 0;
        memcpy(&value, r->bytes + r->at, sizeof value);
        r->at += sizeof value;
        return value;
}

uint64_t
parcel_get_below(struct parcel_reader *r, uint64_t limit)
{
        uint64_t value = parcel_get(r);

        if (value < limit)
                return value;
        parcel_fail(r, -EPROTO);
        return 0;
}

bool
parcel_get_flag(struct parcel_reader *r)
{
        return parcel_get_below(r, 2) == 1;
}

const uint8_t *
parcel_get_bytes(struct parcel_reader *r, size_t *ret_n)
{
        uint64_t n = parcel_get(r);

        *ret_n = 0;
        if (r->error == 0 && r->n - r->at < n)
                parcel_fail(r, -EPROTO);
        if (r->error < 0)
                return (const uint8_t *)"";
        *ret_n = (size_t)n;
        r->at += (size_t)n;
        return r->bytes + r->at - n;
}

const char *
parcel_get_text(struct parcel_reader *r)
{
        size_t n;
        const char *text = (const char *)parcel_get_bytes(r, &n);

        if (r->error == 0 && (n == 0 || memchr(text, '\0', n) != text + n - 1))
                parcel_fail(r, -EPROTO);
        return r->error < 0 ? "" : text;
}

/* An array of a power of two, or of none. */
static bool
parcel_note_inherited(struct parcel_reader *r, int fd)
{
        size_t n = r->n_inherited;

        if ((n & (n - 1)) == 0) {
                int *grown = realloc(r->inherited, (n == 0 ? 1 : 2 * n) * sizeof *grown);

                if (grown == NULL) {
                        parcel_fail(r, -ENOMEM);
                        return false;
                }
                r->inherited = grown;
        }
        r->inherited[r->n_inherited++] = fd;
        return true;
}

int
parcel_get_fd(struct parcel_reader *r)
{
        int inherited = (int)parcel_get_below(r, 1u << 30), fd;

        if (r->error < 0 || inherited == 0 || !parcel_note_inherited(r, inherited))
                return -1;
        fd = fcntl(inherited, F_DUPFD_CLOEXEC, FIRST_FD);
        if (fd < 0)
                parcel_fail(r, -errno);
        return fd;
}

void
parcel_close_inherited(struct parcel_reader *r)
{
        while (r->n_inherited > 0)
                close(r->inherited[--r->n_inherited]);
}

void
parcel_expect(struct parcel_reader *r, uint64_t tag)
{
        if (parcel_get(r) != tag)
                parcel_fail(r, -EPROTO);
}

int
parcel_check(const struct parcel_reader *r, struct err *e)
{
        return r->error < 0 ? err_set(e, r->error, "read the state of the process before this one") : 0;
}

void
parcel_reader_release(struct parcel_reader *r)
{
        free(r->inherited);
        free(r->bytes);
        *r = (struct parcel_reader){ 0 };
}
