#include "repl/term_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repl/small_file.h"

#define CLAIMS_FILE "term-claim"
#define CLAIMS_FILE_SIZE (TERM_CLAIMS_MAX * (LEASE_SESSION_SIZE + 24))

int
term_file_load(const struct os *os, const char *data_dir, uint64_t *ret, struct err *e)
{
        char buf[32];
        int r = small_file_read(os, data_dir, "term", buf, sizeof buf, e);

        *ret = r > 0 ? strtoull(buf, NULL, 10) : 0;
        return r < 0 ? r : 0;
}

int
term_file_save(const struct os *os, const char *data_dir, uint64_t term, struct err *e)
{
        char buf[32];
        int n = snprintf(buf, sizeof buf, "%" PRIu64 "\n", term);

        return small_file_write(os, data_dir, "term", buf, (size_t)n, e);
}

void
term_claims_add(struct term_claims *c, uint64_t term, const char *session)
{
        if (c->n == TERM_CLAIMS_MAX)
                c->n--;
        memmove(&c->v[1], &c->v[0], c->n * sizeof c->v[0]);
        c->v[0].term = term;
        snprintf(c->v[0].session, sizeof c->v[0].session, "%s", session);
        c->n++;
}

bool
term_claims_has(const struct term_claims *c, uint64_t term, const char *session)
{
        for (unsigned i = 0; i < c->n; i++)
                if (c->v[i].term == term && session[0] != '\0' && strcmp(c->v[i].session, session) == 0)
                        return true;
        return false;
}

uint64_t
term_claims_last(const struct term_claims *c)
{
        uint64_t last = 0;

        for (unsigned i = 0; i < c->n; i++)
                if (c->v[i].term > last)
                        last = c->v[i].term;
        return last;
}

void
term_claims_prune(struct term_claims *c, uint64_t term)
{
        unsigned n = 0;

        for (unsigned i = 0; i < c->n; i++)
                if (c->v[i].term > term)
                        c->v[n++] = c->v[i];
        c->n = n;
}

int
term_claims_load(const struct os *os, const char *data_dir, struct term_claims *ret, struct err *e)
{
        char buf[CLAIMS_FILE_SIZE], *line, *rest, *end;
        int n = small_file_read_all(os, data_dir, CLAIMS_FILE, buf, sizeof buf, e);

        ret->n = 0;
        for (line = n > 0 ? strtok_r(buf, "\n", &rest) : NULL; line != NULL && ret->n < TERM_CLAIMS_MAX;
             line = strtok_r(NULL, "\n", &rest)) {
                struct term_claim *claim = &ret->v[ret->n++];

                claim->term = strtoull(line, &end, 10);
                snprintf(claim->session, sizeof claim->session, "%s", *end == ':' ? end + 1 : "");
        }
        return n < 0 ? n : 0;
}

int
term_claims_save(const struct os *os, const char *data_dir, const struct term_claims *c, struct err *e)
{
        char buf[CLAIMS_FILE_SIZE] = "";
        size_t n = 0;

        for (unsigned i = 0; i < c->n; i++)
                n += (size_t)sprintf(buf + n, "%" PRIu64 ":%s\n", c->v[i].term, c->v[i].session);
        return small_file_write(os, data_dir, CLAIMS_FILE, buf, n, e);
}
