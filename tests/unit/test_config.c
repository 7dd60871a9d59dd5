/* links: litefs_cmd */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/litefs/config.h"
#include "tests/lib/tmpdir.h"
#include "tests/lib/run.h"

#define SECOND 1000000000LL

static struct config config;
static struct err error;

static void
setup(void)
{
        unsetenv("LITEFS_CLOUD_TOKEN");
        unsetenv("LITEFS_CLOUD_ENDPOINT");
        error = (struct err)ERR_INIT;
        ck_assert_int_eq(config_init(&config), 0);
}

static void
teardown(void)
{
        config_release(&config);
}

static void
parse(const char *text)
{
        int r = config_parse(&config, "litefs.yml", text, false, &error);

        ck_assert_msg(r == 0, "%s", error.text);
}

/* --- values --- */

START_TEST(defaults_are_those_of_litefs)
{
        parse("lease:\n  type: static\n");
        ck_assert(config.exit_on_error);
        ck_assert(!config.skip_sync);
        ck_assert(!config.strict_verify);
        ck_assert_uint_eq(config.n_exec, 0);
        ck_assert_str_eq(config.data.dir, "/var/lib/litefs");
        ck_assert(config.data.compress);
        ck_assert_int_eq(config.data.retention_ns, 600 * SECOND);
        ck_assert_int_eq(config.data.retention_monitor_interval_ns, 60 * SECOND);
        ck_assert_str_eq(config.fuse.dir, "/litefs");
        ck_assert(!config.fuse.allow_other);
        ck_assert_str_eq(config.http.addr, "127.0.0.1:20202"); /* LiteFS: ":20202", open to all */
        ck_assert_int_eq(config.http.snapshot_timeout_ns, 600 * SECOND);
        ck_assert_int_eq(config.proxy.max_lag_ns, 10 * SECOND);
        ck_assert_int_eq(config.proxy.primary_redirect_timeout_ns, 5 * SECOND);
        ck_assert_int_eq(config.proxy.read_timeout_ns, 0);
        ck_assert_int_eq(config.proxy.read_header_timeout_ns, 10 * SECOND);
        ck_assert_int_eq(config.proxy.write_timeout_ns, 0);
        ck_assert_int_eq(config.proxy.idle_timeout_ns, 30 * SECOND);
        ck_assert(config.lease.candidate);
        ck_assert(!config.lease.promote);
        ck_assert_int_eq(config.lease.reconnect_delay_ns, SECOND);
        ck_assert_int_eq(config.lease.demote_delay_ns, 10 * SECOND);
        ck_assert_int_eq(config.lease.consul.ttl_ns, 10 * SECOND);
        ck_assert_int_eq(config.lease.consul.lock_delay_ns, SECOND);
        ck_assert_int_eq(config.lease.etcd.ttl_ns, 10 * SECOND);
        ck_assert_str_eq(config.log.format, "text");
        ck_assert(config.tracing.enabled);
        ck_assert_int_eq(config.tracing.max_size_bytes, 64 << 20);
        ck_assert_int_eq(config.tracing.max_count, 8);
        ck_assert(config.tracing.compress);
        /* The static lease names the primary, which need not be this node. */
        ck_assert_str_eq(config.lease.hostname, "");
        ck_assert_str_eq(config.lease.advertise_url, "");
        ck_assert_int_eq(config_validate(&config, &error), 0);
}
END_TEST

START_TEST(values_of_every_type_are_read)
{
        parse("exit-on-error: false\n"
              "data:\n"
              "  dir: \"/a b\"   # quoted\n"
              "  retention: 1m30s\n"
              "  retention-monitor-interval: 0\n"
              "fuse: {dir: /mnt, allow-other: yes}\n"
              "proxy:\n"
              "  addr: :8080\n"
              "  passthrough: [\"*.css\", '*.js']\n"
              "  always-forward:\n"
              "    - /a\n"
              "    - /b\n"
              "tracing:\n"
              "  max-size: 128\n"
              "  max-count: 0\n");
        ck_assert(!config.exit_on_error);
        ck_assert_str_eq(config.data.dir, "/a b");
        ck_assert_int_eq(config.data.retention_ns, 90 * SECOND);
        ck_assert_int_eq(config.data.retention_monitor_interval_ns, 0);
        ck_assert_int_eq(config.http.snapshot_timeout_ns, 90 * SECOND);
        ck_assert_str_eq(config.fuse.dir, "/mnt");
        ck_assert(config.fuse.allow_other);
        ck_assert_str_eq(config.proxy.addr, ":8080");
        ck_assert_uint_eq(config.proxy.passthrough.n, 2);
        ck_assert_str_eq(config.proxy.passthrough.items[0], "*.css");
        ck_assert_str_eq(config.proxy.passthrough.items[1], "*.js");
        ck_assert_uint_eq(config.proxy.always_forward.n, 2);
        ck_assert_str_eq(config.proxy.always_forward.items[1], "/b");
        ck_assert_int_eq(config.tracing.max_size_bytes, 128 << 20);
        ck_assert_int_eq(config.tracing.max_count, 0);
}
END_TEST

