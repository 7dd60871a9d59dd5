#include "proxy/connect_limit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool
is_current(const struct connect_limit *g, const char *address)
{
        return strcmp(g->address, address) == 0;
}

int
connect_limit_enter(struct connect_limit *g, const char *address, int64_t now_ms, struct err *e)
{
        if (!is_current(g, address)) {
                snprintf(g->address, sizeof g->address, "%s", address);
                g->is_failing = false;
        }
        if (g->is_failing && (g->n_opening > 0 || now_ms < g->next_ms))
                return err_text(e, -EBUSY, "%s", g->why.text);
        if (g->n_opening >= CONNECT_LIMIT_MAX)
                return err_text(e, -EBUSY, "%u connections to it are being opened already",
                                CONNECT_LIMIT_MAX);
        g->n_opening++;
        return 0;
}

void
connect_limit_opened(struct connect_limit *g, const char *address)
{
        g->n_opening--;
        if (is_current(g, address))
                g->is_failing = false;
}

void
connect_limit_failed(struct connect_limit *g, const char *address, int64_t now_ms, const struct err *why)
{
        g->n_opening--;
        if (!is_current(g, address))
                return;
        g->is_failing = true;
        g->next_ms = now_ms + CONNECT_LIMIT_PAUSE_MS;
        g->why = *why;
}

void
connect_limit_given_up(struct connect_limit *g)
{
        g->n_opening--;
}
