#include "repl/stream_transport.h"

#include "repl/frame.h"

int
stream_transport_send(struct stream_transport *l, const struct frame *frame)
{
        uint8_t buf[FRAME_SMALL_SIZE];
        struct err e = ERR_INIT;
        ssize_t n = frame_encode(frame, buf, sizeof buf, &e);

        return n < 0 ? (int)n : stream_transport_write(l, buf, (size_t)n);
}
