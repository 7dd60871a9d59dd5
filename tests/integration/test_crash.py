"""Kills of the application and of litefs at random points: every acknowledged row is there, the database is whole, and
the image is the replay of the log."""
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

import litefs_fixture
from litefs_fixture import Node, wait_until

SEED = int(os.environ.get("SEED", random.randrange(1 << 30)))
ROUNDS = int(os.environ.get("ROUNDS", 6))
print("SEED=%d" % SEED, flush=True)

# Commits numbered rows and prints each number once its COMMIT has returned.
WRITER = r"""
import sqlite3, sys
path, mode, sync, start = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
c = sqlite3.connect(path, isolation_level=None, timeout=20)
c.execute("pragma journal_mode=" + mode)
c.execute("pragma synchronous=" + sync)
c.execute("pragma cache_size=10")
c.execute("create table if not exists t(id integer primary key, pad, mark)")
n = start
while True:
    c.execute("begin")
    for _ in range(n % 40 + 1):
        c.execute("insert into t(pad) values(randomblob(?))", (n * 37 % 900,))
    c.execute("insert into t(mark) values(?)", (n,))
    c.execute("commit")
    print(n, flush=True)
    n += 1
"""


def start_writer(n, mode, sync, start):
    """A writer that has committed five times, however slow the disk. Its output goes to a file, for a pipe could fill up."""
    out = tempfile.TemporaryFile("w+")
    p = subprocess.Popen([sys.executable, "-c", WRITER, n.path("t.db"), mode, sync, str(start)],
                         stdout=out, stderr=subprocess.PIPE, text=True)
    p.out = out
    five = 5 * (len(str(start)) + 1)  # bytes of its lines
    wait_until(lambda: os.fstat(out.fileno()).st_size >= five or p.poll() is not None, "five commits")
    return p


def acknowledged(p):
    _, err = p.communicate()
    p.out.seek(0)
    lines = p.out.read().split("\n")
    p.out.close()
    # The last line may have been cut by the kill.
    return [int(x) for x in lines[:-1] if x], err


def marks(n):
    c = n.connect()
    assert c.execute("pragma integrity_check").fetchone()[0] == "ok"
    rows = [r[0] for r in c.execute("select mark from t where mark is not null order by mark")]
    c.close()
    return rows


def check_rows(n, acked):
    rows = marks(n)
    missing = set(acked) - set(rows)
    assert not missing, f"acknowledged and lost: {sorted(missing)[:10]}"
    assert len(rows) - len(acked) <= ROUNDS, "more rows than transactions that can have been in flight"
    assert rows == list(range(rows[0], rows[0] + len(rows))) if rows else True


def kill_application(mode, sync):
    rng = random.Random(f"{SEED}-app-{mode}")
    with Node() as n:
        acked, start = [], 0
        keeper = None
        for i in range(ROUNDS):
            p = start_writer(n, mode, sync, start)
            time.sleep(0.3 + rng.random() * 0.4)
            p.kill()
            got, err = acknowledged(p)
            assert "Error" not in err, err
            assert len(got) > 3, "the writer hardly wrote"
            acked += got
            if os.path.exists(n.path("t.db")) and n.connect().execute(
                    "select count(*) from sqlite_master").fetchone()[0]:
                check_rows(n, acked)
                start = max(marks(n), default=-1) + 1
            if i == 1:
                # From now on the wal-index outlives the writers.
                keeper = n.connect()
                keeper.execute("select count(*) from sqlite_master").fetchone()
        n.check()
        if keeper:
            keeper.close()
        n.restart()
        n.check()
        check_rows(n, acked)


def test_application_killed():
    for mode, sync in (("delete", "full"), ("wal", "full"), ("wal", "normal"), ("truncate", "normal"), ("persist", "full")):
        kill_application(mode, sync)


def kill_daemon(mode, sync):
    rng = random.Random(f"{SEED}-daemon-{mode}")
    with Node() as n:
        acked, start = [], 0
        for _ in range(ROUNDS):
            p = start_writer(n, mode, sync, start)
            time.sleep(0.3 + rng.random() * 0.4)
            n.kill()
            p.wait(60)
            got, _ = acknowledged(p)
            assert len(got) > 3, "the writer hardly wrote"
            acked += got
            n.start()
            if acked:
                check_rows(n, acked)
                n.check()
                start = max(marks(n)) + 1


