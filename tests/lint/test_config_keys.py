#!/usr/bin/env python3
"""config_keys.py finds what it is for."""
import sys
import unittest

from config_keys import unread

TABLE = '''
        OTHER("exec", T_EXEC, exec, 0),
        BOOL("lease.promote", lease.promote, false),
        DURATION("http.snapshot-timeout", http.snapshot_timeout_ns, 0),
'''
READERS = "x = c->exec; return o->config->lease.promote;"


class Unread(unittest.TestCase):
    def problems(self, source, warnings="http.snapshot-timeout"):
        return list(unread(TABLE, [source], warnings))

    def test_nothing_to_find(self):
        self.assertEqual(self.problems(READERS), [])

    def test_a_key_without_reader(self):
        self.assertEqual(self.problems("x = c->exec; c->lease.promoted;"),
                         ["lease.promote (lease.promote) is read by nothing: it would be accepted without effect"])

    def test_a_warning_is_no_reader(self):
        warning = "\nwarn_not_served(c)\n{\n        if (c->lease.promote)\n                log();\n}\n"
        self.assertEqual(len(self.problems("x = c->exec;" + warning)), 1)

    def test_a_key_that_gained_a_reader(self):
        self.assertEqual(self.problems(READERS + "c->http.snapshot_timeout_ns"),
                         ["http.snapshot-timeout is read: take it out of NOT_SERVED"])

    def test_silence(self):
        self.assertEqual(self.problems(READERS, ""),
                         ["http.snapshot-timeout has no effect, and warn_not_served does not name http.snapshot-timeout"])


if __name__ == "__main__":
    sys.exit(unittest.main())
