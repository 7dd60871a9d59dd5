/* links: litefs_cmd */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/litefs/config.h"
#include "cmd/litefs/config_write.h"
#include "cmd/litefs/node_flags.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

static struct config config;
static struct err error;
static char *root;

static void
setup(void)
{
        unsetenv("LITEFS_CLOUD_TOKEN");
        error = (struct err)ERR_INIT;
        root = tmpdir_make();
        ck_assert_int_eq(chdir(root), 0);
        ck_assert_int_eq(config_init(&config), 0);
}

static void
teardown(void)
{
        config_release(&config);
        ck_assert_int_eq(chdir("/"), 0);
        tmpdir_remove(root);
}

static void
apply(struct node_flags f, const char *dir)
{
        int r = node_flags_apply(&f, dir, &config, &error);

        ck_assert_msg(r == 0, "%s", error.text);
        r = config_validate(&config, &error);
        ck_assert_msg(r == 0, "%s", error.text);
}

/* --- what a lease in one word says --- */

static const struct {
        const char *url, *type, *first, *last, *key;
} leases[] = {
        { "etcd://h:1/app", "etcd", "http://h:1", "http://h:1", "app" },
        { "etcd://h/a/b", "etcd", "http://h:2379", "http://h:2379", "a/b" },
        { "etcd+https://a,b:7,c/x", "etcd", "https://a:2379", "https://c:2379", "x" },
        { "ETCD://[::1]:5/x", "etcd", "http://[::1]:5", "http://[::1]:5", "x" },
        { "etcd://[::1]/x", "etcd", "http://[::1]:2379", "http://[::1]:2379", "x" },
        { "consul://h/app", "consul", "http://h:8500", NULL, "app" },
        { "consul+https://h:1/app", "consul", "https://h:1", NULL, "app" },
        { "file:///var/lib/app/lease", "file", NULL, NULL, "/var/lib/app/lease" },
        { "file:/lease", "file", NULL, NULL, "/lease" },
        { "s3://b/a/app.lease", "object", NULL, NULL, "s3://b/a/app.lease" },
        { "s3://b/k?endpoint=http://h:1", "object", NULL, NULL, "s3://b/k?endpoint=http://h:1" },
        { "http://node1:20202", "static", "http://node1:20202", NULL, NULL },
        { "https://node1", "static", "https://node1:443", NULL, NULL },
};

START_TEST(lease_is_one_word)
{
        char text[256];
        int r;

        snprintf(text, sizeof text, "http: { insecure: true }\nlease: %s\n", leases[_i].url);
        r = config_parse(&config, "litefs.yml", text, false, &error);
        ck_assert_msg(r == 0, "%s", error.text);
        ck_assert_str_eq(config.lease.type, leases[_i].type);
        ck_assert_int_eq(config_validate(&config, &error), 0);
        if (strcmp(leases[_i].type, "etcd") == 0) {
                ck_assert_str_eq(config.lease.etcd.endpoints.items[0], leases[_i].first);
                ck_assert_str_eq(config.lease.etcd.endpoints.items[config.lease.etcd.endpoints.n - 1],
                                 leases[_i].last);
                ck_assert_str_eq(config.lease.etcd.key, leases[_i].key);
        } else if (strcmp(leases[_i].type, "consul") == 0) {
                ck_assert_str_eq(config.lease.consul.url, leases[_i].first);
                ck_assert_str_eq(config.lease.consul.key, leases[_i].key);
        } else if (strcmp(leases[_i].type, "file") == 0) {
                ck_assert_str_eq(config.lease.file.path, leases[_i].key);
        } else if (strcmp(leases[_i].type, "object") == 0) {
                ck_assert_str_eq(config.lease.object.url, leases[_i].key);
        } else {
                ck_assert_str_eq(config.lease.primary_url, leases[_i].first);
                ck_assert(!config.lease.candidate);
        }
}
END_TEST

static const struct {
        const char *yaml, *what;
} wrong[] = {
        { "lease: zk://h/x\n",
          "litefs.yml:1: lease.url: \"zk://h/x\" is not the URL of a lease: want etcd://" },
        { "\nlease: etcd://h\n", "litefs.yml:2: lease.url: \"etcd://h\" names no key" },
        { "lease: etcd://h/\n", "names no key" },
        { "lease: etcd:///x\n", "has no address before the key" },
        { "lease: etcd://a,,b/x\n", "has no address before the key" },
        { "lease: etcd://[::1/x\n", "has no address before the key" },
        { "lease: etcd://a:b/x\n", "has no address before the key" },
        { "lease: consul://a,b/x\n", "names several agents" },
        { "lease: etcdx://a/x\n", "is not the URL of a lease" },
        { "lease: file://x\n", "\"file://x\" is not an absolute path" },
        { "lease: 'file:'\n", "\"file:\" is not an absolute path" },
        { "lease: http://:1\n", "is not the address of a node" },
        { "lease:\n  url: etcd://a/x\n  type: etcd\n",
          "litefs.yml:2: lease.url: lease.type is set, too" },
        { "lease: [a]\n", "lease: want a section" },
        { "data: /x\n", "data: want a section" },
};

