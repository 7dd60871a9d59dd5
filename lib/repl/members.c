#include "repl/members.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repl/small_file.h"

#define FILE_NAME "members"
#define LINE_SIZE (LEASE_HOSTNAME_SIZE + LEASE_URL_SIZE + 64)

void
members_release(struct members *m)
{
        free(m->v);
        *m = (struct members){ 0 };
}

static void
remove_at(struct members *m, unsigned i)
{
        m->n--;
        memmove(&m->v[i], &m->v[i + 1], (m->n - i) * sizeof *m->v);
}

bool
members_joined(struct members *m, const char *advertise_url)
{
        for (unsigned i = 0; i < m->n; i++)
                if (strcmp(m->v[i].advertise_url, advertise_url) == 0) {
                        remove_at(m, i);
                        return true;
                }
        return false;
}

bool
members_left(struct members *m, const struct member *who)
{
        if (who->advertise_url[0] == '\0')
                return false;
        if (m->v == NULL && (m->v = calloc(MEMBERS_MAX, sizeof *m->v)) == NULL)
                return false;
        (void)members_joined(m, who->advertise_url);
        if (m->n == MEMBERS_MAX)
                m->n--;
        memmove(&m->v[1], &m->v[0], m->n * sizeof *m->v);
        m->v[0] = *who;
        m->n++;
        return true;
}

bool
members_forget(struct members *m, int64_t now_ms)
{
        unsigned before = m->n;

        for (unsigned i = m->n; i-- > 0;)
                if (now_ms - m->v[i].seen_ms > MEMBERS_FORGET_MS)
                        remove_at(m, i);
        return m->n != before;
}

/* --- the file: SEEN ID URL HOSTNAME on each line --- */

/* A line, or a word, ends where others begin. */
static bool
is_writable(const struct member *who)
{
        return who->advertise_url[strcspn(who->advertise_url, " \n")] == '\0' &&
               strchr(who->hostname, '\n') == NULL;
}

char *
members_format(const struct members *m, size_t *ret_n)
{
        char *text = malloc(m->n * LINE_SIZE + 1);
        size_t n = 0;

        for (unsigned i = 0; text != NULL && i < m->n; i++)
                if (is_writable(&m->v[i]))
                        n += (size_t)sprintf(text + n, "%" PRId64 " %016" PRIx64 " %s %s\n",
                                             m->v[i].seen_ms, m->v[i].boot_id, m->v[i].advertise_url,
                                             m->v[i].hostname);
        *ret_n = n;
        return text;
}

static bool
parse(char *line, struct member *ret)
{
        char *rest, *id = NULL, *url = NULL, *end;
        const char *seen = strtok_r(line, " ", &rest);

        if (seen != NULL)
                id = strtok_r(NULL, " ", &rest);
        if (id != NULL)
                url = strtok_r(NULL, " ", &rest);
        if (url == NULL || strlen(url) >= sizeof ret->advertise_url ||
            strlen(rest) >= sizeof ret->hostname)
                return false;
        ret->seen_ms = strtoll(seen, &end, 10);
        ret->boot_id = strtoull(id, NULL, 16);
        strcpy(ret->advertise_url, url);
        strcpy(ret->hostname, rest);
        return *end == '\0';
}

int
members_load(struct members *m, const struct os *os, const char *data_dir, struct err *e)
{
        size_t size = MEMBERS_MAX * LINE_SIZE + 1;
        char *text = malloc(size), *line, *rest;
        int n = text == NULL ? -ENOMEM : small_file_read_all(os, data_dir, FILE_NAME, text, size, e);
        struct members turned = { 0 };
        struct member who = { 0 };

        for (line = n > 0 ? strtok_r(text, "\n", &rest) : NULL; line != NULL;
             line = strtok_r(NULL, "\n", &rest))
                if (parse(line, &who))
                        (void)members_left(&turned, &who);
        for (unsigned i = 0; i < turned.n; i++) /* the newest came first */
                (void)members_left(m, &turned.v[i]);
        members_release(&turned);
        free(text);
        return n < 0 ? n : 0;
}

int
members_save(const struct os *os, const char *data_dir, const char *text, size_t n, struct err *e)
{
        return small_file_write(os, data_dir, FILE_NAME, text, n, e);
}
