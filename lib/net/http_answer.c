/* What a call answers: all at once, piece by piece by a worker, or pushed as it comes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/http_call.h"

#define BLOCK_SIZE ((size_t)64 * 1024)

static void
read_job(struct http_call *call)
{
        ssize_t n = call->read(call->data, call->buf, call->buf_capacity);

        call->buf_off = 0;
        call->buf_n = n > 0 ? (size_t)n : 0;
        call->is_end = n <= 0;
        call->stream_result = n < 0 ? (int)n : 0;
}

static ssize_t
give_body(void *arg, uint64_t pos, char *buf, size_t max)
{
        struct http_call *call = arg;
        size_t n = call->buf_n - call->buf_off;

        (void)pos;
        if (n > 0) {
                if (n > max)
                        n = max;
                memcpy(buf, call->buf + call->buf_off, n);
                call->buf_off += n;
                return (ssize_t)n;
        }
        if (call->is_end)
                return call->stream_result < 0 ? MHD_CONTENT_READER_END_WITH_ERROR
                                               : MHD_CONTENT_READER_END_OF_STREAM;
        if (call->is_push)
                http_call_suspend(call);
        else if (!http_call_start_job(call, read_job))
                return MHD_CONTENT_READER_END_WITH_ERROR;
        return 0;
}

static struct MHD_Response *
make_response(struct http_call *call)
{
        static char nothing[1];
        struct MHD_Response *response;
        char *body = call->body;

        if (call->read == NULL && !call->is_push) {
                response = MHD_create_response_from_buffer(
                        call->body_size, body != NULL ? body : nothing,
                        body != NULL ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
                if (response != NULL)
                        call->body = NULL;
                return response;
        }
        return MHD_create_response_from_callback(call->size_bytes < 0 ? MHD_SIZE_UNKNOWN
                                                                      : (uint64_t)call->size_bytes,
                                                 BLOCK_SIZE, give_body, call, NULL);
}

enum MHD_Result
http_call_queue_answer(struct http_call *call)
{
        struct MHD_Response *response = make_response(call);
        enum MHD_Result r = response != NULL ? MHD_YES : MHD_NO;

        if (r == MHD_YES && call->type != NULL)
                r = MHD_add_response_header(response, "Content-Type", call->type);
        for (int i = 0; i < call->n_headers && r == MHD_YES; i++)
                r = MHD_add_response_header(response, call->header_names[i], call->header_values[i]);
        if (r == MHD_YES)
                r = MHD_queue_response(call->connection, (unsigned)call->status, response);
        if (response != NULL)
                MHD_destroy_response(response);
        call->is_queued = r == MHD_YES;
        call->calls->n_answers[call->status >= 100 && call->status < 600 ? call->status / 100 : 0]++;
        return r;
}

void
http_call_end_push(struct http_call *call)
{
        call->is_end = true;
        http_call_resume(call);
}

static void
end_push(void *arg)
{
        http_call_end_push(arg);
}

void
http_call_reply(struct http_call *call, int status, const char *type, const void *body, size_t n)
{
        free(call->body);
        call->body = n > 0 ? malloc(n) : NULL;
        call->body_size = call->body != NULL ? n : 0;
        if (call->body != NULL)
                memcpy(call->body, body, n);
        call->status = call->body == NULL && n > 0 ? 500 : status;
        call->type = type;
}

void
http_call_add_header(struct http_call *call, const char *name, const char *value)
{
        if (call->n_headers == HTTP_CALL_MAX_HEADERS)
                return;
        call->header_names[call->n_headers] = name;
        call->header_values[call->n_headers++] = value;
}

void
http_call_stream(struct http_call *call, int status, const char *type, int64_t size_bytes,
                 ssize_t (*read)(void *data, void *buf, size_t n))
{
        if (http_call_make_buf(call) < 0) {
                http_call_reply(call, 503, NULL, NULL, 0);
                return;
        }
        call->buf_n = call->buf_off = 0;
        call->status = status;
        call->type = type;
        call->size_bytes = size_bytes;
        call->read = read;
}

void
http_call_push_open(struct http_call *call, int status, const char *type)
{
        call->status = status;
        call->type = type;
        call->is_push = true;
        if (call->conn == NULL)
                return;
        call->conn->end_request = end_push;
        call->conn->request = call;
}

/* Room for @n more bytes, with what was sent taken away. */
static int
answer_make_room(struct http_call *call, size_t n)
{
        size_t used = call->buf_n - call->buf_off, capacity = call->buf_capacity;
        char *grown;

        if (call->buf_off > 0)
                memmove(call->buf, call->buf + call->buf_off, used);
        call->buf_n = used;
        call->buf_off = 0;
        if (capacity >= used + n)
                return 0;
        capacity = capacity > 0 ? capacity : 4096;
        while (capacity < used + n)
                capacity *= 2;
        grown = realloc(call->buf, capacity);
        if (grown == NULL)
                return -ENOMEM;
        call->buf = grown;
        call->buf_capacity = capacity;
        return 0;
}

int
http_call_push(struct http_call *call, const void *buf, size_t n, size_t max_bytes)
{
        int r = 0;

        if (call->is_end)
                return -ENOTCONN;
        if (call->buf_n - call->buf_off + n > max_bytes)
                r = -ENOBUFS;
        if (r == 0)
                r = answer_make_room(call, n);
        if (r == 0) {
                memcpy(call->buf + call->buf_n, buf, n);
                call->buf_n += n;
                http_call_resume(call);
        } else {
                http_call_end_push(call);
                if (call->conn != NULL)
                        http_conn_evict(
                                call->conn); /* what it was sent before it will not read either */
        }
        /* After the others that are pushed to now. */
        http_daemon_wake(call->calls->daemon);
        return r;
}
