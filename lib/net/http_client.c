#include "net/http_client.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define USER_AGENT "litefs"

struct http_client {
        CURL *curl;
        CURLM *multi; /* NULL: it cannot be cancelled */
        atomic_bool is_cancelled;
        struct curl_slist *headers;
        char *body;
        size_t size, capacity, max_size;
        bool is_too_large, is_out_of_memory;
        bool is_tls_only;
        bool is_sent_once;
        unsigned n_sent; /* how often curl was about to send the request */
        struct byte_source_state {
                struct byte_src *source;
                int (*rewind)(struct byte_src *source);
                struct byte_sink *sink;
                int result; /* of their last call */
        } stream;
        char words[CURL_ERROR_SIZE];
};

/* --- the answer --- */

static bool
body_make_room(struct http_client *c, size_t n)
{
        size_t capacity = c->capacity != 0 ? c->capacity : 1024;
        char *body;

        while (capacity < c->size + n + 1)
                capacity *= 2;
        if (capacity == c->capacity)
                return true;
        body = realloc(c->body, capacity);
        if (body == NULL)
                return false;
        c->body = body;
        c->capacity = capacity;
        return true;
}

/* Less than what curl offered ends the transfer. */
static size_t
receive_body(char *data, size_t one, size_t n, void *arg)
{
        struct http_client *c = arg;
        long status = 0;

        (void)one; /* 1, says curl */
        if (c->stream.sink != NULL)
                curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
        if (status == 200 || status == 206) {
                c->stream.result = c->stream.sink->write(c->stream.sink, data, n);
                return c->stream.result < 0 ? 0 : n;
        }
        if (n > c->max_size - c->size) {
                c->is_too_large = true;
                return 0;
        }
        if (!body_make_room(c, n)) {
                c->is_out_of_memory = true;
                return 0;
        }
        memcpy(c->body + c->size, data, n);
        c->size += n;
        c->body[c->size] = '\0';
        return n;
}

static size_t
send_source(char *buf, size_t one, size_t n, void *arg)
{
        struct http_client *c = arg;
        ssize_t r = c->stream.source->read(c->stream.source, buf, one * n);

        if (r < 0)
                c->stream.result = (int)r;
        return r < 0 ? CURL_READFUNC_ABORT : (size_t)r;
}

/* Only ever to the beginning. Without it some versions of curl never send again what they could not send once: the wish to
 * rewind outlives the request (8.14). */
static int
seek_source(void *arg, curl_off_t offset, int origin)
{
        struct http_client *c = arg;

        if (c->stream.rewind == NULL || offset != 0 || origin != SEEK_SET ||
            c->stream.rewind(c->stream.source) < 0)
                return CURL_SEEKFUNC_FAIL;
        return CURL_SEEKFUNC_OK;
}

static int
before_request(void *arg, char *ip, char *local_ip, int port, int local_port)
{
        struct http_client *c = arg;

        (void)ip, (void)local_ip, (void)port, (void)local_port;
        c->n_sent++;
        return c->is_sent_once && c->n_sent > 1 ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

/* --- the client --- */

static void
initialize_curl(void)
{
        curl_global_init(CURL_GLOBAL_DEFAULT);
}

static bool
is_option_set(const char *s)
{
        return s != NULL && s[0] != '\0';
}

static int
append_headers(struct curl_slist **list, const char *const *headers)
{
        for (; headers != NULL && *headers != NULL; headers++) {
                struct curl_slist *longer = curl_slist_append(*list, *headers);

                if (longer == NULL)
                        return -ENOMEM;
                *list = longer;
        }
        return 0;
}

static void
set_protocols(CURL *curl)
{
#if LIBCURL_VERSION_NUM >= 0x075500
        curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
#else
        curl_easy_setopt(curl, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
        /* A resolver that hangs would be waited for after the deadline. */
        curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, 1L);
#endif
        curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
        curl_easy_setopt(curl, CURLOPT_PROXY, "");
        curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(curl, CURLOPT_USERAGENT, USER_AGENT);
}

/* curl copies the strings. */
static CURLcode
set_curl_tls(CURL *curl, const struct http_client_options *o)
{
        CURLcode r = CURLE_OK;

        if (is_option_set(o->ca))
                r = curl_easy_setopt(curl, CURLOPT_CAINFO, o->ca);
        if (r == CURLE_OK && is_option_set(o->cert)) {
                r = curl_easy_setopt(curl, CURLOPT_SSLCERT, o->cert);
                if (r == CURLE_OK)
                        r = curl_easy_setopt(curl, CURLOPT_SSLKEY,
                                             is_option_set(o->cert_key) ? o->cert_key : o->cert);
        }
        if (r == CURLE_OK && is_option_set(o->pin))
                r = curl_easy_setopt(curl, CURLOPT_PINNEDPUBLICKEY, o->pin);
        if (o->is_unverified || is_option_set(o->pin)) {
                curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
                curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
        }
        return r;
}

/* curl would say at the first request only that there is a "problem with the certificate". */
static int
check_files(const struct http_client_options *o, struct err *e)
{
        const char *files[] = { o->ca, o->cert, o->cert_key };

        for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
                if (is_option_set(files[i]) && access(files[i], R_OK) != 0)
                        return err_text(e, -EINVAL, "%s: %s", files[i], strerrordesc_np(errno));
        }
        if (is_option_set(o->cert_key) && !is_option_set(o->cert))
                return err_text(e, -EINVAL, "%s: a client key without a certificate", o->cert_key);
        return 0;
}

