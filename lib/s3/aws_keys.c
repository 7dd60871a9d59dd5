#include "s3/aws_keys.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/monotonic.h"
#include "base/os.h"
#include "base/rfc3339.h"
#include "net/sigv4.h"
#include "s3/s3.h"

#define ANSWER_MAX (64u << 10)
#define FILE_MAX (256u << 10)
#define ASK_MS 5000
#define METADATA_CONNECT_MS 1000 /* on a machine that has no such service nobody answers */
#define EARLY_MS 300000          /* before they run out */

/* A link-local address that only a container's own host answers at. */
#define CONTAINER_ORIGIN "http://169.254.170.2"
#define METADATA_ORIGIN "http://169.254.169.254"

bool
aws_keys_are_due(const struct aws_keys *k, int64_t now_ms)
{
        return k->access_key_id[0] == '\0' || (k->expires_ms != 0 && k->expires_ms - EARLY_MS <= now_ms);
}

bool
aws_keys_are_valid(const struct aws_keys *k, int64_t now_ms)
{
        return k->access_key_id[0] != '\0' && (k->expires_ms == 0 || k->expires_ms > now_ms);
}

static bool
copy_key(char *to, size_t size, const char *from)
{
        return snprintf(to, size, "%s", from != NULL ? from : "") < (int)size;
}

static bool
set_keys(struct aws_keys *k, const char *id, const char *secret, const char *token)
{
        return copy_key(k->access_key_id, sizeof k->access_key_id, id) &&
               copy_key(k->secret_access_key, sizeof k->secret_access_key, secret) &&
               copy_key(k->session_token, sizeof k->session_token, token) &&
               k->access_key_id[0] != '\0' && k->secret_access_key[0] != '\0';
}

/* --- files --- */

/* NULL is fine. */
static void
free_secret(char *text)
{
        if (text != NULL)
                explicit_bzero(text, strlen(text));
        free(text);
}

/* The whole file with a NUL behind it, without white space at its end: *@ret is the caller's. A negative errno. */
static int
read_key_file(const char *path, char **ret)
{
        char *text = malloc(FILE_MAX);
        ssize_t n = text == NULL ? -ENOMEM
                                 : os_read_file(os_host(), "backup:keys", path, text, FILE_MAX - 1);

        if (n == FILE_MAX - 1) { /* and there may be more */
                explicit_bzero(text, FILE_MAX);
                n = -EFBIG;
        }
        if (n < 0) {
                free(text);
                return (int)n;
        }
        while (n > 0 && strchr(" \t\r\n", text[n - 1]) != NULL)
                n--;
        text[n] = '\0';
        *ret = text;
        return 0;
}

/* @variable names it. */
static int
read_token(const char *variable, const char *path, char **ret, struct err *e)
{
        int r = read_key_file(path, ret);

        return r < 0 ? err_text(e, E_CONFIG, "%s: cannot read %s: %s", variable, path, err_code_text(r))
                     : 0;
}

static char *
trim_word(char *s)
{
        size_t n;

        s += strspn(s, " \t\r");
        n = strlen(s);
        while (n > 0 && strchr(" \t\r", s[n - 1]) != NULL)
                s[--n] = '\0';
        return s;
}

/* What a section of an ini file says. */
struct aws_profile {
        bool is_there, fits;
        bool is_led_on; /* to a role, a command or a sign-in, which are not followed */
        struct aws_keys keys;
        char region[64];
};

