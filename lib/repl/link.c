#include "repl/link.h"

#include "repl/frame.h"

int
link_send(struct link *l, const struct frame *frame)
{
        uint8_t buf[FRAME_SMALL_SIZE];
        struct err e = ERR_INIT;
        ssize_t n = frame_encode(frame, buf, sizeof buf, &e);

        return n < 0 ? (int)n : link_write(l, buf, (size_t)n);
}