int
http_client_new(const struct http_client_options *options, struct http_client **ret, struct err *e)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        struct http_client *c;
        int r = check_files(options, e);

        if (r < 0)
                return r;
        pthread_once(&once, initialize_curl);
        c = calloc(1, sizeof *c);
        if (c == NULL)
                return err_set(e, -ENOMEM, "HTTP client");
        c->curl = curl_easy_init();
        if (options->is_cancellable)
                c->multi = curl_multi_init();
        if (c->curl == NULL || options->is_cancellable != (c->multi != NULL) ||
            set_curl_tls(c->curl, options) != CURLE_OK ||
            append_headers(&c->headers, options->headers) < 0) {
                http_client_free(c);
                return err_set(e, -ENOMEM, "HTTP client");
        }
        c->is_tls_only = options->is_tls_only;
        set_protocols(c->curl);
        curl_easy_setopt(c->curl, CURLOPT_ERRORBUFFER, c->words);
        curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, receive_body);
        curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, c);
        curl_easy_setopt(c->curl, CURLOPT_PREREQFUNCTION, before_request);
        curl_easy_setopt(c->curl, CURLOPT_PREREQDATA, c);
        *ret = c;
        return 0;
}

void
http_client_free(struct http_client *c)
{
        if (c == NULL)
                return;
        if (c->curl != NULL)
                curl_easy_cleanup(c->curl);
        if (c->multi != NULL)
                curl_multi_cleanup(c->multi);
        curl_slist_free_all(c->headers);
        free(c->body);
        free(c);
}

/* --- one request --- */

static int
make_headers(struct http_client *c, const struct http_request *q, struct curl_slist **ret)
{
        /* curl would wait a second for a "100 Continue" before a larger body. */
        static const char *const no_expect[] = { "Expect:", NULL };
        int r = append_headers(ret, no_expect);

        for (struct curl_slist *h = c->headers; h != NULL && r == 0; h = h->next) {
                const char *const one[] = { h->data, NULL };

                r = append_headers(ret, one);
        }
        return r == 0 ? append_headers(ret, q->headers) : r;
}

static void
set_request(struct http_client *c, const struct http_request *q, struct curl_slist *headers)
{
        int64_t timeout_ms = q->timeout_ms > 0 ? q->timeout_ms : 1;
        int64_t connect_ms = q->connect_timeout_ms > 0 ? q->connect_timeout_ms : timeout_ms;

        if (strcmp(q->method, "GET") == 0) {
                curl_easy_setopt(c->curl, CURLOPT_HTTPGET, 1L);
                curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, NULL);
        } else {
                curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, q->body != NULL ? q->body : "");
                curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body_size);
                curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, q->method);
        }
        if (q->source != NULL) {
                curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, NULL);
                curl_easy_setopt(c->curl, CURLOPT_READFUNCTION, send_source);
                curl_easy_setopt(c->curl, CURLOPT_READDATA, c);
        }
        curl_easy_setopt(c->curl, CURLOPT_SEEKFUNCTION, q->source != NULL ? seek_source : NULL);
        curl_easy_setopt(c->curl, CURLOPT_SEEKDATA, c);
        c->stream = (struct byte_source_state){ q->source, q->rewind, q->sink, 0 };
        if (q->source != NULL || q->sink != NULL) {
                curl_easy_setopt(c->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
                curl_easy_setopt(c->curl, CURLOPT_LOW_SPEED_TIME, (long)(timeout_ms / 1000 + 1));
                timeout_ms = q->total_timeout_ms;
        } else {
                curl_easy_setopt(c->curl, CURLOPT_LOW_SPEED_TIME, 0L);
        }
        curl_easy_setopt(c->curl, CURLOPT_URL, q->url);
        curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(c->curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
        curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms);
        /* Without a known length it is receive_body() that counts. */
        curl_easy_setopt(c->curl, CURLOPT_MAXFILESIZE_LARGE,
                         q->sink != NULL ? 0 : (curl_off_t)q->max_response_size);
        c->size = 0;
        c->max_size = q->max_response_size;
        c->is_too_large = c->is_out_of_memory = false;
        c->is_sent_once = q->is_sent_once;
        c->n_sent = 0;
        c->words[0] = '\0';
}

