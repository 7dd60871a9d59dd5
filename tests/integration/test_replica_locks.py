"""Applications on a replica, whose locks are in the way of what comes from the primary."""
import sqlite3
import subprocess
import sys
import time

from litefs_fixture import Node, in_step, replica_of, run

READER = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("begin")
print(c.execute("select count(*) from t").fetchone()[0], flush=True)
sys.stdin.read()
"""


def make(p, mode):
    c = p.connect()
    c.execute(f"pragma journal_mode={mode}")
    c.execute("create table t(a integer primary key, b)")
    c.execute("insert into t(b) values(0)")
    return c


def test_write_that_is_refused_beside_a_reader():
    """It has restarted the wal-index by then, which now says that there are no frames; a reader of the file alone does not
    mind what is done to it."""
    with Node() as p, replica_of(p) as r:
        c = make(p, "wal")
        in_step(p, r)
        other = r.connect() # so that there is a WAL
        assert other.execute("select count(*) from t").fetchone()[0] == 1
        c.execute("delete from t where a = 2")
        c.execute("insert into t(b) values(0)")
        c.execute("delete from t where a = 2")
        in_step(p, r)
        busy, frames, _ = other.execute("pragma wal_checkpoint(restart)").fetchone()
        assert busy == 0 and frames > 0
        try:
            other.execute("insert into t(b) values(9)")
            raise AssertionError("a write on a replica")
        except sqlite3.OperationalError:
            pass
        reader = r.connect()
        reader.execute("begin")
        assert reader.execute("select count(*) from t").fetchone()[0] == 1
        for _ in range(3):
            c.execute("insert into t(b) values(1)")
            in_step(p, r)
        assert reader.execute("select count(*) from t").fetchone()[0] == 1
        assert other.execute("select count(*) from t").fetchone()[0] == 4
        reader.execute("commit")
        assert reader.execute("select count(*) from t").fetchone()[0] == 4
        c.execute("insert into t(b) values(2)")
        in_step(p, r)
        r.check()
        for each in (c, other, reader):
            each.close()


def test_file_shrinks_with_the_database():
    """In WAL mode, when all of the WAL is copied back."""
    with Node() as p, replica_of(p) as r:
        c = make(p, "wal")
        in_step(p, r)
        other = r.connect() # so that there is a WAL
        other.execute("select count(*) from t").fetchone()
        c.execute("insert into t(b) with recursive n(i) as (values(1) union all select i + 1 from n where i < 300) "
                  "select randomblob(10000) from n")
        c.execute("delete from t where a > 1")
        c.execute("vacuum")
        pages = c.execute("pragma page_count").fetchone()[0]
        c.execute("create table u(b)")
        for i in range(1200):
            c.execute("insert into u values(?)", (i,))
        in_step(p, r)
        pages = c.execute("pragma page_count").fetchone()[0]
        assert p.visible() == r.visible()
        with open(r.path("t.db"), "rb") as f:
            assert f.seek(0, 2) < 300 * 10000
        r.check()
        c.close()
        other.close()


def test_readers_beside_one_that_stays():
    """The writer that waits for it keeps others out only for a small part of the time."""
    with Node() as p, replica_of(p) as r:
        c = make(p, "delete")
        in_step(p, r)
        # Another process: the connections of one share its lock.
        reader = subprocess.Popen([sys.executable, "-c", READER, r.path("t.db")], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)
        assert reader.stdout.readline() == b"1\n"
        c.execute("insert into t(b) values(1)")
        other = sqlite3.connect(r.path("t.db"), isolation_level=None, timeout=0)
        outcomes = []
        end = time.monotonic() + 4
        while time.monotonic() < end:
            try:
                other.execute("select count(*) from t").fetchone()
                outcomes.append(True)
            except sqlite3.OperationalError as e:
                assert "locked" in str(e), e
                outcomes.append(False)
            time.sleep(0.005)
        refused = outcomes.count(False) / len(outcomes)
        assert refused < 0.8, f"{refused:.0%} of {len(outcomes)} readers were refused"
        assert r.pos() != p.pos()
        reader.communicate()
        in_step(p, r)
        for each in (c, other):
            each.close()


if __name__ == "__main__":
    run(sys.modules[__name__])
