#include "lease/remote.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ANSWER_SIZE (64 * 1024) /* answers are a key or two */
#define MIN_TIMEOUT_MS 500
#define MAX_TIMEOUT_MS 5000

/* --- set-up --- */

/* "a//./b" becomes "a/b", as LiteFS does. ".." would leave the prefix. */
static int
clean_key(const char *key, char *ret, size_t size, struct err *e)
{
        size_t n = 0;

        for (const char *s = key; *s != '\0';) {
                size_t len = strcspn(s, "/");

                if (len == 2 && memcmp(s, "..", 2) == 0)
                        return err_text(e, E_CONFIG, "\"..\" in it: '%.200s'", key);
                if (len > 0 && !(len == 1 && s[0] == '.')) {
                        if (n + len + 2 > size)
                                return err_text(e, E_CONFIG, "longer than %zu bytes", size - 2);
                        if (n > 0)
                                ret[n++] = '/';
                        memcpy(ret + n, s, len);
                        n += len;
                }
                s += len + strspn(s + len, "/");
        }
        ret[n] = '\0';
        return n > 0 ? 0 : err_text(e, E_CONFIG, "required");
}

static int
copy_setting(const char *from, char *to, size_t size, const char *name, struct err *e)
{
        size_t n = from != NULL ? strlen(from) : 0;

        if (n == 0)
                return err_text(e, E_CONFIG, "lease.%s required", name);
        if (n >= size)
                return err_text(e, E_CONFIG, "lease.%s: longer than %zu bytes", name, size - 1);
        memcpy(to, from, n + 1);
        return 0;
}

/* A quarter of the TTL leaves time for a second try before the deadline, and a quarter for its margin. */
static int64_t
call_timeout_ms(int64_t ttl_ms)
{
        int64_t t = ttl_ms / 4;

        return t < MIN_TIMEOUT_MS ? MIN_TIMEOUT_MS : t > MAX_TIMEOUT_MS ? MAX_TIMEOUT_MS : t;
}

int
remote_init(struct remote_lease *r, const struct lease_ops *ops, const struct remote_service *service,
            const struct remote_options *o, struct err *e)
{
        int code;

        r->base.ops = ops;
        r->service = service;
        r->base.type = o->type;
        r->base.key = r->key;
        r->base.ttl_ms = o->ttl_ms;
        r->base.lock_delay_ms = o->lock_delay_ms;
        r->clock = o->clock != NULL ? o->clock : clock_host();
        r->timeout_ms = call_timeout_ms(o->ttl_ms);
        atomic_init(&r->deadline_ms, INT64_MIN);
        if (o->ttl_ms < 1000)
                return err_text(e, E_CONFIG, "lease.%s.ttl: at least 1s", o->type);
        code = clean_key(o->key != NULL ? o->key : "", r->key, sizeof r->key, e);
        if (code < 0) {
                err_prefix(e, "lease.%s.key", o->type);
                return code;
        }
        code = copy_setting(o->hostname, r->hostname, sizeof r->hostname, "hostname", e);
        if (code == 0)
                code = copy_setting(o->advertise_url, r->advertise_url, sizeof r->advertise_url,
                                    "advertise-url", e);
        if (code < 0)
                return code;
        code = http_client_new(&o->http, &r->http, e);
        if (code < 0)
                err_prefix(e, "lease.%s", o->type);
        return code;
}

void
remote_release(struct remote_lease *r)
{
        http_client_free(r->http);
}

/* --- calls --- */

int64_t
remote_begin(struct remote_lease *r)
{
        int64_t now_ms = clock_boot_ms(r->clock);

        r->call_end_ms = now_ms + r->timeout_ms;
        return now_ms;
}

int64_t
remote_left_ms(const struct remote_lease *r)
{
        int64_t left_ms = r->call_end_ms - clock_boot_ms(r->clock);

        return left_ms > 0 ? left_ms : 0;
}