static void
take_file_line(struct aws_profile *p, const char *name, const char *value)
{
        static const char *const elsewhere[] = { "role_arn", "credential_process", "sso_session",
                                                 "sso_start_url", "web_identity_token_file" };
        struct aws_keys *k = &p->keys;

        if (strcmp(name, "aws_access_key_id") == 0)
                p->fits &= copy_key(k->access_key_id, sizeof k->access_key_id, value);
        if (strcmp(name, "aws_secret_access_key") == 0)
                p->fits &= copy_key(k->secret_access_key, sizeof k->secret_access_key, value);
        if (strcmp(name, "aws_session_token") == 0)
                p->fits &= copy_key(k->session_token, sizeof k->session_token, value);
        if (strcmp(name, "region") == 0)
                p->fits &= copy_key(p->region, sizeof p->region, value);
        for (size_t i = 0; i < sizeof elsewhere / sizeof elsewhere[0]; i++)
                p->is_led_on |= strcmp(name, elsewhere[i]) == 0;
}

/* "[@profile]", or "[profile @profile]" if @is_config. -ENOMEM only. */
static int
parse_profile(const char *text, const char *profile, bool is_config, struct aws_profile *ret)
{
        size_t n = strlen(text);
        char *copy = strdup(text), *rest = copy, *line;
        bool is_ours = false;

        *ret = (struct aws_profile){ .fits = true };
        if (copy == NULL)
                return -ENOMEM;
        while ((line = strsep(&rest, "\n")) != NULL) {
                bool is_nested = line[0] == ' ' || line[0] == '\t';
                char *s = trim_word(line), *value = strchr(s, '='), *end = strchr(s, ']');

                if (s[0] == '[' && end != NULL) {
                        *end = '\0';
                        s = trim_word(s + 1);
                        if (is_config && strncmp(s, "profile ", 8) == 0)
                                s = trim_word(s + 8);
                        else if (is_config && strcmp(s, "default") != 0)
                                s = end; /* "[services x]" and the like */
                        is_ours = strcmp(s, profile) == 0;
                        ret->is_there |= is_ours;
                } else if (is_ours && s[0] != '#' && s[0] != ';' && value != NULL &&
                           !(is_config && is_nested)) {
                        *value = '\0';
                        take_file_line(ret, trim_word(s), trim_word(value + 1));
                }
        }
        explicit_bzero(copy, n); /* it is in pieces */
        free(copy);
        return 0;
}

static bool
has_profile_keys(const struct aws_profile *p)
{
        return p->fits && p->keys.access_key_id[0] != '\0' && p->keys.secret_access_key[0] != '\0';
}

int
aws_keys_parse_file(const char *text, const char *profile, struct aws_keys *ret)
{
        struct aws_profile p;
        int r = parse_profile(text, profile, false, &p);

        *ret = p.keys;
        if (r == 0 && p.is_there)
                r = has_profile_keys(&p) ? 1 : E_FORMAT;
        explicit_bzero(&p, sizeof p);
        return r;
}

static const char *
profile_name(const struct aws_sources *s)
{
        return s->profile[0] != '\0' ? s->profile : "default";
}

/* 0, and *@ret is NULL when there is none; or E_CONFIG. What is there and cannot be read may be what was meant: no other place is
 * taken for it. */
static int
read_profiles(const char *path, const char *what, const char *variable, char **ret, struct err *e)
{
        int r = path[0] != '\0' ? read_key_file(path, ret) : -ENOENT;

        if (r == 0)
                return 0;
        *ret = NULL;
        if (r == -ENOENT || r == -ENOTDIR)
                return 0;
        return err_text(e, E_CONFIG,
                        "cannot read the %s file %s: %s: mend that, or name another one with %s", what,
                        path, err_code_text(r), variable);
}

static int
read_config_profile(const struct aws_sources *s, struct aws_profile *ret, struct err *e)
{
        char *text;
        int r = read_profiles(s->config_file, "configuration", "AWS_CONFIG_FILE", &text, e);

        *ret = (struct aws_profile){ .fits = true };
        if (r == 0 && text != NULL && parse_profile(text, profile_name(s), true, ret) < 0)
                r = err_set(e, -ENOMEM, "%s", s->config_file);
        free_secret(text);
        return r;
}

