#include "net/http_call.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUSY "more requests without a token are waiting than this node serves: try again\n"
#define DROP_MAX ((uint64_t)64 * 1024)

/* --- the body of a request --- */

static void
write_job(struct http_call *call)
{
        if (call->receive_result == 0)
                call->receive_result = call->receiver->write(call->data, call->buf, call->buf_n);
        call->buf_n = 0;
}

static void
last_write_job(struct http_call *call)
{
        if (call->buf_n > 0)
                write_job(call);
        call->receiver->end(call, call->data, call->receive_result);
}

/* Takes what fits: the rest is offered again. */
static enum MHD_Result
take_body(struct http_call *call, const char *data, size_t *n)
{
        size_t take = *n, room;

        if (call->receiver == NULL) {
                call->n_dropped += take;
                *n = 0;
                return call->n_dropped > DROP_MAX ? MHD_NO : MHD_YES;
        }
        if (call->n_received + take > call->max_bytes && call->receive_result == 0)
                call->receive_result = -EFBIG;
        if (call->receive_result < 0) {
                *n = 0;
                return MHD_YES;
        }
        room = call->buf_capacity - call->buf_n;
        if (take > room)
                take = room;
        memcpy(call->buf + call->buf_n, data, take);
        call->buf_n += take;
        call->n_received += take;
        *n -= take;
        if (call->buf_n == call->buf_capacity && !http_call_start_job(call, write_job))
                return MHD_NO;
        return MHD_YES;
}

/* --- a request's life --- */

/* A worker's function that asked for nothing would leave the peer waiting for ever. */
static void
call_job(struct http_call *call)
{
        call->again_ms = 0;
        call->run(call, call->data);
        if (call->again_ms > 0)
                return;
        call->run = NULL;
        if (call->status == 0)
                http_call_reply(call, 500, NULL, NULL, 0);
}

static enum MHD_Result
call_go_on(struct http_call *call)
{
        if (call->is_queued)
                return MHD_YES;
        if (call->is_awaited)
                http_call_heard(call);
        call->is_awaited = false;
        if (call->receiver != NULL && !call->is_body_over) {
                call->is_body_over = true;
                return http_call_start_job(call, last_write_job) ? MHD_YES : MHD_NO;
        }
        if (call->run != NULL)
                return http_call_start_job(call, call_job) ? MHD_YES : MHD_NO;
        return call->status != 0 ? http_call_queue_answer(call) : MHD_NO;
}

static struct http_conn *
conn_of(struct MHD_Connection *connection)
{
        const union MHD_ConnectionInfo *info =
                MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

        return info != NULL ? info->socket_context : NULL;
}

static struct http_call *
begin_call(struct http_calls *calls, struct MHD_Connection *connection, const char *method,
           const char *path)
{
        struct http_call *call = calloc(1, sizeof *call);

        if (call == NULL)
                return NULL;
        call->calls = calls;
        call->connection = connection;
        call->conn = conn_of(connection);
        if (call->conn != NULL) {
                call->conn->has_request = true;
                http_call_heard(call);
        }
        call->method = method;
        call->path = path;
        call->size_bytes = -1;
        call->next = calls->first;
        if (calls->first != NULL)
                calls->first->prev = call;
        calls->first = call;
        return call;
}

/* A body that is too long to be dropped is not awaited: the peer may read the answer now. */
static bool
is_body_unwanted(const struct http_call *call)
{
        const char *length = http_call_header(call, "Content-Length");
        unsigned long long n = length != NULL ? strtoull(length, NULL, 10) : 0;

        if (call->receiver != NULL)
                return false;
        return n > DROP_MAX ||
               (http_call_header(call, "Transfer-Encoding") != NULL && call->status >= 400);
}

/* Until it has come, who asks has not said all, however far he is: nobody misses one who does not send what is dropped. */
static void
await_body(struct http_call *call)
{
        const char *length = http_call_header(call, "Content-Length");

        if (call->conn == NULL || call->receiver != NULL || call->is_proved ||
            ((length == NULL || strcmp(length, "0") == 0) &&
             http_call_header(call, "Transfer-Encoding") == NULL))
                return;
        call->is_awaited = true;
        crowd_set_rank(&call->conn->guest, CROWD_NEW, loop_now_ms(call->calls->daemon->loop));
}

enum MHD_Result
http_call_on_request(void *arg, struct MHD_Connection *connection, const char *path, const char *method,
                     const char *version, const char *upload, size_t *upload_size, void **slot)
{
        struct http_calls *calls = arg;
        struct http_call *call = *slot;

        (void)version;
        if (call == NULL) {
                call = begin_call(calls, connection, method, path);
                *slot = call;
                if (call == NULL || calls->is_stopping)
                        return MHD_NO;
                calls->request(calls->arg, call);
                if (!is_body_unwanted(call)) {
                        await_body(call);
                        return MHD_YES;
                }
                return call->status != 0 ? http_call_queue_answer(call) : MHD_NO;
        }
        if (*upload_size > 0)
                return take_body(call, upload, upload_size);
        return call_go_on(call);
}

