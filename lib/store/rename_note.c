#include "store/rename_note.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "ltx/checksum.h"

#define MAGIC "LFSRENM1"
#define MAGIC_SIZE 8u
#define PAIR_SIZE 56u /* without the names */
#define SIZE_MAX_NOTE \
        (MAGIC_SIZE + 4 + RENAME_MAX_PAIRS * (PAIR_SIZE + 2 * DBNAME_MAX) + 2 * (2 + PATH_MAX) + 8)

struct rename_note *
rename_note_new(size_t n)
{
        struct rename_note *note = calloc(1, sizeof *note);

        if (note == NULL)
                return NULL;
        note->n = n;
        note->pairs = calloc(n + 1, sizeof *note->pairs);
        if (note->pairs == NULL) {
                free(note);
                return NULL;
        }
        return note;
}

void
rename_note_free(struct rename_note *note)
{
        if (note == NULL)
                return;
        free(note->pairs);
        free(note);
}

/* --- bytes --- */

static uint8_t *
put_text(uint8_t *p, const char *text)
{
        size_t n = strlen(text);

        put_be16(p, (uint16_t)n);
        memcpy(p + 2, text, n);
        return p + 2 + n;
}

static uint8_t *
put_pos(uint8_t *p, struct ltx_pos pos)
{
        put_be64(p, pos.txid);
        put_be64(p + 8, pos.checksum);
        return p + 16;
}

static size_t
encode_rename_note(const struct rename_note *note, uint8_t *buf)
{
        uint8_t *p = buf;

        memcpy(p, MAGIC, MAGIC_SIZE);
        put_be32(p + MAGIC_SIZE, (uint32_t)note->n);
        p += MAGIC_SIZE + 4;
        p = put_text(p, note->plain_from);
        p = put_text(p, note->plain_to);
        for (size_t i = 0; i < note->n; i++) {
                const struct rename_note_pair *pair = &note->pairs[i];

                p = put_pos(p, pair->from_pos);
                p = put_pos(p, pair->to_pos);
                p = put_pos(p, pair->made_pos);
                put_be32(p, pair->fresh);
                p = put_text(p + 4, pair->from);
                p = put_text(p, pair->to);
        }
        put_be64(p, ltx_crc64(0, buf, (size_t)(p - buf)));
        return (size_t)(p - buf) + 8;
}

/* What is left to be read. */
struct rest {
        const uint8_t *p;
        size_t n;
        bool is_short;
};

static const uint8_t *
take_bytes(struct rest *rest, size_t n)
{
        const uint8_t *p = rest->p;

        rest->is_short = rest->is_short || n > rest->n;
        if (rest->is_short)
                return NULL;
        rest->p += n;
        rest->n -= n;
        return p;
}

static void
take_note_text(struct rest *rest, char *ret, size_t size)
{
        const uint8_t *p = take_bytes(rest, 2), *text;
        size_t n = p != NULL ? get_be16(p) : 0;

        text = take_bytes(rest, n);
        rest->is_short = rest->is_short || n >= size || memchr(text, '\0', n) != NULL;
        if (!rest->is_short)
                memcpy(ret, text, n);
}

static void
take_pos(struct rest *rest, struct ltx_pos *ret)
{
        const uint8_t *p = take_bytes(rest, 16);

        if (p != NULL)
                *ret = (struct ltx_pos){ get_be64(p), get_be64(p + 8) };
}

static void
take_note_pair(struct rest *rest, struct rename_note_pair *ret)
{
        const uint8_t *p;

        take_pos(rest, &ret->from_pos);
        take_pos(rest, &ret->to_pos);
        take_pos(rest, &ret->made_pos);
        p = take_bytes(rest, 4);
        ret->fresh = p != NULL ? get_be32(p) : 0;
        take_note_text(rest, ret->from, sizeof ret->from);
        take_note_text(rest, ret->to, sizeof ret->to);
}

/* NULL: it is not whole, or there is no memory. */
static struct rename_note *
decode_rename_note(const uint8_t *buf, size_t n)
{
        struct rest rest = { .p = buf, .n = n };
        struct rename_note *note;
        const uint8_t *p;
        uint32_t n_pairs;

        if (n < MAGIC_SIZE + 4 + 8 || memcmp(buf, MAGIC, MAGIC_SIZE) != 0 ||
            ltx_crc64(0, buf, n - 8) != get_be64(buf + n - 8))
                return NULL;
        rest.n -= 8;
        p = take_bytes(&rest, MAGIC_SIZE + 4);
        n_pairs = get_be32(p + MAGIC_SIZE);
        note = n_pairs <= RENAME_MAX_PAIRS ? rename_note_new(n_pairs) : NULL;
        if (note == NULL)
                return NULL;
        take_note_text(&rest, note->plain_from, sizeof note->plain_from);
        take_note_text(&rest, note->plain_to, sizeof note->plain_to);
        for (uint32_t i = 0; i < n_pairs; i++)
                take_note_pair(&rest, &note->pairs[i]);
        if (!rest.is_short && rest.n == 0)
                return note;
        rename_note_free(note);
        return NULL;
}

/* --- the file --- */

static int
make_note_path(const char *dir, uint64_t number, char path[PATH_MAX])
{
        int n = snprintf(path, PATH_MAX, "%s/%" PRIu64, dir, number);

        return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

int
rename_note_write(const struct os *os, const char *dir, const struct rename_note *note, struct err *e)
{
        char path[PATH_MAX], parent[PATH_MAX];
        uint8_t *buf = malloc(SIZE_MAX_NOTE);
        int r = buf == NULL ? -ENOMEM : make_note_path(dir, note->number, path);

        if (r == 0)
                r = os_mkdir_all(os, "rename:note", dir, 0700);
        if (r == 0 && snprintf(parent, sizeof parent, "%s/..", dir) >= (int)sizeof parent)
                r = -ENAMETOOLONG;
        if (r ==
            0) /* also when it was there: a run before this one may have ended before it was durable */
                r = os_sync_dir(os, "rename:note", parent);
        if (r == 0)
                r = os_write_file(os, "rename:note", path, O_CREAT | O_TRUNC, buf,
                                  encode_rename_note(note, buf));
        if (r == 0)
                r = os_sync_dir(os, "rename:note", dir);
        free(buf);
        return r < 0 ? err_set(e, r, "write down the rename in %s", dir) : 0;
}

int
rename_note_read(const struct os *os, const char *dir, uint64_t number, struct rename_note **ret,
                 struct err *e)
{
        uint8_t *buf = malloc(SIZE_MAX_NOTE);
        char path[PATH_MAX];
        ssize_t n = 0;
        int r = buf == NULL ? -ENOMEM : make_note_path(dir, number, path);

        if (r == 0)
                n = os_read_file(os, "rename:note", path, buf, SIZE_MAX_NOTE);
        if (n < 0)
                r = (int)n;
        *ret = r == 0 ? decode_rename_note(buf, (size_t)n) : NULL;
        free(buf);
        if (r < 0)
                return err_set(e, r, "read %s/%" PRIu64, dir, number);
        if (*ret == NULL)
                return err_set(e, E_FORMAT, "%s/%" PRIu64, dir, number);
        (*ret)->number = number;
        return 0;
}

void
rename_note_remove(const struct os *os, const char *dir, uint64_t number)
{
        char path[PATH_MAX];

        if (make_note_path(dir, number, path) == 0)
                (void)os_unlink(os, "rename:note", path);
}