int
aws_find_region(const struct aws_sources *s, char *ret, size_t size, struct err *e)
{
        struct aws_profile p;
        int r = read_config_profile(s, &p, e);

        if (r == 0)
                copy_key(ret, size, p.region);
        explicit_bzero(&p, sizeof p);
        return r;
}

/* As find_in_file, which has found nothing in the other one. */
static int
find_in_config(const struct aws_sources *s, struct aws_keys *ret, struct err *e)
{
        struct aws_profile p;
        int r = read_config_profile(s, &p, e);

        if (r < 0)
                return r;
        if (has_profile_keys(&p)) {
                *ret = p.keys;
                r = 1;
        } else if (p.is_led_on) {
                r = err_text(
                        e, E_CONFIG,
                        "profile %s of %s leads on to a role, a command or a sign-in, which litefs does not "
                        "follow: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name another profile with "
                        "AWS_PROFILE",
                        profile_name(s), s->config_file);
        } else if (p.keys.access_key_id[0] != '\0' || p.keys.secret_access_key[0] != '\0') {
                r = err_text(e, E_CONFIG,
                             "%s: profile %s has no aws_access_key_id and aws_secret_access_key",
                             s->config_file, profile_name(s));
        } else if (!p.is_there && s->profile[0] != '\0') {
                r = err_text(e, E_CONFIG, "AWS_PROFILE is %s, and neither %s nor %s has such a profile",
                             s->profile,
                             s->credentials_file[0] != '\0' ? s->credentials_file : "a credentials file",
                             s->config_file[0] != '\0' ? s->config_file : "a configuration file");
        }
        explicit_bzero(&p, sizeof p);
        return r;
}

/* 1, 0: there are no such files or no such profile, or E_CONFIG. */
static int
find_in_file(const struct aws_sources *s, struct aws_keys *ret, struct err *e)
{
        char *text;
        int r = read_profiles(s->credentials_file, "credentials", "AWS_SHARED_CREDENTIALS_FILE", &text,
                              e);

        if (r == 0 && text != NULL)
                r = aws_keys_parse_file(text, profile_name(s), ret);
        free_secret(text);
        if (r == E_FORMAT)
                return err_text(e, E_CONFIG,
                                "%s: profile %s has no aws_access_key_id and aws_secret_access_key",
                                s->credentials_file, profile_name(s));
        return r == 0 ? find_in_config(s, ret, e) : r;
}

bool
aws_keys_are_at_hand(const struct aws_sources *s)
{
        struct aws_keys k;
        bool is_there = s->access_key_id[0] != '\0' && s->secret_access_key[0] != '\0';

        if (!is_there && s->role_arn[0] == '\0')
                is_there = find_in_file(s, &k, NULL) != 0;
        return is_there;
}

bool
aws_keys_are_set_up(const struct aws_sources *s)
{
        return aws_keys_are_at_hand(s) ||
               (s->role_arn[0] != '\0' && s->web_identity_token_file[0] != '\0') ||
               s->container_relative_uri[0] != '\0' || s->container_full_uri[0] != '\0';
}

/* --- services --- */

struct question {
        const char *method, *url;
        const char *headers[3];
        const char *body;
        int64_t connect_ms;
};

/* E_CONFIG and -EACCES are its word; after any other it may be asked again. */
static int
code_of_service_answer(int status)
{
        if (status == 401 || status == 403)
                return -EACCES;
        return status >= 400 && status < 500 && status != 408 && status != 429 ? E_CONFIG : -EIO;
}

