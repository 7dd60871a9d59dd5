#include "repl/positions.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"

struct sender {
        struct stream_transport *transport;
        struct frame_positions_writer w;
        uint8_t *buf;
        uint8_t flags;
        int result;
};

static void
flush(struct sender *s, uint8_t flags)
{
        size_t n = frame_positions_finish(&s->w, s->flags | flags);
        int r = stream_transport_write(s->transport, s->buf, n);

        if (r < 0 && s->result == 0)
                s->result = r;
        frame_positions_init(&s->w, s->buf, FRAME_POSITIONS_SIZE);
}

static int
add_position(void *arg, struct db *db)
{
        struct sender *s = arg;
        struct db_info info;
        struct err e = ERR_INIT;
        int r;

        db_get_info(db, &info);
        if (info.pos.txid == 0)
                return 0;
        r = frame_positions_add(&s->w, db_name(db), info.pos, &e);
        if (r == 0) {
                flush(s, 0);
                r = frame_positions_add(&s->w, db_name(db), info.pos, &e);
        }
        if (r < 0)
                log_event(LOG_WARN, db_name(db), "not replicated: %s", e.text);
        return 0;
}

int
positions_send(struct stream_transport *transport, struct store *store, uint8_t flags)
{
        struct sender s = { .transport = transport,
                            .flags = flags,
                            .buf = malloc(FRAME_POSITIONS_SIZE) };
        int r;

        if (s.buf == NULL)
                return -ENOMEM;
        frame_positions_init(&s.w, s.buf, FRAME_POSITIONS_SIZE);
        r = store_each(store, add_position, &s);
        if (r == 0)
                flush(&s, FRAME_POSITIONS_LAST);
        free(s.buf);
        return r < 0 ? r : s.result;
}
