#include "proxy/reader.h"

#include <errno.h>
#include <string.h>

static struct reader *
reader_of(http_parser *parser)
{
        return parser->data;
}

/* The first reason counts. */
static int
refuse_message(struct reader *r, int status, const char *reason)
{
        if (r->reason == NULL) {
                r->status = r->parser.type == HTTP_REQUEST ? status : 502;
                r->reason = reason;
        }
        return -1;
}

static int
added(struct reader *r, int code)
{
        if (code == 0)
                return 0;
        return code == -E2BIG ? refuse_message(r, 431, "the head of the message is too large")
                              : refuse_message(r, 503, "out of memory");
}

static bool
has_control(const char *s, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if ((unsigned char)s[i] < ' ' ? s[i] != '\t' : s[i] == 0x7f)
                        return true;
        return false;
}

static int
on_first_line(http_parser *parser, const char *at, size_t n)
{
        struct reader *r = reader_of(parser);

        if (has_control(at, n))
                return refuse_message(r, 400, "its first line has a control character");
        return added(r, head_add_line(&r->head, at, n));
}

/* A token, as RFC 9110 5.6.2 has it; the library takes a blank as well. */
static bool
is_token_char(unsigned char c)
{
        return c > ' ' && c < 0x7f && strchr("\"(),/:;<=>?@[\\]{}", c) == NULL;
}

static int
on_name(http_parser *parser, const char *at, size_t n)
{
        struct reader *r = reader_of(parser);

        if (r->has_head)
                return 0; /* of a trailer, which goes no further */
        for (size_t i = 0; i < n; i++)
                if (!is_token_char((unsigned char)at[i]))
                        return refuse_message(r, 400, "a field has a bad name");
        return added(r, head_add_name(&r->head, at, n));
}

static int
on_value(http_parser *parser, const char *at, size_t n)
{
        struct reader *r = reader_of(parser);

        if (r->has_head)
                return 0;
        if (has_control(at, n))
                return refuse_message(r, 400, "a field has a control character");
        return added(r, head_add_value(&r->head, at, n));
}

static bool
is_decimal(struct slice s)
{
        if (s.n == 0 || s.n > 18)
                return false;
        for (size_t i = 0; i < s.n; i++)
                if (s.p[i] < '0' || s.p[i] > '9')
                        return false;
        return true;
}

/* How long the body is must be said in one way only, and in one that everybody understands. */
static int
check_length(struct reader *r)
{
        struct slice length = { NULL, 0 }, coding = { NULL, 0 };
        size_t n_lengths = head_find(&r->head, "content-length", &length);
        size_t n_codings = head_find(&r->head, "transfer-encoding", &coding);

        if (n_lengths > 1 || (n_lengths > 0 && n_codings > 0))
                return refuse_message(r, 400, "the length of the body is said more than once");
        if (n_lengths > 0 && !is_decimal(length))
                return refuse_message(r, 400, "Content-Length is no number");
        if (n_codings > 1 || (n_codings > 0 && !slice_is(coding, "chunked")))
                return refuse_message(r, 501, "no Transfer-Encoding but chunked is understood");
        if (n_codings > 0 && r->minor == 0)
                return refuse_message(r, 400, "HTTP/1.0 has no Transfer-Encoding");
        r->is_chunked = n_codings > 0;
        r->has_length = n_lengths > 0;
        for (size_t i = 0; r->has_length && i < length.n; i++)
                r->length = 10 * r->length + (uint64_t)(length.p[i] - '0');
        if (r->is_chunked != ((r->parser.flags & F_CHUNKED) != 0) ||
            (r->has_length && r->length != r->parser.content_length))
                return refuse_message(r, 400, "the length of the body is not clear");
        return 0;
}

/* Of these a Content-Length says what another response would have. */
static bool
has_no_body(const struct reader *r)
{
        return r->is_body_less || r->status_code < 200 || r->status_code == 204 || r->status_code == 304;
}

