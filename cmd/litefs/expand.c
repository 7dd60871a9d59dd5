#include "cmd/litefs/expand.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct out {
        char *p;
        size_t n, capacity;
        bool failed;
};

static void
put(struct out *o, const char *s, size_t n)
{
        if (o->failed)
                return;
        if (o->n + n + 1 > o->capacity) {
                size_t want = (o->n + n + 1) * 2;
                char *p = realloc(o->p, want);

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

/* One side of a comparison: quoted text or a variable. */
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

static bool
put_comparison(struct out *o, const struct env *env, const char *s, size_t n)
{
        const char *a, *b;
        size_t a_n, b_n;

        for (size_t i = 0; i + 1 < n; i++) {
                bool is_equal, wants_equal = s[i] == '=';

                if ((s[i] != '=' && s[i] != '!') || s[i + 1] != '=')
                        continue;
                if (!operand(env, s, i, &a, &a_n) || !operand(env, s + i + 2, n - i - 2, &b, &b_n))
                        return false;
                is_equal = a_n == b_n && memcmp(a, b, a_n) == 0;
                if (is_equal == wants_equal)
                        put(o, "true", 4);
                else
                        put(o, "false", 5);
                return true;
        }
        return false;
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
                        put(o, v, strlen(v));
                else
                        put(o, s + i + 2, n - i - 2);
                return;
        }
        v = value_of(env, s, n);
        put(o, v, strlen(v));
}

/* What follows a dollar sign; returns where the text goes on. */
static const char *
put_variable(struct out *o, const struct env *env, const char *s)
{
        const char *end, *v;

        if (*s == '{') {
                end = strchr(s, '}');
                if (end == NULL)
                        return s + 1; /* as Go: a bad syntax eats the two characters */
                put_braced(o, env, s + 1, (size_t)(end - s - 1));
                return end + 1;
        }
        if (*s != '\0' && (strchr("*#$@!?-", *s) != NULL || isdigit((unsigned char)*s)))
                return s + 1;
        for (end = s; isalnum((unsigned char)*end) || *end == '_'; end++)
                ;
        if (end == s) {
                put(o, "$", 1);
                return s;
        }
        v = value_of(env, s, (size_t)(end - s));
        put(o, v, strlen(v));
        return end;
}

char *
expand_text(const char *text, const char *(*lookup)(void *arg, const char *name), void *arg)
{
        struct env env = { lookup, arg };
        struct out o = { 0 };

        put(&o, "", 0);
        while (*text != '\0') {
                size_t n = strcspn(text, "$");

                put(&o, text, n);
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
