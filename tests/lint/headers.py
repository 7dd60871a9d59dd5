#!/usr/bin/env python3
"""Every header compiles alone, so that no file depends on the order of another's includes.

usage: headers.py ROOT COMPILER [FLAGS...]
"""
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor


def headers(root):
    for top in ("lib", "fuse", "lease", "cmd", "tests"):
        for directory, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(names):
                if name.endswith(".h"):
                    yield os.path.relpath(os.path.join(directory, name), root)


def compile_alone(root, command, header):
    r = subprocess.run(
        [*command, "-fsyntax-only", "-x", "c", "-"],
        input=f'#include "{header}"\n#include "{header}"\n',
        cwd=root, capture_output=True, text=True, check=False,
    )
    return header, r.returncode, r.stderr


def main():
    root, command = sys.argv[1], sys.argv[2:]
    found = sorted(headers(root))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda h: compile_alone(root, command, h), found))
    for header, code, words in results:
        if code != 0:
            print(f"{header} does not compile alone:\n{words}")
    failed = sum(1 for r in results if r[1] != 0)
    print(f"{len(found)} headers, {failed} do not compile alone")
    return 1 if failed or not found else 0


if __name__ == "__main__":
    sys.exit(main())
