/* links: litefs_tls */
/* Sessions in memory: two of ours, so that what one side says is what the other hears. */
#include <check.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/certs.h"
#include "tests/lib/tls_pair.h"
#include "tests/lib/tmpdir.h"
#include "tests/lib/run.h"

static char *dir;

static const char *
file(const char *name)
{
        static char paths[8][PATH_MAX];
        static int n;
        char *path = paths[n++ % 8];

        if (name == NULL)
                return NULL;
        snprintf(path, PATH_MAX, "%s/%s", dir, name);
        return path;
}

static struct tls_context *
context(bool is_server, const char *cert, const char *key, const char *ca)
{
        struct tls_options o = { is_server, file(cert), file(key), file(ca) };
        struct tls_context *t;

        ck_assert_int_eq(tls_context_new(&o, &t), 0);
        return t;
}

/* Who trusts whom. */
struct setting {
        const char *client_cert, *client_key, *client_ca;
        const char *server_cert, *server_key, *server_ca;
        const char *host;
};

static const struct setting mutual = { "a.pem", "a.key",  "ca.pem",   "b.pem",
                                       "b.key", "ca.pem", "localhost" };

static void
open_pair(struct tls_pair *p, const struct setting *s)
{
        struct tls_context *client = context(false, s->client_cert, s->client_key, s->client_ca);
        struct tls_context *server = context(true, s->server_cert, s->server_key, s->server_ca);
        struct err e = ERR_INIT;

        ck_assert_msg(tls_pair_open(p, client, server, s->host, &e) == 0, "%s", e.text);
        tls_context_free(client); /* a session keeps what it needs */
        tls_context_free(server);
}

static void
ck_open(struct tls_pair *p)
{
        ck_assert_msg(p->client.result == 0 && tls_is_open(p->client.tls), "client: %s",
                      p->client.err.text);
        ck_assert_msg(p->server.result == 0 && tls_is_open(p->server.tls), "server: %s",
                      p->server.err.text);
}

START_TEST(bytes_arrive_whatever_the_slices)
{
        static const size_t slices[] = { 1, 7, 100, 5000, 65536 };
        static const size_t sizes[] = { 1, 2, 100, 16384, 16385, 100000, 262144 };
        static uint8_t data[262144];
        struct tls_pair p;

        for (size_t i = 0; i < sizeof data; i++)
                data[i] = (uint8_t)(i * 31 >> 3);
        open_pair(&p, &mutual);
        tls_pair_talk(&p, slices[_i]);
        ck_open(&p);
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                p.client.n_got = p.server.n_got = 0;
                ck_assert_int_eq(tls_pair_write(&p.client, data, sizes[i]), 0);
                ck_assert_int_eq(tls_pair_write(&p.server, data, sizes[i]), 0);
                tls_pair_talk(&p, slices[_i]);
                ck_open(&p);
                ck_assert_uint_eq(p.client.n_got, sizes[i]);
                ck_assert_uint_eq(p.server.n_got, sizes[i]);
                ck_assert_int_eq(memcmp(p.client.got, data, sizes[i]), 0);
                ck_assert_int_eq(memcmp(p.server.got, data, sizes[i]), 0);
        }
        tls_pair_close(&p);
}
END_TEST

START_TEST(the_end_is_told_and_the_other_way_goes_on)
{
        struct tls_pair p;

        open_pair(&p, &mutual);
        tls_pair_talk(&p, 1000);
        ck_assert(!tls_is_ended(p.server.tls));
        ck_assert_int_eq(tls_pair_write(&p.client, "last", 4), 0);
        tls_end(p.client.tls);
        tls_pair_collect(&p.client);
        tls_pair_talk(&p, 1000);
        ck_assert(tls_is_ended(p.server.tls) && p.server.result == 0);
        ck_assert_uint_eq(p.server.n_got, 4);
        ck_assert_int_eq(tls_pair_write(&p.server, "answer", 6), 0);
        tls_pair_talk(&p, 1000);
        ck_assert_uint_eq(p.client.n_got, 6);
        ck_assert_int_eq(tls_pair_write(&p.client, "more", 4), -EPROTO);
        tls_pair_close(&p);
}
END_TEST

