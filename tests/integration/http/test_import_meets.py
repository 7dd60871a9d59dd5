"""An import of a database that another part of the daemon is just working on: the one comes after the other."""
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time

from http_fixture import Node, run, wait_until
from litefs_fixture import LITEFS


def make(path, mib, tag):
    c = sqlite3.connect(path, isolation_level=None)
    for sql in ("pragma synchronous=off", "create table t(a, b)", "begin"):
        c.execute(sql)
    for _ in range(max(1, mib * 10)):
        c.execute("insert into t values(?, randomblob(100000))", (tag,))
    c.execute("commit")
    c.close()


def import_file(n, path, name="x.db"):
    return subprocess.run([LITEFS, "import", "-url", f"http://127.0.0.1:{n.port()}", "-name", name, path],
                          capture_output=True, text=True, timeout=60)


def content(n, name="x.db"):
    c = n.connect(name)
    try:
        assert c.execute("pragma integrity_check").fetchone() == ("ok",)
        return {row[0] for row in c.execute("select distinct a from t")}
    finally:
        c.close()


def is_whole(n, name="x.db"):
    """The log leads to what is seen, also after a restart."""
    assert n.process.poll() is None, n.log()
    before, pos = content(n, name), n.pos(name)
    n.restart()
    assert content(n, name) == before and n.pos(name) == pos


def test_import_meets_adoption():
    """The copy is whole, and being taken over, when the import comes: 20 ms after its last byte, and at other moments."""
    with Node() as n:
        big, small = os.path.join(n.root, "big.db"), os.path.join(n.root, "small.db")
        make(big, 160, "big")
        make(small, 1, "small")
        for wait in (0.02, 0.0, 0.2):
            name = f"x{wait}.db"
            closed = []

            def copy():
                try:
                    shutil.copyfile(big, n.path(name))
                    closed.append(None)
                except OSError as e:
                    closed.append(e)

            t = threading.Thread(target=copy)
            t.start()
            size = os.stat(big).st_size
            wait_until(lambda: os.path.exists(n.path(name)) and os.stat(n.path(name)).st_size == size, "the last byte")
            time.sleep(wait)
            p = import_file(n, small, name)
            t.join()
            assert n.process.poll() is None, n.log()
            assert p.returncode == 0, p.stderr
            assert content(n, name) == {"small"}, content(n, name)
            is_whole(n, name)


if __name__ == "__main__":
    run(sys.modules[__name__])
