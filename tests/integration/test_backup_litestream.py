"""A reader that nobody here wrote: Litestream's own VFS, from npm's registry, reads what litefs backs up, page by page and as a
whole file (hydration). Where Node, the registry or the machine for it cannot be had, the test is skipped."""
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager

import rados
from litefs_fixture import run
from test_backup import SEED, Backed, restore, wait_for_backup, work
from test_backup_s3 import Bucketed

VERSION = "0.5.17"


def install(directory):
    if not all(map(shutil.which, ("node", "npm", "sqlite3"))) or platform.machine() != "x86_64":
        return None
    r = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts",
                        f"litestream-vfs-linux-amd64@{VERSION}"], cwd=directory, capture_output=True, text=True, timeout=120)
    path = os.path.join(directory, "node_modules/litestream-vfs-linux-amd64/litestream-vfs.so")
    return path if r.returncode == 0 and os.path.exists(path) else None


QUERY = "select count(*), total(length(x)), group_concat(hex(substr(x, 1, 8)), '') from t"


def read(n, url, environment=None, hydrate=None, vfs_path=None):
    """(TXID, what QUERY gives) by Litestream; with @hydrate the whole file is made there."""
    env = {**(environment or os.environ), "LITESTREAM_REPLICA_URL": url, "LITESTREAM_LOG_FILE": os.path.join(n.root, "vfs.log"),
           "LITESTREAM_HYDRATION_ENABLED": "true" if hydrate else "false", "LITESTREAM_HYDRATION_PATH": hydrate or ""}
    env.pop("AWS_CA_BUNDLE", None)  # with that it does not start
    script = f".load {vfs_path}\n.open file:t.db?vfs=litestream\nselect litestream_txid();\npragma integrity_check;\n{QUERY};\n"
    if hydrate:
        script += ".shell sleep 2\nselect 1;\n"
    p = subprocess.run(["sqlite3"], input=script, capture_output=True, text=True, env=env, timeout=120)
    lines = p.stdout.splitlines()
    rows = [i for i, line in enumerate(lines) if "|" in line]
    assert p.returncode == 0 and rows and is_intact(n, lines[1:rows[0]]), (p.stdout, p.stderr, n.log())
    return lines[0], lines[rows[0]]


def is_intact(n, lines):
    """The reader (0.5.17) shows a database that has shrunk as long as it was: SQLite then finds pages behind its end, of which
    it says no more than that."""
    c = n.connect()
    pages = c.execute("pragma page_count").fetchone()[0]
    c.close()
    found = [re.fullmatch(r"Page (\d+)(:| is) never used", line) for line in lines if line != "*** in database main ***"]
    return lines == ["ok"] or (found != [] and all(m and int(m[1]) > pages for m in found))


def expected(n):
    c = n.connect()
    row = c.execute(QUERY).fetchone()
    c.close()
    return "|".join(str(v) for v in row)


@contextmanager
def library():
    with tempfile.TemporaryDirectory(prefix="litefs-vfs-") as d:
        path = install(d)
        if path is None:
            print("skipped: no Node, or no litestream-vfs to be had from npm")
            sys.exit(77)
        yield path


MOMENTS = (("wal", 4096), ("delete", 4096), ("delete", 1024), ("wal", 1024))


def each_moment(n, url, wait, image, vfs_path, moments=MOMENTS, environment=None):
    rng = random.Random(SEED)
    c = n.connect()
    for mode, size in moments:
        c.execute("pragma journal_mode=delete")
        c.execute(f"pragma page_size={size}")
        c.execute("vacuum")
        c.execute("pragma journal_mode=" + mode)
        c.execute("create table if not exists t(id integer primary key, x)")
        work(c, rng, 15)
        wait()
        got = read(n, url, environment, vfs_path=vfs_path)
        assert got == (n.pos().split("/")[0], expected(n)), (mode, size, got)
    hydrated = os.path.join(n.root, "hydrated.db")
    read(n, url, environment, hydrate=hydrated, vfs_path=vfs_path)
    with open(hydrated, "rb") as f:
        whole = bytearray(f.read())
    mine = bytearray(image())
    # It shows a WAL database as one of a rollback mode, because it has no WAL.
    whole[18:20] = mine[18:20] = b"\1\1"
    assert whole[:len(mine)] == mine
    c.close()


def test_directory():
    with library() as path, Backed() as n:
        each_moment(n, "file://" + n.place(), lambda: wait_for_backup(n), lambda: restore(n)[2], path)


def test_bucket():
    if any(shutil.which(p) is None for p in rados.PROGRAMS):
        print("skipped: a bucket, for there is no radosgw")
        return
    with library() as path, rados.Rados() as server, Bucketed(server, "lite") as n:
        url = f"s3://{server.bucket}/lite/t.db?endpoint={server.url}&region=us-east-1&forcePathStyle=true"
        each_moment(n, url, n.wait_for_backup, lambda: n.restore()[1], path, MOMENTS[1:3], n.environment)


if __name__ == "__main__":
    print("SEED", SEED)
    run(sys.modules[__name__])