static int
connect_error(struct http_client *c)
{
        long os_errno = 0;

        curl_easy_getinfo(c->curl, CURLINFO_OS_ERRNO, &os_errno);
        return os_errno > 0 && os_errno < 4096 ? -(int)os_errno : -ECONNREFUSED;
}

static int
request_error(struct http_client *c, const struct http_request *q, CURLcode code, struct err *e)
{
        const char *words = c->words[0] != '\0' ? c->words : curl_easy_strerror(code);
        curl_off_t elapsed_us = 0;

        if (c->is_sent_once && c->n_sent > 1)
                return err_text(
                        e, -EIO,
                        "%s %s: the connection ended before an answer: whether it was done is not known",
                        q->method, q->url);
        if (code == CURLE_ABORTED_BY_CALLBACK)
                return err_set(e, -ECANCELED, "%s %s", q->method, q->url);
        if (c->stream.result < 0)
                return err_set(e, c->stream.result, "%s %s", q->method, q->url);
        if (c->is_too_large || code == CURLE_FILESIZE_EXCEEDED)
                return err_text(e, -EMSGSIZE, "%s %s: the answer is larger than %zu bytes", q->method,
                                q->url, q->max_response_size);
        if (c->is_out_of_memory || code == CURLE_OUT_OF_MEMORY)
                return err_set(e, -ENOMEM, "%s %s", q->method, q->url);
        switch (code) {
        case CURLE_OPERATION_TIMEDOUT:
                curl_easy_getinfo(c->curl, CURLINFO_TOTAL_TIME_T, &elapsed_us);
                return err_text(e, -ETIMEDOUT, "%s %s: no answer within %lld ms", q->method, q->url,
                                (long long)(elapsed_us / 1000));
        case CURLE_COULDNT_CONNECT:
                return err_set(e, connect_error(c), "%s %s", q->method, q->url);
        case CURLE_COULDNT_RESOLVE_HOST:
                return err_text(e, -EHOSTUNREACH, "%s %s: %s", q->method, q->url, words);
        case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
                return err_text(e, -EPROTO, "%s %s: another certificate than the configuration names",
                                q->method, q->url);
        case CURLE_SSL_CONNECT_ERROR:
        case CURLE_SSL_CERTPROBLEM:
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_CACERT_BADFILE:
        case CURLE_UNSUPPORTED_PROTOCOL:
        case CURLE_WEIRD_SERVER_REPLY:
                return err_text(e, -EPROTO, "%s %s: %s", q->method, q->url, words);
        default:
                return err_text(e, -EIO, "%s %s: %s", q->method, q->url, words);
        }
}

static int64_t
read_date(struct http_client *c)
{
        struct curl_header *h;

        if (curl_easy_header(c->curl, "Date", 0, CURLH_HEADER, -1, &h) != CURLHE_OK)
                return 0;
        return curl_getdate(h->value, NULL);
}

static uint64_t
read_number(struct http_client *c, const char *header)
{
        struct curl_header *h;

        if (header == NULL || curl_easy_header(c->curl, header, 0, CURLH_HEADER, -1, &h) != CURLHE_OK)
                return 0;
        return strtoull(h->value, NULL, 10);
}

static void
read_text(struct http_client *c, const char *header, char *ret, size_t size)
{
        struct curl_header *h;

        ret[0] = '\0';
        if (header != NULL && curl_easy_header(c->curl, header, 0, CURLH_HEADER, -1, &h) == CURLHE_OK &&
            strlen(h->value) < size)
                strcpy(ret, h->value);
}

/* --- requests that can be cancelled --- */

void
http_client_cancel(struct http_client *c)
{
        atomic_store(&c->is_cancelled, true);
        curl_multi_wakeup(c->multi);
}

static CURLcode
result_of(struct http_client *c)
{
        CURLMsg *msg;
        int n;

        while ((msg = curl_multi_info_read(c->multi, &n)) != NULL)
                if (msg->msg == CURLMSG_DONE)
                        return msg->data.result;
        return CURLE_FAILED_INIT;
}

