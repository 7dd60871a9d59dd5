/* lib/proxy/pattern.h - paths of requests, and the patterns of `passthrough` and `always-forward`.
 *
 * A pattern is literal text in which * stands for any text, slashes included; it has to match the whole path. */
#ifndef LITEFS_PROXY_PATTERN_H
#define LITEFS_PROXY_PATTERN_H

#include <stdbool.h>

#include "proxy/head.h"

/* @pattern is a string, @path decoded. */
bool pattern_matches(const char *pattern, struct slice path);
/* The path of a request's target, without query, %XX decoded, into @buf of at least target.n bytes. What is no
 * %XX stays as it is. */
struct slice pattern_path(struct slice target, char *buf);

#endif
