/* links: litefs_backup */
/* Answers of a bucket, and URLs of one. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "backup/dest_s3.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

#define HEAD "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"

static char seen[4096];

static int
note(void *arg, const char *key, uint64_t size_bytes, int64_t time_ms)
{
        (void)arg;
        snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "%s %lu %ld;", key,
                 (unsigned long)size_bytes, (long)time_ms);
        return strcmp(key, "stop") == 0 ? -ECANCELED : 0;
}

static const struct {
        const char *text, *seen;
        int result;
} lists[] = {
        { HEAD "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name>"
               "<Contents><Key>a/b&amp;c</Key><LastModified>2026-01-02T03:04:05.250Z</LastModified>"
               "<ETag>&quot;x&quot;</ETag><Size>123</Size><Owner><ID>o</ID></Owner></Contents>"
               "<Contents><Size>7</Size><Key>d</Key></Contents></ListBucketResult>",
          "a/b&c 123 1767323045250;d 7 1767323045250;", 0 },
        { "<ListBucketResult></ListBucketResult>", "", 0 },
        { "<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>", "", 0 },
        { "<ListBucketResult><Contents><Key>stop</Key></Contents><Contents><Key>e</Key></Contents>"
          "</ListBucketResult>",
          "stop 0 0;", -ECANCELED },
        { "<Error><Code>x</Code></Error>", "", E_FORMAT },
        { "<ListBucketResult><Contents><Key>f</Key></Contents>", "f 0 0;", E_FORMAT }, /* cut short */
        { "", "", E_FORMAT },
        { "<!DOCTYPE x [<!ENTITY e \"eeee\">]><ListBucketResult>&e;</ListBucketResult>", "", E_FORMAT },
};

START_TEST(list_is_read)
{
        seen[0] = '\0';
        ck_assert_int_eq(s3_xml_list(lists[_i].text, strlen(lists[_i].text), note, NULL),
                         lists[_i].result);
        ck_assert_str_eq(seen, lists[_i].seen);
}
END_TEST

START_TEST(key_that_is_too_long_is_passed_over)
{
        char text[8192];
        int n = snprintf(text, sizeof text,
                         "<ListBucketResult><Contents><Key>%*s</Key></Contents></ListBucketResult>",
                         4000, "x");

        seen[0] = '\0';
        ck_assert_int_eq(s3_xml_list(text, (size_t)n, note, NULL), 0);
        ck_assert_str_eq(seen, "");
}
END_TEST

START_TEST(element_is_found)
{
        static const char text[] = "<Error><Code>SlowDown</Code><Message>a &lt;b&gt;</Message></Error>";
        char got[32];

        ck_assert(s3_xml_find(text, sizeof text - 1, "Message", got, sizeof got));
        ck_assert_str_eq(got, "a <b>");
        ck_assert(!s3_xml_find(text, sizeof text - 1, "Other", got, sizeof got));
        ck_assert(!s3_xml_find(text, sizeof text - 1, "Code", got, 8));
        ck_assert(!s3_xml_find("no xml", 6, "Code", got, sizeof got));
}
END_TEST

static const struct {
        const char *url, *endpoint, *origin, *host, *bucket, *prefix, *region;
        bool is_path_style;
} urls[] = {
        { "s3://b/p/q", "", "https://b.s3.us-east-1.amazonaws.com", "b.s3.us-east-1.amazonaws.com", "",
          "p/q/", "us-east-1", false },
        { "s3://b", "", "https://b.s3.us-east-1.amazonaws.com", "b.s3.us-east-1.amazonaws.com", "", "",
          "us-east-1", false },
        { "s3://b/", "", "https://s3.us-east-1.amazonaws.com", "s3.us-east-1.amazonaws.com", "/b", "",
          "us-east-1", true },
        { "s3://b.c/p", "", "https://s3.us-east-1.amazonaws.com", "s3.us-east-1.amazonaws.com", "/b.c",
          "p/", "us-east-1", false },
        { "s3://b/p", "https://h:443", "https://h", "h", "/b", "p/", "us-east-1", false },
        { "s3://b/p", "http://h:80", "http://h", "h", "/b", "p/", "us-east-1", false },
        { "s3://b/p", "http://h:8080", "http://h:8080", "h:8080", "/b", "p/", "us-east-1", false },
        { "s3://b/p?region=r&endpoint=http%3A%2F%2Fx:1", "http://h", "http://x:1", "x:1", "/b", "p/",
          "r", false },
        { "s3://b/p?forcePathStyle=true&region=r", "", "https://s3.r.amazonaws.com",
          "s3.r.amazonaws.com", "/b", "p/", "r", false },
};

START_TEST(url_says_where_requests_go)
{
        struct s3_options o = { .endpoint = urls[_i].endpoint,
                                .region = "",
                                .access_key_id = "a",
                                .secret_access_key = "s",
                                .session_token = "",
                                .is_path_style = urls[_i].is_path_style,
                                .clock = clock_host() };
        struct err e = ERR_INIT;
        struct dest *d;
        const struct s3 *s;

        ck_assert_msg(dest_s3_open(urls[_i].url, &o, &d, &e) == 0, "%s", e.text);
        s = s3_of(d);
        ck_assert_str_eq(s->origin, urls[_i].origin);
        ck_assert_str_eq(s->host, urls[_i].host);
        ck_assert_str_eq(s->bucket, urls[_i].bucket);
        ck_assert_str_eq(s->prefix, urls[_i].prefix);
        ck_assert_str_eq(s->region, urls[_i].region);
        ck_assert_ptr_null(strchr(d->url, '?'));
        dest_free(d);
}
END_TEST

