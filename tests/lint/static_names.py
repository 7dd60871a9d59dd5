#!/usr/bin/env python3
"""Checks that a static function's name stands in one file of the program: `perf`, a stack of gdb and grep show a name alone.

usage: static_names.py [ROOT]     prints FILE:LINE: what is wrong; exits 1 if anything is
"""
import collections
import os
import re
import sys

from include_direction import sources

# As the layout has it: the type on a line that starts with `static`, then the name at the start of the next one.
DEFINITION = re.compile(r"^static\b[^;{}()=\n]*\n(\w+)\([^;{}]*\)\n\{", re.MULTILINE)


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..", "..")
    places = collections.defaultdict(dict)  # name: {path: line}
    for path in sources(root):
        with open(os.path.join(root, path), encoding="utf-8") as f:
            text = f.read()
        for m in DEFINITION.finditer(text):
            places[m.group(1)].setdefault(path, text.count("\n", 0, m.start(1)) + 1)
    n_wrong = 0
    for name, files in sorted(places.items()):
        if len(files) == 1:
            continue
        n_wrong += 1
        first = min(files)
        for path in sorted(files):
            if path != first:
                print(f"{path}:{files[path]}: {name}() is also in {first}: say in the name what it does there")
    print(f"{len(places)} static functions, {n_wrong} names in more than one file")
    return 1 if n_wrong or not places else 0


if __name__ == "__main__":
    sys.exit(main())