/* The answer to a 200, for free_secret; or NULL. */
static char *
ask_service(const struct aws_sources *s, const struct question *q, struct err *e)
{
        struct http_client_options options = { 0 };
        struct http_request rq = { .method = q->method,
                                   .url = q->url,
                                   .timeout_ms = ASK_MS,
                                   .connect_timeout_ms = q->connect_ms,
                                   .max_response_size = ANSWER_MAX,
                                   .headers = q->headers,
                                   .body = q->body,
                                   .body_size = q->body != NULL ? strlen(q->body) : 0 };
        struct http_response rs = { 0 };
        struct http_client *http = NULL;
        char *answer = NULL;
        int64_t left_ms = s->end_ms != 0 ? s->end_ms - monotonic_ms() : ASK_MS;
        int r = 0;

        if (left_ms <= 0)
                r = err_set(e, -ETIMEDOUT, "%s", q->url);
        else if (left_ms < ASK_MS)
                rq.timeout_ms = left_ms;
        if (s->is_cancelled != NULL && atomic_load(s->is_cancelled))
                r = err_set(e, -ECANCELED, "%s", q->url);
        if (r == 0)
                r = http_client_new(&options, &http, e);
        if (r == 0)
                r = http_client_do(http, &rq, &rs, e);
        if (r == 0 && rs.status == 200)
                answer = strndup(rs.body, rs.body_size);
        else if (r == 0)
                err_text(e, code_of_service_answer(rs.status), "%s answers with status %d", q->url,
                         rs.status);
        http_client_free(http);
        return answer;
}

/* What a container's and a machine's service answer with. */
static int
take_json(const char *text, const char *url, struct aws_keys *ret, struct err *e)
{
        json_t *o = json_loads(text, 0, NULL);
        const char *expires = json_string_value(json_object_get(o, "Expiration"));
        bool is_right = set_keys(ret, json_string_value(json_object_get(o, "AccessKeyId")),
                                 json_string_value(json_object_get(o, "SecretAccessKey")),
                                 json_string_value(json_object_get(o, "Token")));

        if (expires != NULL && rfc3339_parse(expires, &ret->expires_ms) < 0)
                is_right = false;
        json_decref(o);
        return is_right ? 0 : err_text(e, E_FORMAT, "%s: the answer has no keys", url);
}

static int
ask_for_json(const struct aws_sources *s, const struct question *q, struct aws_keys *ret, struct err *e)
{
        struct err why = ERR_INIT;
        char *answer = ask_service(s, q, &why);
        int r;

        if (answer == NULL) {
                if (e != NULL)
                        *e = why;
                return why.code != 0 ? why.code : -ENOMEM;
        }
        r = take_json(answer, q->url, ret, e);
        free_secret(answer);
        return r;
}

/* Keys and the token are told to nobody by mistake: the container's host, this machine, or by TLS. */
static bool
may_be_asked(const char *url)
{
        static const char *const hosts[] = {
                "https://",       "http://127.0.0.1",      "http://localhost",     "http://[::1]",
                CONTAINER_ORIGIN, "http://169.254.170.23", "http://[fd00:ec2::23]"
        };

        const char *authority = strstr(url, "://");

        /* "http://127.0.0.1:x@host" is a user's name at another host. */
        if (authority == NULL || memchr(authority + 3, '@', strcspn(authority + 3, "/")) != NULL)
                return false;
        for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
                size_t n = strlen(hosts[i]);

                if (strncmp(url, hosts[i], n) == 0 && (i == 0 || url[n] == ':' || url[n] == '/'))
                        return true;
        }
        return false;
}

