/* Objects on their way to a bucket: what fits into one part is put at once; what is longer in parts that grow, so that a part
 * of an object of any size fits into memory: 8 MiB for the first 8 GB. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/dest_s3.h"
#include "net/sigv4.h"

#define PART_SIZE (8u << 20)
#define PARTS_MAX 10000
#define PARTS_EACH 1000 /* of one size */

struct s3_put {
        struct dest_put base;
        char key[DEST_KEY_SIZE];
        char condition[S3_CONDITION_SIZE]; /* the header, or "" */
        bool is_match;
        int64_t time_ms;
        uint8_t *buf;
        size_t n, capacity;
        char upload_id[512]; /* "": not in parts */
        unsigned n_parts;
        char (*etags)[DEST_ETAG_SIZE];
        struct err e; /* of a part, for the end */
};

static size_t
part_size(unsigned n_parts)
{
        return (size_t)PART_SIZE * (1 + n_parts / PARTS_EACH);
}

static void
free_put(struct s3_put *p)
{
        free(p->buf);
        free(p->etags);
        free(p);
}

static int
begin_parts(struct s3_put *p, struct err *e)
{
        struct s3_call call = { .method = "POST",
                                .purpose = S3_STORE,
                                .key = p->key,
                                .query = "uploads=",
                                .time_ms = p->time_ms };
        struct http_response rs;
        int r = s3_do(s3_of(p->base.dest), &call, &rs, e);

        if (r == 0 && !s3_xml_find(rs.body, rs.body_size, "UploadId", p->upload_id, sizeof p->upload_id))
                r = err_set(e, E_FORMAT, "%s: begin an upload of %s", p->base.dest->url, p->key);
        if (r == 0)
                p->etags = calloc(PARTS_MAX, sizeof *p->etags);
        return r == 0 && p->etags == NULL ? err_set(e, -ENOMEM, "parts") : r;
}

static int
put_part(struct s3_put *p, struct err *e)
{
        char query[S3_QUERY_SIZE], id[2048];
        struct s3_call call = { .method = "PUT",
                                .purpose = S3_PART,
                                .key = p->key,
                                .query = query,
                                .body = p->buf,
                                .body_size = p->n };
        struct http_response rs;
        int r = 0;

        if (p->upload_id[0] == '\0')
                r = begin_parts(p, e);
        if (r < 0)
                return r;
        if (p->n_parts == PARTS_MAX || !sigv4_encode(p->upload_id, false, id, sizeof id))
                return err_set(e, -EFBIG, "%s: %s", p->base.dest->url, p->key);
        snprintf(query, sizeof query, "partNumber=%u&uploadId=%s", p->n_parts + 1, id);
        r = s3_do(s3_of(p->base.dest), &call, &rs, e);
        if (r < 0)
                return r;
        snprintf(p->etags[p->n_parts++], DEST_ETAG_SIZE, "%s", rs.text);
        p->n = 0;
        return 0;
}

static int
grow_buffer(struct s3_put *p)
{
        size_t want = p->capacity == 0 ? 65536 : p->capacity * 2, most = part_size(p->n_parts);
        uint8_t *grown;

        if (p->n < p->capacity)
                return 0;
        grown = realloc(p->buf, want < most ? want : most);
        if (grown == NULL)
                return -ENOMEM;
        p->buf = grown;
        p->capacity = want < most ? want : most;
        return 0;
}

static int
s3_write(struct byte_sink *sink, const void *buf, size_t n)
{
        struct s3_put *p = (struct s3_put *)sink;
        const uint8_t *from = buf;
        int r = 0;

        while (n > 0 && r == 0) {
                size_t part;

                if (p->n == part_size(p->n_parts))
                        r = put_part(p, &p->e);
                if (r == 0)
                        r = grow_buffer(p);
                if (r < 0)
                        break;
                part = n < p->capacity - p->n ? n : p->capacity - p->n;
                memcpy(p->buf + p->n, from, part);
                p->n += part;
                from += part;
                n -= part;
        }
        return r;
}

int
s3_put_begin(struct dest *dest, const char *key, const struct dest_put_options *options,
             struct dest_put **ret, struct err *e)
{
        struct s3_put *p = calloc(1, sizeof *p);

