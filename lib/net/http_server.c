/* Connections come from http_intake.h, which has looked at their first bytes. */
#include "net/http_server.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "net/http_call.h"
#include "net/http_intake.h"

#define DEFAULT_WORKERS 4u
#define DEFAULT_MAX_CONNS 1024u
#define DEFAULT_HEAD_MS 30000
#define RESERVE_CONNS 64u /* for health checks, when all others are in use */
#define SPARE_CONNS \
        256u /* of libmicrohttpd's: evicted ones that are not gone yet, at most those whose job runs */
#define N_VISITORS 2u /* workers for who has shown no token */
#define CONN_MEMORY ((size_t)16 * 1024)
#define IDLE_S 60u /* without a byte in either direction */
#define TICK_MS 1000

struct http_server {
        struct loop_item item;
        struct http_server_config config;
        struct workers *workers, *visitors;
        const struct sockaddr *arriving; /* whose connection is given to libmicrohttpd now */
        struct http_daemon daemon;
        struct http_conns conns;
        struct http_calls calls;
        struct http_intake intake;
        uv_timer_t tick;
        bool has_tick;
};

/* --- connections --- */

static const struct sockaddr_storage nobody = { .ss_family = AF_UNIX };

static void
mhd_on_connection(void *arg, struct MHD_Connection *connection, void **context,
                  enum MHD_ConnectionNotificationCode code)
{
        struct http_server *s = arg;
        struct http_conn *hc = *context;
        const struct sockaddr *from = s->arriving != NULL ? s->arriving
                                                          : (const struct sockaddr *)&nobody;
        const union MHD_ConnectionInfo *info;

        if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
                if (hc != NULL)
                        http_conns_remove(&s->conns, hc);
                *context = NULL;
                return;
        }
        info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        if (info == NULL)
                return;
        *context = http_conns_add(&s->conns, info->connect_fd, from, loop_now_ms(s->config.loop));
        if (*context == NULL)
                (void)shutdown(info->connect_fd, SHUT_RDWR); /* which it notices */
}

static void
give_to_mhd(void *arg, int fd, const struct sockaddr *sa)
{
        struct http_server *s = arg;

        s->arriving = sa;
        /* Of nobody: what it sets on a connection of TCP fails on a bridge's, and has been set already. Closes it when it
         * fails. */
        (void)MHD_add_connection(s->daemon.mhd, fd, (const struct sockaddr *)&nobody,
                                 sizeof(sa_family_t));
        http_daemon_run(&s->daemon); /* libmicrohttpd 1.0 tells of the connection only now */
        s->arriving = NULL;
}

static void
give_to_stream(void *arg, struct conn *c)
{
        struct http_server *s = arg;

        s->config.stream(s->config.arg, c);
}

static void
give_to_proxy(void *arg, struct conn *c)
{
        struct http_server *s = arg;

        s->config.proxy(s->config.arg, c);
}

void
http_server_accept(struct http_server *s, struct conn *c)
{
        if (!s->calls.is_stopping && s->daemon.mhd != NULL)
                http_intake_accept(&s->intake, c);
}

unsigned
http_server_n_conns(const struct http_server *s)
{
        return s->conns.crowd.n;
}

uint64_t
http_server_n_answers(const struct http_server *s, int hundreds)
{
        return s->calls.n_answers[hundreds];
}

/* --- once a second --- */

static void
server_on_tick(uv_timer_t *timer)
{
        struct http_server *s = timer->data;
        bool is_any;

        http_intake_tick(&s->intake);
        is_any = http_conns_tick(&s->conns, loop_now_ms(s->config.loop), s->config.head_ms);
        is_any |= http_calls_tick(&s->calls);
        if (is_any)
                http_daemon_run(&s->daemon);
}

/* --- start and stop --- */

static void
stop_tick(struct loop_item *item)
{
        struct http_server *s = (struct http_server *)item;

        if (s->has_tick)
                uv_close((uv_handle_t *)&s->tick, NULL);
        s->has_tick = false;
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

static struct MHD_Daemon *
make_daemon(struct http_server *s)
{
        return MHD_start_daemon(
                MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
                http_call_on_request, &s->calls, MHD_OPTION_NOTIFY_COMPLETED, http_call_on_completed,
                &s->calls, MHD_OPTION_NOTIFY_CONNECTION, mhd_on_connection, s,
                MHD_OPTION_CONNECTION_LIMIT, s->config.max_conns + RESERVE_CONNS + SPARE_CONNS,
                MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONN_MEMORY, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S,
                MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL, MHD_OPTION_END);
}

static int
server_start_on_loop(void *arg)
{
        struct http_server *s = arg;
        struct loop *l = s->config.loop;
        struct MHD_Daemon *mhd;
        int r;

        if (l->is_stopping)
                return -ESHUTDOWN;
        mhd = make_daemon(s);
        r = mhd != NULL ? http_daemon_start(&s->daemon, l, mhd) : -EMFILE;
        if (r < 0)
                return r;
        uv_timer_init(&l->uv, &s->tick);
        s->tick.data = &s->item;
        s->has_tick = true;
        uv_timer_start(&s->tick, server_on_tick, TICK_MS, TICK_MS);
        return 0;
}

int
http_server_new(const struct http_server_config *config, struct http_server **ret, struct err *e)
{
        struct http_server *s = calloc(1, sizeof *s);
        int r;

        if (s == NULL)
                return err_set(e, -ENOMEM, "start the HTTP server");
        s->item.stop = stop_tick;
        s->config = *config;
        s->intake.config =
                (struct http_intake_config){ .loop = config->loop,
                                             .stream = config->stream != NULL ? give_to_stream : NULL,
                                             .proxy = config->proxy != NULL ? give_to_proxy : NULL,
                                             .http = give_to_mhd,
                                             .arg = s };
        if (s->config.max_conns == 0)
                s->config.max_conns = DEFAULT_MAX_CONNS;
        if (s->config.head_ms <= 0)
                s->config.head_ms = DEFAULT_HEAD_MS;
        r = http_conns_init(
                &s->conns, &(struct crowd_limits){ "http.addr", s->config.max_conns, RESERVE_CONNS, 0 });
        if (r == 0)
                r = workers_new(config->n_workers > 0 ? config->n_workers : DEFAULT_WORKERS,
                                &s->workers);
        if (r == 0)
                r = workers_new(N_VISITORS, &s->visitors);
        s->calls = (struct http_calls){ .daemon = &s->daemon,
                                        .conns = &s->conns,
                                        .workers = s->workers,
                                        .visitors = s->visitors,
                                        .request = config->request,
                                        .arg = config->arg };
        if (r == 0)
                r = loop_call(config->loop, server_start_on_loop, s);
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

        http_intake_stop(&s->intake);
        http_calls_begin_stop(&s->calls);
        http_daemon_run(&s->daemon);
        return 0;
}

static int
finish_stop(void *arg)
{
        struct http_server *s = arg;

        http_calls_finish_stop(&s->calls);
        stop_tick(&s->item);
        http_daemon_stop(&s->daemon);
        return 0;
}

void
http_server_stop(struct http_server *s)
{
        (void)loop_call(s->config.loop, begin_stop, s);
        workers_drain(s->workers);
        workers_drain(s->visitors);
        (void)loop_call(s->config.loop, finish_stop, s);
}

void
http_server_free(struct http_server *s)
{
        if (s == NULL)
                return;
        workers_free(s->workers);
        workers_free(s->visitors);
        if (s->daemon.mhd != NULL)
                MHD_stop_daemon(s->daemon.mhd);
        http_conns_release(&s->conns);
        free(s);
}
