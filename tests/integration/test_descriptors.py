"""More databases than the process may have file descriptors: idle ones need none, and what is kept for the API is not touched."""
import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys

import litefs_fixture
from litefs_fixture import LITEFS, Node, wait_until

LIMIT = 200
FOR_FILES = 150
N_DATABASES = 300


def start(node):
    return node.start(wrapper=["prlimit", f"--nofile={LIMIT}:{LIMIT}"])


def n_open(node):
    return len(os.listdir(f"/proc/{node.process.pid}/fd"))


def create(node, name, mode):
    with contextlib.closing(node.connect(name)) as c:
        c.execute(f"pragma journal_mode={mode}")
        c.execute("create table t(a)")
        c.execute("insert into t values(?)", (name,))


def create_soon(node, name, mode):
    """Where all descriptors are those of databases that were used a moment ago, it may be refused for as long."""
    def once():
        try:
            create(node, name, mode)
            return True
        except sqlite3.OperationalError:
            if os.path.exists(node.path(name)):
                os.unlink(node.path(name))
            return False
    wait_until(once, f"{name} to be made")


def names():
    return [(f"{i:03}.db", ("wal", "delete")[i % 2]) for i in range(N_DATABASES)]


def rows(node, name):
    try:
        with contextlib.closing(node.connect(name)) as c:  # some builds of SQLite open the file at once
            return c.execute("select a from t").fetchall()
    except sqlite3.OperationalError:  # as above
        return None


def check_all(node):
    for name, _ in names():
        assert wait_until(lambda name=name: rows(node, name), f"{name} to be opened") == [(name,)], name


def test_idle_databases_need_no_descriptor():
    n = Node()
    try:
        start(n)
        for name, mode in names():
            create_soon(n, name, mode)
            assert n_open(n) <= FOR_FILES + 10
        check_all(n)
        wait_until(lambda: n_open(n) < FOR_FILES / 2 + 10, "idle ones to rest")
        # Each of them goes on where it was, and its log with it.
        for name, _ in names()[:20]:
            c = n.connect(name)
            c.execute("insert into t values(1)")
            c.close()
            n.check(name)
        assert n.stop() == 0
        start(n)
        assert n_open(n) < FOR_FILES
        for name, _ in names()[:20]:
            c = n.connect(name)
            c.execute("delete from t where a = 1")
            c.close()
        check_all(n)
        n.kill()  # what was committed to one that had rested is there
        start(n)
        check_all(n)
        assert n.stop() == 0
        n.check_log()
        assert "not verified" not in n.log(), n.log()
    finally:
        n.__exit__(*sys.exc_info())


def open_until_refused(node, connections):
    for i in range(LIMIT):
        c = None
        try:
            c = node.connect(f"open{i}.db", timeout=1)
            c.execute("pragma journal_mode=wal")
            c.execute("create table t(a)")
            c.execute("insert into t values(1)")
            connections.append(c)
        except sqlite3.OperationalError:
            if c is not None:
                c.close()
            return
    raise AssertionError("no database was refused")


def test_new_databases_are_refused_before_the_reserve_is_touched():
    n = Node()
    connections = []
    try:
        start(n)
        open_until_refused(n, connections)
        assert len(connections) > 20
        assert n_open(n) <= FOR_FILES + 10
        assert n.get("/healthz") == "OK\n" and n.get("/readyz") == "OK\n"
        assert '"open0.db"' in n.get("/db")
        for c in connections:  # those that are open go on
            c.execute("insert into t values(2)")
        told = [line for line in n.log().splitlines() if "raise the limit" in line]
        assert len(told) == 1, told
        found = json.loads(subprocess.run([LITEFS, "doctor", "-json", "-config", n.config], capture_output=True, text=True,
                                          check=False).stdout)
        assert [f for f in found if f["check"] == "descriptors" and f["level"] == "WARN"], found
        for c in connections:
            c.close()
        connections.clear()
        create_soon(n, "after.db", "wal")
        assert n.stop() == 0
    finally:
        for c in connections:
            c.close()
        n.__exit__(*sys.exc_info())


def test_deleted_databases_cost_nothing():
    n = Node()
    try:
        start(n)
        for name, mode in names():
            create_soon(n, name, mode)
            os.unlink(n.path(name))
        create_soon(n, "stays.db", "wal")
        wait_until(lambda: n_open(n) < FOR_FILES / 2 + 10, "deleted ones to be closed")
        for path in ("/db", "/cluster", "/metrics", "/debug/vars"):
            text = n.get(path)
            assert "stays.db" in text and "000.db" not in text, path
        assert re.search(r"^litefs_db_count 1$", n.get("/metrics"), re.M)
        create_soon(n, "000.db", "wal")  # it goes on behind its tombstone
        n.check("000.db")
        assert n.stop() == 0
    finally:
        n.__exit__(*sys.exc_info())


if __name__ == "__main__":
    litefs_fixture.run(sys.modules[__name__])
