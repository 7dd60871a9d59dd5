#!/usr/bin/env python3
"""include_direction.py finds each kind of violation, and nothing in a tree that has none."""
import unittest

from lint_case import LintCase

CLEAN = {
    "lib/base/err.h": "",
    "lib/ltx/pos.h": '#include <stdint.h>\n#include "base/err.h"\n',
    "lib/sqlite/dbheader.h": '#include "base/err.h"\n',
    "lib/txlog/txlog.h": '#include "ltx/pos.h"\n',
    "lib/db/image/spool.h": '#include "ltx/pos.h"\n',
    "lib/db/wal/wal.h": '#include "db/image/spool.h"\n',
    "lib/db/x.c": '#include "db/image/spool.h"\n',
    "lib/db/db.h": '#include "txlog/txlog.h"\n#include "sqlite/dbheader.h"\n',
    "lib/store/store.c": '#include "db/db.h"\n#include "lease/lease.h"\n',
    "lib/store/store.h": "",
    "lib/net/loop.c": '#include <uv.h>\n#include "base/err.h"\n',
    "lib/net/loop.h": "",
    "lease/lease.h": '#include "base/err.h"\n',
    "lease/consul.c": '#include "lease/lease.h"\n#include "net/loop.h"\n#include <jansson.h>\n',
    "lease/consul.h": "",
    "lib/proxy/proxy.h": "",
    "lib/proxy/proxy.c": '#include "proxy/proxy.h"\n#include "proxy/serve.h"\n',
    "lib/proxy/serve.h": "",
    "lib/proxy/serve.c": '#include "proxy/serve.h"\n#include "proxy/proxy.h"\n#include "proxy/client.h"\n',
    "lib/proxy/client.h": '#include "proxy/proxy.h"\n',
    "lib/proxy/reply.h": '#include "proxy/client.h"\n',
    "lib/proxy/body.h": "",
    "fuse/session.c": '#include <fuse_lowlevel.h>\n#include "store/store.h"\n',
    "fuse/session.h": "",
    "cmd/litefs/main.c": '#include "fuse/session.h"\n#include "lease/consul.h"\n#include <libfyaml.h>\n',
}


class IncludeDirection(LintCase):
    SCRIPT = "include_direction.py"

    def refuses(self, path, text, want):
        r = self.check({**CLEAN, path: text})
        self.assertEqual(r.returncode, 1, r.stdout + r.stderr)
        self.assertIn(want, r.stdout)
        self.assertIn(", 1 includes", r.stdout)

    def test_accepts_a_tree_in_order(self):
        r = self.check(CLEAN)
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)

    def test_refuses_an_include_upwards(self):
        self.refuses("lib/db/x.c", '#include "store/store.h"\n', "lib/db/x.c:1: db must not include store")

    def test_refuses_an_include_against_the_order_of_a_part(self):
        self.refuses("lib/proxy/client.c", '#include "proxy/serve.h"\n', "client.c must not include proxy/serve.h")

    def test_refuses_an_include_beside_in_a_part(self):
        self.refuses("lib/proxy/reply.c", '#include "proxy/body.h"\n', "reply.c must not include proxy/body.h")

    def test_refuses_an_include_from_base(self):
        self.refuses("lib/base/x.h", '\n#  include "ltx/pos.h"\n', "lib/base/x.h:2: base must not include")

    def test_refuses_a_sibling(self):
        self.refuses("lib/ltx/x.c", '#include "sqlite/dbheader.h"\n', "ltx must not include sqlite")

    def test_refuses_the_database_in_its_log(self):
        self.refuses("lib/txlog/x.c", '#include "db/db.h"\n', "txlog must not include db")

    def test_refuses_the_database_in_a_room_of_it(self):
        self.refuses("lib/db/image/x.c", '#include "db/db.h"\n', "db/image must not include db")

    def test_refuses_the_wal_in_the_image(self):
        self.refuses("lib/db/image/x.c", '#include "db/wal/wal.h"\n', "db/image must not include db/wal")

    def test_refuses_the_database_in_a_file_that_is_a_part(self):
        self.refuses("lib/db/record.c", '#include "db/db.h"\n', "db/record must not include db")

    def test_refuses_a_room_of_the_database_elsewhere(self):
        self.refuses("lib/repl/x.c", '#include "db/image/spool.h"\n', "repl must not include db/image")

    def test_refuses_a_lease_backend_in_store(self):
        self.refuses("lib/store/x.c", '#include "lease/consul.h"\n', "store must not include lease")

    def test_refuses_fuse_in_a_lease(self):
        self.refuses("lease/x.c", '#include "fuse/session.h"\n', "lease must not include fuse")

    def test_refuses_the_command_in_a_library(self):
        self.refuses("fuse/x.c", '#include "cmd/litefs/main.c"\n', "fuse must not include cmd")

    def test_refuses_a_path_with_lib(self):
        self.refuses("lib/ltx/x.c", '#include "lib/db/db.h"\n', "ltx must not include db")

    def test_refuses_fuse_lowlevel_elsewhere(self):
        self.refuses("cmd/litefs/x.c", "#include <fuse_lowlevel.h>\n", "<fuse_lowlevel.h> is only for fuse")

    def test_refuses_curl_in_a_lease(self):
        self.refuses("lease/x.c", "#include <curl/curl.h>\n", "<curl/curl.h> is only for net")

    def test_refuses_sqlite_in_the_daemon(self):
        self.refuses("lib/db/x.c", "#include <sqlite3.h>\n", "<sqlite3.h> is only for tests and examples")

    def test_refuses_a_header_beside_the_file(self):
        self.refuses("lib/db/x.c", '#include "db.h"\n', '"db.h" is neither under lib/')

    def test_refuses_tests_in_the_program(self):
        r = self.check({**CLEAN, "tests/lib/tmpdir.h": "", "lib/db/x.c": '#include "tests/lib/tmpdir.h"\n'})
        self.assertEqual(r.returncode, 1)
        self.assertIn("belongs to no part", r.stdout)

    def test_refuses_a_directory_that_nobody_knows(self):
        self.refuses("lib/misc/x.c", "", "lib/misc/x.c:1: lies in no known part")

    def test_refuses_an_empty_tree(self):
        self.assertEqual(self.check({}).returncode, 1)


if __name__ == "__main__":
    unittest.main()
