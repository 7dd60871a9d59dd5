"""A reader that nobody here wrote: Litestream's own VFS, from npm's registry, reads what litefs backs up, page by page and as a
whole file (hydration); and what it writes, litefs restores. Where Node, the registry or the machine for it cannot be had, the test is skipped."""
import json
import os
import platform
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import contextmanager

import rados
from litefs_fixture import LITEFS, run, wait_until
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
    return "|".join("" if v is None else str(v) for v in row)  # of a table that is empty, as the shell writes it


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


def write(url, sql, directory, environment, vfs_path):
    """One transaction by Litestream's VFS, and its TXID when it is there."""
    env = {**environment, "LITESTREAM_REPLICA_URL": url, "LITESTREAM_WRITE_ENABLED": "true", "LITESTREAM_SYNC_INTERVAL": "100ms",
           "LITESTREAM_BUFFER_PATH": os.path.join(directory, "buffer"), "LITESTREAM_LOG_FILE": os.path.join(directory, "vfs.log")}
    env.pop("AWS_CA_BUNDLE", None)
    with open(os.path.join(directory, "vfs.log"), "a+", encoding="utf-8") as f:
        log_begin = f.seek(0, os.SEEK_END)
        p = subprocess.Popen(["sqlite3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
        try:
            p.stdin.write(f".load {vfs_path}\n.open file:t.db?vfs=litestream\n{sql}\n")
            p.stdin.flush()

            def is_there():
                f.seek(log_begin)
                return "synced to remote" in f.read() or p.poll() is not None
            wait_until(is_there, "Litestream to have written")
        finally:
            out = p.communicate("select litestream_txid();\n", timeout=60)[0]
        assert p.returncode == 0 and len(out.split()) == 1, out
        return out.strip()


STATEMENTS = ("create table t(id integer primary key, x)", "insert into t(x) values(randomblob(30000))",
              "begin; update t set x=randomblob(9000) where id=1; insert into t(x) values(randomblob(50000)); commit",
              "delete from t where id=1", "create index i on t(x)")


def written_and_restored(url, directory, environment, vfs_path):
    """By Litestream, and by litefs."""
    twin = sqlite3.connect(os.path.join(directory, "twin.db"), isolation_level=None)
    out = os.path.join(directory, "restored.db")
    lengths = "select id, length(x) from t order by id"
    for sql in STATEMENTS:
        twin.executescript(sql)
        txid = write(url, sql + ";", directory, environment, vfs_path)
        p = subprocess.run([LITEFS, "restore", "-json", "-force", "-integrity-check", "full", "-o", out, url], capture_output=True,
                           text=True, env=environment, check=True)
        assert json.loads(p.stdout)["txid"] == txid, (p.stdout, txid)
        c = sqlite3.connect(out)
        assert c.execute(lengths).fetchall() == twin.execute(lengths).fetchall(), sql
        c.close()
    twin.close()


def test_what_it_wrote_to_a_directory():
    with library() as path, tempfile.TemporaryDirectory(prefix="litefs-it-") as d:
        os.mkdir(os.path.join(d, "replica"))
        written_and_restored(f"file://{d}/replica", d, dict(os.environ), path)


def test_bucket():
    """Both ways, for a server takes its time to start."""
    if any(shutil.which(p) is None for p in rados.PROGRAMS):
        print("skipped: a bucket, for there is no radosgw")
        return
    with library() as path, rados.Rados() as server, Bucketed(server, "lite") as n:
        options = f"?endpoint={server.url}&region=us-east-1&forcePathStyle=true"
        each_moment(n, f"s3://{server.bucket}/lite/t.db{options}", n.wait_for_backup, lambda: n.restore()[1], path, MOMENTS[1:3],
                    n.environment)
        with tempfile.TemporaryDirectory(prefix="litefs-it-") as d:
            written_and_restored(f"s3://{server.bucket}/its/t.db{options}", d, n.environment, path)


if __name__ == "__main__":
    print("SEED", SEED)
    run(sys.modules[__name__])
