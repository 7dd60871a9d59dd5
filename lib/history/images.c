#include "history/images.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "ltx/checksum.h"
#include "ltx/header.h"

#define NAME_FORMAT "%016llx-%016llx-%016llx.ltx"
#define NAME_LENGTH (3 * 17 + 3)

typedef unsigned long long ull;

/* --- what there is --- */

const char *
history_images_dir(struct store *s, const struct db *db, char buf[PATH_MAX])
{
        return store_db_path(s, db, HISTORY_DIR, buf, PATH_MAX) == 0 ? buf : NULL;
}

static int
image_path(const char *dir, const struct history_image *image, char buf[PATH_MAX], struct err *e)
{
        int n = snprintf(buf, PATH_MAX, "%s/" NAME_FORMAT, dir, (ull)image->pos.txid,
                         (ull)image->pos.checksum, (ull)image->time_ms);

        return n < PATH_MAX ? 0 : err_set(e, -ENAMETOOLONG, "%s", dir);
}

static bool
parse_image_name(const char *name, struct history_image *ret)
{
        char hex[17] = "";
        uint64_t numbers[3];

        if (strlen(name) != NAME_LENGTH || strcmp(name + NAME_LENGTH - 4, ".ltx") != 0)
                return false;
        for (int i = 0; i < 3; i++) {
                memcpy(hex, name + (size_t)i * 17, 16);
                if (ltx_txid_parse(hex, &numbers[i]) < 0)
                        return false;
        }
        *ret = (struct history_image){ { numbers[0], numbers[1] }, (int64_t)numbers[2], 0 };
        return true;
}

struct listing_images {
        const struct os *os;
        const char *dir;
        struct history_images *ret;
        struct err *e;
};

static int
list_image(void *arg, const char *name)
{
        struct listing_images *l = arg;
        struct history_image image, *p;
        char path[PATH_MAX];
        struct stat st;
        int r;

        if (!parse_image_name(name, &image))
                return 0;
        r = image_path(l->dir, &image, path, l->e);
        if (r == 0)
                r = os_lstat(l->os, "history:list", path, &st);
        if (r < 0)
                return r == -ENOENT ? 0 : r; /* it went meanwhile */
        p = realloc(l->ret->items, (l->ret->n + 1) * sizeof *p);
        if (p == NULL)
                return -ENOMEM;
        image.size_bytes = (uint64_t)st.st_size;
        l->ret->items = p;
        p[l->ret->n++] = image;
        return 0;
}

int
history_images_list(const struct os *os, const char *dir, struct history_images *ret, struct err *e)
{
        struct listing_images l = { os, dir, ret, e };
        int r;

        *ret = (struct history_images){ 0 };
        r = os_list_dir(os, "history:list", dir, list_image, &l);
        return r == -ENOENT ? 0 : r < 0 ? err_set(e, r, "list %s", dir) : 0;
}

void
history_images_release(struct history_images *l)
{
        free(l->items);
        *l = (struct history_images){ 0 };
}

uint64_t
history_images_begin(const struct os *os, const char *dir)
{
        struct history_images l;
        uint64_t txid = UINT64_MAX;

        if (history_images_list(os, dir, &l, NULL) == 0 && l.n > 0)
                txid = l.items[0].pos.txid;
        history_images_release(&l);
        return txid;
}

int
history_image_remove(const struct os *os, const char *dir, const struct history_image *image,
                     struct err *e)
{
        char path[PATH_MAX];
        int r = image_path(dir, image, path, e);

        if (r < 0)
                return r;
        r = os_unlink(os, "history:remove", path);
        if (r == 0)
                r = os_sync_dir(os, "history:remove", dir);
        return r < 0 && r != -ENOENT ? err_set(e, r, "remove %s", path) : 0;
}

/* --- reading one --- */

static int
read_image_part(const struct os *os, int fd, void *buf, uint64_t n, uint64_t off)
{
        ssize_t got = os_pread_all(os, "history:image", fd, buf, n, (off_t)off);

        return got < 0 ? (int)got : (uint64_t)got < n ? E_FORMAT : 0;
}

static int
read_image_header(const struct os *os, struct history_image_reader *r, uint64_t size_bytes)
{
        uint8_t buf[LTX_HEADER_SIZE];
        struct ltx_header h;
        int result = read_image_part(os, r->fd, buf, sizeof buf, 0);

        if (result == 0)
                result = ltx_header_decode(buf, LTX_V3, &h, NULL);
        if (result < 0)
                return result;
        if (h.min_txid != 1 || size_bytes < LTX_HEADER_SIZE + LTX_INDEX_TAIL + (uint64_t)h.commit * 8)
                return E_FORMAT;
        r->page_size = h.page_size;
        r->page_count = h.commit;
        r->ltx_bytes = size_bytes - (uint64_t)h.commit * 8;
        return 0;
}

/* They are right if their sum is that of the position. */
static int
read_image_sums(const struct os *os, struct history_image_reader *r, uint64_t want)
{
        uint64_t sum = 0;
        int result;

        r->sums = malloc((r->page_count + 1) * sizeof *r->sums);
        if (r->sums == NULL)
                return -ENOMEM;
        result = read_image_part(os, r->fd, r->sums, (uint64_t)r->page_count * 8, r->ltx_bytes);
        for (uint32_t i = 0; i < r->page_count && result == 0; i++) {
                r->sums[i] = get_be64(&r->sums[i]);
                sum ^= r->sums[i];
        }
        return result < 0 ? result : (LTX_CHECKSUM_FLAG | sum) == want ? 0 : E_CHECKSUM;
}

static int
read_image_index(const struct os *os, struct history_image_reader *r)
{
        uint8_t tail[LTX_INDEX_TAIL];
        uint64_t end = r->ltx_bytes - LTX_INDEX_TAIL, length;
        int result = read_image_part(os, r->fd, tail, sizeof tail, end);

        if (result < 0)
                return result;
        length = ltx_index_length(tail);
        if (length > end - LTX_HEADER_SIZE)
                return E_FORMAT;
        r->index = malloc(length + 1);
        if (r->index == NULL)
                return -ENOMEM;
        r->cursor = (struct ltx_index_cursor){ r->index, r->index + length };
        return read_image_part(os, r->fd, r->index, length, end - length);
}

int
history_image_open(const struct os *os, const char *dir, const struct history_image *image,
                   struct history_image_reader *ret, struct err *e)
{
        char path[PATH_MAX];
        int r = image_path(dir, image, path, e);

        *ret = (struct history_image_reader){ .fd = -1 };
        if (r < 0)
                return r;
        ret->fd = os_open(os, "history:image", path, O_RDONLY | O_CLOEXEC, 0);
        r = ret->fd < 0 ? ret->fd : read_image_header(os, ret, image->size_bytes);
        if (r == 0)
                r = read_image_sums(os, ret, image->pos.checksum);
        if (r == 0)
                r = read_image_index(os, ret);
        if (r < 0) {
                history_image_close(os, ret);
                return err_set(e, r, "%s", path);
        }
        return 0;
}

void
history_image_close(const struct os *os, struct history_image_reader *r)
{
        os_close(os, "history:image", r->fd);
        free(r->index);
        free(r->sums);
        *r = (struct history_image_reader){ .fd = -1 };
}
