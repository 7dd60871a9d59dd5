/* Moments as they are written, and the transactions they stand for. */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/rfc3339.h"
#include "history/moment.h"
#include "ltx/header.h"

typedef unsigned long long ull;

/* "-90m" */
static int
parse_age(const char *text, int64_t now_ms, int64_t *ret_ms)
{
        static const char names[] = "smhd";
        static const int64_t units[] = { 1000, 60000, 3600000, 86400000 };
        const char *p = text + 1, *unit;
        int64_t n = 0;

        if (*text != '-' || !isdigit((unsigned char)*p))
                return -EINVAL;
        for (; isdigit((unsigned char)*p); p++)
                if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, *p - '0', &n))
                        return -EINVAL;
        unit = *p != '\0' ? strchr(names, *p) : NULL;
        if (unit == NULL || p[1] != '\0' || __builtin_mul_overflow(n, units[unit - names], &n))
                return -EINVAL;
        *ret_ms = now_ms - n;
        return 0;
}

/* In UTC only: "+02:00" would make two names of one moment, and "t" and " " several more. */
static int
parse_spec_time(const char *text, int64_t *ret_ms)
{
        size_t n = strlen(text);

        if (n < sizeof "2026-01-02T03:04:05Z" - 1 || text[10] != 'T' || text[n - 1] != 'Z')
                return -EINVAL;
        return rfc3339_parse(text, ret_ms);
}

int
moment_spec_parse(const char *text, int64_t now_ms, struct moment_spec *ret)
{
        struct moment_spec spec = { 0 };

        if (ltx_txid_parse(text, &spec.txid) == 0) {
                if (spec.txid == 0)
                        return -EINVAL;
        } else if (parse_age(text, now_ms, &spec.time_ms) < 0 &&
                   parse_spec_time(text, &spec.time_ms) < 0) {
                return -EINVAL;
        }
        *ret = spec;
        return 0;
}

/* --- which transaction --- */

static struct moment_info
info_of(const struct txlog_record *rec)
{
        return (struct moment_info){ .pos = { rec->max_txid, rec->post_apply_checksum },
                                     .time_ms = rec->timestamp_ms,
                                     .page_size = rec->page_size,
                                     .page_count = rec->commit };
}

typedef int record_fn(void *arg, const struct txlog_record *record, struct byte_src *src, struct err *e);

/* From behind @after_txid; -EAGAIN, E_NOT_FOUND. */
static int
each_behind(struct txlog *log, uint64_t after_txid, uint64_t last_txid, record_fn *fn, void *arg,
            struct err *e)
{
        struct txlog_reader *reader;
        struct txlog_record rec;
        struct byte_src *src;
        int r = txlog_reader_open(log, after_txid, &reader, e);

        if (r < 0)
                return r;
        while ((r = txlog_reader_next(reader, &rec, &src, e)) > 0 && rec.max_txid <= last_txid &&
               (r = fn(arg, &rec, src, e)) == 0)
                ;
        txlog_reader_close(reader);
        return r > 0 && rec.max_txid > last_txid ? 0 : r;
}

struct each {
        int (*fn)(void *arg, const struct txlog_record *record);
        void *arg;
};

static int
call_each(void *arg, const struct txlog_record *rec, struct byte_src *src, struct err *e)
{
        struct each *each = arg;

        (void)src, (void)e;
        return each->fn(each->arg, rec);
}

int
moment_each(struct txlog *log, uint64_t last_txid,
            int (*fn)(void *arg, const struct txlog_record *record), void *arg, struct err *e)
{
        struct each each = { fn, arg };
        struct txlog_record first;

        return txlog_first(log, &first)
                       ? each_behind(log, first.min_txid - 1, last_txid, call_each, &each, e)
                       : 0;
}

struct finding {
        const struct moment_spec *spec;
        struct txlog_record found;
        uint64_t passed_by; /* the first that goes beyond the transaction */
        uint64_t last_txid; /* considered */
        bool is_hidden;     /* by one of those beyond */
};

/* Of a snapshot that leaves transactions out it is not known what they were. */
static int
look_whether_hidden(struct finding *f, const struct txlog_record *rec, struct byte_src *src,
                    struct err *e)
{
        struct ltx_header h;
        int r;

        if (rec->commit == 0 || (rec->min_txid == 1 && rec->max_txid != f->last_txid + 1))
                f->is_hidden = true;
        if (f->is_hidden)
                return 0;
        r = ltx_header_read(src, &h, e);
        if (r < 0)
                return err_prefix(e, "read transaction %016llx", (ull)rec->max_txid), r;
        f->is_hidden = h.mark.hides_past;
        return 0;
}

static int
consider(void *arg, const struct txlog_record *rec, struct byte_src *src, struct err *e)
{
        struct finding *f = arg;
        int r = 0;

        if (f->spec->txid != 0 ? rec->max_txid <= f->spec->txid
                               : rec->timestamp_ms <= f->spec->time_ms) {
                f->found = *rec;
                f->is_hidden = false;
        } else {
                if (f->passed_by == 0)
                        f->passed_by = rec->max_txid;
                r = look_whether_hidden(f, rec, src, e);
        }
        f->last_txid = rec->max_txid;
        return r;
}

static int
check_found(const struct finding *f, const struct txlog_record *first, uint64_t last_txid, struct err *e)
{
        uint64_t txid = f->spec->txid;

        if (txid > last_txid)
                return err_text(e, E_NOT_FOUND,
                                "there is no transaction %016llx yet, the last is %016llx", (ull)txid,
                                (ull)last_txid);
        if (txid != 0 && f->found.max_txid != txid && f->passed_by != 0)
                return err_text(
                        e, E_NOT_FOUND,
                        "the log has transaction %016llx only as a part of what leads to %016llx",
                        (ull)txid, (ull)f->passed_by);
        if (f->found.max_txid == 0) {
                char when[RFC3339_SIZE];

                rfc3339_format(first->timestamp_ms, when);
                return err_text(e, E_NOT_FOUND, "the log begins with transaction %016llx of %s",
                                (ull)first->max_txid, when);
        }
        if (f->found.commit == 0)
                return err_text(e, E_NOT_FOUND, "the database was deleted by transaction %016llx",
                                (ull)f->found.max_txid);
        return 0;
}

int
moment_find(struct txlog *log, const struct moment_spec *spec, uint64_t last_txid,
            struct moment_info *ret, struct err *e)
{
        struct finding f = { .spec = spec };
        struct txlog_record first;
        uint64_t after;
        int r = 0;

        if (!txlog_first(log, &first))
                return err_text(e, E_NOT_FOUND, "the log is empty");
        after = spec->txid == 0 ? txlog_seek_time(log, spec->time_ms) : spec->txid - 1;
        if (spec->txid == 0 || (spec->txid >= first.min_txid && spec->txid <= last_txid))
                r = each_behind(log, after, last_txid, consider, &f, e);
        if (r >= 0)
                r = check_found(&f, &first, last_txid, e);
        if (r == 0) {
                *ret = info_of(&f.found);
                ret->is_hidden = f.is_hidden;
        }
        return r;
}
