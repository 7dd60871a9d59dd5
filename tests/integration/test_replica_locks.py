"""Applications on a replica, whose locks are in the way of what comes from the primary."""
import os
import re
import sqlite3
import subprocess
import sys
import time

from litefs_fixture import Node, in_step, replica_of, run, wait_until

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


RECOVERING = """
import fcntl, os, sqlite3, struct, sys
path, dms, write = sys.argv[1], 128, 120

def lock(fd, what, byte):
    fcntl.fcntl(fd, fcntl.F_SETLK, struct.pack("hhqqi4x", what, os.SEEK_SET, byte, 1, 0))

# As SQLite does that finds nobody: the wal-index of those before it is nothing. WRITE is not given back before it is made.
fd = os.open(path + "-shm", os.O_RDWR | os.O_CREAT, 0o644)
lock(fd, fcntl.F_WRLCK, dms)
os.ftruncate(fd, 3)
lock(fd, fcntl.F_RDLCK, dms)
lock(fd, fcntl.F_WRLCK, write)
print("begun", flush=True)
sys.stdin.readline()
c = sqlite3.connect(path, isolation_level=None, timeout=20)
print(c.execute("select count(*) from t").fetchone()[0], flush=True)
sys.stdin.readline()
print(c.execute("select count(*), total(a) from t").fetchone(), c.execute("pragma integrity_check").fetchall(), flush=True)
"""


def has_ofd_lock(path, byte):
    """The daemon has it: its locks are of that kind."""
    st = os.stat(path)
    found = re.findall(r"OFDLCK +ADVISORY +\w+ +-1 +(\w+):(\w+):(\d+) (\d+) (\d+)", open("/proc/locks", encoding="ascii").read())
    return any((int(major, 16), int(minor, 16), int(ino)) == (os.major(st.st_dev), os.minor(st.st_dev), st.st_ino)
               and int(first) <= byte <= int(last) for major, minor, ino, first, last in found)


def test_wal_index_that_another_one_makes_meanwhile():
    """The daemon has read it, empty, before an application makes it anew from a WAL that was left: what the daemon enters then
    must not take away what is there."""
    with Node() as p, replica_of(p) as r:
        c = make(p, "wal")
        in_step(p, r)
        reader = subprocess.Popen([sys.executable, "-c", READER, r.path("t.db")], text=True, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)
        assert reader.stdout.readline() == "1\n"
        c.execute("create index i on t(b)")
        for i in range(60):
            c.execute("insert into t(b) values(randomblob(3000))")
        in_step(p, r)
        shared = 1 << 30
        wait_until(lambda: not has_ofd_lock(r.path("t.db"), shared + 2), "the daemon to let go")
        reader.kill()  # so that it leaves its WAL
        reader.communicate()
        other = subprocess.Popen([sys.executable, "-c", RECOVERING, r.path("t.db")], text=True, stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE)
        assert other.stdout.readline() == "begun\n"
        c.execute("insert into t(b) values(randomblob(3000))")
        wait_until(lambda: has_ofd_lock(r.path("t.db-shm"), 128), "the daemon to open the wal-index")
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline() == "61\n"
        for i in range(5):
            c.execute("update t set b = randomblob(3000) where a % 7 = ?", (i,))
        in_step(p, r)
        want = c.execute("select count(*), total(a) from t").fetchone()
        said, _ = other.communicate("\n", timeout=60)
        assert said == f"{want} [('ok',)]\n", said
        r.check()
        c.close()


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
