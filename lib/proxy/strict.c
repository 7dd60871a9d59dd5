#include "proxy/strict.h"

#define MAX_DIGITS 15

static const char bad_line[] = "a line does not end with CR LF";
static const char bad_fold[] = "a field is folded over several lines";
static const char bad_chunk[] = "a chunk of the body has a bad length";

void
strict_expect_chunks(struct strict *s)
{
        *s = (struct strict){ .state = STRICT_SIZE };
}

static const char *
expect(struct strict *s, bool is_right, enum strict_state next, const char *otherwise)
{
        s->state = next;
        return is_right ? NULL : otherwise;
}

static const char *
check_head(struct strict *s, uint8_t c)
{
        switch (s->state) {
        case STRICT_BEFORE:
                s->state = c == '\r' ? STRICT_BEFORE_LF : STRICT_LINE;
                return c == '\n' ? bad_line : NULL;
        case STRICT_BEFORE_LF:
                return expect(s, c == '\n', STRICT_BEFORE, bad_line);
        case STRICT_LINE_START:
                if (c == ' ' || c == '\t')
                        return bad_fold;
                s->state = c == '\r' ? STRICT_HEAD_LF : STRICT_LINE;
                return c == '\n' ? bad_line : NULL;
        case STRICT_LINE:
                if (c == '\r')
                        s->state = STRICT_LINE_LF;
                return c == '\n' ? bad_line : NULL;
        case STRICT_LINE_LF:
                return expect(s, c == '\n', STRICT_LINE_START, bad_line);
        default: /* STRICT_HEAD_LF */
                return expect(s, c == '\n', STRICT_DONE, bad_line);
        }
}

static int
hex_value(uint8_t c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        c |= 0x20;
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static const char *
check_size(struct strict *s, uint8_t c)
{
        int digit = hex_value(c);

        if (digit >= 0 && s->n_digits < MAX_DIGITS) {
                s->left = s->left << 4 | (uint64_t)digit;
                s->n_digits++;
                return NULL;
        }
        s->state = c == '\r' ? STRICT_SIZE_LF : STRICT_EXTENSION;
        return s->n_digits > 0 && (c == '\r' || c == ';') ? NULL : bad_chunk;
}

/* All but the bytes of the chunks themselves. */
static const char *
check_chunks(struct strict *s, uint8_t c)
{
        switch (s->state) {
        case STRICT_SIZE:
                return check_size(s, c);
        case STRICT_EXTENSION:
                if (c == '\r')
                        s->state = STRICT_SIZE_LF;
                return c == '\n' ? bad_line : NULL;
        case STRICT_SIZE_LF:
                s->n_digits = 0;
                return expect(s, c == '\n', s->left > 0 ? STRICT_DATA : STRICT_TRAILER_START, bad_line);
        case STRICT_DATA_CR:
                return expect(s, c == '\r', STRICT_DATA_LF, bad_chunk);
        case STRICT_DATA_LF:
                return expect(s, c == '\n', STRICT_SIZE, bad_chunk);
        case STRICT_TRAILER_START:
                s->state = c == '\r' ? STRICT_END_LF : STRICT_TRAILER;
                return c == '\n' || c == ' ' || c == '\t' ? bad_line : NULL;
        case STRICT_TRAILER:
                if (c == '\r')
                        s->state = STRICT_TRAILER_LF;
                return c == '\n' ? bad_line : NULL;
        case STRICT_TRAILER_LF:
                return expect(s, c == '\n', STRICT_TRAILER_START, bad_line);
        default: /* STRICT_END_LF */
                return expect(s, c == '\n', STRICT_DONE, bad_line);
        }
}

const char *
strict_check(struct strict *s, const uint8_t *data, size_t n)
{
        for (size_t i = 0; i < n && s->state != STRICT_DONE; i++) {
                const char *reason;

                if (s->state == STRICT_DATA) {
                        size_t skipped = s->left < n - i ? (size_t)s->left : n - i;

                        s->left -= skipped;
                        i += skipped - 1;
                        if (s->left == 0)
                                s->state = STRICT_DATA_CR;
                        continue;
                }
                reason = s->state < STRICT_SIZE ? check_head(s, data[i]) : check_chunks(s, data[i]);
                if (reason != NULL)
                        return reason;
        }
        return NULL;
}
