/* lib/base/token.h - the token that nodes show each other (http.token, http.token-file).
 *
 * One that comes from a file is read again when the file has changed; while that cannot be used, what was read before
 * stays. Any thread. */
#ifndef LITEFS_BASE_TOKEN_H
#define LITEFS_BASE_TOKEN_H

#include <stdbool.h>

#include "base/err.h"

#define TOKEN_SIZE 513 /* with its end */

struct token;

/* E_CONFIG: longer than that, or other than printable ASCII. "" is no token. */
int token_new(const char *text, struct token **ret, struct err *e);
/* The first line of the file, which may not be empty. */
int token_open(const char *path, struct token **ret, struct err *e);
/* "": there is none, as for NULL. */
void token_get(struct token *t, char ret[TOKEN_SIZE]);
/* Whether @header, the value of Authorization or NULL, gives it: bearer_matches. */
bool token_matches(struct token *t, const char *header);
/* Whether @header, "Bearer TOKEN" or NULL, gives @token; any does when @token is NULL or "". Takes a time that tells nothing
 * about the token. */
bool bearer_matches(const char *header, const char *token);
void token_free(struct token *t); /* NULL is fine */

#endif
