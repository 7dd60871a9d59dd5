/* Connections come from http_intake.h, which has looked at their first bytes.
 *
 * libmicrohttpd runs on the loop: its epoll descriptor is polled, and its timeouts are a timer's. A request that
 * waits for a worker is suspended, so that nothing happens to it meanwhile; the worker's end comes by mail. */
#include "net/http_server.h"

#include <errno.h>
#include <microhttpd.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/workers.h"
#include "net/http_intake.h"
#include "net/loop_internal.h"

#define DEFAULT_WORKERS 4u
#define DEFAULT_MAX_CONNS 1024u
#define DEFAULT_HEAD_MS 30000
#define SPARE_CONNS 64u /* of libmicrohttpd's: evicted ones that are not gone yet */
#define CONN_MEMORY ((size_t)16 * 1024)
#define IDLE_S 60u /* without a byte in either direction */
#define TICK_MS 1000
#define BUF_SIZE ((size_t)256 * 1024)
#define BLOCK_SIZE ((size_t)64 * 1024)
#define DROP_MAX ((uint64_t)64 * 1024)
#define MAX_HEADERS 4

/* One of libmicrohttpd's connections. */
struct http_conn {
        struct http_conn *prev, *next; /* the longest idle first */
        int fd;
        int64_t since_ms; /* the head has been awaited */
        bool has_request;
        bool is_evicted;
};

struct http_server {
        struct loop_item item;
        struct http_server_config config;
        struct workers *workers;
        struct MHD_Daemon *daemon;
        uv_poll_t poll;
        uv_timer_t timer; /* libmicrohttpd's next timeout */
        uv_timer_t tick;
        bool is_stopping;
        bool has_handles;
        struct http_intake intake;
        struct http_conn *conns, *last_conn;
        unsigned n_conns;
        uint64_t n_answers[6]; /* by the hundreds of the status */
        struct http_call *calls;
};

/* A call that waits to be run again. */
struct again {
        uv_timer_t timer; /* first */
        struct loop_item item;
        struct http_call *call;
};

struct http_call {
        struct http_server *server;
        struct http_call *prev, *next;
        struct MHD_Connection *connection;
        struct http_conn *conn;
        const char *method, *path;
        void *data;
        void (*free_data)(void *data);
        bool is_suspended;

        struct work work;
        struct mail mail;
        void (*job)(struct http_call *call); /* of work */

        uint64_t n_dropped;
        void (*run)(struct http_call *call, void *data);
        unsigned again_ms; /* run() asks to be called again */
        struct again *again;

        const struct http_receiver *receiver;
        uint64_t n_received, max_bytes;
        uint64_t n_received_then; /* at the last tick */
        int receive_result;
        bool is_body_over;

        int status; /* of the answer; 0: none yet */
        const char *type;
        char *body;
        size_t body_size;
        int n_headers;
        const char *header_names[MAX_HEADERS], *header_values[MAX_HEADERS];
        bool is_queued;

        ssize_t (*read)(void *data, void *buf, size_t n);
        int64_t size_bytes;
        bool is_push;
        bool is_end;
        int stream_result;
        char *buf; /* received, to be streamed or pushed */
        size_t buf_n, buf_off, buf_capacity;
};

/* --- libmicrohttpd on the loop --- */

static void run(struct http_server *s);

static void
on_timeout(uv_timer_t *timer)
{
        run((struct http_server *)timer->data);
}

static void
run(struct http_server *s)
{
        MHD_UNSIGNED_LONG_LONG ms;

        if (s->daemon == NULL)
                return;
        MHD_run(s->daemon);
        if (MHD_get_timeout(s->daemon, &ms) == MHD_YES) {
                uv_update_time(&s->config.loop->uv);
                uv_timer_start(&s->timer, on_timeout, ms, 0);
        } else {
                uv_timer_stop(&s->timer);
        }
}

static void
on_ready(uv_poll_t *poll, int status, int events)
{
        (void)status;
        (void)events;
        run((struct http_server *)poll->data);
}

static void
suspend(struct http_call *call)
{
        call->is_suspended = true;
        MHD_suspend_connection(call->connection);
}