static const struct {
        struct setting s;
        const char *client, *server; /* words of the one that refuses; NULL: not looked at */
} strangers[] = {
        { { NULL, NULL, "ca.pem", "b.pem", "b.key", NULL, "localhost" }, "", "" },
        { { "a.pem", "a.key", "ca.pem", "b.pem", "b.key", "ca.pem", "127.0.0.1" }, "", "" },
        { { NULL, NULL, "ca.pem", "b.pem", "b.key", "ca.pem", "localhost" },
          NULL,
          "it has no certificate" },
        { { "z.pem", "z.key", "ca.pem", "b.pem", "b.key", "ca.pem", "localhost" },
          "does not know the authority",
          "is refused" },
        { { "a.pem", "a.key", "other.pem", "b.pem", "b.key", "ca.pem", "localhost" },
          "is refused",
          "does not know the authority" },
        { { "a.pem", "a.key", "ca.pem", "z.pem", "z.key", "ca.pem", "localhost" }, "is refused", NULL },
        { { "a.pem", "a.key", "ca.pem", "b.pem", "b.key", "ca.pem", "elsewhere" },
          "not for elsewhere",
          NULL },
        { { "a.pem", "a.key", "ca.pem", "b.pem", "b.key", "ca.pem", "127.0.0.2" },
          "not for 127.0.0.2",
          NULL },
        { { "a.pem", "a.key", "ca.pem", "b.pem", "b.key", "ca.pem", "::1" }, "not for ::1", NULL },
};

START_TEST(only_those_who_are_trusted_get_in)
{
        struct tls_pair p;
        bool is_good = strangers[_i].client != NULL && strangers[_i].client[0] == '\0';

        open_pair(&p, &strangers[_i].s);
        tls_pair_talk(&p, 1000);
        if (is_good) {
                ck_open(&p);
        } else {
                ck_assert(p.client.result == -EPROTO || p.server.result == -EPROTO);
                ck_assert(strangers[_i].client == NULL || strangers[_i].server == NULL ||
                          !tls_is_open(p.server.tls));
                if (strangers[_i].client != NULL)
                        ck_assert_msg(strstr(p.client.err.text, strangers[_i].client) != NULL,
                                      "client: %s", p.client.err.text);
                if (strangers[_i].server != NULL)
                        ck_assert_msg(strstr(p.server.err.text, strangers[_i].server) != NULL,
                                      "server: %s", p.server.err.text);
        }
        tls_pair_close(&p);
}
END_TEST

START_TEST(plain_http_is_answered)
{
        static const char request[] = "GET /info HTTP/1.1\r\nHost: x\r\n\r\n";
        struct tls_pair p;

        open_pair(&p, &mutual);
        memcpy(p.client.wire, request, sizeof request - 1);
        p.client.n_wire = sizeof request - 1;
        tls_pair_talk(&p, 1000);
        ck_assert_int_eq(p.server.result, -EPROTO);
        ck_assert_str_eq(p.server.err.text, "it sent plain HTTP, not TLS");
        ck_assert_str_eq(p.client.err.text, "the other side does not speak TLS");
        tls_pair_close(&p);
}
END_TEST

/* One byte of what is sent is another: nobody believes anything that was not said. */
START_TEST(damage_is_noticed)
{
        static const char said[] = "nothing but this";
        unsigned seed = (unsigned)_i * 7919u;
        struct tls_pair p;

        open_pair(&p, &mutual);
        for (int round = 0; round < 4; round++) {
                struct tls_side *side = round % 2 == 0 ? &p.client : &p.server;
                struct tls_side *other = round % 2 == 0 ? &p.server : &p.client;

                if (side->n_wire > 0 && round == _i % 4)
                        side->wire[rand_r(&seed) % side->n_wire] ^= (uint8_t)(1u << (_i % 8));
                if (tls_is_open(side->tls) && side->result == 0)
                        (void)tls_pair_write(side, said, sizeof said);
                for (size_t at = 0; at < side->n_wire && other->result == 0; at++) {
                        size_t got;

                        other->result = tls_input(other->tls, side->wire + at, 1,
                                                  other->got + other->n_got, &got, &other->err);
                        other->n_got += got;
                        tls_pair_collect(other);
                }
                side->n_wire = 0;
                for (size_t at = 0; at < other->n_got; at++)
                        ck_assert_int_eq(other->got[at], (uint8_t)said[at % sizeof said]);
        }
        tls_pair_close(&p);
}
END_TEST

START_TEST(noise_is_refused)
{
        unsigned seed = (unsigned)_i;
        struct tls_pair p;

        open_pair(&p, &mutual);
        p.client.n_wire = 1 + (size_t)rand_r(&seed) % 40000;
        for (size_t i = 0; i < p.client.n_wire; i++)
                p.client.wire[i] = (uint8_t)(rand_r(&seed) >> 8);
        if (_i % 2 == 0)
                memcpy(p.client.wire, "\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03", 11);
        tls_pair_talk(&p, 16384);
        ck_assert(!tls_is_open(p.server.tls));
        ck_assert_uint_eq(p.server.n_got, 0);
        tls_pair_close(&p);
}
END_TEST

/* --- files --- */

static void
copy(const char *from, const char *to)
{
        char command[2 * PATH_MAX + 32];

        snprintf(command, sizeof command, "cp %s %s.new && mv %s.new %s", file(from), file(to), file(to),
                 file(to));
        ck_assert_int_eq(system(command), 0);
}