START_TEST(key_or_section_without_a_value_keeps_its_default)
{
        parse("data:\nfuse:\n  dir:\nhttp:\n  addr: ~\nexec:\nlease:\n  databases:\n");
        ck_assert_str_eq(config.data.dir, "/var/lib/litefs");
        ck_assert_str_eq(config.fuse.dir, "/litefs");
        ck_assert_str_eq(config.http.addr, ":20202");
        ck_assert_uint_eq(config.n_exec, 0);
}
END_TEST

static const struct {
        const char *word;
        bool value;
} bools[] = {
        { "true", true }, { "True", true }, { "TRUE", true }, { "yes", true },
        { "on", true },   { "y", true },    { "Y", true },    { "false", false },
        { "no", false },  { "Off", false }, { "n", false },   { "FALSE", false },
};

START_TEST(bool_is_what_go_takes_for_one)
{
        char text[64];

        config.skip_sync = !bools[_i].value;
        snprintf(text, sizeof text, "skip-sync: %s\n", bools[_i].word);
        parse(text);
        ck_assert(config.skip_sync == bools[_i].value);
}
END_TEST

START_TEST(exec_is_a_string)
{
        parse("exec: \"myapp -addr :8080\"\n");
        ck_assert_uint_eq(config.n_exec, 1);
        ck_assert_str_eq(config.exec[0].cmd, "myapp -addr :8080");
        ck_assert(!config.exec[0].if_candidate);
}
END_TEST

START_TEST(exec_is_a_list_of_commands)
{
        parse("exec:\n"
              "  - cmd: migrate\n"
              "    if-candidate: true\n"
              "  - cmd: serve\n");
        ck_assert_uint_eq(config.n_exec, 2);
        ck_assert_str_eq(config.exec[0].cmd, "migrate");
        ck_assert(config.exec[0].if_candidate);
        ck_assert_str_eq(config.exec[1].cmd, "serve");
        ck_assert(!config.exec[1].if_candidate);
}
END_TEST

/* --- the environment --- */

START_TEST(environment_is_expanded_before_parsing)
{
        setenv("TEST_DIR", "/from/env", 1);
        setenv("TEST_REGION", "ams", 1);
        unsetenv("TEST_UNSET");
        parse("fuse:\n"
              "  dir: $TEST_DIR/mnt\n"
              "data:\n"
              "  dir: ${TEST_UNSET:-/fallback}\n"
              "lease:\n"
              "  candidate: ${TEST_REGION == 'lhr'}\n");
        ck_assert_str_eq(config.fuse.dir, "/from/env/mnt");
        ck_assert_str_eq(config.data.dir, "/fallback");
        ck_assert(!config.lease.candidate);
}
END_TEST

START_TEST(verbatim_text_is_not_expanded)
{
        ck_assert_int_eq(config_parse(&config, "x", "fuse:\n  dir: $HOME\n", true, &error), 0);
        ck_assert_str_eq(config.fuse.dir, "$HOME");
}
END_TEST

START_TEST(consul_node_gets_a_name_and_an_address)
{
        char host[256], url[512];

        ck_assert_int_eq(gethostname(host, sizeof host), 0);
        snprintf(url, sizeof url, "http://%s:2000", host);
        parse("http: {addr: \"0.0.0.0:2000\"}\nlease: {type: consul}\n");
        ck_assert_str_eq(config.lease.hostname, host);
        ck_assert_str_eq(config.lease.advertise_url, url);
}
END_TEST

START_TEST(consul_node_keeps_the_name_it_was_given)
{
        parse("lease: {type: consul, hostname: me, consul: {ttl: 0, lock-delay: -1s}}\n");
        ck_assert_str_eq(config.lease.hostname, "me");
        ck_assert_str_eq(config.lease.advertise_url, "http://me:20202");
        ck_assert_int_eq(config.lease.consul.ttl_ns, 10 * SECOND);
        ck_assert_int_eq(config.lease.consul.lock_delay_ns, SECOND);
}
END_TEST

/* Its nodes share a machine: it listens there alone, and its port is part of its name. */
START_TEST(node_of_one_machine_gets_a_name_of_its_own)
{
        char host[256], name[300];

        ck_assert_int_eq(gethostname(host, sizeof host), 0);
        parse("lease: file:///x\n");
        ck_assert_str_eq(config.http.addr, "127.0.0.1:20202");
        snprintf(name, sizeof name, "%s-20202", host);
        ck_assert_str_eq(config.lease.hostname, name);
        ck_assert_str_eq(config.lease.advertise_url, "http://127.0.0.1:20202");
        ck_assert_int_eq(config.lease.file.ttl_ns, 10 * SECOND);
}
END_TEST