START_TEST(wrong_lease_is_named_with_its_line)
{
        ck_assert_int_eq(config_parse(&config, "litefs.yml", wrong[_i].yaml, false, &error), E_CONFIG);
        ck_assert_msg(strstr(error.text, wrong[_i].what) != NULL, "%s", error.text);
}
END_TEST

START_TEST(three_lines_make_a_node_of_a_cluster)
{
        int r = config_parse(&config, "litefs.yml",
                             "lease: etcd://etcd1:2379/app\n"
                             "http: { token: abcd1234 }\n"
                             "backup: s3://bucket/app\n",
                             false, &error);
        char host[256] = "", want[300];

        ck_assert_msg(r == 0 && config_validate(&config, &error) == 0, "%s", error.text);
        ck_assert_int_eq(gethostname(host, sizeof host - 1), 0);
        snprintf(want, sizeof want, "http://%s:20202", host);
        ck_assert_str_eq(config.lease.hostname, host);
        ck_assert_str_eq(config.lease.advertise_url, want);
        ck_assert(config.lease.candidate);
        ck_assert_uint_eq(config.n_backups, 1);
        ck_assert_str_eq(config.backups[0].url, "s3://bucket/app");
}
END_TEST

START_TEST(backups_are_a_list_of_words)
{
        int r = config_parse(&config, "litefs.yml",
                             "lease: { type: static }\nbackup: [ \"file:///a\", { url: s3://b/c } ]\n",
                             false, &error);

        ck_assert_msg(r == 0 && config_validate(&config, &error) == 0, "%s", error.text);
        ck_assert_uint_eq(config.n_backups, 2);
        ck_assert_str_eq(config.backups[0].url, "file:///a");
        ck_assert_str_eq(config.backups[1].url, "s3://b/c");
}
END_TEST

/* --- flags --- */

START_TEST(directory_alone_is_a_node_by_itself)
{
        char want[600];

        apply((struct node_flags){ 0 }, "db/");
        snprintf(want, sizeof want, "%s/db", root);
        ck_assert_str_eq(config.fuse.dir, want);
        strcat(want, ".litefs");
        ck_assert_str_eq(config.data.dir, want);
        ck_assert_str_eq(config.http.addr, "127.0.0.1:20202");
        ck_assert_str_eq(config.lease.type, "static");
        ck_assert(config.lease.candidate);
        ck_assert_str_eq(config.path, "");
}
END_TEST

START_TEST(replica_listens_beside_a_primary_of_its_machine)
{
        apply((struct node_flags){ .follow = "http://127.0.0.1:20202" }, "db");
        ck_assert_str_eq(config.http.addr, "127.0.0.1:0");
        ck_assert_str_eq(config.lease.primary_url, "http://127.0.0.1:20202");
        ck_assert_str_eq(config.lease.advertise_url, "");
        ck_assert(!config.lease.candidate);
}
END_TEST

START_TEST(replica_of_another_machine_has_the_usual_port)
{
        apply((struct node_flags){ .follow = "http://node1:20202" }, "db");
        ck_assert_str_eq(config.http.addr, "127.0.0.1:20202");
        ck_assert_str_eq(config.lease.advertise_url, "");
}
END_TEST

START_TEST(replica_that_others_reach_says_where)
{
        apply((struct node_flags){ .follow = "http://127.0.0.1:20202", .addr = "127.0.0.1:7" }, "db");
        ck_assert_str_eq(config.lease.advertise_url, "http://127.0.0.1:7");
}
END_TEST

START_TEST(node_of_one_machine_is_found_where_it_listens)
{
        apply((struct node_flags){ .lease = "etcd://localhost/app", .addr = "127.0.0.1:20203" }, "db");
        ck_assert_str_eq(config.lease.advertise_url, "http://127.0.0.1:20203");
}
END_TEST

static const struct {
        struct node_flags flags;
        const char *dir, *what;
} bad[] = {
        { { 0 }, "", "is not a directory" },
        { { 0 }, "/", "/ cannot be the mount" },
        { { 0 }, "/etc/passwd", "is a file: want the directory to mount at" },
        { { 0 }, "none/none", "No such file or directory; make the directory above it first" },
        { { .data = "" }, "db", "is not a directory" },
        { { .data = "db" }, "db", "data.dir, too" },
        { { .lease = "x" }, "db", "-lease \"x\" is not the URL of a lease: want etcd://" },
        { { .lease = "http://a:1" }, "db", "give it as -follow" },
        { { .lease = "etcd://a/b", .follow = "http://a" }, "db", "contradict each other" },
        { { .lease = "file:///a/" }, "db", "-lease: want the absolute path of a file" },
        { { .lease = "file:///a", .addr = "127.0.0.1:0" },
          "db",
          "-addr: the other nodes do not know which port \":0\" is" },
        { { .lease = "file:///a", .addr = ":20203" }, "db", "-addr: :20203 is open to the network" },
        { { .lease = "etcd://a/b" }, "db", "-addr: :20202 is open to the network" },
        { { .follow = "a:1" }, "db", "is not the address of a node" },
        { { .follow = "http://a:1", .advertise = "b:1" },
          "db",
          "-advertise-url: \"b:1\" is not of the form" },
        { { .addr = "banana" }, "db", "-addr: \"banana\" is not an address" },
        { { .backup = "here" }, "db", "-backup: want s3://BUCKET/PREFIX" },
        { { .advertise = "here" }, "db", "-advertise-url: \"here\" is not of the form" },
};