int
remote_request(struct remote_lease *r, const char *method, const char *url, const char *body,
               int64_t timeout_ms, struct http_response *ret, struct err *e)
{
        static const char *const json_headers[] = { "Content-Type: application/json", NULL };
        struct http_request q = { .method = method,
                                  .url = url,
                                  .body = body,
                                  .body_size = body != NULL ? strlen(body) : 0,
                                  .max_response_size = MAX_ANSWER_SIZE,
                                  .headers = body != NULL ? json_headers : NULL };
        int64_t left_ms = remote_left_ms(r);

        if (left_ms == 0)
                return err_text(e, -ETIMEDOUT, "%s %s: no time left of %lld ms", method, url,
                                (long long)r->timeout_ms);
        q.timeout_ms = timeout_ms < left_ms ? timeout_ms : left_ms;
        return http_client_do(r->http, &q, ret, e);
}

/* Foreign text as it may stand in a line of the log: cut to fit, the unprintable as '?'. */
static const char *
printable(const char *text, size_t n, char *ret, size_t size)
{
        size_t i;

        for (i = 0; i < n && i < size - 1; i++)
                ret[i] = isprint((unsigned char)text[i]) ? text[i] : '?';
        ret[i] = '\0';
        return ret;
}

int
remote_refused(const char *method, const char *url, const struct http_response *answer, struct err *e)
{
        int code = answer->status == 401 || answer->status == 403 ? -EACCES : -EPROTO;
        const char *end = memchr(answer->body, '\n', answer->body_size);
        size_t n = end != NULL ? (size_t)(end - answer->body) : answer->body_size;
        char words[160];

        printable(answer->body, n, words, sizeof words);
        return err_text(e, code, "%s %s: status %d%s%s", method, url, answer->status,
                        words[0] != '\0' ? ": " : "", words);
}

json_t *
remote_json(const struct http_response *answer, const char *url, struct err *e)
{
        json_error_t error;
        json_t *j = json_loadb(answer->body, answer->body_size, 0, &error);

        if (j == NULL)
                err_text(e, -EPROTO, "%s: the answer is not JSON: %s", url, error.text);
        return j;
}

/* --- holding --- */

/* Clocks of two machines run apart by far less than this in one TTL. */
static int64_t
margin_ms(int64_t ttl_ms)
{
        return ttl_ms / 10;
}

static void
set_deadline(struct remote_lease *r, int64_t start_ms, int64_t ttl_ms)
{
        if (ttl_ms > r->base.ttl_ms)
                ttl_ms = r->base.ttl_ms;
        atomic_store_explicit(&r->deadline_ms, start_ms + ttl_ms - margin_ms(ttl_ms),
                              memory_order_release);
}

int64_t
remote_deadline_ms(struct lease *l)
{
        return atomic_load_explicit(&((struct remote_lease *)l)->deadline_ms, memory_order_acquire);
}

void
remote_hold(struct remote_lease *r, const char *session, uint64_t term, int64_t start_ms, int64_t ttl_ms)
{
        snprintf(r->session, sizeof r->session, "%s", session);
        r->term = term;
        r->renewals = 0;
        set_deadline(r, start_ms, ttl_ms);
}

/* It is not held. From here on nothing is committed. */
static void
lose(struct remote_lease *r)
{
        atomic_store_explicit(&r->deadline_ms, INT64_MIN, memory_order_release);
        r->session[0] = '\0';
        r->term = r->renewals = 0;
}

void
remote_drop_session(struct remote_lease *r, const char *session)
{
        char id[LEASE_SESSION_SIZE]; /* @session may be the leftover */

        memcpy(id, session, sizeof id);
        if (id[0] == '\0')
                return;
        if (r->service->end_session(r, id) < 0)
                memcpy(r->leftover, id, sizeof id);
        else if (strcmp(r->leftover, id) == 0)
                r->leftover[0] = '\0';
}