static void
resume(struct http_call *call)
{
        if (!call->is_suspended)
                return;
        call->is_suspended = false;
        MHD_resume_connection(call->connection);
}

/* --- jobs --- */

static void
free_again(uv_handle_t *handle)
{
        free(handle);
}

static void
stop_again(struct loop_item *item)
{
        struct again *again = (struct again *)((char *)item - offsetof(struct again, item));

        if (!uv_is_closing((uv_handle_t *)&again->timer))
                uv_close((uv_handle_t *)&again->timer, free_again);
}

static void
on_again(uv_timer_t *timer)
{
        struct again *again = (struct again *)timer;
        struct http_call *call = again->call;

        call->again = NULL;
        stop_again(&again->item);
        workers_post(call->server->workers, &call->work);
}

/* The request stays suspended, its job waits for the timer. */
static bool
plan_again(struct http_call *call)
{
        struct http_server *s = call->server;
        struct again *again = s->is_stopping ? NULL : calloc(1, sizeof *again);

        if (again == NULL)
                return false;
        again->item.stop = stop_again;
        again->call = call;
        uv_timer_init(&s->config.loop->uv, &again->timer);
        again->timer.data = &again->item;
        uv_timer_start(&again->timer, on_again, call->again_ms, 0);
        call->again_ms = 0;
        call->again = again;
        return true;
}

static void
job_done(struct mail *m)
{
        struct http_call *call = (struct http_call *)((char *)m - offsetof(struct http_call, mail));
        struct http_server *s = call->server;

        if (call->again_ms > 0 && plan_again(call))
                return;
        resume(call);
        run(s);
}

static void
run_job(struct work *w)
{
        struct http_call *call = (struct http_call *)((char *)w - offsetof(struct http_call, work));

        call->job(call);
        call->mail = (struct mail){ job_done, NULL };
        (void)loop_post(call->server->config.loop,
                        &call->mail); /* stop waits for us before the loop ends */
}

static bool
start_job(struct http_call *call, void (*job)(struct http_call *call))
{
        if (call->server->is_stopping)
                return false;
        call->job = job;
        call->work = (struct work){ run_job, NULL };
        suspend(call);
        workers_post(call->server->workers, &call->work);
        return true;
}

static int
make_buf(struct http_call *call)
{
        if (call->buf == NULL)
                call->buf = malloc(BUF_SIZE);
        if (call->buf == NULL)
                return -ENOMEM;
        call->buf_capacity = BUF_SIZE;
        return 0;
}

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
        if (call->buf_n == call->buf_capacity && !start_job(call, write_job))
                return MHD_NO;
        return MHD_YES;
}

/* --- the answer --- */

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
                suspend(call);
        else if (!start_job(call, read_job))
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

static enum MHD_Result
queue_reply(struct http_call *call)
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
        call->server->n_answers[call->status >= 100 && call->status < 600 ? call->status / 100 : 0]++;
        return r;
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
go_on(struct http_call *call)
{
        if (call->is_queued)
                return MHD_YES;
        if (call->receiver != NULL && !call->is_body_over) {
                call->is_body_over = true;
                return start_job(call, last_write_job) ? MHD_YES : MHD_NO;
        }
        if (call->run != NULL)
                return start_job(call, call_job) ? MHD_YES : MHD_NO;
        return call->status != 0 ? queue_reply(call) : MHD_NO;
}

static struct http_conn *
conn_of(struct MHD_Connection *connection)
{
        const union MHD_ConnectionInfo *info =
                MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

        return info != NULL ? info->socket_context : NULL;
}

