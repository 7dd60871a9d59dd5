#include "cmd/litefs/expand.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define EXPANDED_MAX \
        (16u << 20) /* a file of variables that hold long texts is a mistake, not a configuration */

struct out {
        char *p;
        size_t n, capacity;
        bool failed;
};

static void
put_expanded(struct out *o, const char *s, size_t n)
{
        if (o->failed)
                return;
        if (o->n + n + 1 > o->capacity) {
                size_t want = (o->n + n + 1) * 2;
                char *p = o->n + n > EXPANDED_MAX ? NULL : realloc(o->p, want);

                if (p == NULL) {
                        o->failed = true;
                        return;
                }
                o->p = p;
                o->capacity = want;
        }
        memcpy(o->p + o->n, s, n);
        o->n += n;
        o->p[o->n] = '\0';
}

struct env {
        const char *(*lookup)(void *arg, const char *name);
        void *arg;
        const char *
                last_brace; /* in the text: no search beyond it, or "${${${" would take quadratic time */
};

/* The value of the variable whose name is @name[0..n), or "". */
static const char *
value_of(const struct env *env, const char *name, size_t n)
{
        char buf[256];
        const char *v;

        if (n >= sizeof buf)
                return "";
        memcpy(buf, name, n);
        buf[n] = '\0';
        v = env->lookup(env->arg, buf);
        return v != NULL ? v : "";
}

static void
put_value(struct out *o, const struct env *env, const char *name, size_t n)
{
        const char *v = value_of(env, name, n);

        put_expanded(o, v, strlen(v));
}

static bool
is_word(const char *s, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (!isalnum((unsigned char)s[i]) && s[i] != '_')
                        return false;
        return n > 0;
}

static void
trim(const char **s, size_t *n)
{
        while (*n > 0 && isspace((unsigned char)(*s)[0]))
                (*s)++, (*n)--;
        while (*n > 0 && isspace((unsigned char)(*s)[*n - 1]))
                (*n)--;
}

/* The right side of a comparison: quoted text or a variable. */
static bool
operand(const struct env *env, const char *s, size_t n, const char **ret, size_t *ret_n)
{
        trim(&s, &n);
        if (n >= 2 && (s[0] == '\'' || s[0] == '"') && s[n - 1] == s[0]) {
                *ret = s + 1;
                *ret_n = n - 2;
                return true;
        }
        if (!is_word(s, n))
                return false;
        *ret = value_of(env, s, n);
        *ret_n = strlen(*ret);
        return true;
}

/* "VARIABLE == operand" and "VARIABLE != operand"; false when @s is neither. */
static bool
put_comparison(struct out *o, const struct env *env, const char *s, size_t n)
{
        const char *left, *right, *name = s;
        size_t left_n, right_n, at = 0;
        bool is_equal;

        while (at < n && s[at] != '=' && s[at] != '!')
                at++;
        if (at + 1 >= n || s[at + 1] != '=')
                return false;
        left_n = at;
        trim(&name, &left_n);
        if (!is_word(name, left_n) || !operand(env, s + at + 2, n - at - 2, &right, &right_n))
                return false;
        left = value_of(env, name, left_n);
        left_n = strlen(left);
        is_equal = left_n == right_n && memcmp(left, right, left_n) == 0;
        if (is_equal == (s[at] == '='))
                put_expanded(o, "true", 4);
        else
                put_expanded(o, "false", 5);
        return true;
}

static void
put_braced(struct out *o, const struct env *env, const char *s, size_t n)
{
        const char *v;

        trim(&s, &n);
        if (put_comparison(o, env, s, n))
                return;
        for (size_t i = 0; i + 1 < n; i++) {
                if (s[i] != ':' || s[i + 1] != '-' || !is_word(s, i))
                        continue;
                v = value_of(env, s, i);
                if (v[0] != '\0')
                        put_expanded(o, v, strlen(v));
                else
                        put_expanded(o, s + i + 2, n - i - 2);
                return;
        }
        put_value(o, env, s, n);
}

/* What follows a dollar sign; returns where the text goes on. */
static const char *
put_variable(struct out *o, const struct env *env, const char *s)
{
        const char *end;

        if (*s == '{') {
                end = env->last_brace != NULL && s < env->last_brace ? strchr(s, '}') : NULL;
                if (end == NULL)
                        return s + 1; /* as Go: a bad syntax eats the two characters */
                put_braced(o, env, s + 1, (size_t)(end - s - 1));
                return end + 1;
        }
        if (*s != '\0' && (strchr("*#$@!?-", *s) != NULL || isdigit((unsigned char)*s))) {
                put_value(o, env, s, 1);
                return s + 1;
        }
        for (end = s; isalnum((unsigned char)*end) || *end == '_'; end++)
                ;
        if (end == s) {
                put_expanded(o, "$", 1);
                return s;
        }
        put_value(o, env, s, (size_t)(end - s));
        return end;
}

char *
expand_text(const char *text, const char *(*lookup)(void *arg, const char *name), void *arg)
{
        struct env env = { lookup, arg, strrchr(text, '}') };
        struct out o = { 0 };

        put_expanded(&o, "", 0);
        while (*text != '\0') {
                size_t n = strcspn(text, "$");

                put_expanded(&o, text, n);
                text += n;
                if (*text == '$')
                        text = put_variable(&o, &env, text + 1);
        }
        if (o.failed) {
                free(o.p);
                return NULL;
        }
        return o.p;
}
