#include "history/changes.h"

#include <errno.h>
#include <stdlib.h>

#include "ltx/header.h"
#include "ltx/page_frame.h"

static int
read_index(const struct os *os, const struct txlog_record *rec, const struct txlog_place *place,
           uint8_t **ret, uint64_t *ret_length)
{
        uint8_t tail[LTX_INDEX_TAIL];
        uint64_t end = rec->size_bytes - LTX_INDEX_TAIL;
        ssize_t n;

        if (rec->size_bytes < LTX_HEADER_SIZE + LTX_INDEX_TAIL)
                return E_FORMAT;
        n = os_pread_all(os, "history:index", place->fd, tail, sizeof tail, (off_t)(place->off + end));
        if (n < 0)
                return (int)n;
        *ret_length = ltx_index_length(tail);
        if ((size_t)n < sizeof tail || *ret_length > end - LTX_HEADER_SIZE)
                return E_FORMAT;
        *ret = malloc(*ret_length + 1);
        if (*ret == NULL)
                return -ENOMEM;
        n = os_pread_all(os, "history:index", place->fd, *ret, *ret_length,
                         (off_t)(place->off + end - *ret_length));
        return n < 0 ? (int)n : (uint64_t)n < *ret_length ? E_FORMAT : 0;
}

static int
count_changed(const struct os *os, const struct txlog_record *rec, const struct txlog_place *place,
              uint32_t *ret)
{
        struct ltx_index_cursor c;
        uint8_t *index = NULL;
        uint64_t length = 0, off;
        uint32_t pgno;
        int r = read_index(os, rec, place, &index, &length);

        *ret = 0;
        c = (struct ltx_index_cursor){ index, index + length };
        while (r == 0 && (r = ltx_index_next(&c, &pgno, &off)) > 0) {
                ++*ret;
                r = 0;
        }
        free(index);
        return r;
}

int
history_each_change(const struct os *os, struct txlog *log,
                    int (*fn)(void *arg, const struct history_change *change), void *arg, struct err *e)
{
        struct txlog_reader *reader;
        struct history_change change;
        struct txlog_record first;
        struct txlog_place place;
        struct byte_src *src;
        int r;

        if (!txlog_first(log, &first))
                return 0;
        r = txlog_reader_open(log, first.min_txid - 1, &reader, e);
        if (r < 0)
                return r;
        while ((r = txlog_reader_next(reader, &change.record, &src, e)) > 0) {
                txlog_reader_get_place(reader, &place);
                r = count_changed(os, &change.record, &place, &change.n_changed);
                if (r < 0)
                        err_set(e, r, "page index of transaction %016llx",
                                (unsigned long long)change.record.max_txid);
                if (r == 0)
                        r = fn(arg, &change);
                if (r != 0)
                        break;
        }
        txlog_reader_close(reader);
        return r;
}
