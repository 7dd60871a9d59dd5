#include "repl/survey.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "repl/fetch.h"
#include "repl/frame_decoder.h"
#include "repl/stream_transport.h"
#include "repl/positions.h"

#define PEER_MS 300
#define ANSWER_MAX (16u << 20)
#define LACKS_MAX 4096u /* databases of a node that are fetched of; of more it is ahead */
#define APPLY_MS 1000   /* that what was fetched of a database is waited for */
#define LOOK_MS 5

/* --- the answer --- */

struct collector {
        struct stream_transport transport; /* first */
        char *buf;
        size_t n, capacity;
};

static int
collect_bytes(struct stream_transport *l, const struct iovec *iov, int n)
{
        struct collector *c = (struct collector *)l;

        for (int i = 0; i < n; i++) {
                if (c->n + iov[i].iov_len > c->capacity) {
                        size_t want = (c->n + iov[i].iov_len) * 2;
                        char *p = realloc(c->buf, want);

                        if (p == NULL)
                                return -ENOMEM;
                        c->buf = p;
                        c->capacity = want;
                }
                memcpy(c->buf + c->n, iov[i].iov_base, iov[i].iov_len);
                c->n += iov[i].iov_len;
        }
        return 0;
}

int
survey_answer(struct store *store, const struct frame_hello *self, char **ret, size_t *ret_n)
{
        static const struct stream_transport_ops ops = { .writev = collect_bytes };
        struct collector c = { .transport = { &ops } };
        struct frame hello = { .type = FRAME_HELLO, .hello = *self };
        int r = stream_transport_send(&c.transport, &hello);

        if (r >= 0)
                r = positions_send(&c.transport, store, FRAME_POSITIONS_ALL);
        if (r < 0) {
                free(c.buf);
                return r;
        }
        *ret = c.buf;
        *ret_n = c.n;
        return 0;
}

/* --- the question --- */

/* A database of which another node has more. */
struct survey_lack {
        char name[DBNAME_MAX + 1];
        struct ltx_pos theirs;
};

struct comparison {
        const struct survey *survey;
        struct frame_hello peer;
        bool has_peer;
        unsigned n_ahead;  /* databases in which it has more than this node */
        unsigned n_behind; /* and in which it has less; the ones that it lacks are added at the end */
        unsigned n_both;   /* that both have */
        struct survey_lack *lacks;
        unsigned n_lacks;
};

static struct ltx_pos
survey_own_pos(const struct survey *s, const char *name)
{
        struct db *db = store_find(s->store, name);
        struct db_info ours = { 0 };

        if (db != NULL)
                db_get_info(db, &ours);
        return ours.pos;
}

static void
survey_add_lack(struct comparison *c, const char *name, struct ltx_pos theirs)
{
        if (c->lacks == NULL)
                c->lacks = calloc(LACKS_MAX, sizeof *c->lacks);
        if (c->lacks == NULL || c->n_lacks == LACKS_MAX)
                return;
        c->lacks[c->n_lacks].theirs = theirs;
        snprintf(c->lacks[c->n_lacks++].name, sizeof c->lacks->name, "%s", name);
}

static void
compare_with_ours(struct comparison *c, const char *name, struct ltx_pos theirs)
{
        struct ltx_pos ours = survey_own_pos(c->survey, name);

        c->n_both += ours.txid > 0;
        c->n_ahead += theirs.txid > ours.txid;
        c->n_behind += theirs.txid < ours.txid;
        if (theirs.txid > ours.txid)
                survey_add_lack(c, name, theirs);
}

static int
survey_on_frame(void *arg, struct frame *frame, struct err *e)
{
        struct comparison *c = arg;
        char name[DBNAME_MAX + 1];
        struct ltx_pos pos;

        switch (frame->type) {
        case FRAME_HELLO:
                c->peer = frame->hello;
                c->has_peer = true;
                return 0;
        case FRAME_POSITIONS:
                while (frame_positions_next(&frame->positions, name, &pos))
                        compare_with_ours(c, name, pos);
                return 0;
        default:
                return err_text(e, E_FORMAT, "%s in an answer about positions",
                                frame_type_name(frame->type));
        }
}

static int
count_own(void *arg, struct db *db)
{
        struct db_info info;

        db_get_info(db, &info);
        *(unsigned *)arg += info.pos.txid > 0;
        return 0;
}

static bool
is_of_our_cluster(const struct comparison *c)
{
        const struct frame_hello *self = c->survey->self;

        return c->has_peer && c->peer.boot_id != self->boot_id &&
               strcmp(c->peer.cluster_id, self->cluster_id) == 0;
}

/* Each of two nodes comes to the other's answer: one of them goes ahead. */
static bool
is_ahead(struct comparison *c)
{
        const struct frame_hello *self = c->survey->self;
        unsigned n_own = 0;

        if (!is_of_our_cluster(c) || c->peer.term < self->term)
                return false;
        if (c->peer.term > self->term) /* the service knows of neither term: it has lost its data */
                return true;
        store_each(c->survey->store, count_own, &n_own);
        c->n_behind += n_own - c->n_both;
        if (c->n_ahead != c->n_behind)
                return c->n_ahead > c->n_behind;
        return c->n_ahead > 0 && c->peer.boot_id > self->boot_id;
}

/* False: it does not answer, or not in our words. */
static bool
survey_ask_positions(struct http_client *client, const char *url, int64_t timeout_ms,
                     struct comparison *c)
{
        char target[LEASE_URL_SIZE + 16];
        struct http_request rq = {
                .method = "GET", .url = target, .timeout_ms = timeout_ms, .max_response_size = ANSWER_MAX
        };
        struct frame_decoder *d;
        struct http_response rs;
        int r;