/* Nothing is committed any more, and then the session ends. */
static void
lose_and_drop(struct remote_lease *r)
{
        char session[LEASE_SESSION_SIZE];

        memcpy(session, r->session, sizeof session);
        lose(r);
        remote_drop_session(r, session);
}

int
remote_check_held(const struct remote_lease *r, struct err *e)
{
        return r->session[0] != '\0' ? 0
                                     : err_text(e, E_NOT_PRIMARY, "this node does not hold the lease");
}

static int
mark_renewal(struct remote_lease *r, struct err *e)
{
        char value[REMOTE_VALUE_SIZE];
        int code;

        r->renewals++;
        code = remote_format(r, true, value, e);
        return code < 0 ? code : r->service->write_value(r, value, e);
}

int
remote_renew(struct lease *l, struct err *e)
{
        struct remote_lease *r = (struct remote_lease *)l;
        int64_t start_ms = remote_begin(r), ttl_ms = 0;
        int code = remote_check_held(r, e);

        if (code < 0)
                return code;
        code = r->service->keep_alive(r, &ttl_ms, e);
        if (code == 0)
                code = mark_renewal(r, e);
        if (code == 0)
                set_deadline(r, start_ms, ttl_ms);
        else if (code == E_NOT_PRIMARY)
                lose_and_drop(r);
        return code;
}

void
remote_end(struct lease *l)
{
        struct remote_lease *r = (struct remote_lease *)l;

        remote_begin(r);
        lose_and_drop(r);
}

int
remote_offer(struct lease *l, char token[LEASE_SESSION_SIZE], struct err *e)
{
        struct remote_lease *r = (struct remote_lease *)l;
        int code = remote_renew(l, e); /* so that the other has all of the TTL */

        if (code < 0)
                return code;
        memcpy(token, r->session, LEASE_SESSION_SIZE);
        lose(r);
        return 0;
}

int
remote_check_stale(const struct lease_state *seen, struct err *e)
{
        if (!seen->has_holder)
                return err_text(e, E_NOT_PRIMARY, "nobody held the lease");
        if (seen->ttl_ms == 0)
                return err_text(e, -ENOTSUP, "%s does not show when it renewed the lease",
                                seen->hostname);
        return 0;
}

void
remote_self(const struct remote_lease *r, uint64_t renewal, struct lease_state *ret)
{
        memset(ret, 0, sizeof *ret);
        ret->has_holder = true;
        ret->term = r->term;
        ret->renewal = renewal;
        ret->ttl_ms = r->base.ttl_ms;
        memcpy(ret->hostname, r->hostname, sizeof ret->hostname);
        memcpy(ret->advertise_url, r->advertise_url, sizeof ret->advertise_url);
        memcpy(ret->session, r->session, sizeof ret->session);
}

/* --- values --- */

int
remote_format(const struct remote_lease *r, bool is_renewal, char ret[REMOTE_VALUE_SIZE], struct err *e)
{
        json_t *j = json_pack("{s:s, s:s, s:I}", "hostname", r->hostname, "advertise-url",
                              r->advertise_url, "ttl-ms", (json_int_t)r->base.ttl_ms);
        size_t n;

        if (j == NULL)
                return err_text(e, E_CONFIG, "lease.hostname or lease.advertise-url: not UTF-8");
        if (is_renewal) {
                json_object_set_new(j, "term", json_integer((json_int_t)r->term));
                json_object_set_new(j, "renewals", json_integer((json_int_t)r->renewals));
        }
        n = json_dumpb(j, ret, REMOTE_VALUE_SIZE - 1, JSON_COMPACT | JSON_PRESERVE_ORDER);
        json_decref(j);
        if (n == 0 || n >= REMOTE_VALUE_SIZE)
                return err_text(e, E_CONFIG, "lease.hostname and lease.advertise-url: too long");
        ret[n] = '\0';
        return 0;
}

