#!/usr/bin/env python3
"""static_names.py finds a name that two files have, and nothing where there is none."""
import unittest

from lint_case import LintCase

FIND = "static struct entry *\nfind(const struct table *t,\n     uint32_t key)\n{\n        return t;\n}\n"
RUN = "static void *\nrun(void *arg)\n{\n        return arg;\n}\n"


class StaticNames(LintCase):
    SCRIPT = "static_names.py"

    def test_accepts_names_of_one_file(self):
        # A declaration in advance, a call and a function that others may call are no second place.
        r = self.check({
            "lib/base/a.c": "static void *run(void *arg);\n\n" + FIND + RUN,
            "fuse/b.c": "static void *run(void *arg);\n\nvoid *\nfind(void)\n{\n        return run(NULL);\n}\n",
        })
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
        self.assertIn("2 static functions, 0 names", r.stdout)

    def test_refuses_a_name_in_two_parts(self):
        r = self.check({"lib/base/a.c": FIND, "cmd/litefs/b.c": "#include <errno.h>\n\n" + RUN + "\n" + FIND})
        self.assertEqual(r.returncode, 1, r.stdout + r.stderr)
        self.assertIn("lib/base/a.c:2: find() is also in cmd/litefs/b.c", r.stdout)
        self.assertIn("1 names in more than one file", r.stdout)

    def test_refuses_an_inline_function_of_two_headers(self):
        text = "static inline int64_t\nnow_ms(void)\n{\n        return 0;\n}\n"
        r = self.check({"lib/base/a.h": text, "lease/b.h": text})
        self.assertEqual(r.returncode, 1, r.stdout + r.stderr)
        self.assertIn("now_ms() is also in", r.stdout)

    def test_refuses_to_find_nothing(self):
        self.assertEqual(self.check({"lib/base/a.c": "int a;\n"}).returncode, 1)


if __name__ == "__main__":
    unittest.main()