        if (p == NULL)
                return err_set(e, -ENOMEM, "%s: write %s", dest->url, key);
        p->base.sink.write = s3_write;
        p->base.dest = dest;
        p->time_ms = options->time_ms;
        snprintf(p->key, sizeof p->key, "%s", key);
        if (options->condition == DEST_IF_ABSENT && !dest->ignores_conditions)
                snprintf(p->condition, sizeof p->condition, "if-none-match: *");
        if (options->condition == DEST_IF_MATCH && !dest->ignores_conditions)
                s3_make_if_match(s3_of(dest), options->etag, p->condition);
        p->is_match = options->condition == DEST_IF_MATCH;
        *ret = &p->base;
        return 0;
}

/* Parts that are not made an object cost money until they are told to go. */
void
s3_put_abort(struct dest_put *put)
{
        struct s3_put *p = (struct s3_put *)put;
        char query[S3_QUERY_SIZE] = "uploadId=";
        struct s3_call call = { .method = "DELETE", .key = p->key, .query = query };
        struct http_response rs;

        if (p->upload_id[0] != '\0' && sigv4_encode(p->upload_id, false, query + 9, sizeof query - 9))
                (void)s3_do(s3_of(put->dest), &call, &rs, NULL);
        free_put(p);
}

/* The list of parts is what makes them an object. */
static int
end_parts(struct s3_put *p, char ret_etag[DEST_ETAG_SIZE], struct err *e)
{
        static const char head[] = "<CompleteMultipartUpload>", tail[] = "</CompleteMultipartUpload>";
        char query[S3_QUERY_SIZE] = "uploadId=", code[64];
        size_t size = p->n_parts * (DEST_ETAG_SIZE + 80) + 128, n;
        char *xml = malloc(size);
        struct s3_call call = { .method = "POST", .key = p->key, .query = query, .body = xml };
        struct http_response rs;
        int r;

        if (xml == NULL || !sigv4_encode(p->upload_id, false, query + 9, sizeof query - 9)) {
                free(xml);
                return err_set(e, -ENOMEM, "parts of %s", p->key);
        }
        n = (size_t)snprintf(xml, size, "%s", head);
        for (unsigned i = 0; i < p->n_parts; i++)
                n += (size_t)snprintf(xml + n, size - n,
                                      "<Part><PartNumber>%u</PartNumber><ETag>%s</ETag></Part>", i + 1,
                                      p->etags[i]);
        call.body_size = n + (size_t)snprintf(xml + n, size - n, "%s", tail);
        if (p->condition[0] != '\0')
                call.headers[0] = p->condition;
        r = s3_do(s3_of(p->base.dest), &call, &rs, e);
        free(xml);
        /* An error may come behind a 200, for the answer begins before the work is done. */
        if (r == 0 && s3_xml_find(rs.body, rs.body_size, "Code", code, sizeof code))
                r = err_text(e, -EIO, "%s: end the upload of %s: %s", p->base.dest->url, p->key, code);
        if (r == 0 && !s3_xml_find(rs.body, rs.body_size, "ETag", ret_etag, DEST_ETAG_SIZE))
                ret_etag[0] = '\0';
        return r;
}

static int
put_whole(struct s3_put *p, char ret_etag[DEST_ETAG_SIZE], struct err *e)
{
        struct s3_call call = { .method = "PUT",
                                .purpose = S3_STORE,
                                .key = p->key,
                                .body = p->buf,
                                .body_size = p->n,
                                .time_ms = p->time_ms,
                                .headers = { p->condition[0] != '\0' ? p->condition : NULL } };
        struct http_response rs;
        int r = s3_do(s3_of(p->base.dest), &call, &rs, e);

        if (r == 0)
                snprintf(ret_etag, DEST_ETAG_SIZE, "%s", rs.text);
        return r;
}

int
s3_put_finish(struct dest_put *put, char ret_etag[DEST_ETAG_SIZE], struct err *e)
{
        struct s3_put *p = (struct s3_put *)put;
        bool is_match = p->is_match;
        int r = p->upload_id[0] == '\0' ? put_whole(p, ret_etag, e) : p->n > 0 ? put_part(p, e) : 0;

        if (r == 0 && p->upload_id[0] != '\0')
                r = end_parts(p, ret_etag, e);
        if (r < 0)
                s3_put_abort(put);
        else
                free_put(p);
        /* What If-Match names is not there, or not that. */
        return is_match && (r == -EEXIST || r == E_NOT_FOUND) ? -ESTALE : r;
}
