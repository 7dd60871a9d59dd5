"""What those see who have a database open while the primary changes or litefs is restarted: docs/operations.md has the table, and
each line of it is held to here."""
import os
import re
import sqlite3
import subprocess
import sys

from cluster_fixture import HERE, Cluster, need, run
from litefs_fixture import LITEFS, Node, wait_until

need("etcd")
MODES = ("delete", "truncate", "persist", "memory", "off", "wal")
DOCS = os.path.join(HERE, "..", "..", "..", "docs", "operations.md")


def documented(heading):
    """{mode: [codes of the other columns]} of the table that follows the heading."""
    with open(DOCS, encoding="utf-8") as f:
        text = f.read()
    section = text[text.index(heading):].split("\n### ")[0].split("\n## ")[0]
    rows = {}
    for line in section.splitlines():
        cells = [c.strip().strip("`") for c in line.strip().strip("|").split("|")]
        for mode in re.split(r", ", cells[0]):
            if mode in MODES:
                rows[mode] = cells[1:]
    assert sorted(rows) == sorted(MODES), rows
    return rows


def told(c, sql):
    try:
        c.execute(sql).fetchall()
        return "no error"
    except sqlite3.Error as e:
        return e.sqlite_errorname


def open_connections(node):
    """Of each mode one with an open write transaction, and one that has read."""
    found = {}
    for mode in MODES:
        writer = node.connect(mode + ".db")
        writer.execute(f"pragma journal_mode={mode}")
        writer.execute("create table if not exists t(a)")
        reader = node.connect(mode + ".db")
        reader.execute(f"pragma journal_mode={mode}")
        reader.execute("select * from t").fetchall()
        found[mode] = writer, reader
    return found


def begin_writes(connections):
    for writer, _ in connections.values():
        writer.execute("begin immediate")
        writer.execute("insert into t values(1)")


def hand_over(cl):
    """The node that led."""
    node = cl.wait_followers()
    r = subprocess.run([LITEFS, "handoff", "-config", node.config], capture_output=True, text=True, check=False)
    assert r.returncode == 0, r.stderr
    cl.wait_primary(other_than=(node,))
    return node


def test_a_hand_over():
    want = documented("### What an open connection sees")
    with Cluster(2, "etcd", ttl="10s") as cl:
        p = cl.wait_primary()
        connections = open_connections(p)
        begin_writes(connections)
        assert hand_over(cl) is p
        for mode, (writer, reader) in connections.items():
            seen = [told(writer, "commit"), told(reader, "insert into t values(2)")]
            assert seen == want[mode][:2], (mode, seen)
            assert not writer.in_transaction
            for c in writer, reader:
                assert c.execute("select count(*) from t").fetchone() == (0,), mode
        hand_over(cl)
        for mode, (writer, reader) in connections.items():
            for c in writer, reader:
                assert told(c, "insert into t values(3)") == "no error", mode
            assert reader.execute("select count(*) from t").fetchone() == (2,), mode
        for mode in MODES:
            cl.check_equal(mode + ".db")


def test_a_restart():
    want = documented("### What an open connection sees")
    with Node() as n:
        connections = open_connections(n)
        begin_writes(connections)
        n.restart()
        for mode, (writer, reader) in connections.items():
            seen = [told(writer, "commit"), told(reader, "select * from t")]
            assert seen == want[mode][2:], (mode, seen)
            for c in writer, reader:
                assert told(c, "select * from t") == want[mode][3], mode
                assert told(c, "insert into t values(4)") == want[mode][3], mode
                c.close()
            fresh = n.connect(mode + ".db")
            assert told(fresh, "insert into t values(5)") == "no error"
            assert fresh.execute("select a from t").fetchall() == [(5,)], mode
            fresh.close()
            n.check(mode + ".db")


if __name__ == "__main__":
    run(sys.modules[__name__])
