/* lib/s3/aws_keys.h - the keys that requests are signed with, from where AWS's own tools look for them.
 *
 * In this order, the first place that is set up: what is given (configuration, environment); a web identity; a profile of the
 * shared credentials file, or of the configuration file; a container's service; the machine's metadata service. The last three kinds run out and are asked
 * for again in time. Requests go out without proxies, each for a few seconds at the most. One thread at a time. */
#ifndef LITEFS_S3_AWS_KEYS_H
#define LITEFS_S3_AWS_KEYS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"

/* "" is not set. Borrowed by those who keep them. */
struct aws_sources {
        const char *access_key_id, *secret_access_key, *session_token; /* given */
        const char *role_arn, *web_identity_token_file, *role_session_name, *sts_endpoint, *region;
        const char *profile; /* of these files; "" is "default" */
        const char *container_relative_uri, *container_full_uri, *container_token, *container_token_file;
        const char *metadata_endpoint;
        bool is_metadata_disabled;
        char credentials_file[1024], config_file[1024]; /* which may not be there */
        const atomic_bool *is_cancelled; /* looked at before each request; NULL: nobody cancels */
        int64_t end_ms;                  /* aws_keys_find()'s own */
};

struct aws_keys {
        char access_key_id[256], secret_access_key[256], session_token[4096];
        int64_t expires_ms; /* wall clock; 0: never */
};

/* Whether keys can be had without asking another service: given ones, or the file's. */
bool aws_keys_are_at_hand(const struct aws_sources *s);
/* Whether any place is set up, but for the metadata service, of which only asking tells. */
bool aws_keys_are_set_up(const struct aws_sources *s);
/* E_CONFIG: a place is set up wrongly, cannot be read, or there is none; -EACCES: it says no; else what came of asking, which
 * may go well the next time, as -ETIMEDOUT, when services have not answered within @timeout_ms (0: for as long as each may
 * take). Never E_NOT_FOUND or -EEXIST: those would be taken for an object's. */
int aws_keys_find(const struct aws_sources *s, int64_t timeout_ms, struct aws_keys *ret, struct err *e);
/* The region of the profile in the configuration file, "" when it has none. 0, E_CONFIG: the file cannot be read. */
int aws_find_region(const struct aws_sources *s, char *ret, size_t size, struct err *e);
/* Whether they run out within some minutes of @now_ms, or there are none yet. */
bool aws_keys_are_due(const struct aws_keys *k, int64_t now_ms);
bool aws_keys_are_valid(const struct aws_keys *k, int64_t now_ms);

/* --- for tests --- */
/* The keys of [profile] in an ini file's text: 1, 0 when there is no such profile, or E_FORMAT when it has no keys. */
int aws_keys_parse_file(const char *text, const char *profile, struct aws_keys *ret);

#endif