static CURLcode
perform_until_cancelled(struct http_client *c)
{
        int n_running = 1;
        CURLcode code;

        if (curl_multi_add_handle(c->multi, c->curl) != CURLM_OK)
                return CURLE_OUT_OF_MEMORY;
        while (n_running > 0 && !atomic_load(&c->is_cancelled)) {
                if (curl_multi_perform(c->multi, &n_running) != CURLM_OK)
                        break;
                if (n_running > 0)
                        curl_multi_poll(c->multi, NULL, 0, 1000, NULL);
        }
        code = n_running == 0 ? result_of(c) : CURLE_FAILED_INIT;
        if (atomic_exchange(&c->is_cancelled, false) && code != CURLE_OK)
                code = CURLE_ABORTED_BY_CALLBACK;
        curl_multi_remove_handle(c->multi, c->curl);
        return code;
}

int
http_client_do(struct http_client *c, const struct http_request *q, struct http_response *ret,
               struct err *e)
{
        struct curl_slist *headers = NULL;
        long status = 0;
        CURLcode code;

        if (c->is_tls_only && strncasecmp(q->url, "https://", 8) != 0)
                return err_text(
                        e, -EPROTO,
                        "%s is not https://, and this node has http.tls: nothing is asked there in clear",
                        q->url);
        if (make_headers(c, q, &headers) < 0) {
                curl_slist_free_all(headers);
                return err_set(e, -ENOMEM, "%s %s", q->method, q->url);
        }
        set_request(c, q, headers);
        code = c->multi != NULL ? perform_until_cancelled(c) : curl_easy_perform(c->curl);
        curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, NULL);
        curl_slist_free_all(headers);
        if (code != CURLE_OK)
                return request_error(c, q, code, e);
        curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
        ret->status = (int)status;
        ret->body = c->size > 0 ? c->body : "";
        ret->body_size = c->size;
        ret->date_s = read_date(c);
        ret->number = read_number(c, q->number_header);
        read_text(c, q->text_header, ret->text, sizeof ret->text);
        return 0;
}

/* --- URLs --- */

/* "" when the URL does not have the part. False when it does not fit or cannot be decoded. */
static bool
get_part(CURLU *u, CURLUPart part, unsigned flags, char *ret, size_t size)
{
        char *text = NULL;
        CURLUcode code = curl_url_get(u, part, &text, flags);
        bool is_good = true;

        ret[0] = '\0';
        if (code == CURLUE_OK) {
                is_good = strlen(text) < size;
                if (is_good)
                        strcpy(ret, text);
        } else if (code == CURLUE_URLDECODE || code == CURLUE_OUT_OF_MEMORY) {
                is_good = false;
        }
        curl_free(text);
        return is_good;
}

static int
split_parsed_url(CURLU *u, struct http_url *ret, struct err *e)
{
        char scheme[16], host[256], port[8], extra[2];

        if (!get_part(u, CURLUPART_SCHEME, 0, scheme, sizeof scheme) ||
            (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0))
                return err_text(e, E_CONFIG, "not an http:// or https:// URL");
        if (!get_part(u, CURLUPART_QUERY, 0, extra, sizeof extra) || extra[0] != '\0' ||
            !get_part(u, CURLUPART_FRAGMENT, 0, extra, sizeof extra) || extra[0] != '\0')
                return err_text(e, E_CONFIG, "a URL with a query or a fragment");
        if (!get_part(u, CURLUPART_HOST, 0, host, sizeof host) ||
            !get_part(u, CURLUPART_PORT, 0, port, sizeof port) ||
            !get_part(u, CURLUPART_PATH, CURLU_URLDECODE, ret->path, sizeof ret->path) ||
            !get_part(u, CURLUPART_USER, CURLU_URLDECODE, ret->user, sizeof ret->user) ||
            !get_part(u, CURLUPART_PASSWORD, CURLU_URLDECODE, ret->password, sizeof ret->password))
                return err_text(e, E_CONFIG, "a part of the URL is too long, or is not text");
        snprintf(ret->base, sizeof ret->base, "%s://%s%s%s", scheme, host, port[0] != '\0' ? ":" : "",
                 port);
        return 0;
}

int
http_url_parse(const char *text, struct http_url *ret, struct err *e)
{
        CURLU *u = curl_url();
        int r;

        if (u == NULL)
                return err_set(e, -ENOMEM, "URL");
        memset(ret, 0, sizeof *ret);
        /* Without its words: a password may be among them. */
        if (curl_url_set(u, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK)
                r = err_text(e, E_CONFIG, "not a URL of the form http://host:port");
        else
                r = split_parsed_url(u, ret, e);
        curl_url_cleanup(u);
        return r;
}