static int
on_head(http_parser *parser)
{
        struct reader *r = reader_of(parser);

        r->minor = parser->http_minor;
        r->method = parser->method;
        r->status_code = parser->status_code;
        if (parser->http_major != 1 || parser->http_minor > 1)
                return refuse_message(r, 505, "only HTTP/1.0 and HTTP/1.1 are understood");
        if (parser->type == HTTP_RESPONSE && r->status_code < 100)
                return refuse_message(r, 502, "its status is none");
        if (check_length(r) < 0)
                return -1;
        r->is_keep_alive = http_should_keep_alive(parser) != 0;
        if (parser->type == HTTP_REQUEST) {
                r->is_upgrade = parser->method == HTTP_GET && r->minor == 1 && !r->is_chunked &&
                                r->length == 0 && head_has_word(&r->head, "connection", "upgrade") &&
                                head_has_word(&r->head, "upgrade", "websocket");
                parser->upgrade = r->is_upgrade;
        } else {
                r->is_upgrade = r->status_code == 101;
        }
        r->has_head = true;
        http_parser_pause(parser, 1);
        return parser->type == HTTP_RESPONSE && has_no_body(r) ? 1 : 0;
}

static int
on_body(http_parser *parser, const char *at, size_t n)
{
        struct reader *r = reader_of(parser);

        r->body(r->arg, (const uint8_t *)at, n);
        return 0;
}

static int
on_end(http_parser *parser)
{
        reader_of(parser)->has_ended = true;
        http_parser_pause(parser, 1);
        return 0;
}

static const http_parser_settings settings = {
        .on_url = on_first_line,
        .on_status = on_first_line,
        .on_header_field = on_name,
        .on_header_value = on_value,
        .on_headers_complete = on_head,
        .on_body = on_body,
        .on_message_complete = on_end,
};

void
reader_init(struct reader *r, enum http_parser_type type,
            void (*body)(void *arg, const uint8_t *data, size_t n), void *arg)
{
        *r = (struct reader){ .body = body, .arg = arg };
        http_parser_init(&r->parser, type);
        r->parser.data = r;
}

void
reader_release(struct reader *r)
{
        head_release(&r->head);
}

void
reader_next(struct reader *r)
{
        struct head head = r->head;

        head_reset(&head);
        reader_init(r, r->parser.type, r->body, r->arg);
        r->head = head;
}

/* What the library says is for its authors. */
static void
explain_refusal(struct reader *r)
{
        switch (HTTP_PARSER_ERRNO(&r->parser)) {
        case HPE_HEADER_OVERFLOW:
                refuse_message(r, 431, "the head of the message is too large");
                break;
        case HPE_INVALID_METHOD:
                refuse_message(r, 501, "the method is not known");
                break;
        case HPE_INVALID_VERSION:
                refuse_message(r, 505, "only HTTP/1.0 and HTTP/1.1 are understood");
                break;
        case HPE_UNEXPECTED_CONTENT_LENGTH:
        case HPE_INVALID_CONTENT_LENGTH:
        case HPE_INVALID_TRANSFER_ENCODING:
                refuse_message(r, 400, "the length of the body is not clear");
                break;
        case HPE_INVALID_CHUNK_SIZE:
                refuse_message(r, 400, "a chunk of the body has a bad length");
                break;
        default:
                refuse_message(r, 400, "this is not HTTP/1.1");
                break;
        }
}

static size_t
execute(struct reader *r, const uint8_t *data, size_t n, enum reader_event *ret)
{
        size_t used;

        http_parser_pause(&r->parser, 0);
        used = http_parser_execute(&r->parser, &settings, (const char *)data, n);
        if (HTTP_PARSER_ERRNO(&r->parser) != HPE_OK && HTTP_PARSER_ERRNO(&r->parser) != HPE_PAUSED)
                explain_refusal(r);
        if (r->reason != NULL)
                *ret = READER_FAILED;
        else
                *ret = r->has_ended ? READER_END : READER_MORE;
        return used;
}

size_t
reader_feed(struct reader *r, const uint8_t *data, size_t n, enum reader_event *ret)
{
        bool had_head = r->has_head;
        const char *reason;
        size_t used;

        reason = r->parser.type == HTTP_REQUEST ? syntax_check(&r->syntax, data, n) : NULL;
        if (reason != NULL) {
                refuse_message(r, 400, reason);
                *ret = READER_FAILED;
                return n;
        }
        used = execute(r, data, n, ret);

        if (*ret == READER_FAILED || had_head || !r->has_head)
                return used;
        /* The library stops before the head's last byte, and with it decides whether there is a body. */
        if (used < n)
                used += execute(r, data + used, 1, ret);
        r->is_end = r->has_ended;
        if (r->is_chunked)
                syntax_expect_chunks(&r->syntax);
        if (*ret != READER_FAILED)
                *ret = READER_HEAD;
        return used;
}

bool
reader_eof(struct reader *r)
{
        enum reader_event event;

        if (!r->has_head || r->has_ended)
                return r->has_ended;
        (void)execute(r, NULL, 0, &event);
        return event == READER_END;
}