        snprintf(target, sizeof target, "%s/positions", url);
        if (http_client_do(client, &rq, &rs, NULL) < 0 || rs.status != 200 || frame_decoder_new(&d) < 0)
                return false;
        r = frame_decoder_each(d, (const uint8_t *)rs.body, rs.body_size, survey_on_frame, c, NULL);
        if (r == 0)
                r = frame_decoder_finish(d, NULL);
        frame_decoder_free(d);
        return r == 0;
}

/* --- what it has more --- */

static bool
survey_is_receiving(const struct survey *s, const char *name)
{
        struct db *db = store_find(s->store, name);

        return db != NULL && db_is_receiving(db);
}

/* What is still to be applied comes before the position that is asked from; at the end it is as good as applied, for nobody
 * writes to the database before it is (db_set_receiving). */
static bool
survey_wait_applied(const struct survey *s, const char *name, uint64_t txid, int64_t end_ms)
{
        struct timespec pause = { 0, LOOK_MS * 1000000 };

        while (survey_own_pos(s, name).txid < txid || (txid == 0 && survey_is_receiving(s, name))) {
                if (clock_boot_ms(s->clock) >= end_ms)
                        return txid > 0 && survey_is_receiving(s, name);
                nanosleep(&pause, NULL);
        }
        return true;
}

static bool
survey_fetch_one(const struct survey *s, const struct fetch *f, const struct survey_lack *l,
                 int64_t end_ms)
{
        struct ltx_pos pos, before;
        struct err e = ERR_INIT;
        int64_t apply_end_ms = clock_boot_ms(s->clock) + APPLY_MS;
        int r = 0;

        if (!survey_wait_applied(s, l->name, 0, apply_end_ms))
                return false;
        pos = survey_own_pos(s, l->name);
        while (r == 0 && pos.txid < l->theirs.txid && clock_boot_ms(s->clock) < end_ms) {
                before = pos;
                r = fetch_some(f, l->name, &pos, end_ms - clock_boot_ms(s->clock), &e);
                if (r == 0 && pos.txid == before.txid)
                        r = err_text(&e, E_NOT_FOUND, "it does not have what follows our position");
        }
        if (r < 0)
                log_event(LOG_WARN, l->name, "fetch what %s has more: %s", f->peer->hostname, e.text);
        if (pos.txid < l->theirs.txid)
                return false;
        apply_end_ms = clock_boot_ms(s->clock) + APPLY_MS;
        if (!survey_wait_applied(s, l->name, pos.txid, apply_end_ms))
                return false;
        log_event(LOG_INFO, l->name, "fetched from %s what it had of the last term, up to %llu",
                  f->peer->hostname, (unsigned long long)pos.txid);
        return true;
}

/* Within a term there is one history: what follows our position is what this node would have been sent. */
static void
survey_fetch(struct comparison *c, struct http_client *client, const char *url, int64_t end_ms)
{
        const struct survey *s = c->survey;
        struct fetch f = { .client = client,
                           .url = url,
                           .headers = s->headers,
                           .peer = &c->peer,
                           .env = store_env(s->store),
                           .push = s->push,
                           .arg = s->arg };

        if (s->push == NULL || !is_of_our_cluster(c) || c->peer.term != s->self->term ||
            c->peer.version < FRAME_VERSION_FETCH)
                return;
        for (unsigned i = 0; i < c->n_lacks && clock_boot_ms(s->clock) < end_ms; i++)
                c->n_ahead -= survey_fetch_one(s, &f, &c->lacks[i], end_ms);
}

/* --- all of them --- */

/* Whether it is ahead. *@left_ms, which all questions have, becomes what is left for @n_rest others, of PEER_MS at least each. */
static bool
survey_ask_one(const struct survey *s, struct http_client *client, const char *url, unsigned n_rest,
               int64_t *left_ms, int64_t fetch_end_ms, struct survey_result *ret)
{
        struct comparison c = { .survey = s };
        int64_t begin_ms = clock_boot_ms(s->clock), most_ms = *left_ms - (int64_t)n_rest * PEER_MS;
        bool is = false, has_answer;

        if (most_ms < PEER_MS)
                most_ms = *left_ms < PEER_MS ? *left_ms : PEER_MS;
        has_answer = survey_ask_positions(client, url, most_ms, &c);
        *left_ms -= clock_boot_ms(s->clock) - begin_ms;
        if (has_answer) {
                survey_fetch(&c, client, url, fetch_end_ms);
                is = is_ahead(&c);
        }
        if (is) {
                snprintf(ret->url, sizeof ret->url, "%s", url);
                memcpy(ret->hostname, c.peer.hostname, sizeof ret->hostname);
        }
        free(c.lacks);
        return is;
}

int
survey_ask(const struct survey *s, struct survey_result *ret, struct err *e)
{
        static const struct http_client_options plain;
        int64_t fetch_end_ms = clock_boot_ms(s->clock) + FETCH_MS, left_ms = SURVEY_MS;
        struct http_client *client;
        unsigned n;
        peer_url *urls = peers_copy(s->peers, &n);
        int r = n > 0 ? http_client_new(s->http != NULL ? s->http : &plain, &client, e) : 0;

        if (n == 0 || r < 0) {
                free(urls);
                return r;
        }
        for (unsigned i = 0; i < n && r == 0 && left_ms > 0; i++)
                if (strcmp(urls[i], s->self->advertise_url) != 0 && strcmp(urls[i], s->stopped_url) != 0)
                        r = survey_ask_one(s, client, urls[i], n - i - 1, &left_ms, fetch_end_ms, ret);
        http_client_free(client);
        free(urls);
        return r;
}