START_TEST(cloud_token_selects_the_cloud_backup)
{
        setenv("LITEFS_CLOUD_TOKEN", "secret", 1);
        parse("lease: {type: static}\n");
        ck_assert_str_eq(config.backup.type, "litefs-cloud");
        ck_assert_str_eq(config.backup.auth_token, "secret");
        ck_assert_str_eq(config.backup.url, "https://litefs.fly.io");
}
END_TEST

START_TEST(cloud_token_leaves_another_backup_alone)
{
        setenv("LITEFS_CLOUD_TOKEN", "secret", 1);
        setenv("LITEFS_CLOUD_ENDPOINT", "http://x", 1);
        parse("backup: {type: file, path: /b}\n");
        ck_assert_uint_eq(config.n_backups, 1);
        ck_assert_str_eq(config.backups[0].type, "file");
        ck_assert_str_eq(config.backups[0].path, "/b");
        ck_assert_str_eq(config.backups[0].auth_token, "");
        ck_assert_str_eq(config.backups[0].url, "");
}
END_TEST

START_TEST(backup_is_a_section)
{
        parse("backup: {url: 'file:///b', sync-interval: 5s, databases: ['*.db'], snapshot: {interval: 1h}}\n");
        ck_assert_uint_eq(config.n_backups, 1);
        ck_assert_str_eq(config.backups[0].url, "file:///b");
        ck_assert_int_eq(config.backups[0].sync_interval_ns, 5 * SECOND);
        ck_assert_uint_eq(config.backups[0].databases.n, 1);
        ck_assert_int_eq(config.backups[0].snapshot.interval_ns, 3600 * SECOND);
        ck_assert_int_eq(config.backups[0].snapshot.retention_ns, 86400 * SECOND);
}
END_TEST

START_TEST(backups_are_a_list)
{
        parse("backup:\n- {url: 'file:///b', sync-interval: 5s}\n- {url: 'file:///c'}\n");
        ck_assert_uint_eq(config.n_backups, 2);
        ck_assert_int_eq(config.backups[0].sync_interval_ns, 5 * SECOND);
        ck_assert_str_eq(config.backups[1].url, "file:///c");
        ck_assert_int_eq(config.backups[1].sync_interval_ns, SECOND);
}
END_TEST

/* --- errors --- */

static const struct {
        const char *text, *want;
} bad[] = {
        { "data:\n  dir: /d\n  retension: 1m\n",
          "litefs.yml:3: data.retension: unknown key (did you mean retention?)" },
        { "dta:\n  dir: /d\n", "litefs.yml:1: dta: unknown key (did you mean data?)" },
        { "http:\n  adrr: ':1'\n", "litefs.yml:2: http.adrr: unknown key (did you mean addr?)" },
        { "laese:\n  tpye: static\n", "litefs.yml:1: laese: unknown key (did you mean lease?)" },
        { "lease:\n  tpye: static\n", "litefs.yml:2: lease.tpye: unknown key (did you mean type?)" },
        { "\n\nretention: 1m\n", "litefs.yml:3: retention: unknown key (did you mean data.retention?)" },
        { "data:\n  frobnicate: 1\n", "litefs.yml:2: data.frobnicate: unknown key" },
        { "lease:\n  consul:\n    tl: 1s\n",
          "litefs.yml:3: lease.consul.tl: unknown key (did you mean ttl?)" },
        { "data.dir: /d\n",
          "litefs.yml:1: data.dir: unknown key: sections are nested, not written with dots" },
        { "# one\n# two\nskip-sync: maybe\n", "litefs.yml:3: skip-sync: want true or false" },
        { "skip-sync: []\n", "litefs.yml:1: skip-sync: want true or false" },
        { "skip-sync: ''\n", "litefs.yml:1: skip-sync: want true or false" },
        { "data:\n  retention: 600\n", "litefs.yml:2: data.retention: want a duration such as 10s" },
        { "data:\n\n  retention: [1s]\n", "litefs.yml:3: data.retention: want a duration such as 10s" },
        { "data:\n  dir: {a: b}\n", "litefs.yml:2: data.dir: want a string" },
        { "data:\n  dir:\n    - a\n", "litefs.yml:3: data.dir: want a string" },
        { "data: /d\n", "litefs.yml:1: data: want a section" },
        { "data: [a]\n", "litefs.yml:1: data: want a section" },
        { "tracing:\n  max-count: -1\n", "litefs.yml:2: tracing.max-count: want a whole number" },
        { "tracing:\n  max-count: 8MB\n", "litefs.yml:2: tracing.max-count: want a whole number" },
        { "tracing:\n  max-size: big\n", "litefs.yml:2: tracing.max-size: want a size such as 64MB" },
        { "lease:\n  databases: x\n", "litefs.yml:2: lease.databases: want a list of strings" },
        { "lease:\n  databases:\n  - a\n  - {b: c}\n",
          "litefs.yml:4: lease.databases: want a list of strings" },
        { "exec: {if-candidate: true}\n", "litefs.yml:1: exec.cmd: not set" },
        { "exec:\n  - serve\n", "litefs.yml:2: exec: want a command" },
        { "exec:\n  - cmd: x\n    if-primary: true\n", "litefs.yml:3: exec.if-primary: unknown key" },
        { "exec:\n  - cmd: x\n    if-candidate: 7\n",
          "litefs.yml:3: exec.if-candidate: want true or false" },
        { "exec:\n  - if-candidate: true\n", "litefs.yml:2: exec.cmd: not set" },
        { "- a\n- b\n", "litefs.yml:1: want keys and values" },
        { "words\n", "litefs.yml:1: want keys and values" },
        { "", "litefs.yml: the file is empty" },
        { "\n  \n", "litefs.yml: the file is empty" },
        { "# a comment only\n", "litefs.yml: the file is empty" },
        { "a: &x 1\nskip-sync: *x\n", NULL },
        { "skip-sync: *x\n", "litefs.yml:1: skip-sync: YAML aliases are not supported" },
        { "? [a, b]\n: c\n", "litefs.yml:1: a key is not a word" },
        { "%YAML 1.2\n---\n", "litefs.yml:1: YAML directives are not supported" },
        { "a:\n  \xff\n", "litefs.yml:2: byte 0xff is not text in UTF-8" },
        { "a: \x01\n", "litefs.yml:1: byte 0x01 is not text in UTF-8" },
        { "a: \xc0\x80\n", "litefs.yml:1: byte 0xc0 is not text in UTF-8" },
        { "a: \xed\xa0\x80\n", "litefs.yml:1: byte 0xed is not text in UTF-8" },
        { "a: \xe2\x82\n", "litefs.yml:1: byte 0xe2 is not text in UTF-8" },
        { "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80: 1\n",
          "litefs.yml:1: \xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80: unknown key" },
};

