/* lib/base/bearer.h - "Authorization: Bearer TOKEN" against the token that is wanted. */
#ifndef LITEFS_BASE_BEARER_H
#define LITEFS_BASE_BEARER_H

#include <stdbool.h>

/* Whether @header, the value of Authorization or NULL, gives @token; any does when @token is NULL or "". Takes a
 * time that tells nothing about the token. */
bool bearer_matches(const char *header, const char *token);

#endif
