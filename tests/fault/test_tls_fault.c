/* links: litefs_tls PkgConfig::OPENSSL -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup */
/* Memory runs out in the middle of TLS, ours or OpenSSL's: a session is made or is not, and what it says is true. */
#include <check.h>
#include <openssl/crypto.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "tests/lib/certs.h"
#include "tests/lib/malloc_fault.h"
#include "tests/lib/tls_pair.h"
#include "tests/lib/tmpdir.h"
#include "tests/lib/run.h"

#define STEP 41 /* of the calls that fail: all of them take minutes */
#define LIE 1

static char *dir;
static char paths[5][PATH_MAX];

/* OpenSSL's memory comes from here, where it can be made to fail. */
static void *
get(size_t n, const char *where, int line)
{
        (void)where;
        (void)line;
        return malloc(n);
}

static void *
get_again(void *p, size_t n, const char *where, int line)
{
        (void)where;
        (void)line;
        return realloc(p, n);
}

static void
put(void *p, const char *where, int line)
{
        (void)where;
        (void)line;
        free(p);
}

static int
make_contexts(struct tls_context **client, struct tls_context **server)
{
        struct tls_options c = { false, paths[1], paths[2], paths[0] };
        struct tls_options s = { true, paths[3], paths[4], paths[0] };
        int r = tls_context_new(&c, client);

        if (r == 0)
                r = tls_context_new(&s, server);
        return r;
}

static int
say(struct tls_pair *p, const uint8_t *data, size_t n)
{
        int r;

        tls_pair_talk(p, 5000);
        if (!tls_is_open(p->client.tls) || !tls_is_open(p->server.tls))
                return -1;
        r = tls_pair_write(&p->client, data, n);
        if (r == 0)
                tls_pair_talk(p, 5000);
        tls_end(p->server.tls);
        tls_pair_collect(&p->server);
        tls_pair_talk(p, 5000);
        return r < 0 ? r : p->client.result < 0 ? p->client.result : p->server.result;
}

/* A whole life, as far as it goes: 0, an error, or LIE. Nothing of check's, which needs memory. */
static int
live(void)
{
        static uint8_t data[20000];
        struct tls_context *client = NULL, *server = NULL;
        struct tls_pair p = { 0 };
        bool is_true;
        int r = make_contexts(&client, &server);

        if (r == 0)
                r = tls_pair_open(&p, client, server, "localhost", NULL);
        if (r == 0)
                r = say(&p, data, sizeof data);
        is_true = p.server.n_got <= sizeof data &&
                  (r < 0 || (p.server.n_got == sizeof data && tls_is_ended(p.client.tls))) &&
                  (p.server.n_got == 0 || memcmp(p.server.got, data, p.server.n_got) == 0);
        tls_pair_close(&p);
        tls_context_free(client);
        tls_context_free(server);
        return is_true ? r : LIE;
}

static void
fail_each(bool is_for_ever)
{
        uint64_t n_failed = 1, n_bad = 0, n = 1;

        ck_assert_int_eq(live(), 0);
        for (; n_failed > 0; n += STEP) {
                int r;

                malloc_fault_arm(n, is_for_ever);
                r = live();
                n_failed = malloc_fault_disarm();
                n_bad += r < 0;
                ck_assert_int_ne(r, LIE);
                ck_assert(n_failed > 0 || r == 0);
        }
        ck_assert_uint_gt(n_bad, 10);
        ck_assert_int_eq(live(), 0);
        printf("%lu places, %lu of them ended it\n", (unsigned long)n / STEP, (unsigned long)n_bad);
}

START_TEST(the_nth_allocation_fails)
{
        fail_each(false);
}
END_TEST

START_TEST(all_allocations_from_the_nth_on_fail)
{
        fail_each(true);
}
END_TEST

int
main(void)
{
        static const char *const names[] = { "ca.pem", "a.pem", "a.key", "b.pem", "b.key" };
        TCase *tc = tcase_create("tls_fault");
        int status;

        if (CRYPTO_set_mem_functions(get, get_again, put) != 1)
                return 1;
        log_configure(&(struct log_config){ .fd = open("/dev/null", O_WRONLY) });
        dir = tmpdir_make();
        certs_make(dir, "ca", NULL, NULL);
        certs_make(dir, "a", "ca", "DNS:a");
        certs_make(dir, "b", "ca", "DNS:localhost");
        for (int i = 0; i < 5; i++)
                snprintf(paths[i], sizeof paths[i], "%s/%s", dir, names[i]);
        tcase_set_timeout(tc, 300);
        tcase_add_test(tc, the_nth_allocation_fails);
        tcase_add_test(tc, all_allocations_from_the_nth_on_fail);
        status = run_tests("tls_fault", tc);
        tmpdir_remove(dir);
        return status;
}
