/* litefs ltx: looks into the log of a database, as files that every LTX tool reads. It opens the log read-only,
 * so it may be used while the node runs. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cmd/litefs/command.h"
#include "cmd/litefs/flags.h"
#include "cmd/litefs/help.h"
#include "cmd/litefs/log_of.h"
#include "cmd/litefs/output.h"
#include "txlog/txlog.h"
#include "ltx/decoder.h"

struct request {
        struct log_place place;
        const char *from, *out_dir;
        const char *db;
        uint64_t txid; /* only this one; 0: all */
        bool is_json, is_quiet;
        struct txlog *log;
};

typedef int (*record_fn)(struct request *rq, const struct txlog_record *rec, struct byte_src *src,
                         struct err *e);

/* --- what is done with a record --- */

static void
format_ltx_time(int64_t ms, char *buf, size_t size)
{
        time_t t = (time_t)(ms / 1000);
        struct tm tm;
        size_t n;

        gmtime_r(&t, &tm);
        n = strftime(buf, size, "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(buf + n, size - n, ".%03dZ", (int)(ms % 1000));
}

/* A line for each transaction, which a log has any number of. Takes the reference. */
static int
print_record_json(json_t *o, struct err *e)
{
        int r = o != NULL ? json_dumpf(o, stdout, JSON_COMPACT) : -1;

        json_decref(o);
        return r < 0 || putchar('\n') == EOF ? err_set(e, -ENOMEM, "JSON") : 0;
}

static json_t *
json_of_hex(uint64_t v)
{
        return json_sprintf("%016llx", (unsigned long long)v);
}

static int
list_record(struct request *rq, const struct txlog_record *rec, struct byte_src *src, struct err *e)
{
        char when[64];

        (void)src;
        format_ltx_time(rec->timestamp_ms, when, sizeof when);
        if (rq->is_quiet)
                return 0;
        if (rq->is_json)
                return print_record_json(
                        json_pack("{s:o, s:o, s:I, s:I, s:o, s:o, s:s}", "minTXID",
                                  json_of_hex(rec->min_txid), "maxTXID", json_of_hex(rec->max_txid),
                                  "sizeBytes", (json_int_t)rec->size_bytes, "pages",
                                  (json_int_t)rec->commit, "preApplyChecksum",
                                  json_of_hex(rec->pre_apply_checksum), "postApplyChecksum",
                                  json_of_hex(rec->post_apply_checksum), "timestamp", when),
                        e);
        printf("%016llx  %016llx  %10llu  %10u  %016llx  %016llx  %s\n",
               (unsigned long long)rec->min_txid, (unsigned long long)rec->max_txid,
               (unsigned long long)rec->size_bytes, rec->commit,
               (unsigned long long)rec->pre_apply_checksum, (unsigned long long)rec->post_apply_checksum,
               when);
        return 0;
}

static void
print_header(const struct ltx_header *h)
{
        char when[64];

        format_ltx_time(h->timestamp_ms, when, sizeof when);
        printf("min_txid=%016llx max_txid=%016llx flags=0x%x page_size=%u commit=%u timestamp=%s\n"
               "pre_apply_checksum=%016llx wal_offset=%lld wal_size=%lld wal_salt=%08x,%08x "
               "node_id=%016llX\n",
               (unsigned long long)h->min_txid, (unsigned long long)h->max_txid, h->flags, h->page_size,
               h->commit, when, (unsigned long long)h->pre_apply_checksum, (long long)h->wal_offset,
               (long long)h->wal_size, h->wal_salt1, h->wal_salt2, (unsigned long long)h->node_id);
}

static json_t *
json_of_header(const struct ltx_header *h)
{
        char when[64];

        format_ltx_time(h->timestamp_ms, when, sizeof when);
        return json_pack("{s:o, s:o, s:I, s:I, s:I, s:s, s:o, s:o, s:[]}", "minTXID",
                         json_of_hex(h->min_txid), "maxTXID", json_of_hex(h->max_txid), "flags",
                         (json_int_t)h->flags, "pageSize", (json_int_t)h->page_size, "commit",
                         (json_int_t)h->commit, "timestamp", when, "preApplyChecksum",
                         json_of_hex(h->pre_apply_checksum), "nodeID", json_of_hex(h->node_id), "pages");
}

/* Decodes to the end, which is what proves the record; prints on the way if asked, or fills @ret_json. */
static int
decode_record(const struct txlog_record *rec, struct byte_src *src, bool is_printing, json_t **ret_json,
              uint64_t *ret_pages, struct err *e)
{
        struct ltx_decoder *d = NULL;
        struct ltx_header h;
        struct ltx_trailer t;
        uint8_t *page = malloc(65536);
        uint32_t pgno;
        int r = page == NULL ? -ENOMEM : ltx_decoder_new(&d);

        *ret_pages = 0;
        if (r < 0)
                err_set(e, r, "decode");
        else
                r = ltx_decoder_begin(d, LTX_V3, src, &h, e);
        if (r == 0 && is_printing)
                print_header(&h);
        if (r == 0 && ret_json != NULL)
                *ret_json = json_of_header(&h);
        while (r == 0 && (r = ltx_decoder_next(d, page, &pgno, e)) > 0) {
                if (is_printing)
                        printf("page=%u\n", pgno);
                if (ret_json != NULL)
                        json_array_append_new(json_object_get(*ret_json, "pages"), json_integer(pgno));
                (*ret_pages)++;
                r = 0;
        }
        if (r == 0)
                r = ltx_decoder_finish(d, &t, e);
        if (r == 0 && t.post_apply_checksum != rec->post_apply_checksum)
                r = err_set(e, E_CHECKSUM, "post-apply checksum of the record and of its LTX differ");
        if (r == 0 && is_printing)
                printf("post_apply_checksum=%016llx file_checksum=%016llx\n",
                       (unsigned long long)t.post_apply_checksum, (unsigned long long)t.file_checksum);
        if (r == 0 && ret_json != NULL)
                json_object_set_new(*ret_json, "postApplyChecksum", json_of_hex(t.post_apply_checksum));
        ltx_decoder_free(d);
        free(page);
        if (r < 0)
                err_prefix(e, "transaction %016llx", (unsigned long long)rec->max_txid);
        return r;
}

static int
dump_record(struct request *rq, const struct txlog_record *rec, struct byte_src *src, struct err *e)
{
        json_t *object = NULL;
        uint64_t pages;
        int r = decode_record(rec, src, !rq->is_json && !rq->is_quiet, rq->is_json ? &object : NULL,
                              &pages, e);

        if (r == 0 && rq->is_json)
                return print_record_json(object, e);
        json_decref(object);
        return r;
}

static int
verify_record(struct request *rq, const struct txlog_record *rec, struct byte_src *src, struct err *e)
{
        uint64_t pages;
        int r = decode_record(rec, src, false, NULL, &pages, e);

        if (r == 0 && rq->is_json)
                return print_record_json(json_pack("{s:o, s:I, s:b}", "maxTXID",
                                                   json_of_hex(rec->max_txid), "pages",
                                                   (json_int_t)pages, "ok", 1),
                                         e);
        if (r == 0 && !rq->is_quiet)
                printf("%016llx ok, %llu pages\n", (unsigned long long)rec->max_txid,
                       (unsigned long long)pages);
        return r;
}

static int
copy_to(int fd, struct byte_src *src)
{
        uint8_t buf[65536];
        off_t at = 0;
        ssize_t n;
        int r = 0;

        while (r == 0 && (n = src->read(src, buf, sizeof buf)) != 0) {
                if (n < 0)
                        return (int)n;
                r = os_pwrite_all(os_host(), "ltx:extract", fd, buf, (size_t)n, at);
                at += n;
        }
        return r == 0 ? os_fsync(os_host(), "ltx:extract", fd) : r;
}

static int
extract_record(struct request *rq, const struct txlog_record *rec, struct byte_src *src, struct err *e)
{
        char path[PATH_MAX];
        struct output out;
        int r;

        snprintf(path, sizeof path, "%s/%016llx-%016llx.ltx", rq->out_dir != NULL ? rq->out_dir : ".",
                 (unsigned long long)rec->min_txid, (unsigned long long)rec->max_txid);
        r = output_open(&out, path, e);
        if (r < 0)
                return r;
        r = copy_to(out.fd, src);
        if (r < 0) {
                output_discard(&out);
                return err_set(e, r, "write %s", path);
        }
        r = output_publish(&out, e);
        if (r < 0)
                return r;
        if (rq->is_json)
                return print_record_json(
                        json_pack("{s:o, s:s}", "maxTXID", json_of_hex(rec->max_txid), "path", path), e);
        if (!rq->is_quiet)
                printf("%s\n", path);
        return 0;
}

static const struct help_row actions[] = {
        { "list", "one line a transaction" },
        { "dump", "header, page numbers and checksums of each transaction" },
        { "verify", "decode every transaction and compare all checksums" },
        { "extract", "write each transaction as MIN-MAX.ltx" },
        { 0 },
};
/* In the order of `actions`. */
static const struct {
        record_fn fn;
        const char *heading;
} work[] = {
        { list_record,
          "min_txid          max_txid          size        commit      pre_apply         post_apply        "
          "timestamp\n" },
        { dump_record, "" },
        { verify_record, "" },
        { extract_record, "" },
};
#define N_ACTIONS (sizeof work / sizeof work[0])

/* --- the log --- */

static int
walk_log(struct request *rq, record_fn fn, struct err *e)
{
        struct txlog_reader *reader;
        struct txlog_record rec, first;
        struct byte_src *src;
        bool found = false;
        int r;

        if (!txlog_first(rq->log, &first))
                return rq->txid == 0 ? 0 : err_text(e, E_NOT_FOUND, "the log is empty");
        r = txlog_reader_open(rq->log, rq->txid > 0 ? rq->txid - 1 : first.min_txid - 1, &reader, e);
        if (r < 0)
                return r;
        while ((r = txlog_reader_next(reader, &rec, &src, e)) > 0) {
                if (rq->txid != 0 && rec.min_txid > rq->txid)
                        break;
                found = true;
                r = fn(rq, &rec, src, e);
                if (r < 0)
                        break;
        }
        txlog_reader_close(reader);
        if (r >= 0 && rq->txid != 0 && !found)
                return err_text(e, E_NOT_FOUND, "transaction %016llx is not in the log",
                                (unsigned long long)rq->txid);
        return r < 0 ? r : 0;
}

/* Behind the last record there is nothing, or one that is being written at this moment, or damage. */
static int
check_log_end(struct request *rq, struct err *e)
{
        char end[PATH_MAX + 64];

        if (txlog_torn_bytes(rq->log) == 0)
                return 0;
        txlog_describe_end(rq->log, end, sizeof end);
        return err_text(
                e, E_CORRUPT_DB,
                "%s: %llu bytes are not a record. While litefs runs, it may be writing one: verify again. "
                "Otherwise transactions from there on are damaged or were never finished",
                end, (unsigned long long)txlog_torn_bytes(rq->log));
}

static int
print_ltx_help(const struct flag *flags, const char *format)
{
        static const struct help_row examples[] = {
                { "litefs ltx list app.db", "list the transactions of app.db" },
                { "litefs ltx verify -data-dir /var/lib/litefs app.db", "check all of its log" },
                { "litefs ltx extract -txid 000000000000002a -o /tmp app.db",
                  "write one transaction as a file" },
                { "litefs ltx list /var/lib/litefs/orphans/app.db-000000000000002a-fe3831a381c602b9",
                  "list those of a state that was set aside" },
                { 0 },
        };
        static const struct help_row exits[] = {
                { "0", "done; verify: nothing is wrong" },
                { "1",
                  "failed, or something is wrong; the line on stderr that begins with ERROR: says what" },
                { "2", "an argument is wrong or missing" },
                { 0 },
        };
        static const struct help help = {
                .name = "ltx",
                .synopsis = "ACTION [flags] DB",
                .about =
                        "Shows the transaction log of a database, also while the node runs. DB is the database's path in\n"
                        "the mount, for example app.db, or a directory (beginning with / or ./), such as those that were\n"
                        "set aside in DATA/orphans.",
                .actions = actions,
                .examples = examples,
                .operands = "databases",
                .exits = exits,
        };

        return help_print(&help, flags, format);
}

static int
parse_ltx_words(struct request *rq, const struct flag *flags, int argc, char **argv,
                const char **ret_help, struct err *e)
{
        struct flag_words w;
        int r;

        r = flags_parse(flags, argc, argv, &w, e);
        *ret_help = w.help;
        if (r != 0)
                return r;
        if (flag_words_count(&w) != 1)
                return err_text(e, -EINVAL,
                                flag_words_count(&w) == 0 ? "the database is missing"
                                                          : "too many arguments");
        rq->db = flag_words_get(&w, 0);
        if (rq->from != NULL && (ltx_txid_parse(rq->from, &rq->txid) < 0 || rq->txid == 0))
                return err_text(e, -EINVAL, "-txid wants 16 hex digits, not %s", rq->from);
        return 0;
}

int
command_ltx(int argc, char **argv)
{
        struct request rq = { 0 };
        const struct flag flags[] = {
                LOG_PLACE_FLAGS(&rq.place),
                { "txid", "TXID", "only this transaction, 16 hex digits", NULL, &rq.from },
                { "o", "DIR", "where extract writes; default: here", NULL, &rq.out_dir },
                { "q", NULL, "print nothing but errors", &rq.is_quiet, NULL },
                { "json", NULL, "as JSON, an object a line for each transaction", &rq.is_json, NULL },
                { 0 },
        };
        const char *help = "";
        char dir[PATH_MAX];
        struct err e = ERR_INIT;
        size_t i = argc > 0 ? 0 : N_ACTIONS;
        int r = 0;

        while (i < N_ACTIONS && strcmp(actions[i].left, argv[0]) != 0)
                i++;
        if (argc > 0 && i < N_ACTIONS)
                r = parse_ltx_words(&rq, flags, argc - 1, argv + 1, &help, &e);
        else if (argc > 0 && argv[0][0] == '-')
                r = parse_ltx_words(&rq, flags, argc, argv, &help, &e);
        else if (argc > 0 && strcmp(argv[0], "help") == 0)
                r = 1;
        else if (argc > 0)
                r = err_text(&e, -EINVAL, "unknown action %s: want list, dump, verify or extract",
                             argv[0]);
        if (r == 0 && i == N_ACTIONS)
                r = err_text(&e, -EINVAL, "the action comes first: litefs ltx list|dump|verify|extract");
        if (r > 0)
                return print_ltx_help(flags, help);
        if (r < 0)
                return help_mistake("ltx", e.text);
        if (r == 0)
                r = log_of(&rq.place, rq.db, &rq.log, dir, &e);
        if (r == 0) {
                if (!rq.is_json && !rq.is_quiet)
                        fputs(work[i].heading, stdout);
                r = walk_log(&rq, work[i].fn, &e);
        }
        if (r == 0 && work[i].fn == verify_record && rq.txid == 0)
                r = check_log_end(&rq, &e);
        txlog_close(rq.log);
        if (r < 0)
                fprintf(stderr, "ERROR: %s\n", e.text);
        return r < 0;
}
