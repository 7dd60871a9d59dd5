/* lib/net/http_call.h - one request and its answer; for http_*.c only.
 *
 * A request that waits for a worker is suspended, so that nothing happens to it meanwhile; the worker's end comes by
 * mail. What handlers ask of a call is in http_server.h. */
#ifndef LITEFS_NET_HTTP_CALL_H
#define LITEFS_NET_HTTP_CALL_H

#include <microhttpd.h>

#include "base/workers.h"
#include "net/http_conns.h"
#include "net/http_daemon.h"
#include "net/http_server.h"

#define HTTP_CALL_MAX_HEADERS 4

/* What all calls of a server share. */
struct http_calls {
        struct http_daemon *daemon;
        struct http_conns *conns;
        struct workers *workers, *visitors;
        unsigned n_visitors; /* jobs of theirs that wait or run */
        void (*request)(void *arg, struct http_call *call);
        void *arg;
        struct http_call *first;
        bool is_stopping;
        uint64_t n_answers[6]; /* by the hundreds of the status */
};

struct http_call {
        struct http_calls *calls;
        struct http_call *prev, *next;
        struct MHD_Connection *connection;
        struct http_conn *conn;
        const char *method, *path;
        void *data;
        void (*free_data)(void *data);
        bool is_suspended;
        bool is_trusted, is_proved;
        bool is_awaited; /* its body, which nobody wants */

        struct work work;
        struct mail mail;
        void (*job)(struct http_call *call); /* of work */

        uint64_t n_dropped;
        void (*run)(struct http_call *call, void *data);
        unsigned again_ms; /* run() asks to be called again */
        struct http_again *again;

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
        const char *header_names[HTTP_CALL_MAX_HEADERS], *header_values[HTTP_CALL_MAX_HEADERS];
        bool is_queued;

        ssize_t (*read)(void *data, void *buf, size_t n);
        int64_t size_bytes;
        bool is_push;
        bool is_end;
        int stream_result;
        char *buf; /* received, to be streamed or pushed */
        size_t buf_n, buf_off, buf_capacity;
};

/* --- http_call.c: a request's life. libmicrohttpd's callbacks, with the http_calls for @arg --- */

enum MHD_Result http_call_on_request(void *arg, struct MHD_Connection *connection, const char *path,
                                     const char *method, const char *version, const char *upload,
                                     size_t *upload_size, void **slot);
void http_call_on_completed(void *arg, struct MHD_Connection *connection, void **slot,
                            enum MHD_RequestTerminationCode code);
/* Those whose peer has gone end. Once a second. Whether there was one. */
bool http_calls_tick(struct http_calls *calls);
/* No more begins; what has no end by itself ends, and what waits to be run again is not. */
void http_calls_begin_stop(struct http_calls *calls);
/* After the workers. */
void http_calls_finish_stop(struct http_calls *calls);

/* --- http_answer.c --- */

enum MHD_Result http_call_queue_answer(struct http_call *call);
/* Of an answer that is pushed. */
void http_call_end_push(struct http_call *call);

/* --- http_job.c: what workers do for a call --- */

void http_call_suspend(struct http_call *call);
void http_call_resume(struct http_call *call);
/* @job runs on a worker, again while it sets again_ms; the call is suspended until then. false: the server stops. */
bool http_call_start_job(struct http_call *call, void (*job)(struct http_call *call));
/* Something is done for it: its connection is not idle. */
void http_call_heard(struct http_call *call);
/* It stays suspended, its job does not run again. */
void http_call_stop_again(struct http_call *call);
/* A buffer to pass pieces of a body by. */
int http_call_make_buf(struct http_call *call);

#endif