START_TEST(mistake_is_named_with_file_line_and_key)
{
        int r = config_parse(&config, "litefs.yml", bad[_i].text, false, &error);

        ck_assert_msg(r == E_CONFIG, "'%s' gives %d", bad[_i].text, r);
        if (bad[_i].want != NULL) /* what to do about it comes behind that */
                ck_assert_msg(strncmp(error.text, bad[_i].want, strlen(bad[_i].want)) == 0, "%s",
                              error.text);
}
END_TEST

static const struct {
        const char *text;
        int line;
} malformed[] = {
        { "data:\n  dir: /d\n dir: /e\n", 3 },
        { "data: {dir: /d\n", 2 },
        { "a: b: c\n", 1 },
        { "data:\n\tdir: /d\n", 2 },
        { "data:\n  dir: \"open\n", 2 },
        { "data:\n  dir: /d\n  dir: /e\n", 3 }, /* the same key twice */
        { "data:\n  dir: /d\nfuse:\ndata:\n", 4 },
};

START_TEST(text_that_is_not_yaml_is_refused_with_its_line)
{
        char want[32];
        int r = config_parse(&config, "litefs.yml", malformed[_i].text, false, &error);

        ck_assert_int_eq(r, E_CONFIG);
        snprintf(want, sizeof want, "litefs.yml:%d: ", malformed[_i].line);
        ck_assert_msg(strncmp(error.text, want, strlen(want)) == 0, "'%s' gives: %s", malformed[_i].text,
                      error.text);
}
END_TEST

START_TEST(deep_nesting_is_refused)
{
        char text[20001];

        memset(text, '[', sizeof text - 1);
        text[sizeof text - 1] = '\0';
        ck_assert_int_eq(config_parse(&config, "litefs.yml", text, false, &error), E_CONFIG);
}
END_TEST