static bool
copy_text(const char *from, char *to, size_t size)
{
        size_t n = strlen(from);

        if (n >= size)
                return false;
        memcpy(to, from, n + 1);
        return true;
}

int
remote_parse(const char *text, size_t n, uint64_t index, struct lease_state *ret, struct err *e)
{
        json_t *j = json_loadb(text, n, 0, NULL);
        const char *hostname, *url;
        char words[81];
        json_int_t term = 0, ttl_ms = 0;
        bool is_good = json_unpack(j, "{s:s, s:s, s?I, s?I}", "hostname", &hostname, "advertise-url",
                                   &url, "term", &term, "ttl-ms", &ttl_ms) == 0 &&
                       term >= 0 && ttl_ms >= 0 && (uint64_t)term <= index &&
                       copy_text(hostname, ret->hostname, sizeof ret->hostname) &&
                       copy_text(url, ret->advertise_url, sizeof ret->advertise_url);

        json_decref(j);
        if (!is_good)
                return err_text(e, E_FORMAT, "the holder's value is not what LiteFS writes: %s",
                                printable(text, n, words, sizeof words));
        ret->has_holder = true;
        ret->term = term > 0 ? (uint64_t)term : index;
        ret->renewal = index;
        ret->ttl_ms = ttl_ms;
        return 0;
}

int
remote_copy_cluster_id(const char *id, size_t n, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        char words[41];
        bool is_good = n == LEASE_CLUSTER_ID_SIZE - 1 && memcmp(id, "LFSC", 4) == 0;

        for (size_t i = 4; is_good && i < n; i++)
                is_good = isxdigit((unsigned char)id[i]);
        if (n > 0 && !is_good)
                return err_text(e, E_FORMAT, "no cluster id: '%s'",
                                printable(id, n, words, sizeof words));
        memcpy(ret, id, n);
        ret[n] = '\0';
        return 0;
}

/* --- base64 --- */

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void
base64_encode(const void *data, size_t n, char *ret)
{
        const unsigned char *p = data;

        for (size_t i = 0; i < n; i += 3) {
                unsigned v = (unsigned)p[i] << 16;

                v |= i + 1 < n ? (unsigned)p[i + 1] << 8 : 0;
                v |= i + 2 < n ? p[i + 2] : 0;
                *ret++ = base64_digits[v >> 18];
                *ret++ = base64_digits[v >> 12 & 63];
                *ret++ = i + 1 < n ? base64_digits[v >> 6 & 63] : '=';
                *ret++ = i + 2 < n ? base64_digits[v & 63] : '=';
        }
        *ret = '\0';
}

int
base64_decode(const char *text, void *ret, size_t size)
{
        size_t len = strlen(text), n = 0;
        unsigned v = 0, bits = 0;

        if (len % 4 != 0)
                return -1;
        while (len > 0 && text[len - 1] == '=' && len % 4 != 1)
                len--; /* at most two: a third would leave a digit alone */
        if (len % 4 == 1)
                return -1;
        for (size_t i = 0; i < len; i++) {
                const char *digit = strchr(base64_digits, text[i]);

                if (digit == NULL)
                        return -1;
                v = v << 6 | (unsigned)(digit - base64_digits);
                bits += 6;
                if (bits < 8)
                        continue;
                if (n == size)
                        return -1;
                bits -= 8;
                ((unsigned char *)ret)[n++] = (unsigned char)(v >> bits);
        }
        return (int)n;
}

int
remote_parse_term(const char *text, size_t n, uint64_t *ret, struct err *e)
{
        uint64_t v = 0;

        for (size_t i = 0; i < n; i++) {
                if (text[i] < '0' || text[i] > '9' || v > (UINT64_MAX - 9) / 10)
                        return err_text(e, E_FORMAT, "the last term is no number: '%.*s'",
                                        n > 40 ? 40 : (int)n, text);
                v = v * 10 + (uint64_t)(text[i] - '0');
        }
        *ret = v;
        return 0;
}