static struct http_call *
begin_call(struct http_server *s, struct MHD_Connection *connection, const char *method,
           const char *path)
{
        struct http_call *call = calloc(1, sizeof *call);

        if (call == NULL)
                return NULL;
        call->server = s;
        call->connection = connection;
        call->conn = conn_of(connection);
        if (call->conn != NULL)
                call->conn->has_request = true;
        call->method = method;
        call->path = path;
        call->size_bytes = -1;
        call->next = s->calls;
        if (s->calls != NULL)
                s->calls->prev = call;
        s->calls = call;
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

static enum MHD_Result
on_request(void *arg, struct MHD_Connection *connection, const char *path, const char *method,
           const char *version, const char *upload, size_t *upload_size, void **slot)
{
        struct http_server *s = arg;
        struct http_call *call = *slot;

        (void)version;
        if (call == NULL) {
                call = begin_call(s, connection, method, path);
                *slot = call;
                if (call == NULL || s->is_stopping)
                        return MHD_NO;
                s->config.request(s->config.arg, call);
                if (!is_body_unwanted(call))
                        return MHD_YES;
                return call->status != 0 ? queue_reply(call) : MHD_NO;
        }
        if (*upload_size > 0)
                return take_body(call, upload, upload_size);
        return go_on(call);
}

static void unlink_conn(struct http_server *s, struct http_conn *hc);
static void link_conn(struct http_server *s, struct http_conn *hc);

static void
on_completed(void *arg, struct MHD_Connection *connection, void **slot,
             enum MHD_RequestTerminationCode code)
{
        struct http_server *s = arg;
        struct http_call *call = *slot;

        (void)connection;
        (void)code;
        if (call == NULL)
                return;
        *slot = NULL;
        if (call->conn != NULL) {
                call->conn->has_request = false;
                unlink_conn(s, call->conn);
                link_conn(s, call->conn);
        }
        if (call->free_data != NULL)
                call->free_data(call->data);
        if (call->prev != NULL)
                call->prev->next = call->next;
        else
                s->calls = call->next;
        if (call->next != NULL)
                call->next->prev = call->prev;
        free(call->body);
        free(call->buf);
        free(call);
}

/* --- connections --- */

static void
unlink_conn(struct http_server *s, struct http_conn *hc)
{
        *(hc->prev != NULL ? &hc->prev->next : &s->conns) = hc->next;
        *(hc->next != NULL ? &hc->next->prev : &s->last_conn) = hc->prev;
}

static void
link_conn(struct http_server *s, struct http_conn *hc)
{
        hc->since_ms = loop_now_ms(s->config.loop);
        hc->prev = s->last_conn;
        hc->next = NULL;
        *(s->last_conn != NULL ? &s->last_conn->next : &s->conns) = hc;
        s->last_conn = hc;
}

static void
on_connection(void *arg, struct MHD_Connection *connection, void **context,
              enum MHD_ConnectionNotificationCode code)
{
        struct http_server *s = arg;
        struct http_conn *hc = *context;
        const union MHD_ConnectionInfo *info;

        if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
                if (hc != NULL) {
                        unlink_conn(s, hc);
                        free(hc);
                        s->n_conns--;
                }
                *context = NULL;
                return;
        }
        hc = calloc(1, sizeof *hc);
        info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        if (hc == NULL || info == NULL) {
                free(hc);
                return;
        }
        hc->fd = info->connect_fd;
        link_conn(s, hc);
        s->n_conns++;
        *context = hc;
}

/* libmicrohttpd has no call for it, but notices the end of the stream. */
static void
evict(struct http_conn *hc)
{
        hc->is_evicted = true;
        (void)shutdown(hc->fd, SHUT_RDWR);
}

static void
evict_idlest(struct http_server *s)
{
        struct http_conn *hc = s->conns;

        while (hc != NULL && (hc->has_request || hc->is_evicted))
                hc = hc->next;
        if (hc != NULL)
                evict(hc);
}

static void
give_to_http(void *arg, int fd, const struct sockaddr *sa, socklen_t n)
{
        struct http_server *s = arg;

        if (s->n_conns >= s->config.max_conns)
                evict_idlest(s);
        /* Closes it when it fails. */
        (void)MHD_add_connection(s->daemon, fd, sa, n);
        run(s);
}

static void
give_to_stream(void *arg, struct conn *c)
{
        struct http_server *s = arg;

        s->config.stream(s->config.arg, c);
}

void
http_server_accept(struct http_server *s, struct conn *c)
{
        if (!s->is_stopping && s->daemon != NULL)
                http_intake_accept(&s->intake, c);
}

