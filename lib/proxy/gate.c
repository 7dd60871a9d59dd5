#include "proxy/gate.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool
is_current(const struct gate *g, const char *address)
{
        return strcmp(g->address, address) == 0;
}

int
gate_enter(struct gate *g, const char *address, int64_t now_ms, struct err *e)
{
        if (!is_current(g, address)) {
                snprintf(g->address, sizeof g->address, "%s", address);
                g->is_failing = false;
        }
        if (g->is_failing && (g->n_opening > 0 || now_ms < g->next_ms))
                return err_text(e, -EBUSY, "%s", g->why.text);
        if (g->n_opening >= GATE_MAX)
                return err_text(e, -EBUSY, "%u connections to it are being opened already", GATE_MAX);
        g->n_opening++;
        return 0;
}

void
gate_opened(struct gate *g, const char *address)
{
        g->n_opening--;
        if (is_current(g, address))
                g->is_failing = false;
}

void
gate_failed(struct gate *g, const char *address, int64_t now_ms, const struct err *why)
{
        g->n_opening--;
        if (!is_current(g, address))
                return;
        g->is_failing = true;
        g->next_ms = now_ms + GATE_PAUSE_MS;
        g->why = *why;
}

void
gate_given_up(struct gate *g)
{
        g->n_opening--;
}
