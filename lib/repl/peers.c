#include "repl/peers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ltx/checksum.h"
#include "repl/small_file.h"

#define FILE_NAME "peers"

void
peers_init(struct peers *p)
{
        *p = (struct peers){ 0 };
        pthread_mutex_init(&p->lock, NULL);
}

void
peers_release(struct peers *p)
{
        free(p->urls);
        pthread_mutex_destroy(&p->lock);
}

static uint64_t
checksum(const struct peers *p)
{
        uint64_t sum = 0;

        for (unsigned i = 0; i < p->n; i++)
                sum = ltx_crc64(sum, p->urls[i], strlen(p->urls[i]) + 1);
        return sum | 1;
}

/* Each node that comes has all lists sent again, and to keep one is a sync on the lease's thread. */
static bool
is_new_list(struct peers *p)
{
        uint64_t before = p->kept;

        p->kept = checksum(p);
        return p->kept != before;
}

static void
forget_former(struct peers *p, const char *url)
{
        for (unsigned i = 0; i < p->n_former; i++)
                if (strcmp(p->former[i], url) == 0) {
                        p->n_former--;
                        memmove(&p->former[i], &p->former[i + 1], (p->n_former - i) * sizeof *p->former);
                        return;
                }
}

static void
keep_former(struct peers *p, const char *url)
{
        forget_former(p, url);
        if (p->n_former == PEERS_FORMER_MAX)
                p->n_former--;
        memmove(&p->former[1], &p->former[0], p->n_former * sizeof *p->former);
        memcpy(p->former[0], url, sizeof *p->former);
        p->n_former++;
}

static void
begin_list(struct peers *p)
{
        while (p->n > 0)
                keep_former(p, p->urls[--p->n]);
}

static bool
add_locked(struct peers *p, const char *url, bool is_first, bool is_last)
{
        if (p->urls == NULL)
                p->urls = calloc(PEERS_MAX, sizeof *p->urls);
        if (p->urls == NULL)
                return false;
        if (is_first)
                begin_list(p);
        /* A space ends an entry of the file. */
        if (url[0] != '\0' && strchr(url, ' ') == NULL && p->n < PEERS_MAX) {
                snprintf(p->urls[p->n++], LEASE_URL_SIZE, "%s", url);
                forget_former(p, url);
        }
        return is_last && is_new_list(p);
}

bool
peers_add(struct peers *p, const char *url, bool is_first, bool is_last)
{
        bool is_whole;

        pthread_mutex_lock(&p->lock);
        is_whole = add_locked(p, url, is_first, is_last);
        pthread_mutex_unlock(&p->lock);
        return is_whole;
}

peer_url *
peers_copy(struct peers *p, unsigned *ret_n)
{
        peer_url *copy = NULL;

        pthread_mutex_lock(&p->lock);
        *ret_n = p->n + p->n_former;
        if (*ret_n > 0)
                copy = malloc(*ret_n * sizeof *copy);
        if (copy != NULL && p->n > 0)
                memcpy(copy, p->urls, p->n * sizeof *copy);
        if (copy != NULL)
                memcpy(copy + p->n, p->former, p->n_former * sizeof *copy);
        pthread_mutex_unlock(&p->lock);
        if (copy == NULL)
                *ret_n = 0;
        return copy;
}

/* --- the file: a URL on each line --- */

int
peers_save(struct peers *p, const struct os *os, const char *data_dir, struct err *e)
{
        unsigned n;
        peer_url *urls = peers_copy(p, &n);
        char *text = malloc(n * (LEASE_URL_SIZE + 1) + 1);
        size_t at = 0;
        int r;

        if (text == NULL) {
                free(urls);
                return err_set(e, -ENOMEM, "save the other nodes");
        }
        for (unsigned i = 0; i < n; i++)
                at += (size_t)sprintf(text + at, "%s\n", urls[i]);
        r = small_file_write(os, data_dir, FILE_NAME, text, at, e);
        if (r < 0) { /* the next list is to be tried again, whichever it is */
                pthread_mutex_lock(&p->lock);
                p->kept = 0;
                pthread_mutex_unlock(&p->lock);
        }
        free(text);
        free(urls);
        return r;
}

int
peers_load(struct peers *p, const struct os *os, const char *data_dir, struct err *e)
{
        size_t size = (PEERS_MAX + PEERS_FORMER_MAX) * (LEASE_URL_SIZE + 1) + 1;
        char *text = malloc(size), *line, *rest;
        int n = text == NULL ? -ENOMEM : small_file_read_all(os, data_dir, FILE_NAME, text, size, e);
        bool is_first = true;

        for (line = n > 0 ? strtok_r(text, "\n", &rest) : NULL; line != NULL;
             line = strtok_r(NULL, "\n", &rest)) {
                (void)peers_add(p, line, is_first, true); /* of which the last is the file's */
                is_first = false;
        }
        free(text);
        return n < 0 ? n : 0;
}