unsigned
http_server_n_conns(const struct http_server *s)
{
        return s->n_conns;
}

uint64_t
http_server_n_answers(const struct http_server *s, int hundreds)
{
        return s->n_answers[hundreds];
}

/* --- once a second --- */

static bool
is_peer_gone(int fd)
{
        struct pollfd p = { .fd = fd, .events = POLLRDHUP };

        return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

static void
end_push(struct http_call *call)
{
        call->is_end = true;
        resume(call);
}

/* libmicrohttpd 0.9.75 takes a read of less than it asked for as a sign that there is no more, so it may not see
 * the end of a peer that went in the middle of a head or a body; and nobody sees that of a suspended connection. */
static bool
look_after(struct http_call *call)
{
        bool is_stuck = call->receiver != NULL && !call->is_body_over && !call->is_suspended &&
                        call->n_received == call->n_received_then;

        call->n_received_then = call->n_received;
        if (call->conn == NULL || !is_peer_gone(call->conn->fd))
                return false;
        if (call->is_push && call->is_suspended)
                end_push(call);
        else if (is_stuck)
                evict(call->conn);
        else
                return false;
        return true;
}

static void
on_tick(uv_timer_t *timer)
{
        struct http_server *s = timer->data;
        int64_t now_ms = loop_now_ms(s->config.loop);
        bool is_any = false;

        http_intake_tick(&s->intake);
        for (struct http_conn *hc = s->conns; hc != NULL; hc = hc->next)
                if (!hc->has_request && !hc->is_evicted &&
                    (now_ms - hc->since_ms > s->config.head_ms ||
                     (now_ms - hc->since_ms > TICK_MS && is_peer_gone(hc->fd)))) {
                        evict(hc);
                        is_any = true;
                }
        for (struct http_call *call = s->calls; call != NULL; call = call->next)
                is_any |= look_after(call);
        if (is_any)
                run(s);
}

/* --- start and stop --- */

static void
stop_server(struct loop_item *item)
{
        struct http_server *s = (struct http_server *)item;

        if (!s->has_handles)
                return;
        s->has_handles = false;
        uv_close((uv_handle_t *)&s->poll, NULL);
        uv_close((uv_handle_t *)&s->timer, NULL);
        uv_close((uv_handle_t *)&s->tick, NULL);
}

/* A zero byte would end a path, so that "/%00x" were "/": with a control character in its place it is nobody's path. */
static size_t
unescape(void *arg, struct MHD_Connection *connection, char *s)
{
        size_t n = MHD_http_unescape(s);

        (void)arg;
        (void)connection;
        for (size_t i = 0; i < n && s[0] == '/'; i++)
                if (s[i] == '\0')
                        s[i] = '\x01';
        return n;
}

static int
start_daemon(struct http_server *s)
{
        s->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME,
                                     0, NULL, NULL, on_request, s, MHD_OPTION_NOTIFY_COMPLETED,
                                     on_completed, s, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
                                     MHD_OPTION_CONNECTION_LIMIT, s->config.max_conns + SPARE_CONNS,
                                     MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONN_MEMORY,
                                     MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S, MHD_OPTION_UNESCAPE_CALLBACK,
                                     unescape, NULL, MHD_OPTION_END);
        return s->daemon == NULL ? -EMFILE : 0;
}

static int
start_on_loop(void *arg)
{
        struct http_server *s = arg;
        uv_loop_t *uv = &s->config.loop->uv;
        const union MHD_DaemonInfo *info;
        int r;

        if (s->config.loop->is_stopping)
                return -ESHUTDOWN;
        r = start_daemon(s);
        if (r < 0)
                return r;
        info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
        r = info == NULL ? -ENOSYS : uv_poll_init(uv, &s->poll, info->epoll_fd);
        if (r < 0)
                return r;
        uv_timer_init(uv, &s->timer);
        uv_timer_init(uv, &s->tick);
        s->poll.data = s->timer.data = s->tick.data = &s->item;
        s->has_handles = true;
        uv_poll_start(&s->poll, UV_READABLE, on_ready);
        uv_timer_start(&s->tick, on_tick, TICK_MS, TICK_MS);
        run(s);
        return 0;
}

