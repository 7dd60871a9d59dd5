#!/usr/bin/env python3
"""cloexec.py finds a descriptor that programs inherit, and nothing where there is none."""
import unittest

from lint_case import LintCase


class Cloexec(LintCase):
    SCRIPT = "cloexec.py"

    def check_line(self, line, path="lib/base/a.c"):
        return self.check({path: f"void\nf(void)\n{{\n        {line}\n}}\n"})

    def test_accepts_what_is_closed(self):
        for line in ("fd = open(path, O_RDONLY | O_CLOEXEC);", "fd = fcntl(of(img), F_DUPFD_CLOEXEC, 3);", 'f = fopen(path, "re");',
                     "r = pipe2(fds,\n                  O_CLOEXEC);",
                     "/* dup(fd) would not do. */\n        fd = eventfd(0, EFD_CLOEXEC);"):
            r = self.check_line(line)
            self.assertEqual(r.returncode, 0, line + r.stdout + r.stderr)
            self.assertIn("1 calls that make a descriptor, 0", r.stdout)

    def test_accepts_what_makes_none(self):
        r = self.check_line("fd = os_open(os, tag, path, O_RDONLY, 0) + m->open(m) + fcntl(fd, F_SETFL, 0) + dup3(a, b, O_CLOEXEC);")
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
        self.assertIn("1 calls", r.stdout)

    def test_refuses_what_programs_inherit(self):
        for line in ("snap->fd = dup(img->fd);", "fd = fcntl(of(img), F_DUPFD, 3);", "fd = open(path, O_RDONLY);", "r = pipe(fds);",
                     "fd = socket(AF_UNIX, SOCK_DGRAM, 0);", 'f = fopen("/etc/there", "r");', "fd = memfd_create(name, 0);"):
            r = self.check_line(line)
            self.assertEqual(r.returncode, 1, line + r.stdout + r.stderr)
            self.assertIn("lib/base/a.c:4: ", r.stdout)

    def test_what_is_meant_is_meant_in_its_file(self):
        line = "copy = fcntl(fd, F_DUPFD, FIRST_FD);"
        self.assertEqual(self.check_line(line, "lib/base/parcel.c").returncode, 0)
        self.assertEqual(self.check_line(line, "lib/base/parcels.c").returncode, 1)

    def test_refuses_to_find_nothing(self):
        self.assertEqual(self.check({"lib/base/a.c": "int a;\n"}).returncode, 1)


if __name__ == "__main__":
    unittest.main()
