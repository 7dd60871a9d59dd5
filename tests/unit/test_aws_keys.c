/* links: litefs_backup */
/* AWS's shared credentials file, and when keys are due. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "s3/aws_keys.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

static const char file[] = "# mine\n"
                           "[default]\n"
                           "aws_access_key_id = DEFAULT\n"
                           "aws_secret_access_key=s1==\n"
                           "region = eu-central-1\n"
                           "\n"
                           "[ other ]\r\n"
                           "  aws_access_key_id=OTHER\r\n"
                           "; aws_access_key_id = NOT\n"
                           "aws_secret_access_key = s2 \n"
                           "aws_session_token = t\n"
                           "[half]\n"
                           "aws_access_key_id = HALF\n";

START_TEST(profile_has_its_keys)
{
        struct aws_keys k;

        ck_assert_int_eq(aws_keys_parse_file(file, "default", &k), 1);
        ck_assert_str_eq(k.access_key_id, "DEFAULT");
        ck_assert_str_eq(k.secret_access_key, "s1==");
        ck_assert_str_eq(k.session_token, "");
        ck_assert_int_eq(aws_keys_parse_file(file, "other", &k), 1);
        ck_assert_str_eq(k.access_key_id, "OTHER");
        ck_assert_str_eq(k.secret_access_key, "s2");
        ck_assert_str_eq(k.session_token, "t");
        ck_assert_int_eq(aws_keys_parse_file(file, "half", &k), E_FORMAT);
        ck_assert_int_eq(aws_keys_parse_file(file, "none", &k), 0);
        ck_assert_int_eq(aws_keys_parse_file("", "default", &k), 0);
}
END_TEST

START_TEST(key_that_does_not_fit_is_none)
{
        char text[2000] = "[default]\naws_secret_access_key = s\naws_access_key_id = ";
        struct aws_keys k;

        memset(text + strlen(text), 'A', 500);
        ck_assert_int_eq(aws_keys_parse_file(text, "default", &k), E_FORMAT);
}
END_TEST

START_TEST(keys_are_due_some_minutes_before_they_run_out)
{
        struct aws_keys k = { .access_key_id = "A", .expires_ms = 1000000 };

        ck_assert(!aws_keys_are_due(&k, 600000) && aws_keys_are_due(&k, 800000));
        ck_assert(aws_keys_are_valid(&k, 800000) && !aws_keys_are_valid(&k, 1000000));
        k.expires_ms = 0;
        ck_assert(!aws_keys_are_due(&k, 800000) && aws_keys_are_valid(&k, 800000));
        k.access_key_id[0] = '\0';
        ck_assert(aws_keys_are_due(&k, 0) && !aws_keys_are_valid(&k, 0));
}
END_TEST

static const struct aws_sources nothing = { "",    "", "", "",   "", "", "",
                                            "",    "", "", "",   "", "", "http://127.0.0.1:1",
                                            false, "", "", NULL, 0 };

START_TEST(nobody_is_asked_after_the_end)
{
        atomic_bool is_cancelled = false;
        struct aws_sources s = nothing;
        struct aws_keys k;

        s.is_cancelled = &is_cancelled;
        ck_assert_int_eq(aws_keys_find(&s, 0, &k, NULL), -ECONNREFUSED);
        atomic_store(&is_cancelled, true);
        ck_assert_int_eq(aws_keys_find(&s, 0, &k, NULL), -ECANCELED);
}
END_TEST

static const char config[] = "[default]\nregion = r1\n"
                             "[profile other]\nregion=r2\ns3 =\n  region = nested\n"
                             "aws_access_key_id = A\naws_secret_access_key = s\n"
                             "[services x]\nregion = no\n"
                             "[profile role]\nrole_arn = arn:x\nregion = r3\n"
                             "[profile half]\naws_access_key_id = A\n";

static const struct {
        const char *profile, *region, *words;
        int r;
} profiles[] = {
        { "", "r1", "http://127.0.0.1:1", -ECONNREFUSED }, /* no keys: the next place */
        { "default", "r1", "http://127.0.0.1:1", -ECONNREFUSED },
        { "other", "r2", "", 0 },
        { "services x", "", "neither", E_CONFIG },
        { "x", "", "neither", E_CONFIG },
        { "role", "r3", "leads on to a role, a command or a sign-in", E_CONFIG },
        { "half", "", "profile half has no aws_access_key_id and", E_CONFIG },
};

START_TEST(configuration_file_has_region_and_keys)
{
        struct aws_sources s = nothing;
        struct err e = ERR_INIT;
        char *dir = tmpdir_make(), region[64] = "";
        struct aws_keys k;
        FILE *f;

        snprintf(s.config_file, sizeof s.config_file, "%s/config", dir);
        f = fopen(s.config_file, "w");
        ck_assert(f != NULL && fputs(config, f) >= 0 && fclose(f) == 0);
        s.profile = profiles[_i].profile;
        ck_assert_int_eq(aws_find_region(&s, region, sizeof region, &e), 0);
        ck_assert_str_eq(region, profiles[_i].region);
        ck_assert_int_eq(aws_keys_find(&s, 0, &k, &e), profiles[_i].r);
        ck_assert_msg(strstr(e.text, profiles[_i].words) != NULL, "%s", e.text);
        if (profiles[_i].r == 0)
                ck_assert_str_eq(k.access_key_id, "A");
        snprintf(s.config_file, sizeof s.config_file, "%s", dir);
        ck_assert_int_eq(aws_find_region(&s, region, sizeof region, &e), E_CONFIG);
        ck_assert_int_eq(aws_keys_find(&s, 0, &k, &e), E_CONFIG);
        tmpdir_remove(dir);
}
END_TEST

START_TEST(only_a_file_that_is_not_there_is_passed_over)
{
        static const struct {
                const char *path;
                int r;
        } cases[] = { { "/nothing/is/here", -ECONNREFUSED },
                      { "/dev/null/credentials", -ECONNREFUSED },
                      { "/dev/null", -ECONNREFUSED }, /* empty */
                      { "/", E_CONFIG },
                      { "/dev/zero", E_CONFIG } }; /* longer than any */
        struct aws_sources s = nothing;
        struct err e = ERR_INIT;
        struct aws_keys k;

        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
                snprintf(s.credentials_file, sizeof s.credentials_file, "%s", cases[i].path);
                ck_assert_msg(aws_keys_find(&s, 0, &k, &e) == cases[i].r, "%s: %s", cases[i].path,
                              e.text);
        }
        ck_assert_ptr_nonnull(strstr(e.text, "/dev/zero"));
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("aws_keys");

        tcase_add_test(tc, profile_has_its_keys);
        tcase_add_test(tc, key_that_does_not_fit_is_none);
        tcase_add_test(tc, keys_are_due_some_minutes_before_they_run_out);
        tcase_add_test(tc, nobody_is_asked_after_the_end);
        tcase_add_test(tc, only_a_file_that_is_not_there_is_passed_over);
        tcase_add_loop_test(tc, configuration_file_has_region_and_keys, 0, COUNT(profiles));
        return run_tests("aws_keys", tc);
}