void
http_call_on_completed(void *arg, struct MHD_Connection *connection, void **slot,
                       enum MHD_RequestTerminationCode code)
{
        struct http_calls *calls = arg;
        struct http_call *call = *slot;

        (void)connection;
        (void)code;
        if (call == NULL)
                return;
        *slot = NULL;
        if (call->conn != NULL)
                http_conns_idle(calls->conns, call->conn, loop_now_ms(calls->daemon->loop));
        if (call->free_data != NULL)
                call->free_data(call->data);
        if (call->prev != NULL)
                call->prev->next = call->next;
        else
                calls->first = call->next;
        if (call->next != NULL)
                call->next->prev = call->prev;
        free(call->body);
        free(call->buf);
        free(call);
}

/* libmicrohttpd 0.9.75 takes a read of less than it asked for as a sign that there is no more, so it may not see
 * the end of a peer that went in the middle of a head or a body; and nobody sees that of a suspended connection. */
static bool
look_after(struct http_call *call)
{
        bool is_stuck = call->receiver != NULL && !call->is_body_over && !call->is_suspended &&
                        call->n_received == call->n_received_then;

        call->n_received_then = call->n_received;
        if (call->conn == NULL || !http_conn_is_peer_gone(call->conn))
                return false;
        if (call->is_push && call->is_suspended)
                http_call_end_push(call);
        else if (is_stuck)
                http_conn_evict(call->conn);
        else
                return false;
        return true;
}

bool
http_calls_tick(struct http_calls *calls)
{
        bool is_any = false;

        for (struct http_call *call = calls->first; call != NULL; call = call->next)
                is_any |= look_after(call);
        return is_any;
}

void
http_calls_begin_stop(struct http_calls *calls)
{
        calls->is_stopping = true;
        for (struct http_call *call = calls->first; call != NULL; call = call->next) {
                http_call_stop_again(call);
                if (call->is_push)
                        http_call_end_push(call);
        }
}

void
http_calls_finish_stop(struct http_calls *calls)
{
        for (struct http_call *call = calls->first; call != NULL; call = call->next)
                http_call_resume(call);
}

/* --- what the request's handler asks and says --- */

const char *
http_call_method(const struct http_call *call)
{
        return call->method;
}

const char *
http_call_path(const struct http_call *call)
{
        return call->path;
}

static const char *
find_value(const struct http_call *call, enum MHD_ValueKind kind, const char *name)
{
        const char *value = NULL;
        size_t n = 0;

        if (MHD_lookup_connection_value_n(call->connection, kind, name, strlen(name), &value, &n) !=
                    MHD_YES ||
            value == NULL || strlen(value) != n)
                return NULL;
        return value;
}

const char *
http_call_header(const struct http_call *call, const char *name)
{
        return find_value(call, MHD_HEADER_KIND, name);
}

const char *
http_call_query(const struct http_call *call, const char *name)
{
        return find_value(call, MHD_GET_ARGUMENT_KIND, name);
}

void
http_call_set_data(struct http_call *call, void *data, void (*free_data)(void *data))
{
        call->data = data;
        call->free_data = free_data;
}

void
http_call_run(struct http_call *call, void (*fn)(struct http_call *call, void *data))
{
        if (!call->is_trusted && call->calls->n_visitors >= HTTP_MAX_VISITORS) {
                http_call_add_header(call, "Retry-After", "1");
                http_call_reply(call, 503, "text/plain; charset=utf-8", BUSY, sizeof BUSY - 1);
                return;
        }
        call->run = fn;
}

void
http_call_trust(struct http_call *call, bool is_proved)
{
        call->is_trusted = true;
        call->is_proved = is_proved;
        http_call_heard(call);
}

void
http_call_set_idle(struct http_call *call, unsigned seconds)
{
        (void)MHD_set_connection_option(call->connection, MHD_CONNECTION_OPTION_TIMEOUT, seconds);
}

bool
http_call_is_proved(const struct http_call *call)
{
        return call->is_proved;
}

bool
http_call_is_extra(const struct http_call *call)
{
        return call->conn != NULL && call->conn->guest.is_extra;
}

unsigned
http_call_n_of_address(const struct http_call *call)
{
        return call->conn != NULL ? crowd_n_of_address(&call->conn->guest, CROWD_HELD) : 0;
}

void
http_call_run_again(struct http_call *call, unsigned ms)
{
        call->again_ms = ms > 0 ? ms : 1;
}

void
http_call_receive(struct http_call *call, const struct http_receiver *r, uint64_t max_bytes)
{
        if (http_call_make_buf(call) < 0) {
                http_call_reply(call, 503, NULL, NULL, 0);
                return;
        }
        call->receiver = r;
        call->max_bytes = max_bytes;
}