/* Where its keys are to be asked for. Errors do not repeat it: a password may be in it. */
static int
make_container_url(const struct aws_sources *s, char *ret, size_t size, struct err *e)
{
        const char *relative = s->container_relative_uri;
        bool is_relative = relative[0] != '\0';

        if (is_relative && relative[0] != '/')
                return err_text(e, E_CONFIG,
                                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: want a path, from / on");
        if (snprintf(ret, size, "%s%s", is_relative ? CONTAINER_ORIGIN : "",
                     is_relative ? relative : s->container_full_uri) < (int)size &&
            may_be_asked(ret))
                return 0;
        return err_text(e, E_CONFIG,
                        "AWS_CONTAINER_CREDENTIALS_%s_URI: want https://, or this machine or "
                        "169.254.170.2 or .23, without a user's name and shorter than %zu bytes",
                        is_relative ? "RELATIVE" : "FULL", size);
}

static int
ask_container(const struct aws_sources *s, struct aws_keys *ret, struct err *e)
{
        char url[1024], header[8300], *token = NULL;
        const char *word;
        struct question q = { .method = "GET", .url = url };
        int r = make_container_url(s, url, sizeof url, e);

        if (r == 0 && s->container_token_file[0] != '\0')
                r = read_token("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", s->container_token_file, &token,
                               e);
        if (r < 0)
                return r;
        word = token != NULL ? token : s->container_token;
        if (word[0] != '\0')
                q.headers[0] = header;
        if (snprintf(header, sizeof header, "authorization: %s", word) >= (int)sizeof header)
                r = err_text(e, E_CONFIG, "the container's authorization token is too long");
        else
                r = ask_for_json(s, &q, ret, e);
        free_secret(token);
        explicit_bzero(header, sizeof header);
        return r;
}

/* Whether the machine has no keys to give, or its service was not to be had at this moment. */
static int
explain_metadata(const struct err *why, struct err *e)
{
        if (why->code == E_CONFIG || why->code == -EACCES)
                return err_text(
                        e, why->code,
                        "no credentials: none are configured, and this machine's role has none: %s",
                        why->text);
        return err_text(
                e, why->code != 0 ? why->code : -ENOMEM,
                "no credentials: none are configured, and the machine's metadata service does not "
                "answer: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                "access-key-id and secret-access-key in litefs.yml, if it is not to have them: %s",
                why->text);
}

/* IMDSv2: a token, the role, its keys. */
static int
ask_metadata(const struct aws_sources *s, struct aws_keys *ret, struct err *e)
{
        const char *origin = s->metadata_endpoint[0] != '\0' ? s->metadata_endpoint : METADATA_ORIGIN;
        char url[1024], header[600], *token, *role;
        struct question q = { .method = "PUT",
                              .url = url,
                              .headers = { "x-aws-ec2-metadata-token-ttl-seconds: 21600" },
                              .connect_ms = METADATA_CONNECT_MS };
        struct err why = ERR_INIT;
        size_t n = strlen(origin);
        int r;

        while (n > 0 && origin[n - 1] == '/')
                n--;
        snprintf(url, sizeof url, "%.*s/latest/api/token", (int)n, origin);
        token = ask_service(s, &q, &why);
        if (token == NULL)
                return explain_metadata(&why, e);
        snprintf(header, sizeof header, "x-aws-ec2-metadata-token: %.500s", token);
        free_secret(token);
        q.method = "GET";
        q.headers[0] = header;
        snprintf(url, sizeof url, "%.*s/latest/meta-data/iam/security-credentials/", (int)n, origin);
        role = ask_service(s, &q, &why);
        if (role != NULL) {
                role[strcspn(role, "\r\n")] = '\0';
                snprintf(url, sizeof url, "%.*s/latest/meta-data/iam/security-credentials/%.256s",
                         (int)n, origin, role);
                r = ask_for_json(s, &q, ret, e);
        } else {
                r = explain_metadata(&why, e);
        }
        free(role);
        explicit_bzero(header, sizeof header);
        return r;
}

/* --- web identity --- */

static int
take_sts_answer(const char *text, const char *url, struct aws_keys *k, struct err *e)
{
        char expires[64] = "";
        size_t n = strlen(text);

        if (!s3_xml_find(text, n, "AccessKeyId", k->access_key_id, sizeof k->access_key_id) ||
            !s3_xml_find(text, n, "SecretAccessKey", k->secret_access_key,
                         sizeof k->secret_access_key) ||
            !s3_xml_find(text, n, "SessionToken", k->session_token, sizeof k->session_token) ||
            !s3_xml_find(text, n, "Expiration", expires, sizeof expires) ||
            k->access_key_id[0] == '\0' || k->secret_access_key[0] == '\0' ||
            rfc3339_parse(expires, &k->expires_ms) < 0)
                return err_text(e, E_FORMAT, "%s: the answer has no keys", url);
        return 0;
}

/* @body: as a form. False: it does not fit. */
static bool
make_sts_form(const struct aws_sources *s, const char *token, char *body, size_t size)
{
        const char *session = s->role_session_name[0] != '\0' ? s->role_session_name : "litefs";
        char arn[2048], name[512], *encoded = malloc(3 * strlen(token) + 1);
        bool fits = encoded != NULL && sigv4_encode(token, false, encoded, 3 * strlen(token) + 1) &&
                    sigv4_encode(s->role_arn, false, arn, sizeof arn) &&
                    sigv4_encode(session, false, name, sizeof name) &&
                    snprintf(body, size,
                             "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=%s"
                             "&RoleSessionName=%s&WebIdentityToken=%s",
                             arn, name, encoded) < (int)size;

        if (encoded != NULL)
                explicit_bzero(encoded, 3 * strlen(token) + 1);
        free(encoded);
        return fits;
}

static int
ask_sts(const struct aws_sources *s, struct aws_keys *ret, struct err *e)
{
        char url[600], body[32768], *token = NULL, *answer = NULL;
        struct question q = { .method = "POST",
                              .url = url,
                              .headers = { "content-type: application/x-www-form-urlencoded" },
                              .body = body };
        struct err why = ERR_INIT;
        int r = read_token("AWS_WEB_IDENTITY_TOKEN_FILE", s->web_identity_token_file, &token, e);

        if (r < 0)
                return r;
        if (s->sts_endpoint[0] != '\0')
                snprintf(url, sizeof url, "%.500s", s->sts_endpoint);
        else if (s->region[0] != '\0')
                snprintf(url, sizeof url, "https://sts.%.60s.amazonaws.com/", s->region);
        else
                snprintf(url, sizeof url, "https://sts.amazonaws.com/");
        if (!make_sts_form(s, token, body, sizeof body)) {
                r = err_set(e, -ENAMETOOLONG, "the web identity of %s", s->web_identity_token_file);
        } else {
                answer = ask_service(s, &q, &why);
                r = answer != NULL ? take_sts_answer(answer, url, ret, e)
                                   : err_text(e, why.code != 0 ? why.code : -ENOMEM, "role %s: %s",
                                              s->role_arn, why.text);
        }
        free_secret(token);
        free_secret(answer);
        explicit_bzero(body, sizeof body);
        return r;
}

/* --- the order --- */

static int
find_keys(const struct aws_sources *s, struct aws_keys *ret, struct err *e)
{
        int r;

        *ret = (struct aws_keys){ 0 };
        if (s->access_key_id[0] != '\0' || s->secret_access_key[0] != '\0')
                return set_keys(ret, s->access_key_id, s->secret_access_key, s->session_token)
                               ? 0
                               : err_text(e, E_CONFIG,
                                          "a key without its secret, or a secret without its key: set "
                                          "both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
        if (s->role_arn[0] != '\0' && s->web_identity_token_file[0] != '\0')
                return ask_sts(s, ret, e);
        r = find_in_file(s, ret, e);
        if (r != 0)
                return r < 0 ? r : 0;
        if (s->container_relative_uri[0] != '\0' || s->container_full_uri[0] != '\0')
                return ask_container(s, ret, e);
        if (s->is_metadata_disabled)
                return err_text(e, E_CONFIG,
                                "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                                "access-key-id and secret-access-key in litefs.yml");
        return ask_metadata(s, ret, e);
}

int
aws_keys_find(const struct aws_sources *s, int64_t timeout_ms, struct aws_keys *ret, struct err *e)
{
        struct aws_sources timed = *s;

        timed.end_ms = timeout_ms > 0 ? monotonic_ms() + timeout_ms : 0;
        return find_keys(&timed, ret, e);
}
