/* What a client is given time for. One timer for each: left to run when what is due next is due later, because nearly
 * always it is a request that has been answered long before. */
#include "proxy/deadline.h"

#include "proxy/body.h"
#include "proxy/reply.h"

#define NEVER INT64_MAX
#define PROXY_HELD_MS 100

static int64_t
earlier_of(int64_t a, int64_t b)
{
        return a < b ? a : b;
}

static int64_t
after(int64_t since_ms, int64_t limit_ms)
{
        return limit_ms > 0 ? since_ms + limit_ms : NEVER;
}

/* The whole of a request and its response. */
static int64_t
request_due(const struct client *c)
{
        const struct proxy_config *config = &c->proxy->config;
        int64_t due = after(c->head_ms, config->write_ms);

        if (!c->is_all_read)
                due = earlier_of(due, after(c->begun_ms, config->read_ms));
        return due;
}

static int64_t
due(const struct client *c)
{
        const struct proxy_config *config = &c->proxy->config;

        switch (c->state) {
        case CLIENT_HEAD:
                if (!c->has_begun)
                        return after(c->idle_since_ms,
                                     c->is_peer ? PROXY_PEER_IDLE_MS : config->idle_ms);
                if (c->awaits_body)
                        return earlier_of(request_due(c), c->head_ms + PROXY_STALL_MS);
                return earlier_of(after(c->begun_ms, config->read_header_ms),
                                  after(c->begun_ms, config->read_ms));
        case CLIENT_WAITING:
                return c->wait_until_ms;
        case CLIENT_CONNECTING:
                return c->retry_at_ms > 0 ? c->retry_at_ms : request_due(c);
        case CLIENT_PASSING:
                return earlier_of(body_must_wait(c) ? c->body_full_ms + PROXY_TAKEN_MS : NEVER,
                                  earlier_of(request_due(c), c->moved_ms + PROXY_STALL_MS));
        case CLIENT_TUNNEL:
                return c->moved_ms + PROXY_STALL_MS;
        default:
                return NEVER;
        }
}

void
deadline_set(struct client *c)
{
        int64_t at = due(c), now = loop_now_ms(c->proxy->loop);

        if (at == NEVER || (c->timer_at_ms > 0 && c->timer_at_ms <= at))
                return;
        c->timer_at_ms = at > 0 ? at : 1;
        loop_timer_start(c->timer, at > now ? at - now : 0);
}

/* Whether it is the client that we wait for, and has been all the time. */
static bool
is_stalled(struct client *c)
{
        size_t queued = conn_queued_bytes(c->conn);
        uint64_t moved = c->n_received + c->n_sent - queued;
        bool owes = c->state == CLIENT_PASSING && !c->is_all_read && c->is_reading;

        if (moved == c->last_moved && (queued > 0 || owes))
                return true;
        c->last_moved = moved;
        c->moved_ms = loop_now_ms(c->proxy->loop);
        return false;
}

static void
wait_is_over(struct client *c)
{
        if (c->kind == ROUTE_READ) {
                c->proxy->stats.n_txid_timeouts++;
                reply(c, 504, "",
                      "Proxy timeout: this replica has not caught up with what you wrote before: try again");
        } else if (c->is_sent_on) {
                reply(c, 503, "",
                      "Proxy error: no primary available: this node was taken for it and is not: try again");
        } else {
                reply(c, 503, "",
                      "Proxy error: no primary available: try again, and see `litefs status` if it stays so");
        }
}

static void
request_is_late(struct client *c)
{
        if (c->is_answered)
                client_abort(c);
        else if (!c->is_all_read)
                reply(c, 408, "", "Bad request: it did not arrive within proxy.read-timeout");
        else
                reply(c, 504, "",
                      "Proxy timeout: no answer within proxy.write-timeout: see the application");
}

static void
act(struct client *c)
{
        switch (c->state) {
        case CLIENT_HEAD:
                if (c->awaits_body && request_due(c) > loop_now_ms(c->proxy->loop)) {
                        client_abort(c); /* as one that stalls later */
                } else if (c->awaits_body) {
                        request_is_late(c);
                } else if (c->has_begun) {
                        c->is_keep_alive = false;
                        reply(c, 408, "", "Bad request: its head did not arrive in time");
                } else {
                        client_abort(c);
                }
                break;
        case CLIENT_WAITING:
                if (c->proxy->n_holds > 0 && c->kind == ROUTE_WRITE) /* which ends */
                        c->wait_until_ms = loop_now_ms(c->proxy->loop) + PROXY_HELD_MS;
                else
                        wait_is_over(c);
                break;
        case CLIENT_CONNECTING:
                if (c->retry_at_ms > 0)
                        client_set_state(c, CLIENT_ROUTE);
                else
                        request_is_late(c);
                break;
        case CLIENT_PASSING:
        case CLIENT_TUNNEL:
                if (body_must_wait(c) && c->body_full_ms + PROXY_TAKEN_MS <= loop_now_ms(c->proxy->loop))
                        body_taken(c);
                if (c->state == CLIENT_PASSING && request_due(c) <= loop_now_ms(c->proxy->loop))
                        request_is_late(c);
                else if (is_stalled(c))
                        client_abort(c);
                break;
        default:
                break;
        }
}

void
deadline_reached(struct client *c)
{
        c->timer_at_ms = 0;
        if (due(c) <= loop_now_ms(c->proxy->loop))
                act(c);
}
