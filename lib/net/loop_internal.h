/* lib/net/loop_internal.h - what the objects on a loop know of it. */
#ifndef LITEFS_NET_LOOP_INTERNAL_H
#define LITEFS_NET_LOOP_INTERNAL_H

#include <uv.h>

#include "net/loop.h"
#include "net/tls.h"

#define LOOP_READ_SIZE (64 * 1024)

/* What the data of each uv handle on a loop points to. */
struct loop_item {
        void (*stop)(struct loop_item *item); /* the loop stops: close your handles; again is fine */
};

struct loop {
        uv_loop_t uv;
        uv_async_t wake;
        struct mailbox mailbox;
        pthread_t thread;
        bool is_stopping; /* the loop's thread only */
        /* Shared by all connections: what is read is handed on before the next read. */
        uint8_t read_buf[LOOP_READ_SIZE];
        uint8_t plain_buf[LOOP_READ_SIZE + TLS_HELD_MAX]; /* what TLS makes of it */
};

#endif