START_TEST(mistake_is_answered_with_the_flag)
{
        int r = node_flags_apply(&bad[_i].flags, bad[_i].dir, &config, &error);

        if (r == 0)
                r = config_validate(&config, &error);
        ck_assert_int_lt(r, 0);
        ck_assert_msg(strstr(error.text, bad[_i].what) != NULL, "%s", error.text);
}
END_TEST

/* --- the file that says the same --- */

static const struct {
        struct node_flags flags;
        const char *dir, *command;
} written[] = {
        { { 0 }, "db", NULL },
        { { .addr = "127.0.0.1:1", .allow_other = true }, "a b", "./app -p 1" },
        { { .lease = "etcd://a,b:1/c", .token_file = "token" }, "db", NULL },
        { { .lease = "file:///a/b" }, "db", NULL },
        { { .lease = "consul+https://a/c", .token_file = "token", .advertise = "https://me:1" },
          "db",
          NULL },
        { { .follow = "http://node1:20202", .data = "data" }, "db", "app" },
        { { .backup = "file:///backup" }, "it's $HOME \"x\" \\ : {#", "echo $HOME 'a b' \"c\\\"" },
};

static void
check_same(const struct config *c, const struct config *again)
{
        ck_assert_str_eq(c->fuse.dir, again->fuse.dir);
        ck_assert_str_eq(c->data.dir, again->data.dir);
        ck_assert_str_eq(c->http.addr, again->http.addr);
        ck_assert_str_eq(c->http.token_file, again->http.token_file);
        ck_assert_str_eq(c->lease.type, again->lease.type);
        ck_assert_str_eq(c->lease.url, again->lease.url);
        ck_assert_str_eq(c->lease.advertise_url, again->lease.advertise_url);
        ck_assert_str_eq(c->lease.primary_url, again->lease.primary_url);
        ck_assert_int_eq(c->lease.candidate, again->lease.candidate);
        ck_assert_int_eq(c->fuse.allow_other, again->fuse.allow_other);
        ck_assert_uint_eq(c->n_backups, again->n_backups);
        ck_assert_uint_eq(c->n_exec, again->n_exec);
        if (c->n_exec > 0)
                ck_assert_str_eq(c->exec[0].cmd, again->exec[0].cmd);
        if (c->n_backups > 0)
                ck_assert_str_eq(c->backups[0].url, again->backups[0].url);
}

START_TEST(written_file_says_the_same)
{
        const struct node_flags *f = &written[_i].flags;
        struct text t = { 0 };
        struct config again;

        apply(*f, written[_i].dir);
        if (written[_i].command != NULL)
                ck_assert_int_eq(config_add_exec(&config, written[_i].command, "", false), 0);
        config_write(&config, f->advertise != NULL ? f->advertise : "", &t);
        ck_assert(!t.is_cut);
        ck_assert_int_eq(config_init(&again), 0);
        ck_assert_msg(config_parse(&again, "litefs.yml", t.s, false, &error) == 0, "%s\n%s", error.text,
                      t.s);
        ck_assert_msg(config_validate(&again, &error) == 0, "%s\n%s", error.text, t.s);
        check_same(&config, &again);
        config_release(&again);
        text_release(&t);
}
END_TEST

int
main(void)
{
        Suite *s = suite_create("node_flags");
        TCase *tc = tcase_create("node_flags");

        tcase_add_checked_fixture(tc, setup, teardown);
        suite_add_tcase(s, tc);
        tcase_add_loop_test(tc, lease_is_one_word, 0, COUNT(leases));
        tcase_add_loop_test(tc, wrong_lease_is_named_with_its_line, 0, COUNT(wrong));
        tcase_add_test(tc, three_lines_make_a_node_of_a_cluster);
        tcase_add_test(tc, backups_are_a_list_of_words);
        tcase_add_test(tc, directory_alone_is_a_node_by_itself);
        tcase_add_test(tc, replica_listens_beside_a_primary_of_its_machine);
        tcase_add_test(tc, replica_of_another_machine_has_the_usual_port);
        tcase_add_test(tc, replica_that_others_reach_says_where);
        tcase_add_test(tc, node_of_one_machine_is_found_where_it_listens);
        tcase_add_loop_test(tc, mistake_is_answered_with_the_flag, 0, COUNT(bad));
        tcase_add_loop_test(tc, written_file_says_the_same, 0, COUNT(written));
        return run_suite(s);
}
