#!/usr/bin/env python3
"""Checks the links within the project's Markdown: that the file is there, and the heading that `#...` names; and that each
source file that a `...` names is in the tree, by that path or the end of it.

usage: markdown_links.py [ROOT]     prints FILE:LINE: what is wrong; exits 1 if anything is
"""
import os
import re
import subprocess
import sys

LINK = re.compile(r"\]\(([^)\s]+)\)")
SOURCE = re.compile(r"(?<!<)\b([a-z][\w/]*\.[ch])\b(?!>)")  # not <sqlite3.h>
CODE = re.compile(r"`([^`]+)`")
FENCE = re.compile(r"^ *(```|~~~)")


def lines_outside_code(path):
    is_code = False
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            if FENCE.match(line):
                is_code = not is_code
            elif not is_code:
                yield number, line


def anchors(path):
    """As GitHub makes them of headings; the second of the same name ends in -1."""
    found = set()
    for _, line in lines_outside_code(path):
        if line.startswith("#"):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line.lstrip("#").strip())
            base = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            name, n = base, 0
            while name in found:
                n += 1
                name = f"{base}-{n}"
            found.add(name)
    return found


def check_link(path, target):
    """What is wrong with it, or None."""
    if re.match(r"[a-z]+:", target):
        return None
    name, _, anchor = target.partition("#")
    other = os.path.normpath(os.path.join(os.path.dirname(path), name)) if name else path
    if not os.path.exists(other):
        return f"there is no {name}"
    if anchor and (not other.endswith(".md") or anchor not in anchors(other)):
        return f"there is no heading #{anchor} in {os.path.relpath(other, os.path.dirname(path))}"
    return None


def texts(root):
    p = subprocess.run(["git", "-C", root, "ls-files", "*.md"], capture_output=True, text=True, check=False)
    if p.returncode == 0:
        return [os.path.join(root, name) for name in p.stdout.splitlines()]
    return [os.path.join(d, n) for d, _, names in os.walk(root) for n in sorted(names) if n.endswith(".md")]


def ends_of_sources(root):
    """Every way in which a source file may be named: "lib/db/db.c", "db/db.c", "db.c"."""
    ends = set()
    for top in ("lib", "fuse", "lease", "cmd", "tests"):
        for directory, _, names in os.walk(os.path.join(root, top)):
            for name in names:
                parts = os.path.relpath(os.path.join(directory, name), root).split(os.sep)
                ends.update("/".join(parts[n:]) for n in range(len(parts)))
    return ends


def check_sources(line, ends):
    """The source files that @line names and that are not there. What has a word in capitals stands for any."""
    for code in CODE.findall(line):
        for name in SOURCE.findall(code):
            if name not in ends and not re.search(r"[A-Z]{2}", name):
                yield f"there is no {name}"


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..", "..")
    n_links = n_wrong = 0
    ends = ends_of_sources(root)
    for path in texts(os.path.abspath(root)):
        for number, line in lines_outside_code(path):
            for wrong in check_sources(line, ends):
                print(f"{os.path.relpath(path, root)}:{number}: {wrong}")
                n_wrong += 1
            for target in LINK.findall(line):
                n_links += 1
                wrong = check_link(path, target)
                if wrong:
                    print(f"{os.path.relpath(path, root)}:{number}: {wrong}")
                    n_wrong += 1
    print(f"{n_links} links in the documents, {n_wrong} links and names of files dead")
    return 1 if n_wrong or not n_links else 0


if __name__ == "__main__":
    sys.exit(main())
