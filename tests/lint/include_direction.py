#!/usr/bin/env python3
"""Checks which part of the tree includes which: `a > b` means that a may include b, never the reverse.

    cmd > {fuse http proxy} > repl > store > db > {txlog sqlite} > base;  txlog > ltx > base
    {fuse http cmd} > history > store;  db > db/wal > db/image > {ltx sqlite};  db > db/record > {txlog db/image}
    cmd > backup > store, s3;  s3 > net > base;  lease.h > base;  repl, http, proxy and the lease backends also use net,
    the lease backends and backup s3

The rooms of the database (db/image, db/wal) know nothing of it, and nobody else sees into them.
Within a part whose files have an order (ORDER) a file includes only those of the lines below its own.
store sees lease/lease.h, never a backend; fuse, http, proxy and the lease backends never include each other.
Some system headers belong to one part (ONLY_IN). Tests and examples may include anything.

usage: include_direction.py [ROOT]     prints FILE:LINE: what is wrong; exits 1 if anything is
"""
import os
import re
import sys

STORAGE = {"base", "ltx", "sqlite", "txlog", "db"}
NODE = STORAGE | {"store"}
MAY_INCLUDE = {
    "base": set(),
    "ltx": {"base"},
    "sqlite": {"base"},
    "txlog": {"base", "ltx"},
    "history": NODE,
    "db/image": {"base", "ltx", "sqlite"},
    "db/wal": {"base", "ltx", "sqlite", "db/image"},
    "db/record": {"base", "ltx", "txlog", "db/image"},  # record.[ch]: a file can be a part, too
    "db": {"base", "ltx", "sqlite", "txlog", "db/image", "db/wal", "db/record"},
    "store": STORAGE,
    "repl": NODE | {"net"},
    "net": {"base"},
    "s3": {"base", "net"},
    "backup": NODE | {"net", "s3"},
    "fuse": NODE | {"repl", "history"},
    "http": NODE | {"repl", "net", "history"},
    "proxy": NODE | {"repl", "net"},
    "lease": {"base", "net", "s3"},
    "cmd": NODE | {"repl", "net", "fuse", "http", "proxy", "lease", "backup", "history", "s3"},
}
# One header of another part, for some parts only.
ALSO = {
    "backup": {"db/image/overlay.h"},
    "store": {"lease/lease.h"},
    "repl": {"lease/lease.h"},
    "http": {"lease/lease.h"},
    "proxy": {"lease/lease.h"},
}
ONLY_IN = {
    r"fuse(_\w+)?\.h|fuse3?/.*": {"fuse"},
    r"uv\.h": {"net", "cmd"},
    r"microhttpd\.h|curl/.*|openssl/.*": {"net"},
    r"http_parser\.h": {"proxy"},
    r"expat\.h": {"s3"},
    r"jansson\.h": {"http", "lease", "cmd", "backup", "s3"},
    r"libfyaml\.h": {"cmd"},
    r"lz4\w*\.h|isa-l(/.*)?": {"ltx"},
    # A daemon that opens a database through its own mount waits for itself.
    r"sqlite3\.h": set(),
    # Bytes in, bytes out.
    r"sys/socket\.h|netinet/.*|sys/un\.h": {"net", "cmd"},
}
# Within one part, from the top down; other files of it, and what holds the part's state, are of no line.
ORDER = {
    "proxy": [
        "proxy.c",
        "node_guest",
        "serve",
        "deadline",
        "request",
        "exchange",
        "reply positions body",
        "client",
        "upstream",
    ],
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def part_of(path):
    """The part that the file at `path`, written from the root or from lib/, belongs to; None: not ours."""
    names = path.split("/")
    if names[0] == "lib" and len(names) > 2:
        names = names[1:]
    stem = os.path.splitext("/".join(names))[0]
    if stem in MAY_INCLUDE:
        return stem
    for n in (2, 1):
        part = "/".join(names[:n])
        if len(names) > n and part in MAY_INCLUDE:
            return part
    return None


def line_of(part, path):
    """The place of the file at `path` in the order of its part; None: it has none."""
    name = os.path.basename(path)
    for n, names in enumerate(ORDER.get(part, ())):
        if name in names.split() or os.path.splitext(name)[0] in names.split():
            return n
    return None


def check_order(path, part, header):
    """What is wrong with an include within a part, or None."""
    line, other = line_of(part, path), line_of(part, header)
    if line is None or other is None or os.path.splitext(path)[0].endswith(os.path.splitext(header)[0]):
        return None
    return None if other > line else f"{os.path.basename(path)} must not include {header}, which stands above or beside it"


def check_include(root, path, part, quote, header):
    """What is wrong with the include, or None."""
    if quote == "<":
        for pattern, parts in ONLY_IN.items():
            if re.fullmatch(pattern, header) and part not in parts:
                return f"<{header}> is only for {', '.join(sorted(parts)) or 'tests and examples'}"
        return None
    if not any(os.path.isfile(os.path.join(root, base, header)) for base in ("lib", ".")):
        return f'"{header}" is neither under lib/ nor under the root of the tree'
    other = part_of(header)
    if other is None:
        return f'"{header}" belongs to no part of the program'
    if other == part:
        return check_order(path, part, header)
    if other in MAY_INCLUDE[part] or header in ALSO.get(part, ()):
        return None
    return f"{part} must not include {other} ({header})"


def sources(root):
    for top in ("lib", "fuse", "lease", "cmd"):
        for directory, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(names):
                if name.endswith((".c", ".h")):
                    yield os.path.relpath(os.path.join(directory, name), root)


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..", "..")
    n_files = n_wrong = 0
    for path in sources(root):
        n_files += 1
        part = part_of(path)
        if part is None:
            print(f"{path}:1: lies in no known part: add its directory to {os.path.basename(__file__)}")
            n_wrong += 1
            continue
        with open(os.path.join(root, path), encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                m = INCLUDE.match(line)
                wrong = m and check_include(root, path, part, m.group(1), m.group(2))
                if wrong:
                    print(f"{path}:{number}: {wrong}")
                    n_wrong += 1
    print(f"{n_files} files, {n_wrong} includes against the direction")
    return 1 if n_wrong or not n_files else 0


if __name__ == "__main__":
    sys.exit(main())
