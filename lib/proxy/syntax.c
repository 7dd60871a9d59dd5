#include "proxy/syntax.h"

#define MAX_DIGITS 15

static const char bad_line[] = "a line does not end with CR LF";
static const char bad_fold[] = "a field is folded over several lines";
static const char bad_chunk[] = "a chunk of the body has a bad length";

void
syntax_expect_chunks(struct syntax *s)
{
        *s = (struct syntax){ .state = SYNTAX_SIZE };
}

static const char *
expect(struct syntax *s, bool is_right, enum syntax_state next, const char *otherwise)
{
        s->state = next;
        return is_right ? NULL : otherwise;
}

static const char *
check_head(struct syntax *s, uint8_t c)
{
        switch (s->state) {
        case SYNTAX_BEFORE:
                s->state = c == '\r' ? SYNTAX_BEFORE_LF : SYNTAX_LINE;
                return c == '\n' ? bad_line : NULL;
        case SYNTAX_BEFORE_LF:
                return expect(s, c == '\n', SYNTAX_BEFORE, bad_line);
        case SYNTAX_LINE_START:
                if (c == ' ' || c == '\t')
                        return bad_fold;
                s->state = c == '\r' ? SYNTAX_HEAD_LF : SYNTAX_LINE;
                return c == '\n' ? bad_line : NULL;
        case SYNTAX_LINE:
                if (c == '\r')
                        s->state = SYNTAX_LINE_LF;
                return c == '\n' ? bad_line : NULL;
        case SYNTAX_LINE_LF:
                return expect(s, c == '\n', SYNTAX_LINE_START, bad_line);
        default: /* SYNTAX_HEAD_LF */
                return expect(s, c == '\n', SYNTAX_DONE, bad_line);
        }
}

int
syntax_hex_value(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        c = (char)(c | 0x20);
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static const char *
check_size(struct syntax *s, uint8_t c)
{
        int digit = syntax_hex_value((char)c);

        if (digit >= 0 && s->n_digits < MAX_DIGITS) {
                s->left = s->left << 4 | (uint64_t)digit;
                s->n_digits++;
                return NULL;
        }
        s->state = c == '\r' ? SYNTAX_SIZE_LF : SYNTAX_EXTENSION;
        return s->n_digits > 0 && (c == '\r' || c == ';') ? NULL : bad_chunk;
}

/* All but the bytes of the chunks themselves. */
static const char *
check_chunks(struct syntax *s, uint8_t c)
{
        switch (s->state) {
        case SYNTAX_SIZE:
                return check_size(s, c);
        case SYNTAX_EXTENSION:
                if (c == '\r')
                        s->state = SYNTAX_SIZE_LF;
                return c == '\n' ? bad_line : NULL;
        case SYNTAX_SIZE_LF:
                s->n_digits = 0;
                return expect(s, c == '\n', s->left > 0 ? SYNTAX_DATA : SYNTAX_TRAILER_START, bad_line);
        case SYNTAX_DATA_CR:
                return expect(s, c == '\r', SYNTAX_DATA_LF, bad_chunk);
        case SYNTAX_DATA_LF:
                return expect(s, c == '\n', SYNTAX_SIZE, bad_chunk);
        case SYNTAX_TRAILER_START:
                s->state = c == '\r' ? SYNTAX_END_LF : SYNTAX_TRAILER;
                return c == '\n' || c == ' ' || c == '\t' ? bad_line : NULL;
        case SYNTAX_TRAILER:
                if (c == '\r')
                        s->state = SYNTAX_TRAILER_LF;
                return c == '\n' ? bad_line : NULL;
        case SYNTAX_TRAILER_LF:
                return expect(s, c == '\n', SYNTAX_TRAILER_START, bad_line);
        default: /* SYNTAX_END_LF */
                return expect(s, c == '\n', SYNTAX_DONE, bad_line);
        }
}

const char *
syntax_check(struct syntax *s, const uint8_t *data, size_t n)
{
        for (size_t i = 0; i < n && s->state != SYNTAX_DONE; i++) {
                const char *reason;

                if (s->state == SYNTAX_DATA) {
                        size_t skipped = s->left < n - i ? (size_t)s->left : n - i;

                        s->left -= skipped;
                        i += skipped - 1;
                        if (s->left == 0)
                                s->state = SYNTAX_DATA_CR;
                        continue;
                }
                reason = s->state < SYNTAX_SIZE ? check_head(s, data[i]) : check_chunks(s, data[i]);
                if (reason != NULL)
                        return reason;
        }
        return NULL;
}
