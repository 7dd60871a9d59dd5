/* lib/net/http_client.h - one HTTP or HTTPS request at a time, for threads that may wait.
 *
 * A client keeps its connection open between requests. Each request ends by its own deadline, whatever the
 * other side does, and reads a bounded answer. Redirects are answers like any other; proxies from the
 * environment are not used, since what is asked is a service of the same network. No signals are raised or
 * handled. One thread at a time. */
#ifndef LITEFS_NET_HTTP_CLIENT_H
#define LITEFS_NET_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/stream.h"

struct http_client;

/* Paths of PEM files; NULL or "" is "none", and then the system's authorities count. */
struct http_client_options {
        const char *ca;
        const char *cert, *cert_key; /* of this client; without @cert_key the key is in @cert */
        const char *pin;     /* tls_pin()'s of the server: then its name and issuer do not count */
        bool is_tls_only;    /* what is not https:// is refused, and nothing sent there: -EPROTO */
        bool is_unverified;  /* whoever answers is believed to be the server */
        bool is_cancellable; /* by http_client_cancel */
        const char *const *headers; /* "Name: value" for each request, NULL at the end; or NULL */
};

struct http_request {
        const char *method; /* "GET", "PUT", "POST", "DELETE" */
        const char *url;    /* without userinfo: it is repeated in errors */
        const void *body;   /* not sent with a GET */
        size_t body_size;
        int64_t timeout_ms;         /* for all of it, connecting and resolving included; at least 1 */
        int64_t connect_timeout_ms; /* 0: as long as timeout_ms */
        int64_t total_timeout_ms; /* with a source or a sink: for all of it; 0: as long as something moves */
        size_t max_response_size;   /* of the body; more is -EMSGSIZE */
        const char *const *headers; /* as in the options, of this request */
        const char *number_header;  /* of the answer, for its number; NULL: none */
        const char *text_header;    /* the same, for its text */
        /* Where a kept connection ends before an answer, curl sends a request again on a new one, whatever it is: the server may
         * have acted on it. True: that is an error instead, -EIO. */
        bool is_sent_once;
        /* Instead of @body, @body_size bytes of this. A kept connection that breaks is tried again on a new one, if @rewind
         * can set the source to its beginning: 0. NULL: it cannot. */
        struct byte_src *source;
        int (*rewind)(struct byte_src *source);
        /* Takes the body of a 200 or 206, however long it is; any other goes to the response. */
        struct byte_sink *sink;
};

struct http_response {
        int status;
        const char *body; /* the client's, until its next request; a zero byte follows it */
        size_t body_size;
        int64_t date_s;  /* of the server's Date, in Unix seconds; 0: it sent none */
        uint64_t number; /* of number_header; 0: there is none */
        char text[128];  /* of text_header; "": there is none, or it is longer */
};

/* -EINVAL when a file of @options cannot be read, else only -ENOMEM. Copies what it needs. */
int http_client_new(const struct http_client_options *options, struct http_client **ret, struct err *e);

/* With a source or a sink, timeout_ms is how long nothing may move, and their errors are returned as they are.
 * 0: an answer came, of any status. -ETIMEDOUT, -ECONNREFUSED, -EHOSTUNREACH (no such name, too),
 * -EMSGSIZE, -EPROTO (TLS, or not HTTP), -EIO (all else). Whether the server acted is then not known. */
int http_client_do(struct http_client *c, const struct http_request *request, struct http_response *ret,
                   struct err *e);

/* Ends the request that is under way, or else the next one, with -ECANCELED. Any thread, any lock. */
void http_client_cancel(struct http_client *c);

void http_client_free(struct http_client *c); /* NULL is fine */

/* A URL in parts. */
struct http_url {
        char base[512];     /* "https://host:8501", no slash at its end */
        char path[512];     /* "/a/b", decoded; "/" when there is none */
        char user[256];     /* decoded, or "" */
        char password[256]; /* decoded, or "" */
};

/* E_CONFIG with words when @text is not an http or https URL with a host, or has a query or fragment. */
int http_url_parse(const char *text, struct http_url *ret, struct err *e);

#endif
