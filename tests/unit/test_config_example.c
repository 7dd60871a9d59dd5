/* links: litefs_cmd */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/litefs/config_keys.h"
#include "tests/lib/run.h"

#define EXAMPLE TEST_DATA_DIR "/../../litefs.example.yml"

/* The keys of the file by its indentation, two spaces a level, so that this does not depend on the parser
 * under test. */
struct example {
        char paths[256][128];
        size_t n;
};

static void
add_line(struct example *ex, char sections[8][64], const char *line)
{
        size_t spaces = strspn(line, " "), level = spaces / 2, n = strcspn(line + spaces, ":");
        char *path = ex->paths[ex->n];

        if (line[spaces] == '#' || line[spaces] == '\n' || line[spaces] == '\0')
                return;
        ck_assert_uint_eq(spaces % 2, 0);
        ck_assert_uint_lt(level, 8);
        ck_assert_uint_lt(n, 64);
        ck_assert_uint_lt(ex->n, 256);
        memcpy(sections[level], line + spaces, n);
        sections[level][n] = '\0';
        path[0] = '\0';
        for (size_t i = 0; i <= level; i++) {
                strcat(path, i > 0 ? "." : "");
                strcat(path, sections[i]);
        }
        ex->n++;
}

static bool
has(const struct example *ex, const char *path)
{
        for (size_t i = 0; i < ex->n; i++)
                if (strcmp(ex->paths[i], path) == 0)
                        return true;
        return false;
}

START_TEST(example_has_every_key)
{
        static struct example ex;
        char sections[8][64], line[512];
        FILE *f = fopen(EXAMPLE, "r");

        ck_assert_ptr_nonnull(f);
        while (fgets(line, sizeof line, f) != NULL)
                add_line(&ex, sections, line);
        fclose(f);
        for (size_t i = 0; i < config_n_keys; i++)
                ck_assert_msg(has(&ex, config_keys[i].path), "%s is not in the example",
                              config_keys[i].path);
}
END_TEST

/* What the example must set, because it has no default. */
static bool
is_example_only(const char *path)
{
        return strcmp(path, "exec") == 0 || strcmp(path, "lease.type") == 0 ||
               strcmp(path, "http.addr") == 0 || strcmp(path, "lease.hostname") == 0 ||
               strcmp(path, "lease.advertise-url") == 0;
}

static void
check_default(struct config *c, const struct config_key *k)
{
        void *at = config_member(c, k);

        if (k->type == T_STRING)
                ck_assert_msg(strcmp(*(char **)at, k->text) == 0, "%s: %s is not the default", k->path,
                              *(char **)at);
        else if (k->type == T_BOOL)
                ck_assert_msg(*(bool *)at == k->number, "%s is not the default", k->path);
        else if (k->type == T_LIST)
                ck_assert_msg(((struct string_list *)at)->n == 0, "%s is not the default", k->path);
        else if (strcmp(k->path, "http.snapshot-timeout") == 0)
                ck_assert_int_eq(*(int64_t *)at, c->data.retention_ns);
        else
                ck_assert_msg(*(int64_t *)at == k->number, "%s is not the default", k->path);
}

START_TEST(example_shows_the_defaults)
{
        struct config c;
        struct err e = ERR_INIT;

        setenv("HOSTNAME", "example", 1);
        unsetenv("LITEFS_CLOUD_TOKEN");
        ck_assert_int_eq(config_init(&c), 0);
        ck_assert_msg(config_load(&c, EXAMPLE, false, &e) == 0, "%s", e.text);
        ck_assert_msg(config_validate(&c, &e) == 0, "%s", e.text);
        for (size_t i = 0; i < config_n_keys; i++)
                if (!is_example_only(config_keys[i].path))
                        check_default(&c, &config_keys[i]);
        ck_assert_str_eq(c.lease.advertise_url, "http://example:20202");
        config_release(&c);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("example");

        tcase_add_test(tc, example_has_every_key);
        tcase_add_test(tc, example_shows_the_defaults);
        return run_tests("example", tc);
}
