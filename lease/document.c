#include "lease/document.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *
document_text(const json_t *root, const char *name)
{
        const char *text = json_string_value(json_object_get(root, name));

        return text != NULL ? text : "";
}

uint64_t
document_number(const json_t *root, const char *name)
{
        json_int_t v = json_integer_value(json_object_get(root, name));

        return v > 0 ? (uint64_t)v : 0;
}

static void
document_set_number(json_t *root, const char *name, uint64_t value)
{
        json_object_set_new(root, name, json_integer((json_int_t)value));
}

bool
document_parse(const char *text, size_t n, json_t **ret)
{
        json_t *root = n <= DOCUMENT_MAX_SIZE ? json_loadb(text, n, 0, NULL) : NULL;
        uint64_t revision = document_number(root, "revision");

        if (json_is_object(root) && document_number(root, "term") <= LEASE_TERM_MAX && revision != 0 &&
            revision <= LEASE_TERM_MAX) {
                *ret = root;
                return true;
        }
        json_decref(root);
        return false;
}

ssize_t
document_format(json_t *root, char ret[DOCUMENT_MAX_SIZE])
{
        size_t n;

        document_set_number(root, "revision", document_number(root, "revision") + 1);
        n = json_dumpb(root, ret, DOCUMENT_MAX_SIZE - 1, JSON_INDENT(1) | JSON_SORT_KEYS);
        if (n == 0 || n >= DOCUMENT_MAX_SIZE)
                return n == 0 ? -ENOMEM : -EMSGSIZE;
        ret[n++] = '\n';
        return (ssize_t)n;
}

/* --- reading --- */

bool
document_is_held_by(const json_t *root, const char *session)
{
        return session[0] != '\0' && strcmp(document_text(root, "session"), session) == 0;
}

static int
parse_document_holder(const json_t *root, struct lease_state *ret, struct err *e)
{
        char text[KV_VALUE_SIZE];
        size_t n = json_dumpb(json_object_get(root, "holder"), text, sizeof text, JSON_COMPACT);
        int r = n > sizeof text ? err_set(e, -EMSGSIZE, "holder")
                                : kv_parse(text, n, document_number(root, "holder-revision"), ret, e);

        if (r == 0)
                snprintf(ret->session, sizeof ret->session, "%s", document_text(root, "session"));
        return r;
}

int
document_read(const json_t *root, bool is_alive, struct lease_state *ret, struct err *e)
{
        struct lease_state holder = { .has_holder = false };
        uint64_t released = document_number(root, "released");
        int r = 0;

        if (json_object_get(root, "holder") != NULL)
                r = parse_document_holder(root, &holder, e);
        if (r < 0)
                return r;
        if (holder.has_holder && !is_alive) {
                holder.has_holder = false;
                if (released == 0 && !json_is_true(json_object_get(root, "is-raised")))
                        released = holder.term;
        }
        if (holder.has_holder)
                *ret = holder;
        ret->index = document_number(root, "revision");
        ret->key_index = document_number(root, "holder-revision");
        ret->last_term = document_number(root, "term");
        ret->last_term_index = document_number(root, "term-revision");
        ret->released_index = document_number(root, "released-revision");
        ret->is_raised = json_is_true(json_object_get(root, "is-raised"));
        ret->is_released = !ret->has_holder && released != 0 && released == ret->last_term;
        return 0;
}

/* --- changes --- */

static int
fail_unlike_seen(struct err *e)
{
        return err_text(e, E_NOT_PRIMARY, "the lease is not as it was seen");
}

static bool
is_term_as_seen(const json_t *root, const struct lease_state *seen)
{
        return document_number(root, "term") == seen->last_term &&
               document_number(root, "term-revision") == seen->last_term_index;
}

static bool
is_free_as_seen(const json_t *root, bool is_alive, const struct lease_state *seen)
{
        bool has_holder = json_object_get(root, "holder") != NULL;

        return document_number(root, "holder-revision") == seen->key_index &&
               document_number(root, "released-revision") == seen->released_index &&
               (!has_holder || !is_alive) && is_term_as_seen(root, seen);
}

static int
set_document_holder(json_t *root, const char *value, const char *session, uint64_t mark, struct err *e)
{
        json_t *holder = json_loads(value, 0, NULL);

        if (holder == NULL)
                return err_set(e, -ENOMEM, "lease");
        json_object_set_new(root, "holder", holder);
        json_object_set_new(root, "session", json_string(session));
        document_set_number(root, "holder-revision", mark);
        return 0;
}

static void
set_document_term(json_t *root, uint64_t term, uint64_t mark)
{
        document_set_number(root, "term", term);
        document_set_number(root, "term-revision", mark);
        json_object_del(root, "released");
        json_object_del(root, "released-revision");
        json_object_del(root, "is-raised");
}

int
document_lock(json_t *root, bool is_alive, const struct kv_lock *what, uint64_t mark, struct err *e)
{
        bool may = what->token != NULL
                           ? document_is_held_by(root, what->token) && is_term_as_seen(root, what->seen)
                           : is_free_as_seen(root, is_alive, what->seen);
        int r = may ? set_document_holder(root, what->value, what->session, mark, e)
                    : fail_unlike_seen(e);

        if (r < 0)
                return r;
        set_document_term(root, what->term, mark);
        json_object_set_new(root, "heir", json_string(what->session));
        return 0;
}

int
document_write_value(json_t *root, const char *session, const char *value, uint64_t mark, struct err *e)
{
        if (!document_is_held_by(root, session))
                return err_text(e, E_NOT_PRIMARY, "the lease was taken away, or given to another node");
        return set_document_holder(root, value, session, mark, e);
}

void
document_free_key(json_t *root, uint64_t term, uint64_t mark)
{
        json_object_del(root, "holder");
        json_object_del(root, "session");
        json_object_del(root, "lock-file");
        json_object_del(root, "holder-revision");
        if (term != 0) {
                document_set_number(root, "released", term);
                document_set_number(root, "released-revision", mark);
        }
}

int
document_break(json_t *root, const struct lease_state *seen, uint64_t mark, struct err *e)
{
        if (json_object_get(root, "holder") == NULL ||
            document_number(root, "holder-revision") != seen->renewal)
                return fail_unlike_seen(e);
        document_free_key(root, seen->term, mark);
        return 0;
}

int
document_raise_term(json_t *root, bool is_alive, const struct lease_state *seen, uint64_t term,
                    uint64_t mark, struct err *e)
{
        if (!is_free_as_seen(root, is_alive, seen))
                return fail_unlike_seen(e);
        document_free_key(root, 0, mark);
        set_document_term(root, term, mark);
        json_object_set_new(root, "is-raised", json_true());
        document_set_number(root, "released-revision", mark);
        return 0;
}