START_TEST(aliases_do_not_multiply)
{
        char text[4096] = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";

        for (int i = 1; i < 12; i++) {
                size_t n = strlen(text);

                snprintf(text + n, sizeof text - n,
                         "a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i, i, i - 1,
                         i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
        }
        ck_assert_int_eq(config_parse(&config, "litefs.yml", text, false, &error), E_CONFIG);
}
END_TEST

START_TEST(error_may_be_left_out)
{
        ck_assert_int_eq(config_parse(&config, "litefs.yml", "x: 1\n", false, NULL), E_CONFIG);
}
END_TEST

/* --- contradictions --- */

static const struct {
        const char *text, *want;
} contradictions[] = {
        { "fuse: {dir: ''}\n", "litefs.yml:1: fuse.dir: not set" },
        { "data: {dir: ''}\n", "litefs.yml:1: data.dir: not set" },
        { "fuse: {dir: /x}\ndata: {dir: /x}\n", "litefs.yml:1: fuse.dir: /x is data.dir, too" },
        { "fuse: {dir: /x/}\ndata: {dir: /x}\n", "litefs.yml:1: fuse.dir: /x/ is data.dir, too" },
        { "fuse: {dir: /x}\ndata: {dir: //x/.}\n", "litefs.yml:1: fuse.dir: /x is data.dir, too" },
        { "fuse: {dir: /x/}\ndata: {dir: /x/y}\n",
          "litefs.yml:2: data.dir: /x/y is inside fuse.dir (/x/), where the mount would hide it: move one of them" },
        { "fuse: {dir: /}\ndata: {dir: /y}\n",
          "litefs.yml:2: data.dir: /y is inside fuse.dir (/), where the mount would hide it: move one of them" },
        { "fuse: {dir: /x/dbs}\ndata: {dir: /x}\n",
          "litefs.yml:1: fuse.dir: /x/dbs is inside data.dir (/x), where litefs has its own files: move one of them" },
        { "fuse: {dir: x/tmp/y}\ndata: {dir: x}\n",
          "litefs.yml:1: fuse.dir: x/tmp/y is inside data.dir (x), where litefs has its own files: move one of them" },
        { "lease: {type: static}\nfuse: {wal-passthrough: fulll}\n",
          "litefs.yml:2: fuse.wal-passthrough: want auto, off, full or fast, not \"fulll\" (did you mean full?)" },
        { "lease: {type: etcd, etcd: {endpoints: [a], key: k}}\nfuse: {wal-passthrough: fast}\n",
          "litefs.yml:2: fuse.wal-passthrough: fast needs a primary that never changes" },
        { "lease: {type: static}\nfuse: {wal-passthrough-databases: [app.db]}\n",
          "litefs.yml:2: fuse.wal-passthrough-databases: \"app.db\" is not of the form PATTERN=MODE" },
        { "lease: {type: static}\nfuse: {wal-passthrough-databases: ['app.db=']}\n",
          "litefs.yml:2: fuse.wal-passthrough-databases: not set: want auto, off, full or fast" },
        { "skip-sync: true\n", "litefs.yml: lease.type: not set: want etcd, consul, object" },
        { "\nlease: {type: etdc}\n", "litefs.yml:2: lease.type: want etcd, consul, object" },
        { "lease: {type: static, primary-url: 'http://p:1'}\n",
          "litefs.yml:1: lease.primary-url: only a replica" },
        { "lease: {type: static, candidate: false, primary-url: 'p:1'}\n",
          "litefs.yml:1: lease.primary-url: \"p:1\" is not of the form" },
        { "lease: {type: static, databases: [a]}\n", "litefs.yml:1: lease.databases: " },
        { "lease: {type: consul, consul: {key: k}}\n", "litefs.yml: lease.consul.url: not set" },
        { "lease: {type: consul, consul: {url: u}}\n", "litefs.yml: lease.consul.key: not set" },
        { "lease: {type: etcd, etcd: {key: k}}\n", "litefs.yml: lease.etcd.endpoints: not set" },
        { "lease: {type: etcd, etcd: {endpoints: [a]}}\n", "litefs.yml: lease.etcd.key: not set" },
        { "lease: {type: file}\n", "litefs.yml: lease.file.path: want the absolute path of a file" },
        { "lease: {type: file, file: {path: here}}\n",
          "litefs.yml:1: lease.file.path: want the absolute path of a file" },
        { "lease: {type: static}\nlog: {format: xml}\n",
          "litefs.yml:2: log.format: want text or json, not \"xml\"" },
        { "lease: {type: static}\nlog: {format: jsno}\n",
          "litefs.yml:2: log.format: want text or json, not \"jsno\" (did you mean json?)" },
        { "lease: {type: static}\nbackup: {type: s3}\n", "litefs.yml:2: backup.type: want file" },
        { "lease: {type: static}\nbackup: {type: file}\n",
          "litefs.yml: backup.path: want a directory, from the root on" },
        { "lease: {type: static}\nbackup: {url: 'ftp://x/y'}\n",
          "litefs.yml:2: backup.url: want s3://BUCKET/PREFIX or file:///PATH, not \"ftp://x/y\"" },
        { "lease: {type: object}\n",
          "litefs.yml: lease.object.url: want the name of an object in a bucket" },
        { "lease: s3://b\n", "litefs.yml:1: lease.object.url: want the name of an object in a bucket" },
        { "lease: s3://b/?region=r/k\n",
          "litefs.yml:1: lease.object.url: want the name of an object in a bucket" },
        { "lease: s3:///k\n", "litefs.yml:1: lease.object.url: want the name of an object in a bucket" },
        { "lease: {type: object, object: {url: 'file:///x'}}\n",
          "litefs.yml:1: lease.object.url: want s3://BUCKET/KEY: a lease in a file is lease.type: file" },
        { "lease: {type: static}\nbackup: [{url: 'file:///b'}, {url: 'file:///b'}]\n",
          "litefs.yml:2: backup.url: the same destination twice" },
        { "lease: {type: static}\nbackup: {url: 'file:///b', sync-interval: 0}\n",
          "litefs.yml:2: backup.sync-interval: must be more than 0" },
        { "lease: {type: static}\nproxy: {mode: x}\n",
          "litefs.yml:2: proxy.mode: want forward or fly-replay, not \"x\"" },
        { "lease: {type: static}\nproxy: {addr: banana, target: ':1'}\n",
          "litefs.yml:2: proxy.addr: \"banana\" is not an address" },
        { "lease: {type: static}\nproxy: {addr: ':1', target: banana}\n",
          "litefs.yml:2: proxy.target: \"banana\" is not an address" },
        { "lease: {type: static}\nhttp: {addr: banana}\n",
          "litefs.yml:2: http.addr: \"banana\" is not an address" },
        { "lease: {type: static}\nhttp: {tls: {cert: a}}\n",
          "litefs.yml:2: http.tls.cert: http.tls.key is not set" },
        { "lease: {type: static}\nhttp: {tls: {client-ca: a}}\n",
          "litefs.yml:2: http.tls.client-ca: without TLS" },
        { "lease: {type: static}\nhttp: {token: a, token-file: b}\n",
          "litefs.yml:2: http.token: http.token-file is set, too" },
};

START_TEST(first_pattern_that_fits_decides_how_a_wal_is_written)
{
        parse("fuse:\n  wal-passthrough: full\n"
              "  wal-passthrough-databases: [logs/*=off, '*=.db=auto', '*.tmp=fast', 'x*=full']\n"
              "lease: {type: static}\n");
        ck_assert_int_eq(config_validate(&config, &error), 0);
        ck_assert_str_eq(config_wal_passthrough(&config, "app.db"), "full");
        ck_assert_str_eq(config_wal_passthrough(&config, "logs/a.tmp"), "off");
        ck_assert_str_eq(config_wal_passthrough(&config, "x=.db"), "auto");
        ck_assert_str_eq(config_wal_passthrough(&config, "x.tmp"), "fast");
}
END_TEST

/* However it is spelled: a path that is one only once its links are followed hides the data all the same. */
START_TEST(mount_over_the_data_is_refused_through_a_link)
{
        char *dir = tmpdir_make(), path[4096], text[9000];

        snprintf(path, sizeof path, "%s/data", dir);
        ck_assert_int_eq(mkdir(path, 0700), 0);
        snprintf(path, sizeof path, "%s/link", dir);
        ck_assert_int_eq(symlink("data", path), 0);
        snprintf(text, sizeof text,
                 "fuse: {dir: %s/link/dbs}\ndata: {dir: %s/x/..//data}\nlease: {type: static}\n", dir,
                 dir);
        parse(text);
        ck_assert_int_eq(config_validate(&config, &error), 0); /* x is not there, so neither is that */
        snprintf(path, sizeof path, "%s/x", dir);
        ck_assert_int_eq(mkdir(path, 0700), 0);
        ck_assert_int_eq(config_validate(&config, &error), E_CONFIG);
        ck_assert_ptr_nonnull(strstr(error.text, "fuse.dir: "));
        ck_assert_ptr_nonnull(strstr(error.text, "data.dir ("));
        tmpdir_remove(dir);
}
END_TEST

START_TEST(contradiction_is_refused_with_file_line_and_key)
{
        parse(contradictions[_i].text);
        ck_assert_int_eq(config_validate(&config, &error), E_CONFIG);
        ck_assert_msg(strncmp(error.text, contradictions[_i].want, strlen(contradictions[_i].want)) == 0,
                      "%s", error.text);
}
END_TEST

static const char *const sound[] = {
        "lease: {type: static}\n",
        "lease: {type: static}\nfuse: {dir: /x/y}\ndata: {dir: /x}\n",
        "lease: {type: static}\nfuse: {dir: /x}\ndata: {dir: /x-data}\n",
        "http: {addr: '[::1]:1'}\nlease: {type: static, candidate: false, advertise-url: 'http://p:1', databases: [a]}\n",
        "http: {token: t}\nlease: {type: consul, consul: {url: 'http://c:8500', key: k}}\n",
        "http: {addr: '127.0.0.1:1'}\nlease: {type: etcd, etcd: {endpoints: ['http://e:2379'], key: k}}\n",
        "lease: {type: static}\nhttp: {tls: {cert: a, key: b, client-ca: c}, token-file: t}\n",
        "http: {token: t}\nlease: {type: static, candidate: false, primary-url: 'http://p:1'}\n",
        "lease: {type: static}\nlog: {format: json}\nproxy: {mode: fly-replay}\nbackup: {type: file, path: /b}\n",
};

static const struct {
        const char *given;
        const char *resolved; /* NULL: refused */
} addresses[] = {
        { "http://a:20202", "http://a:20202" },
        { "https://a/", "https://a:443/" },
        { "http://a", "http://a:80" },
        { "http://[::1]", "http://[::1]:80" },
        { "http://[::1]:7/x", "http://[::1]:7/x" },
        { "a:20202", NULL },
        { "ftp://a:1", NULL },
        { "http://", NULL },
        { "http://:20202", NULL },
        { "http://a:", NULL },
        { "http://a:0", NULL },
        { "http://a:65536", NULL },
        { "http://a:1x", NULL },
        { "http://[::1", NULL },
        { "http://u:p@a:1", NULL },
        { "http://a b:1", NULL },
};

START_TEST(advertise_url_is_one)
{
        char text[256];
        int r;

        snprintf(
                text, sizeof text,
                "http: {addr: '127.0.0.1:1'}\nlease: {type: static, candidate: false, advertise-url: '%s'}\n",
                addresses[_i].given);
        parse(text);
        r = config_validate(&config, &error);
        if (addresses[_i].resolved == NULL) {
                ck_assert_int_eq(r, E_CONFIG);
                ck_assert_ptr_nonnull(strstr(error.text, "lease.advertise-url"));
        } else {
                ck_assert_msg(r == 0, "%s", error.text);
                ck_assert_str_eq(config.lease.advertise_url, addresses[_i].resolved);
        }
}
END_TEST

/* Who may reach a node has to be said. */
static const struct {
        const char *text;
        const char *addr; /* NULL: refused */
} listeners[] = {
        { "lease: {type: static}\n", "127.0.0.1:20202" },
        { "lease: {type: static}\nhttp: {insecure: true}\n", ":20202" },
        { "lease: {type: static}\nhttp: {token: t}\n", ":20202" },
        { "lease: {type: static}\nhttp: {addr: }\n", "127.0.0.1:20202" },
        { "lease: {type: static}\nhttp: {addr: ''}\n", "" },
        { "lease: {type: static}\nhttp: {addr: ':20202'}\n", NULL },
        { "lease: {type: static}\nhttp: {addr: '10.0.0.1:1'}\n", NULL },
        { "lease: {type: static}\nhttp: {addr: '10.0.0.1:1', insecure: true}\n", "10.0.0.1:1" },
        { "lease: {type: static}\nhttp: {addr: ':1', token-file: t}\n", ":1" },
        { "lease: {type: static}\nhttp: {addr: ':1', tls: {cert: a, key: b}}\n", NULL },
        { "lease: {type: static}\nhttp: {addr: ':1', tls: {cert: a, key: b, client-ca: c}}\n", ":1" },
        { "lease: {type: static, advertise-url: 'http://a:20202'}\n", NULL },
        { "lease: {type: static, candidate: false, advertise-url: 'http://a:20202'}\n", NULL },
        { "lease: {type: consul, consul: {url: 'http://c:8500', key: k}}\n", NULL },
        { "http: {insecure: true}\nlease: {type: consul, consul: {url: 'http://c:8500', key: k}}\n",
          ":20202" },
};

START_TEST(listener_is_open_only_if_that_is_said)
{
        int r;

        parse(listeners[_i].text);
        r = config_validate(&config, &error);
        if (listeners[_i].addr == NULL) {
                ck_assert_int_eq(r, E_CONFIG);
                ck_assert_ptr_nonnull(strstr(error.text, "http.insecure"));
        } else {
                ck_assert_msg(r == 0, "%s", error.text);
                ck_assert_str_eq(config.http.addr, listeners[_i].addr);
        }
}
END_TEST

START_TEST(sound_configuration_is_accepted)
{
        parse(sound[_i]);
        ck_assert_msg(config_validate(&config, &error) == 0, "%s", error.text);
}
END_TEST

/* --- files --- */

static void
write_file(const char *path, const void *text, size_t n)
{
        FILE *f = fopen(path, "w");

        ck_assert_ptr_nonnull(f);
        ck_assert_uint_eq(fwrite(text, 1, n, f), n);
        ck_assert_int_eq(fclose(f), 0);
}

START_TEST(file_is_looked_for_here_then_at_home)
{
        static const char here[] = "fuse: {dir: /here}\n", home[] = "fuse: {dir: /home}\n";
        char *dir = tmpdir_make(), cwd[4096], path[4200];

        ck_assert_ptr_nonnull(getcwd(cwd, sizeof cwd));
        ck_assert_int_eq(chdir(dir), 0);
        ck_assert_int_eq(mkdir("home", 0755), 0);
        snprintf(path, sizeof path, "%s/home", dir);
        setenv("HOME", path, 1);
        write_file("home/litefs.yml", home, strlen(home));
        ck_assert_msg(config_load(&config, NULL, false, &error) == 0, "%s", error.text);
        ck_assert_str_eq(config.fuse.dir, "/home");
        write_file("litefs.yml", here, strlen(here));
        ck_assert_msg(config_load(&config, NULL, false, &error) == 0, "%s", error.text);
        ck_assert_str_eq(config.fuse.dir, "/here");
        ck_assert_int_eq(config.path[0], '/');
        ck_assert_int_eq(chdir(cwd), 0);
        tmpdir_remove(dir);
}
END_TEST

START_TEST(file_that_cannot_be_read_is_named)
{
        char *dir = tmpdir_make(), path[4096], want[4200];

        snprintf(path, sizeof path, "%s/none.yml", dir);
        snprintf(
                want, sizeof want,
                "cannot read config file at %s: No such file or directory; name another one with -config PATH",
                path);
        ck_assert_int_eq(config_load(&config, path, false, &error), -ENOENT);
        ck_assert_str_eq(error.text, want);
        ck_assert_int_eq(config_load(&config, dir, false, &error), -EISDIR);
        tmpdir_remove(dir);
}
END_TEST

START_TEST(binary_or_huge_file_is_refused)
{
        char *dir = tmpdir_make(), path[4096], *text = malloc(2 << 20);

        snprintf(path, sizeof path, "%s/x.yml", dir);
        write_file(path, "fuse:\n\0data:\n", 13);
        ck_assert_int_eq(config_load(&config, path, false, &error), -EILSEQ);
        memset(text, ' ', 2 << 20);
        write_file(path, text, 2 << 20);
        ck_assert_int_eq(config_load(&config, path, false, &error), -EFBIG);
        free(text);
        tmpdir_remove(dir);
}
END_TEST

START_TEST(hostname_is_in_the_environment_of_the_file)
{
        static const char text[] = "fuse: {dir: /x-$HOSTNAME}\n";
        char *dir = tmpdir_make(), path[4096], host[256], want[300];

        unsetenv("HOSTNAME");
        ck_assert_int_eq(gethostname(host, sizeof host), 0);
        snprintf(want, sizeof want, "/x-%s", host);
        snprintf(path, sizeof path, "%s/x.yml", dir);
        write_file(path, text, strlen(text));
        ck_assert_int_eq(config_load(&config, path, false, &error), 0);
        ck_assert_str_eq(config.fuse.dir, want);
        tmpdir_remove(dir);
}
END_TEST

static TCase *
add_case(Suite *s, const char *name)
{
        TCase *tc = tcase_create(name);

        tcase_add_checked_fixture(tc, setup, teardown);
        suite_add_tcase(s, tc);
        return tc;
}

int
main(void)
{
        Suite *s = suite_create("config");
        TCase *values = add_case(s, "values"), *env = add_case(s, "environment");
        TCase *errors = add_case(s, "errors"), *files = add_case(s, "files");

        tcase_add_test(values, defaults_are_those_of_litefs);
        tcase_add_test(values, values_of_every_type_are_read);
        tcase_add_test(values, key_or_section_without_a_value_keeps_its_default);
        tcase_add_loop_test(values, bool_is_what_go_takes_for_one, 0, COUNT(bools));
        tcase_add_test(values, exec_is_a_string);
        tcase_add_test(values, exec_is_a_list_of_commands);
        tcase_add_test(env, environment_is_expanded_before_parsing);
        tcase_add_test(env, verbatim_text_is_not_expanded);
        tcase_add_test(env, consul_node_gets_a_name_and_an_address);
        tcase_add_test(env, consul_node_keeps_the_name_it_was_given);
        tcase_add_test(env, node_of_one_machine_gets_a_name_of_its_own);
        tcase_add_test(env, cloud_token_selects_the_cloud_backup);
        tcase_add_test(env, cloud_token_leaves_another_backup_alone);
        tcase_add_test(env, backup_is_a_section);
        tcase_add_test(env, backups_are_a_list);
        tcase_add_loop_test(errors, mistake_is_named_with_file_line_and_key, 0, COUNT(bad));
        tcase_add_loop_test(errors, text_that_is_not_yaml_is_refused_with_its_line, 0, COUNT(malformed));
        tcase_add_test(errors, deep_nesting_is_refused);
        tcase_add_test(errors, aliases_do_not_multiply);
        tcase_add_test(errors, error_may_be_left_out);
        tcase_add_test(errors, first_pattern_that_fits_decides_how_a_wal_is_written);
        tcase_add_test(errors, mount_over_the_data_is_refused_through_a_link);
        tcase_add_loop_test(errors, contradiction_is_refused_with_file_line_and_key, 0,
                            COUNT(contradictions));
        tcase_add_loop_test(errors, sound_configuration_is_accepted, 0, COUNT(sound));
        tcase_add_loop_test(errors, advertise_url_is_one, 0, COUNT(addresses));
        tcase_add_loop_test(errors, listener_is_open_only_if_that_is_said, 0, COUNT(listeners));
        tcase_add_test(files, file_is_looked_for_here_then_at_home);
        tcase_add_test(files, file_that_cannot_be_read_is_named);
        tcase_add_test(files, binary_or_huge_file_is_refused);
        tcase_add_test(files, hostname_is_in_the_environment_of_the_file);
        return run_suite(s);
}
