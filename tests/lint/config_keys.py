#!/usr/bin/env python3
"""Each key of litefs.yml is read by something that acts on it.

A key is read where `config.MEMBER`, `c->MEMBER` or the like stands outside of the files that parse, check and diagnose the
configuration. What is accepted for LiteFS's sake and not acted upon is in NOT_SERVED, and there whoever sets it must be
told: litefs.example.yml says so beside the key, and warn_not_served in cmd/litefs/mount.c names it.

    config_keys.py ROOT"""
import pathlib
import re
import sys

ROW = re.compile(r'^\s*(?:BOOL|STRING|DURATION)\("([a-z.-]+)", ([a-z_.]+),|^\s*OTHER\("([a-z.-]+)", T_[A-Z]+, ([a-z_.]+),', re.M)
NOT_READERS = re.compile(r"^(config.*|doctor.*|secrets)\.[ch]$")
# Of a section that is not served, the key that switches it on stands for the others.
NOT_SERVED = {
    "http.snapshot-timeout": "http.snapshot-timeout",
    "lease.databases": "lease.databases",
    "backup.cluster": "backup.type", "backup.auth-token": "backup.type",
    "tracing.path": "tracing.path", "tracing.enabled": "tracing.path", "tracing.max-size": "tracing.path",
    "tracing.max-count": "tracing.path", "tracing.compress": "tracing.path",
}


def keys(table):
    return {m[1] or m[3]: m[2] or m[4] for m in ROW.finditer(table)}


def without_warnings(source):
    """What warns of a key does not act on it."""
    return re.sub(r"\nwarn_not_served\(.*?\n}\n", "\n", source, flags=re.S)


def unread(table, sources, warnings):
    """What is wrong, a line each."""
    text = "\n".join(without_warnings(s) for s in sources)
    for key, member in keys(table).items():
        is_read = re.search(r"(?:\bc|->config|\bconfig|\bcf)(?:->|\.)" + re.escape(member) + r"\b", text) is not None
        if member.startswith("backup."):  # there are several: a struct config_backup each
            is_read = re.search(r"\bbackup->" + re.escape(member[7:]) + r"\b", text) is not None
        if is_read and key in NOT_SERVED:
            yield f"{key} is read: take it out of NOT_SERVED"
        if not is_read and key not in NOT_SERVED:
            yield f"{key} ({member}) is read by nothing: it would be accepted without effect"
        if key in NOT_SERVED and NOT_SERVED[key] not in warnings:
            yield f"{key} has no effect, and warn_not_served does not name {NOT_SERVED[key]}"


def main(root):
    directory = pathlib.Path(root) / "cmd" / "litefs"
    table = (directory / "config_keys.c").read_text()
    sources = [p.read_text() for p in sorted(directory.glob("*.[ch]")) if not NOT_READERS.match(p.name)]
    found = re.search(r"\nwarn_not_served\(.*?\n}\n", (directory / "mount.c").read_text(), re.S)
    if len(keys(table)) != table.count("        BOOL(") + table.count("        STRING(") + table.count("        DURATION(") \
            + table.count("        OTHER("):
        sys.exit("config_keys.py does not understand each row of config_keys.c")
    problems = list(unread(table, sources, found[0] if found else ""))
    for p in problems:
        print(f"cmd/litefs/config_keys.c: {p}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
