#include "backup/head.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_MAX 4096
#define FORMAT 1

typedef unsigned long long ull;

static bool
take_head_text(const json_t *j, const char *key, char *ret, size_t size)
{
        const char *s = json_string_value(json_object_get(j, key));

        return s != NULL && snprintf(ret, size, "%s", s) < (int)size;
}

static uint64_t
take_txid(const json_t *j, const char *key)
{
        const char *s = json_string_value(json_object_get(j, key));
        uint64_t txid = 0;

        return s != NULL && ltx_txid_parse(s, &txid) == 0 ? txid : 0;
}

static int
decode_head(const char *text, struct backup_head *ret)
{
        json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
        struct backup_head h = { 0 };
        bool is_right = json_integer_value(json_object_get(j, "format")) == FORMAT &&
                        take_head_text(j, "lineage", h.lineage, sizeof h.lineage) &&
                        take_head_text(j, "writer", h.writer, sizeof h.writer);

        h.epoch = (uint64_t)json_integer_value(json_object_get(j, "epoch"));
        h.pos.txid = take_txid(j, "txid");
        h.pos.checksum = take_txid(j, "checksum");
        h.superseded_from = take_txid(j, "superseded-from");
        h.superseded_to = take_txid(j, "superseded-to");
        h.is_deleted = json_is_true(json_object_get(j, "deleted"));
        h.time_ms = json_integer_value(json_object_get(j, "time-ms"));
        json_decref(j);
        if (!is_right)
                return E_FORMAT;
        *ret = h;
        return 0;
}

int
backup_head_read(struct dest *d, const char *place, struct backup_head *ret,
                 char ret_etag[DEST_ETAG_SIZE], struct err *e)
{
        char key[DEST_KEY_SIZE], text[HEAD_MAX];
        ssize_t n;
        int r = dest_key(place, BACKUP_HEAD_NAME, key);

        if (r < 0)
                return err_set(e, r, "%s", place);
        n = dest_read(d, key, text, sizeof text, ret_etag, e);
        if (n < 0)
                return (int)n;
        r = decode_head(text, ret);
        return r < 0 ? err_text(e, r, "%s/%s is not of a version that this litefs knows", d->url, key)
                     : 0;
}

static char *
encode_head(const struct backup_head *h)
{
        char txid[17], checksum[17], from[17], to[17], *text;
        json_t *j;

        snprintf(txid, sizeof txid, "%016llx", (ull)h->pos.txid);
        snprintf(checksum, sizeof checksum, "%016llx", (ull)h->pos.checksum);
        snprintf(from, sizeof from, "%016llx", (ull)h->superseded_from);
        snprintf(to, sizeof to, "%016llx", (ull)h->superseded_to);
        j = json_pack("{s:i, s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:b, s:I}", "format", FORMAT, "lineage",
                      h->lineage, "writer", h->writer, "epoch", (json_int_t)h->epoch, "txid", txid,
                      "checksum", checksum, "superseded-from", from, "superseded-to", to, "deleted",
                      (int)h->is_deleted, "time-ms", (json_int_t)h->time_ms);
        text = j != NULL ? json_dumps(j, JSON_INDENT(2)) : NULL;
        json_decref(j);
        return text;
}

int
backup_head_write(struct dest *d, const char *place, const struct backup_head *h,
                  char etag[DEST_ETAG_SIZE], struct err *e)
{
        struct dest_put_options o = { .condition = etag[0] != '\0' ? DEST_IF_MATCH : DEST_IF_ABSENT,
                                      .etag = etag,
                                      .time_ms = h->time_ms };
        char key[DEST_KEY_SIZE], now[DEST_ETAG_SIZE], *text = encode_head(h);
        int r = text == NULL ? -ENOMEM : dest_key(place, BACKUP_HEAD_NAME, key);

        if (r < 0)
                err_set(e, r, "%s", place);
        else
                r = dest_write(d, key, &o, text, strlen(text), now, e);
        free(text);
        if (r == 0)
                memcpy(etag, now, sizeof now);
        return r;
}
