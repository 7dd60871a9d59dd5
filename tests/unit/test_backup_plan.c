/* links: litefs_backup */
#include <stdio.h>
#include <string.h>

#include "backup/plan.h"
#include "tests/lib/run.h"

START_TEST(names_are_those_of_the_layout)
{
        struct backup_object o = { .level = 9, .min_txid = 1, .max_txid = 0xabc };
        char name[BACKUP_NAME_SIZE];

        backup_object_name(BACKUP_IN_BUCKET, &o, name);
        ck_assert_str_eq(name, "0009/0000000000000001-0000000000000abc.ltx");
        backup_object_name(BACKUP_IN_DIRECTORY, &o, name);
        ck_assert_str_eq(name, "ltx/9/0000000000000001-0000000000000abc.ltx");
}
END_TEST

START_TEST(only_such_names_are_objects)
{
        static const char *const others[] = {
                "litefs.json",
                "0000/0000000000000001-0000000000000002.ltx.tmp",
                "0000/0000000000000001-000000000000000G.ltx",
                "0000/0000000000000001-000000000000000A.ltx", /* upper case */
                "0000/0000000000000003-0000000000000002.ltx",
                "0000/0000000000000000-0000000000000002.ltx",
                "0000/0000000000000001-ffffffffffffffff.ltx",
                "000a/0000000000000001-0000000000000002.ltx",
                "ltx/0/0000000000000001-0000000000000002.ltx",
                "0000/0000000000000001_0000000000000002.ltx",
                "x/0000/0000000000000001-0000000000000002.ltx",
                "",
        };
        struct backup_object o = { .level = 77 };

        for (int i = 0; i < COUNT(others); i++)
                ck_assert_msg(!backup_object_parse(BACKUP_IN_BUCKET, others[i], &o), "%s", others[i]);
        ck_assert_uint_eq(o.level, 77);
        ck_assert(
                backup_object_parse(BACKUP_IN_BUCKET, "0002/0000000000000011-00000000000000ff.ltx", &o));
        ck_assert_uint_eq(o.level, 2);
        ck_assert_uint_eq(o.min_txid, 0x11);
        ck_assert_uint_eq(o.max_txid, 0xff);
        ck_assert(backup_object_parse(BACKUP_IN_DIRECTORY, "ltx/1/0000000000000011-00000000000000ff.ltx",
                                      &o));
        ck_assert_uint_eq(o.level, 1);
}
END_TEST

/* --- plans --- */

/* "9:1-5 0:6-6": level, min and max, decimal. */
static struct backup_objects
objects_of(const char *text)
{
        struct backup_objects l = { 0 };
        struct backup_object o = { 0 };
        int n;

        for (; sscanf(text, " %u:%lu-%lu%n", &o.level, &o.min_txid, &o.max_txid, &n) == 3; text += n)
                ck_assert_int_eq(backup_objects_add(&l, &o), 0);
        return l;
}

struct plan_row {
        const char *objects;
        uint64_t txid;
        bool is_exact;
        const char *plan; /* or what the error says */
};

static const struct plan_row rows[] = {
        { "", 0, false, "no matching backup files available" },
        { "0:1-1", 0, false, "0:1-1" },
        { "0:1-1 0:2-2 0:3-3", 0, false, "0:1-1 0:2-2 0:3-3" },
        { "0:1-1 0:2-2 0:3-3", 2, true, "0:1-1 0:2-2" },
        { "9:1-5 0:4-5 0:6-8 0:9-9", 0, false, "9:1-5 0:6-8 0:9-9" },
        /* The higher level of the same range; a longer one before a shorter one. */
        { "9:1-5 0:6-8 1:6-8 0:9-9", 0, false, "9:1-5 1:6-8 0:9-9" },
        { "9:1-5 0:6-8 0:9-9 1:6-9 2:2-9", 0, false, "9:1-5 2:2-9" },
        /* The snapshot that is not past the target. */
        { "9:1-5 9:1-20 0:6-9 0:10-20 0:21-30", 9, true, "9:1-5 0:6-9" },
        { "9:1-5 9:1-20 0:6-9 0:10-20 0:21-30", 15, false, "9:1-5 0:6-9" },
        { "9:1-5 9:1-20 0:6-9 0:10-20 0:21-30", 0, false, "9:1-20 0:21-30" },
        /* Borders. */
        { "9:1-5 0:6-9", 7, true,
          "transaction 0000000000000007 is not a border: those beside it are 0000000000000005 and "
          "0000000000000009" },
        { "9:1-5 0:6-9", 12, true,
          "transaction 000000000000000c is not there: the backup ends at 0000000000000009" },
        { "9:1-5 0:6-9", 12, false, "9:1-5 0:6-9" },
        { "9:1-5", 3, true, "no matching backup files available" },
        /* Holes. */
        { "9:1-5 0:7-9", 0, false, "transactions 0000000000000006 to 0000000000000006 are missing" },
        { "9:1-5 0:7-9", 9, true, "transactions 0000000000000006 to 0000000000000006 are missing" },
        { "9:1-5 0:7-9", 5, true, "9:1-5" },
        { "9:1-5 0:7-9 9:1-9 0:10-11", 0, false, "9:1-9 0:10-11" },
        { "0:4-5", 0, false, "no matching backup files available" },
};

START_TEST(plan_leads_to_the_target_or_says_why_not)
{
        const struct plan_row *row = &rows[_i];
        struct backup_objects l = objects_of(row->objects), plan;
        struct backup_target target = { row->txid, row->is_exact };
        char text[512] = "";
        struct err e = ERR_INIT;

        if (backup_plan_make(&l, &target, &plan, &e) < 0) {
                ck_assert_int_eq(e.code, E_NOT_FOUND);
                ck_assert_uint_eq(plan.n, 0);
                snprintf(text, sizeof text, "%s", e.text);
        }
        for (size_t i = 0; i < plan.n; i++)
                snprintf(text + strlen(text), sizeof text - strlen(text), "%s%u:%lu-%lu",
                         i > 0 ? " " : "", plan.items[i].level, plan.items[i].min_txid,
                         plan.items[i].max_txid);
        ck_assert_str_eq(text, row->plan);
        backup_objects_release(&plan);
        backup_objects_release(&l);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("plan");

        tcase_add_test(tc, names_are_those_of_the_layout);
        tcase_add_test(tc, only_such_names_are_objects);
        tcase_add_loop_test(tc, plan_leads_to_the_target_or_says_why_not, 0, COUNT(rows));
        return run_tests("backup_plan", tc);
}
