#!/usr/bin/env python3
"""call_circles.py finds files that call each other in a circle, and nothing where the calls have one direction."""
import unittest

from lint_case import LintCase


def function(name, *calls, before="int"):
    return f"{before}\n{name}(struct db *db)\n{{\n        return 0{''.join(f' + {c}(db)' for c in calls)};\n}}\n\n"


class CallCircles(LintCase):
    SCRIPT = "call_circles.py"

    def test_accepts_one_direction(self):
        # Nor are a comment, a text, a member and a function of the file itself a call.
        r = self.check({
            "lib/db/commit.c": function("commit", "append"),
            "lib/db/log.c": "/* commit() calls it */\n" + function("append", "tell")
            + function("tell", "x.commit", before="static int") + 'const char *text = "commit()";\n',
        })
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
        self.assertIn("2 files in 1 directories, 0 calls", r.stdout)

    def test_refuses_two_that_call_each_other(self):
        r = self.check({
            "lib/db/commit.c": function("commit", "append") + function("confirm"),
            "lib/db/log.c": function("append", "confirm"),
        })
        self.assertEqual(r.returncode, 1, r.stdout + r.stderr)
        self.assertIn("lib/db/log.c: calls confirm() of commit.c", r.stdout)

    def test_refuses_a_circle_over_a_third_and_by_a_pointer(self):
        r = self.check({
            "lib/db/a.c": function("a", "b"),
            "lib/db/b.c": function("b", "c"),
            "lib/db/c.c": function("c") + "struct job job = { 1, a };\n",
            "lib/db/d.c": function("d", "a"),
        })
        self.assertEqual(r.returncode, 1, r.stdout + r.stderr)
        self.assertIn("3 calls in circles", r.stdout)
        self.assertNotIn("d.c: ", r.stdout)

    def test_refuses_to_find_nothing(self):
        self.assertEqual(self.check({"lib/db/a.h": "int a;\n"}).returncode, 1)


if __name__ == "__main__":
    unittest.main()