int
http_server_new(const struct http_server_config *config, struct http_server **ret, struct err *e)
{
        struct http_server *s = calloc(1, sizeof *s);
        int r;

        if (s == NULL)
                return err_set(e, -ENOMEM, "start the HTTP server");
        s->item.stop = stop_server;
        s->config = *config;
        s->intake.config = (struct http_intake_config){ config->loop,
                                                        config->stream != NULL ? give_to_stream : NULL,
                                                        give_to_http, s };
        if (s->config.max_conns == 0)
                s->config.max_conns = DEFAULT_MAX_CONNS;
        if (s->config.head_ms <= 0)
                s->config.head_ms = DEFAULT_HEAD_MS;
        r = workers_new(config->n_workers > 0 ? config->n_workers : DEFAULT_WORKERS, &s->workers);
        if (r == 0)
                r = loop_call(config->loop, start_on_loop, s);
        if (r < 0) {
                http_server_free(s);
                return err_set(e, r, "start the HTTP server");
        }
        *ret = s;
        return 0;
}

static int
begin_stop(void *arg)
{
        struct http_server *s = arg;

        s->is_stopping = true;
        http_intake_stop(&s->intake);
        for (struct http_call *call = s->calls; call != NULL; call = call->next) {
                if (call->again != NULL)
                        stop_again(&call->again->item);
                call->again = NULL;
                if (call->is_push)
                        end_push(call);
        }
        run(s);
        return 0;
}

static int
finish_stop(void *arg)
{
        struct http_server *s = arg;

        for (struct http_call *call = s->calls; call != NULL; call = call->next)
                resume(call);
        stop_server(&s->item);
        if (s->daemon != NULL) {
                MHD_run(s->daemon);
                MHD_stop_daemon(s->daemon);
        }
        s->daemon = NULL;
        return 0;
}

void
http_server_stop(struct http_server *s)
{
        (void)loop_call(s->config.loop, begin_stop, s);
        workers_drain(s->workers);
        (void)loop_call(s->config.loop, finish_stop, s);
}

void
http_server_free(struct http_server *s)
{
        if (s == NULL)
                return;
        workers_free(s->workers);
        if (s->daemon != NULL)
                MHD_stop_daemon(s->daemon);
        free(s);
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

void *
http_call_data(const struct http_call *call)
{
        return call->data;
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
        if (call->n_headers == MAX_HEADERS)
                return;
        call->header_names[call->n_headers] = name;
        call->header_values[call->n_headers++] = value;
}

int
http_call_status(const struct http_call *call)
{
        return call->status;
}

void
http_call_run(struct http_call *call, void (*fn)(struct http_call *call, void *data))
{
        call->run = fn;
}

void
http_call_run_again(struct http_call *call, unsigned ms)
{
        call->again_ms = ms > 0 ? ms : 1;
}

void
http_call_receive(struct http_call *call, const struct http_receiver *r, uint64_t max_bytes)
{
        if (make_buf(call) < 0) {
                http_call_reply(call, 503, NULL, NULL, 0);
                return;
        }
        call->receiver = r;
        call->max_bytes = max_bytes;
}

void
http_call_stream(struct http_call *call, int status, const char *type, int64_t size_bytes,
                 ssize_t (*read)(void *data, void *buf, size_t n))
{
        if (make_buf(call) < 0) {
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
}

/* Room for @n more bytes, with what was sent taken away. */
static int
make_room(struct http_call *call, size_t n)
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
                r = make_room(call, n);
        if (r == 0) {
                memcpy(call->buf + call->buf_n, buf, n);
                call->buf_n += n;
                resume(call);
        } else {
                end_push(call);
                if (call->conn != NULL)
                        evict(call->conn); /* what it was sent before it will not read either */
        }
        /* The timer runs it, after the others that are pushed to now. */
        uv_timer_start(&call->server->timer, on_timeout, 0, 0);
        return r;
}