def test_daemon_killed():
    for mode, sync in (("delete", "full"), ("wal", "full"), ("wal", "normal"), ("delete", "off"), ("persist", "full"),
                       ("memory", "full")):
        kill_daemon(mode, sync)


def test_stopped_under_load():
    for mode in ("delete", "wal"):
        with Node() as n:
            acked, start = [], 0
            for _ in range(2):
                p = start_writer(n, mode, "full", start)
                time.sleep(0.4)
                assert n.stop() == 0
                p.wait(60)
                got, _ = acknowledged(p)
                acked += got
                n.start()
                check_rows(n, acked)
                n.check()
                start = max(marks(n)) + 1


# A writer that ends between its commit frame and the wal-index: the n-th write to the WAL is its last.
DYING_WRITER = r"""
import ctypes, os, sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("pragma synchronous=full")
c.execute("select count(*) from t").fetchone()
print("ready", flush=True)
sys.stdin.readline()
c.execute("insert into t values('from the dead')")
print("survived", flush=True)
"""


def die_in_wal_sync(n):
    """strace kills the writer when it enters the fdatasync that follows the commit frame."""
    p = subprocess.Popen(["strace", "-f", "-o", "/dev/null", "-e", "trace=fdatasync,fsync",
                          "-e", "inject=fdatasync,fsync:signal=KILL:when=1",
                          sys.executable, "-c", DYING_WRITER, n.path("t.db")],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "ready\n"
    out, _ = p.communicate("go\n")
    assert "survived" not in out
    return out


def test_writer_that_dies_between_commit_frame_and_wal_index():
    with Node() as n:
        keeper = n.connect()
        keeper.execute("pragma journal_mode=wal")
        keeper.execute("create table t(x)")
        keeper.execute("insert into t values('before')")
        before = n.pos()
        die_in_wal_sync(n)
        assert n.pos() > before, "the commit frame was written, so the transaction is captured"
        # The captured transaction stays: the others find it, and write behind it.
        for i in range(3):
            for _ in range(50):
                try:
                    keeper.execute("insert into t values(?)", (i,))
                    break
                except sqlite3.OperationalError:
                    time.sleep(0.02)
        rows = [r[0] for r in keeper.execute("select x from t")]
        assert rows == ["before", "from the dead", 0, 1, 2], rows
        n.check()
        keeper.execute("pragma wal_checkpoint(truncate)")
        keeper.close()
        n.check()
        n.restart()
        n.check()


def test_plain_files_that_a_crash_left_are_settled():
    """A copy beside the database that it became, and a complete database that was not taken over."""
    with Node() as n:
        c = n.connect("a.db")
        c.execute("create table t(x)")
        c.execute("insert into t values(1)")
        c.close()
        files = os.path.join(n.data, "files")
        n.kill()
        c = sqlite3.connect(os.path.join(files, "a.db"))
        c.execute("create table stale(x)")
        c.commit()
        c.close()
        with open(os.path.join(files, "a.db-journal"), "wb") as f:
            f.write(b"stale")
        os.mkdir(os.path.join(files, "d"))
        c = sqlite3.connect(os.path.join(files, "d", "b.db"))
        c.execute("create table t(x)")
        c.execute("insert into t values(2)")
        c.commit()
        c.close()
        with open(os.path.join(files, "plain"), "w") as f:
            f.write("plain")
        n.start()
        assert sorted(os.listdir(files)) == ["d", "plain"] and os.listdir(os.path.join(files, "d")) == []
        n.check("a.db")
        n.check("d/b.db")
        assert n.connect("a.db").execute("select * from t").fetchall() == [(1,)]
        assert n.connect("d/b.db").execute("select * from t").fetchall() == [(2,)]
        os.unlink(n.path("a.db"))
        assert not os.path.exists(n.path("a.db"))


if __name__ == "__main__":
    litefs_fixture.run(sys.modules[__name__])
