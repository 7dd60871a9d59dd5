/* lib/net/http_daemon.h - libmicrohttpd on the loop; for http_*.c only.
 *
 * Its epoll descriptor is polled, and its timeouts are a timer's. The loop's thread. */
#ifndef LITEFS_NET_HTTP_DAEMON_H
#define LITEFS_NET_HTTP_DAEMON_H

#include <microhttpd.h>
#include <stdbool.h>

#include "net/loop_internal.h"

struct http_daemon {
        struct loop_item item;
        struct MHD_Daemon *mhd; /* NULL: none, or no more */
        struct loop *loop;
        uv_poll_t poll;
        uv_timer_t timer; /* libmicrohttpd's next timeout */
        bool has_handles;
};

/* Takes over @mhd, which was made for an external epoll; also when it fails. */
int http_daemon_start(struct http_daemon *d, struct loop *l, struct MHD_Daemon *mhd);
/* Does what there is to do now. */
void http_daemon_run(struct http_daemon *d);
/* The same, after what else there is to do in this turn of the loop. */
void http_daemon_wake(struct http_daemon *d);
/* Ends all connections. Again is fine. */
void http_daemon_stop(struct http_daemon *d);

#endif
