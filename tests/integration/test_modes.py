"""Every journal mode, page size and awkward statement: after each transaction the visible image is the replay of the
log, the checksum holds, and SQLite finds nothing wrong."""
import os
import random
import shutil
import sqlite3
import subprocess
import sys

import litefs_fixture
from litefs_fixture import Node, wait_until

SEED = int(os.environ.get("SEED", random.randrange(1 << 30)))
print("SEED=%d" % SEED, flush=True)

MODES = ["delete", "truncate", "persist", "wal", "memory", "off", "wal+exclusive", "delete+exclusive"]


def settle(n, name="t.db"):
    """Without a journal or a sync the capture comes a moment later: waits for it."""
    def same():
        try:
            n.check(name)
            return True
        except AssertionError:
            return False
    wait_until(same, "capture of writes without a journal")


def open_mode(n, mode, page_size, name="t.db"):
    c = n.connect(name)
    journal, _, locking = mode.partition("+")
    c.execute(f"pragma page_size={page_size}")
    if locking:
        c.execute("pragma locking_mode=exclusive")
    got = c.execute(f"pragma journal_mode={journal}").fetchone()[0]
    assert got == journal, got
    return c


def workload(n, c, rng, mode, steps):
    c.execute("pragma cache_size=5")
    c.execute("create table t(a integer primary key, b, c)")
    c.execute("create index i on t(b)")
    can_roll_back = not mode.startswith("off")
    for _ in range(steps):
        kind = rng.randrange(9)
        k = rng.randrange(1, 60)
        if kind < 3:
            c.execute("begin")
            for _ in range(k):
                c.execute("insert into t(b,c) values(?,?)", (rng.randrange(1000), rng.randbytes(rng.randrange(900))))
            c.execute("commit")
        elif kind == 3:
            c.execute("update t set c=?, b=b+1 where a%7=?", (rng.randbytes(200), k % 7))
        elif kind == 4:
            c.execute("delete from t where a%5=?", (k % 5,))
        elif kind == 5 and can_roll_back:
            c.execute("begin")
            c.execute("delete from t where a%3=0")
            c.executemany("insert into t(b,c) values(?,?)", [(k, rng.randbytes(500))] * k)
            c.execute("rollback")
        elif kind == 6 and can_roll_back:
            c.execute("begin")
            c.execute("insert into t(b,c) values(1,?)", (rng.randbytes(3000),))
            c.execute("savepoint s")
            c.execute("update t set c=zeroblob(700) where a%2=0")
            c.execute("rollback to s")
            c.execute("release s")
            c.execute("commit")
        elif kind == 7:
            # Pages that are born and freed in one transaction are never written: holes.
            c.execute("begin")
            c.execute("insert into t(b,c) values(-1,zeroblob(40000))")
            c.execute("delete from t where b=-1")
            c.execute("insert into t(b,c) values(7,'x')")
            c.execute("commit")
        elif kind == 8:
            c.execute("vacuum")
        if mode in ("memory", "off", "wal+exclusive", "delete+exclusive"):
            continue
        n.check()
    assert c.execute("pragma integrity_check").fetchone()[0] == "ok"


def run_mode(mode, page_size, steps):
    rng = random.Random(f"{SEED}-{mode}-{page_size}")
    with Node() as n:
        c = open_mode(n, mode, page_size)
        workload(n, c, rng, mode, steps)
        rows = c.execute("select count(*), total(length(c)) from t").fetchone()
        c.close()
        settle(n)
        n.restart()
        n.check()
        c = n.connect()
        assert c.execute("select count(*), total(length(c)) from t").fetchone() == rows
        assert c.execute("pragma integrity_check").fetchone()[0] == "ok"
        c.close()


def test_random_workload_in_each_mode_and_page_size():
    for mode in MODES:
        for page_size in (512, 4096, 65536):
            try:
                run_mode(mode, page_size, 14 if page_size == 65536 else 25)
            except BaseException:
                print(f"mode {mode}, page size {page_size}, SEED={SEED}", file=sys.stderr)
                raise


def test_mode_switches_both_ways():
    with Node() as n:
        c = n.connect()
        c.execute("create table t(x)")
        for mode in ("wal", "delete", "wal", "truncate", "persist", "wal", "memory", "delete", "wal", "delete"):
            assert c.execute(f"pragma journal_mode={mode}").fetchone()[0] == mode
            for i in range(3):
                c.execute("insert into t values(randomblob(3000))")
            settle(n)
        c.close()
        n.restart()
        n.check()
        assert n.connect().execute("select count(*) from t").fetchone()[0] == 30


def test_page_size_change_by_vacuum():
    with Node() as n:
        c = n.connect()
        c.execute("create table t(x)")
        c.executemany("insert into t values(?)", [(os.urandom(500),) for _ in range(300)])
        for size in (512, 65536, 1024, 8192):
            c.execute(f"pragma page_size={size}")
            c.execute("vacuum")
            assert c.execute("pragma page_size").fetchone()[0] == size
            n.check()
            c.execute("insert into t values('after')")
            n.check()
        c.close()
        n.restart()
        n.check()


