#!/usr/bin/env python3
"""Checks that no descriptor reaches a program that litefs starts, an application's of exec for example: what makes one says that
it ends with exec.

usage: cloexec.py [ROOT]     prints FILE:LINE: what is wrong; exits 1 if anything is
"""
import os
import re
import sys

from include_direction import sources

# What makes a descriptor; os_open and libuv's own do so by themselves. With dup2 a descriptor gets a number that is meant.
MAKES = re.compile(r"(?<![\w.>])(open|openat|socket|socketpair|accept4?|pipe2?|eventfd|epoll_create1?|timerfd_create|signalfd|"
                   r"memfd_create|inotify_init1?|mkstemp|mkostemp|fopen|popen|dup3?|fcntl)\(")
FLAG = re.compile(r"CLOEXEC|\"[rwab+x]*e[rwab+x]*\"\)$")
DUPLICATES = re.compile(r"F_DUPFD\b")

# Those that are to stay open: file, and what the call has.
MEANT = {
    ("lib/base/parcel.c", "F_DUPFD"): "for the program that takes over",
    ("lib/base/parcel.c", '"litefs-state"'): "likewise",
    ("cmd/litefs/takeover.c", '"/proc/self/exe"'): "the program that comes back when the next one refuses",
    ("cmd/litefs/main.c", '"/dev/null"'): "becomes a standard stream",
}


def call_at(text, begin):
    """From the name to the closing parenthesis."""
    depth = 0
    for i in range(text.index("(", begin), len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return text[begin:i + 1]
    return text[begin:]


def is_closed(name, call):
    if name == "fcntl":
        return not DUPLICATES.search(call)
    return bool(FLAG.search(call))


def without_comments(text):
    """As long as before."""
    return re.sub(r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m.group()), text, flags=re.DOTALL)


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..", "..")
    n_calls = n_wrong = 0
    for path in sources(root):
        if not path.endswith(".c"):
            continue
        with open(os.path.join(root, path), encoding="utf-8") as f:
            text = without_comments(f.read())
        for m in MAKES.finditer(text):
            if text.rfind("\n", 0, m.start()) + 1 == m.start():
                continue  # the definition of a function of that name
            call = call_at(text, m.start())
            n_calls += m.group(1) != "fcntl" or "F_DUPFD" in call
            if is_closed(m.group(1), call) or any(path == p and part in call for p, part in MEANT):
                continue
            n_wrong += 1
            print(f"{path}:{text.count(chr(10), 0, m.start()) + 1}: {m.group(1)}() makes a descriptor that programs inherit")
    print(f"{n_calls} calls that make a descriptor, {n_wrong} of them for programs that litefs starts")
    return 1 if n_wrong or not n_calls else 0


if __name__ == "__main__":
    sys.exit(main())