START_TEST(what_is_missing_is_said)
{
        struct s3_options o = { .endpoint = "", .access_key_id = "a", .secret_access_key = "s" };
        struct err e = ERR_INIT;
        struct dest *d;

        ck_assert_int_eq(dest_s3_open("s3:///p", &o, &d, &e), E_CONFIG);
        ck_assert_int_eq(dest_s3_open("gs://b/p", &o, &d, &e), E_CONFIG);
        o.endpoint = "ftp://x";
        ck_assert_int_eq(dest_s3_open("s3://b/p", &o, &d, &e), E_CONFIG);
        o = (struct s3_options){ .endpoint = "" };
        ck_assert_int_eq(dest_s3_open("s3://b/p", &o, &d, &e), E_CONFIG);
        ck_assert_ptr_nonnull(strstr(e.text, "AWS_ACCESS_KEY_ID"));
}
END_TEST

/* A machine that starts before its services do, or that has none. */
START_TEST(service_that_does_not_answer_is_waited_for)
{
        static const struct aws_sources sources = { "",    "", "", "",   "", "", "",
                                                    "",    "", "", "",   "", "", "http://127.0.0.1:1",
                                                    false, "", "", NULL, 0 };
        struct s3_options o = { .endpoint = "", .clock = clock_host(), .sources = &sources };
        struct err e = ERR_INIT;
        struct dest *d;

        ck_assert_msg(dest_s3_open("s3://b/p", &o, &d, &e) == 0, "%s", e.text);
        ck_assert_int_eq(d->not_ready.code, -ECONNREFUSED);
        ck_assert_ptr_nonnull(strstr(d->not_ready.text, "set AWS_ACCESS_KEY_ID"));
        dest_free(d);
}
END_TEST

START_TEST(region_is_the_profiles_where_nothing_else_says_it)
{
        struct aws_sources sources = { "", "", "", "", "",    "", "", "",   "other", "",
                                       "", "", "", "", false, "", "", NULL, 0 };
        struct s3_options o = { .endpoint = "",
                                .region = "",
                                .access_key_id = "a",
                                .secret_access_key = "s",
                                .sources = &sources,
                                .clock = clock_host() };
        char *dir = tmpdir_make();
        struct err e = ERR_INIT;
        struct dest *d;
        FILE *f;

        snprintf(sources.config_file, sizeof sources.config_file, "%s/config", dir);
        f = fopen(sources.config_file, "w");
        ck_assert(f != NULL && fputs("[profile other]\nregion = eu-x\n", f) >= 0 && fclose(f) == 0);
        ck_assert_msg(dest_s3_open("s3://b/p", &o, &d, &e) == 0, "%s", e.text);
        ck_assert_str_eq(s3_of(d)->host, "b.s3.eu-x.amazonaws.com");
        dest_free(d);
        o.region = "r";
        ck_assert_msg(dest_s3_open("s3://b/p", &o, &d, &e) == 0, "%s", e.text);
        ck_assert_str_eq(s3_of(d)->region, "r");
        dest_free(d);
        tmpdir_remove(dir);
}
END_TEST

static const struct {
        const char *storage_class, *kms_key_id, *customer_key, *words;
} storages[] = {
        { "", "", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "" },
        { "", "", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISI=", "is not 32 bytes in base64" },
        { "", "", "AAEC", "is not 32 bytes in base64" },
        { "", "", "not base64", "is not 32 bytes in base64" },
        { "", "k", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "two keys" },
        { "STANDARD_IA", "k", "", "" },
};

START_TEST(keys_of_encryption_are_looked_at)
{
        struct s3_options o = { .endpoint = "",
                                .access_key_id = "a",
                                .secret_access_key = "s",
                                .storage_class = storages[_i].storage_class,
                                .kms_key_id = storages[_i].kms_key_id,
                                .customer_key = storages[_i].customer_key,
                                .clock = clock_host() };
        struct err e = ERR_INIT;
        struct dest *d;
        int r = dest_s3_open("s3://b/p", &o, &d, &e);

        ck_assert_int_eq(r, storages[_i].words[0] != '\0' ? E_CONFIG : 0);
        ck_assert_msg(strstr(e.text, storages[_i].words) != NULL, "%s", e.text);
        ck_assert(strstr(e.text, "AAEC") == NULL);
        if (r == 0)
                dest_free(d);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("xml");

        tcase_add_test(tc, region_is_the_profiles_where_nothing_else_says_it);
        tcase_add_loop_test(tc, keys_of_encryption_are_looked_at, 0, COUNT(storages));

        tcase_add_loop_test(tc, list_is_read, 0, COUNT(lists));
        tcase_add_test(tc, key_that_is_too_long_is_passed_over);
        tcase_add_test(tc, element_is_found);
        tcase_add_loop_test(tc, url_says_where_requests_go, 0, COUNT(urls));
        tcase_add_test(tc, what_is_missing_is_said);
        tcase_add_test(tc, service_that_does_not_answer_is_waited_for);
        return run_tests("backup_xml", tc);
}