static int
try_pair(struct tls_context *client, struct tls_context *server)
{
        struct tls_pair p;
        int r;

        ck_assert_int_eq(tls_pair_open(&p, client, server, "localhost", NULL), 0);
        tls_pair_talk(&p, 5000);
        r = p.client.result;
        tls_pair_close(&p);
        return r;
}

START_TEST(files_that_change_are_read_again)
{
        struct tls_context *client = context(false, "a.pem", "a.key", "ca.pem"), *server;

        copy("b.pem", "s.pem");
        copy("b.key", "s.key");
        server = context(true, "s.pem", "s.key", "ca.pem");
        ck_assert_int_eq(try_pair(client, server), 0);
        copy("z.pem", "s.pem"); /* without its key: what was read before stays */
        ck_assert_int_eq(try_pair(client, server), 0);
        copy("z.key", "s.key");
        ck_assert_int_eq(try_pair(client, server), -EPROTO);
        unlink(file("s.key"));
        copy("b.pem", "s.pem");
        ck_assert_int_eq(try_pair(client, server), -EPROTO);
        copy("b.key", "s.key");
        ck_assert_int_eq(try_pair(client, server), 0);
        tls_context_free(client);
        tls_context_free(server);
}
END_TEST

static const struct {
        const char *cert, *key, *ca, *words;
} bad_files[] = {
        { "none.pem", "b.key", NULL, "none.pem: No such file" },
        { "b.pem", "none.key", NULL, "none.key: No such file" },
        { "b.pem", "b.key", "none.pem", "none.pem: " },
        { "b.key", "b.key", NULL, "b.key: not a certificate" },
        { "b.pem", "b.pem", NULL, "b.pem: not a key" },
        { "b.pem", "a.key", NULL, "a.key: not a key" },
        { "b.pem", "b.key", "b.key", "b.key: not a file of certificates" },
};

START_TEST(files_that_are_wrong_are_told)
{
        struct tls_context *t = context(true, bad_files[_i].cert, bad_files[_i].key, bad_files[_i].ca);
        struct err e = ERR_INIT;
        struct tls *session;

        ck_assert_int_eq(tls_context_load(t, &e), E_CONFIG);
        ck_assert_msg(strstr(e.text, bad_files[_i].words) != NULL, "%s", e.text);
        ck_assert_int_eq(tls_new(t, NULL, &session, NULL), -EPROTO);
        tls_context_free(t);
}
END_TEST

START_TEST(a_pin_is_what_curl_takes)
{
        char want[TLS_PIN_SIZE] = "sha256//", pin[TLS_PIN_SIZE], command[PATH_MAX + 256];
        struct err e = ERR_INIT;
        FILE *f;

        snprintf(command, sizeof command,
                 "openssl x509 -in %s -pubkey -noout | openssl pkey -pubin -outform der | "
                 "openssl dgst -sha256 -binary | openssl base64",
                 file("a.pem"));
        f = popen(command, "r");
        ck_assert_ptr_nonnull(f);
        ck_assert_ptr_nonnull(fgets(want + 8, sizeof want - 8, f));
        ck_assert_int_eq(pclose(f), 0);
        want[strcspn(want, "\n")] = '\0';
        ck_assert_int_eq(tls_pin(file("a.pem"), pin, &e), 0);
        ck_assert_str_eq(pin, want);
        ck_assert_int_eq(tls_pin(file("none.pem"), pin, &e), -ENOENT);
        ck_assert_int_eq(tls_pin(file("a.key"), pin, &e), E_CONFIG);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("tls");
        int status;

        dir = tmpdir_make();
        certs_make(dir, "ca", NULL, NULL);
        certs_make(dir, "other", NULL, NULL);
        certs_make(dir, "a", "ca", "DNS:a");
        certs_make(dir, "b", "ca", "DNS:localhost,IP:127.0.0.1");
        certs_make(dir, "z", "other", "DNS:localhost");
        tcase_add_loop_test(tc, bytes_arrive_whatever_the_slices, 0, 5);
        tcase_add_test(tc, the_end_is_told_and_the_other_way_goes_on);
        tcase_add_loop_test(tc, only_those_who_are_trusted_get_in, 0,
                            (int)(sizeof strangers / sizeof strangers[0]));
        tcase_add_test(tc, plain_http_is_answered);
        tcase_add_loop_test(tc, damage_is_noticed, 0, 200);
        tcase_add_loop_test(tc, noise_is_refused, 0, 50);
        tcase_add_test(tc, files_that_change_are_read_again);
        tcase_add_loop_test(tc, files_that_are_wrong_are_told, 0,
                            (int)(sizeof bad_files / sizeof bad_files[0]));
        tcase_add_test(tc, a_pin_is_what_curl_takes);
        status = run_tests("tls", tc);
        tmpdir_remove(dir);
        return status;
}
