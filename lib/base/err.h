/* lib/base/err.h - errors flow up as an int, with the words in a `struct err`.
 *
 * A function that can fail returns 0 (or a count) on success, else a negative errno or one of the
 * domain codes below, which lie under -10000 and so never meet an errno. When it takes a
 * `struct err *`, that is the last argument, may be NULL, is untouched on success, and on failure
 * says what failed and why. Each level that adds knowledge puts a prefix before the text.
 * No allocation: an error can be reported when memory is gone. */
#ifndef LITEFS_BASE_ERR_H
#define LITEFS_BASE_ERR_H

#include <stdarg.h>

#define ERR_CODES(X) \
        X(E_CHECKSUM, -10001, "checksum mismatch") \
        X(E_FORMAT, -10002, "malformed data") \
        X(E_POS_MISMATCH, -10003, "position mismatch") \
        X(E_NOT_PRIMARY, -10004, "this node is not the primary") \
        X(E_FENCED, -10005, "the lease of this node can no longer be proved") \
        X(E_NOT_FOUND, -10006, "not found") \
        X(E_CORRUPT_DB, -10007, "the database does not match its log") \
        X(E_CONFIG, -10008, "invalid configuration") \
        X(E_BUSY_DB, -10009, "the database is in use") \
        X(E_UNCONFIRMED, -10010, "committed, but the lease ended before that could be said") \
        X(E_NOT_HELD, -10011, "the halt lock is not held") \
        X(E_BUSY, -10012, "the database is busy for a moment")

enum err_code {
#define ERR_ENUM(name, value, text) name = value,
        ERR_CODES(ERR_ENUM)
#undef ERR_ENUM
};

#define ERR_TEXT_SIZE 480

struct err {
        int code;
        char text[ERR_TEXT_SIZE];
};

#define ERR_INIT \
        { \
                0, "" \
        }

/* The words for @code, an errno or a domain code, negative. Never NULL; static storage. */
const char *err_code_text(int code);

/* Sets @e to "<formatted>: <words of code>" and returns @code, so that it can be returned. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Like err_set without the words of the code: the formatted text says it all. */
int err_text(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "<formatted>: " before what @e says and returns @e's code (0 when @e is NULL: pass the code
 * on yourself). */
int err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