def test_auto_vacuum_and_shrink_in_wal_mode():
    with Node() as n:
        c = n.connect()
        c.execute("pragma auto_vacuum=full")
        c.execute("pragma journal_mode=wal")
        c.execute("create table t(x)")
        c.executemany("insert into t values(?)", [(os.urandom(5000),) for _ in range(600)])
        n.check()
        c.execute("delete from t where rowid%4")
        n.check()
        c.execute("vacuum")
        n.check()
        c.execute("pragma wal_checkpoint(truncate)")
        n.check()
        c.execute("delete from t")
        n.check()


def test_journal_size_limit():
    with Node() as n:
        for name, mode in (("p.db", "persist"), ("w.db", "wal")):
            c = n.connect(name)
            c.execute(f"pragma journal_mode={mode}")
            c.execute("pragma journal_size_limit=1000")
            c.execute("create table t(x)")
            for _ in range(5):
                c.execute("insert into t values(randomblob(9000))")
                n.check(name)
            if mode == "wal":
                c.execute("pragma wal_checkpoint(restart)")
                c.execute("insert into t values(1)")
                n.check(name)


def test_writes_without_a_journal_beside_one_of_a_dead_writer():
    """Killed before it wrote a page, a writer leaves a journal that nobody takes for hot. Whoever needs none commits
    all the same."""
    with Node() as n:
        c = n.connect()
        c.execute("create table t(x)")
        c.close()
        dead = subprocess.run([sys.executable, "-c", "import os, sqlite3, sys\n"
                               "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
                               "c.execute('begin')\n"
                               "c.execute('insert into t values(1)')\n"
                               "os.kill(os.getpid(), 9)", n.path("t.db")])
        assert dead.returncode == -9 and os.path.exists(n.path("t.db-journal"))
        c = n.connect()
        assert c.execute("pragma journal_mode=memory").fetchone()[0] == "memory"
        before = n.pos()
        c.execute("insert into t values(2)")
        assert n.pos() != before
        c.close()
        n.kill()
        n.start()
        c = n.connect()
        assert c.execute("select x from t").fetchall() == [(2,)]
        c.execute("insert into t values(3)")
        c.close()
        n.check()


def test_database_deleted_and_made_again():
    with Node() as n:
        for round in range(3):
            c = n.connect()
            c.execute("pragma page_size=%d" % (1024 << round))
            c.execute("create table t(x)")
            c.execute("insert into t values(?)", (round,))
            c.close()
            n.check()
            before = int(n.pos().split("/")[0], 16)
            os.unlink(n.path("t.db"))
            assert not os.path.exists(n.path("t.db"))
            txid, checksum = n.pos().split("/")
            assert int(txid, 16) == before + 1 and checksum == "8000000000000000"
        n.restart()
        assert not os.path.exists(n.path("t.db"))
        c = n.connect()
        c.execute("create table u(x)")
        c.close()
        n.check()


def test_companions_go_with_a_deleted_database():
    """What a dead writer left beside it must not come back beside the next database of that name."""
    killed = "import os, sqlite3, sys\n" \
             "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n" \
             "c.execute('pragma cache_size=2')\n" \
             "c.execute('begin')\n" \
             "c.execute('update t set b = b || 1')\n" \
             "if sys.argv[2] == 'wal': c.execute('commit')\n" \
             "os.kill(os.getpid(), 9)"
    with Node() as n:
        for mode in "wal", "delete":
            c = n.connect()
            c.execute("pragma journal_mode=" + mode)
            c.execute("create table t(a, b)")
            c.executemany("insert into t values('old', ?)", [("o" * 700,)] * 50)
            c.close()
            subprocess.run([sys.executable, "-c", killed, n.path("t.db"), mode])
            companions = [f for f in os.listdir(n.mnt) if f.startswith("t.db-")]
            assert "t.db-" + ("wal" if mode == "wal" else "journal") in companions
            os.unlink(n.path("t.db"))
            wait_until(lambda: not any(os.path.getsize(n.path(f)) for f in companions), "companions to be empty")
            backup = os.path.join(n.root, "backup.db")
            b = sqlite3.connect(backup, isolation_level=None)
            b.execute("create table if not exists t(a, b)")
            b.executemany("insert into t values('new', ?)", [("n" * 700,)] * 60)
            b.close()
            shutil.copy(backup, n.path("t.db"))
            c = n.connect()
            assert c.execute("pragma integrity_check").fetchall() == [("ok",)]
            assert c.execute("select distinct a from t").fetchall() == [("new",)]
            c.execute("insert into t values('new', 'more')")
            c.close()
            n.check()
            os.unlink(n.path("t.db"))
            os.unlink(backup)


def test_attached_databases_commit_with_a_super_journal():
    with Node() as n:
        c = n.connect("one.db")
        c.execute("attach ? as two", (n.path("two.db"),))
        c.execute("create table main.t(x)")
        c.execute("create table two.t(x)")
        for i in range(5):
            c.execute("begin")
            c.execute("insert into main.t values(?)", (i,))
            c.execute("insert into two.t values(?)", (i,))
            c.execute("commit")
            n.check("one.db")
            n.check("two.db")
        assert not [f for f in os.listdir(n.mnt) if "mj" in f]


def make_database(path, wal=False):
    c = sqlite3.connect(path, isolation_level=None)
    if wal:
        c.execute("pragma journal_mode=wal")
    c.execute("create table t(x)")
    c.executemany("insert into t values(?)", [(os.urandom(800),) for _ in range(500)])
    c.close()


def test_database_copied_into_the_mount():
    with Node() as n:
        for wal in (False, True):
            src = os.path.join(n.root, "src.db")
            if os.path.exists(src):
                os.unlink(src)
            make_database(src, wal)
            for i, copy in enumerate((["cp", src], ["dd", "bs=1000", "status=none", "if=" + src],
                                      ["dd", "bs=1M", "conv=fsync", "status=none", "if=" + src])):
                name = f"c{i}{wal}.db"
                dst = n.path(name)
                subprocess.run(copy + ([dst] if copy[0] == "cp" else ["of=" + dst]), check=True)
                settle(n, name)
                assert n.visible(name) == open(src, "rb").read()
                assert n.connect(name).execute("select count(*) from t").fetchone()[0] == 500


def test_wal_copied_in_before_its_database():
    with Node() as n:
        for rows in (20, 8000):
            src = os.path.join(n.root, f"src{rows}.db")
            c = sqlite3.connect(src, isolation_level=None)
            c.execute("pragma journal_mode=wal")
            c.execute("pragma wal_autocheckpoint=0")
            c.execute("create table t(x)")
            c.execute("pragma wal_checkpoint")
            for size in (1, rows - 1):
                c.execute("begin")
                c.executemany("insert into t values(?)", [(os.urandom(400),) for _ in range(size)])
                c.execute("commit")
            name = f"t{rows}.db"
            for suffix in ("-wal", ""):
                subprocess.run(["cp", src + suffix, n.path(name + suffix)], check=True)
            c.close()
            c = n.connect(name)
            assert c.execute("select count(*) from t").fetchone()[0] == rows
            n.check(name)
            c.execute("insert into t values(0)")
            n.check(name)
            c.close()
        n.restart()
        for rows in (20, 8000):
            c = n.connect(f"t{rows}.db")
            assert c.execute("select count(*) from t").fetchone()[0] == rows + 1
            c.close()


def test_database_copied_over_another():
    with Node() as n:
        src = os.path.join(n.root, "src.db")
        make_database(src)
        c = n.connect()
        c.execute("create table old(x)")
        c.executemany("insert into old values(?)", [(os.urandom(3000),) for _ in range(900)])
        c.close()
        n.check()
        subprocess.run(["cp", src, n.path("t.db")], check=True)
        settle(n)
        assert n.visible() == open(src, "rb").read()
        n.restart()
        n.check()
        assert n.connect().execute("select count(*) from t").fetchone()[0] == 500


def test_mmap_reads():
    with Node() as n:
        w = n.connect()
        w.execute("create table t(x)")
        r = n.connect()
        assert r.execute("pragma mmap_size=10000000").fetchone()[0] == 10000000
        for i in range(50):
            w.execute("insert into t values(randomblob(2000))")
            assert r.execute("select count(*) from t").fetchone()[0] == i + 1
        assert r.execute("pragma integrity_check").fetchone()[0] == "ok"


def cross_lock_page(page_size, mode):
    """A sparse file up to the page before 1 GiB, made by hand, then grown over it through the mount."""
    with Node() as n:
        src = os.path.join(n.root, "big.db")
        c = sqlite3.connect(src, isolation_level=None)
        c.execute(f"pragma page_size={page_size}")
        c.execute("create table t(x)")
        c.execute("insert into t values(1)")
        c.close()
        # The header claims pages up to just before the lock page; they are all on the free list's far side,
        # unused, so integrity_check is not asked.
        count = (1 << 30) // page_size - 2
        with open(src, "r+b") as f:
            f.seek(28)
            f.write(count.to_bytes(4, "big"))
            f.truncate(count * page_size)
        subprocess.run(["cp", "--sparse=always", src, n.path("t.db")], check=True)
        c = n.connect()
        c.execute(f"pragma journal_mode={mode}")
        before = c.execute("pragma page_count").fetchone()[0]
        assert before == count, (before, count)
        for i in range(20):
            c.execute("insert into t values(randomblob(?))", (page_size * 2,))
        assert c.execute("pragma page_count").fetchone()[0] > (1 << 30) // page_size + 1
        c.execute("pragma wal_checkpoint(truncate)")
        c.close()
        n.replay()
        n.restart()
        assert n.replay()[0] == n.pos()
        assert n.connect().execute("select count(*), total(length(x)) from t").fetchone()[0] == 21


def test_lock_page_is_crossed():
    cross_lock_page(65536, "delete")
    cross_lock_page(4096, "wal")


if __name__ == "__main__":
    litefs_fixture.run(sys.modules[__name__])
