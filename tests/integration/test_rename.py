"""rename(2) of databases: onto one another, to new names, with their directories; atomic, whatever happens."""
import ctypes
import errno
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time

import litefs_fixture
from litefs_fixture import Node, in_step, replica_of, wait_until
from test_files import errno_of, fails_with, read, write
from test_tools import MODES, count, make, sh

NOREPLACE, EXCHANGE = 1, 2
SEED = int(os.environ.get("SEED", random.randrange(1 << 30)))
libc = ctypes.CDLL(None, use_errno=True)


def renameat2(a, b, flags):
    if libc.renameat2(-100, a.encode(), -100, b.encode(), flags) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def make_named(n, name, mode="delete", page_size=4096, rows=20):
    c = n.connect(name)
    c.execute(f"pragma page_size={page_size}")
    c.execute(f"pragma journal_mode={mode}")
    c.execute("create table t(x, y)")
    c.executemany("insert into t values(?, ?)", [(name, "z" * 500)] * rows)
    return c


def owner(n, name):
    c = n.connect(name)
    assert c.execute("pragma integrity_check").fetchone()[0] == "ok"
    rows = c.execute("select distinct x from t").fetchall()
    c.close()
    assert len(rows) == 1, rows
    return rows[0][0]


def test_onto_another_and_to_a_new_name():
    with Node() as n:
        for source in MODES:
            for target in (*MODES, None):
                for size in (4096, 1024):
                    open_ones = [make_named(n, "a.db", source)]
                    if target:
                        open_ones.append(make_named(n, "b.db", target, size))
                    for c in open_ones[1:]:
                        c.close()
                    os.rename(n.path("a.db"), n.path("b.db"))
                    open_ones[0].close()
                    assert not os.path.exists(n.path("a.db"))
                    assert owner(n, "b.db") == "a.db", (source, target, size)
                    n.check("b.db")
                    c = n.connect("b.db")
                    c.execute("insert into t values('b', 1)")
                    c.close()
                    n.check("b.db")
                    assert sorted(x for x in os.listdir(n.mnt) if not x.startswith("a.db-")) == ["b.db"]
                    for name in os.listdir(n.mnt):
                        os.unlink(n.path(name))
        n.restart()
        assert os.listdir(n.mnt) == []


def reads(c):
    """What it reads, or nothing, when it was told an error."""
    try:
        return c.execute("select distinct x from t").fetchall()
    except sqlite3.OperationalError:
        return None


def test_who_has_them_open_keeps_the_old_files_or_is_told():
    with Node() as n:
        for source in ("delete", "wal"):
            for target in ("delete", "wal"):
                a, b = make_named(n, "a.db", source), make_named(n, "b.db", target)
                for c in (a, b):  # a read transaction under way
                    c.execute("begin")
                    c.execute("select count(*) from t").fetchone()
                os.rename(n.path("a.db"), n.path("b.db"))
                assert owner(n, "b.db") == "a.db"
                c = n.connect("b.db")
                c.execute("update t set x='new'")
                for old, name in ((a, "a.db"), (b, "b.db")):
                    goes_on = name == "a.db" or (source, target) == ("delete", "delete")
                    for _ in range(2):
                        got = reads(old)
                        assert got == [(name,)] or (got is None and not goes_on), (source, target, name, got)
                        if old.in_transaction:
                            old.execute("rollback")
                    try:
                        old.execute("insert into t values('lost', 1)")
                        raise AssertionError(f"{name} was written: {source}, {target}")
                    except sqlite3.OperationalError:
                        pass
                    old.close()
                assert c.execute("select distinct x from t").fetchall() == [("new",)]
                c.close()
                n.check("b.db")
                for name in os.listdir(n.mnt):
                    os.unlink(n.path(name))


def test_flags():
    with Node() as n:
        make_named(n, "a.db").close()
        make_named(n, "b.db").close()
        write(n.path("plain"), b"plain")
        for target in ("b.db", "plain"):
            fails_with(errno.EEXIST, renameat2, n.path("a.db"), n.path(target), NOREPLACE)
        fails_with(errno.EEXIST, renameat2, n.path("plain"), n.path("b.db"), NOREPLACE)
        fails_with(errno.EINVAL, renameat2, n.path("a.db"), n.path("b.db"), EXCHANGE)
        assert (owner(n, "a.db"), owner(n, "b.db"), read(n.path("plain"))) == ("a.db", "b.db", b"plain")
        renameat2(n.path("a.db"), n.path("c.db"), NOREPLACE)
        assert owner(n, "c.db") == "a.db"


def test_a_transaction_that_is_open_is_not_cut_off():
    with Node() as n:
        for mode in ("delete", "wal"):
            for writer in ("a.db", "b.db"):
                for name in ("a.db", "b.db"):
                    make_named(n, name, mode).close()
                c = n.connect(writer)
                c.execute("pragma cache_size=1")
                c.execute("begin immediate")
                c.execute("update t set y = y || 'more'")
                c.executemany("insert into t values(?, ?)", [(writer, "z" * 900)] * 100)
                fails_with(errno.EBUSY, os.rename, n.path("a.db"), n.path("b.db"))
                c.execute("commit")
                c.close()
                assert (owner(n, "a.db"), owner(n, "b.db")) == ("a.db", "b.db")
                os.rename(n.path("a.db"), n.path("b.db"))
                assert owner(n, "b.db") == "a.db" and not os.path.exists(n.path("a.db"))
                os.unlink(n.path("b.db"))


def test_a_journal_that_is_over_is_no_transaction():
    """As PERSIST leaves it, copied in beside its database."""
    with Node() as n:
        make_named(n, "a.db", "persist").close()
        copies = os.path.join(n.root, "copies")
        os.mkdir(copies)
        for name in ("a.db", "a.db-journal"):
            shutil.copy(n.path(name), copies)
            os.unlink(n.path(name))
        for name in ("a.db", "a.db-journal"):
            shutil.copy(os.path.join(copies, name), n.path(name))
        make_named(n, "b.db").close()
        os.rename(n.path("b.db"), n.path("a.db"))
        assert owner(n, "a.db") == "b.db"


def test_programs_that_replace_files():
    with Node() as n:
        make_named(n, "app.db", "wal").close()
        os.mkdir(n.path("dir"))
        # SQLite's own way to make a database smaller, and what is put in its place.
        for i in range(3):
            sh("sqlite3 app.db \"update t set x='%d'; vacuum into 'new.db'\" && mv new.db app.db" % i, n.mnt)
            assert owner(n, "app.db") == str(i)
            n.check("app.db")
        # With all that goes with it, while somebody has it open.
        c = n.connect("app.db")
        c.execute("pragma journal_mode=wal")
        c.execute("update t set x='moved'")
        sh("mv app.db* dir/", n.mnt)
        c.close()
        assert os.listdir(n.mnt) == ["dir"] and os.listdir(n.path("dir")) == ["app.db"]
        assert owner(n, "dir/app.db") == "moved"
        n.check("dir/app.db")
        shutil.move(n.path("dir/app.db"), n.path("app.db"))
        assert owner(n, "app.db") == "moved" and os.listdir(n.path("dir")) == []
        # Written beside, then put in place: perl, go and the like.
        sh("cp app.db app.db.tmp && perl -e 'rename(\"app.db.tmp\", \"app.db\") or die $!'", n.mnt)
        assert owner(n, "app.db") == "moved"
        os.replace(n.path("app.db"), n.path("other.db"))
        assert os.listdir(n.path("dir")) == [] and owner(n, "other.db") == "moved"
        n.restart()
        assert owner(n, "other.db") == "moved"


def test_plain_files_and_databases():
    with Node() as n:
        make_named(n, "a.db").close()
        write(n.path("plain"), b"plain")
        os.rename(n.path("plain"), n.path("a.db"))  # as on a disk
        assert read(n.path("a.db")) == b"plain" and os.listdir(n.mnt) == ["a.db"]
        make_named(n, "b.db").close()
        os.rename(n.path("b.db"), n.path("a.db"))
        assert owner(n, "a.db") == "b.db" and os.listdir(n.mnt) == ["a.db"]
        n.check("a.db")
        n.restart()
        assert owner(n, "a.db") == "b.db" and os.listdir(n.mnt) == ["a.db"]
        # One that is still being written is a database when it is renamed.
        outside = os.path.join(n.root, "outside.db")
        c = sqlite3.connect(outside)
        c.execute("create table t(x, y)")
        c.execute("insert into t values('outside', 1)")
        c.commit()
        c.close()
        fd = os.open(n.path("new"), os.O_CREAT | os.O_WRONLY)
        os.write(fd, read(outside))
        os.rename(n.path("new"), n.path("a.db"))
        os.close(fd)
        assert owner(n, "a.db") == "outside"
        n.check("a.db")


def test_directories():
    with Node() as n:
        os.makedirs(n.path("d/sub"))
        names = ("d/a.db", "d/b.db", "d/sub/c.db")
        open_ones = [make_named(n, name, mode) for name, mode in zip(names, ("wal", "delete", "wal"))]
        write(n.path("d/note"), b"note")
        os.mkdir(n.path("full"))
        make_named(n, "full/x.db").close()
        fails_with(errno.ENOTEMPTY, os.rename, n.path("d"), n.path("full"))
        os.mkdir(n.path("empty"))
        for target in ("e", "empty", "full/d"):
            os.rename(n.path("d"), n.path(target))
            assert not os.path.exists(n.path("d"))
            for name in names:
                moved = target + name[1:]
                assert owner(n, moved) == name
                n.check(moved)
            assert read(n.path(target + "/note")) == b"note"
            os.rename(n.path(target), n.path("d"))
        for c in open_ones:
            c.close()
        sh("mv d again", n.mnt)
        n.restart()
        for name in names:
            assert owner(n, "again" + name[1:]) == name
        sh("rm -r again full", n.mnt)
        assert os.listdir(n.mnt) == []


def test_modes_and_owners_come_along():
    with Node() as n:
        make_named(n, "a.db").close()
        make_named(n, "b.db").close()
        os.chmod(n.path("a.db"), 0o640)
        os.chown(n.path("a.db"), 12, 34)
        os.rename(n.path("a.db"), n.path("b.db"))
        st = os.stat(n.path("b.db"))
        assert (st.st_mode & 0o7777, st.st_uid, st.st_gid) == (0o640, 12, 34)


def test_readers_of_a_name_that_is_replaced_all_the_time():
    with Node() as n:
        make_named(n, "app.db", "wal").close()
        end, problems, n_reads, n_told = threading.Event(), [], [0], [0]

        def look():
            while not end.is_set():
                try:
                    c = n.connect("app.db")
                    rows = c.execute("select count(*), count(distinct x) from t").fetchone()
                    c.close()
                    assert rows == (20, 1), rows
                    n_reads[0] += 1
                except sqlite3.OperationalError as e:
                    # One that was open while its file was replaced.
                    n_told[0] += 1
                    if str(e) != "disk I/O error":
                        problems.append(repr(e))
                except Exception as e:
                    problems.append(repr(e))

        threads = [threading.Thread(target=look) for _ in range(3)]
        for t in threads:
            t.start()
        for i in range(40):
            make_named(n, "new.db", ("wal", "delete")[i % 2]).close()
            sh("mv new.db app.db", n.mnt)
        wait_until(lambda: n_reads[0] > 20 or problems, "readers")
        end.set()
        for t in threads:
            t.join()
        assert not problems, problems[:3]
        assert n_told[0] <= 40 * len(threads), n_told
        n.check("app.db")


def test_killed_at_any_moment():
    print("SEED=%d" % SEED, flush=True)
    rng = random.Random(SEED)
    with Node() as n:
        make_named(n, "app.db", rows=400).close()
        os.makedirs(n.path("d"))
        make_named(n, "d/x.db", rows=100).close()
        make_named(n, "d/y.db", rows=100).close()
        for _ in range(12):
            script = ("import os, sys\n"
                      "try:\n"
                      "  while os.listdir('.') is not None:\n"
                      "    for a, b in (('app.db', 'other.db'), ('other.db', 'app.db'), ('d', 'e'), ('e', 'd')):\n"
                      "      if os.path.exists(a): os.rename(a, b)\n"
                      "except OSError: pass\n")
            p = subprocess.Popen([sys.executable, "-c", script], cwd=n.mnt)
            time.sleep(rng.random() * 0.3)
            n.kill()
            p.wait()
            n.start()
            names = sorted(os.listdir(n.mnt))
            assert names in (["app.db", "d"], ["d", "other.db"], ["app.db", "e"], ["e", "other.db"]), names
            one, directory = sorted(names, key=lambda x: len(x) < 2)
            assert owner(n, one) == "app.db"
            n.check(one)
            assert sorted(os.listdir(n.path(directory))) == ["x.db", "y.db"]
            for name in ("x.db", "y.db"):
                assert owner(n, f"{directory}/{name}") == "d/" + name
                n.check(f"{directory}/{name}")


def test_on_replicas():
    with Node() as p, replica_of(p) as r:
        for mode in ("delete", "wal"):
            for size in (4096, 1024):
                a, b = make_named(p, "a.db", mode), make_named(p, "b.db", "delete", size)
                in_step(p, r, "a.db")
                in_step(p, r, "b.db")
                reader = r.connect("b.db")
                assert reader.execute("select distinct x from t").fetchall() == [("b.db",)]
                fails_with(errno.EROFS, os.rename, r.path("a.db"), r.path("b.db"))
                fails_with(errno.EROFS, os.rename, r.path("a.db"), r.path("c.db"))
                os.rename(p.path("a.db"), p.path("b.db"))
                a.close()
                b.close()
                in_step(p, r, "b.db")
                in_step(p, r, "a.db")
                assert reader.execute("select distinct x from t").fetchall() == [("a.db",)]
                reader.close()
                wait_until(lambda: not os.path.exists(r.path("a.db")), "the source to go")
                assert owner(r, "b.db") == "a.db"
                r.check("b.db")
                sh("rm -f *", p.mnt)
                wait_until(lambda: not os.path.exists(r.path("b.db")), "the target to go")


def test_a_replica_has_always_one_of_the_two():
    """Of a large database, looked at all the time; and with the replica away meanwhile."""
    with Node() as p, replica_of(p) as r:
        names = ["one.db", "two.db"]
        make_named(p, names[0], rows=6000).close()
        in_step(p, r, names[0])
        end, missing = threading.Event(), []

        def look():
            while not end.is_set():
                have = [os.path.exists(r.path(name)) for name in names]
                have += [os.path.exists(r.path(name)) for name in names]
                if not any(have):
                    missing.append(time.monotonic())

        t = threading.Thread(target=look)
        t.start()
        for i in range(6):
            os.rename(p.path(names[0]), p.path(names[1]))
            wait_until(lambda: os.path.exists(r.path(names[1])) and not os.path.exists(r.path(names[0])), "the rename")
            names[0], names[1] = names[1], names[0]
        end.set()
        t.join()
        assert not missing
        assert r.stop() == 0
        os.rename(p.path(names[0]), p.path(names[1]))
        r.start()
        wait_until(lambda: os.path.exists(r.path(names[1])) and not os.path.exists(r.path(names[0])), "the rename")
        r.check(names[1])


def test_there_and_back_while_a_replica_is_away():
    with Node() as p, replica_of(p) as r:
        make_named(p, "a.db").close()
        in_step(p, r, "a.db")
        assert r.stop() == 0
        for source, target in (("a.db", "b.db"), ("b.db", "a.db"), ("a.db", "b.db")):
            os.rename(p.path(source), p.path(target))
        r.start()
        in_step(p, r, "a.db")
        in_step(p, r, "b.db")
        assert owner(r, "b.db") == "a.db" and not os.path.exists(r.path("a.db"))


def test_not_under_a_halt():
    with Node() as p, replica_of(p) as r:
        make_named(p, "a.db").close()
        make_named(p, "b.db").close()
        in_step(p, r, "a.db")
        fd = os.open(r.path("a.db-lock"), os.O_RDWR)
        try:
            for node in (p, r):
                for pair in (("a.db", "b.db"), ("b.db", "a.db"), ("a.db", "c.db")):
                    fails_with(errno.EROFS, os.rename, *(node.path(name) for name in pair))
        finally:
            os.close(fd)
        wait_until(lambda: errno_of(os.rename, p.path("a.db"), p.path("b.db")) == 0, "the lock to be given back")
        assert owner(p, "b.db") == "a.db"


if __name__ == "__main__":
    litefs_fixture.run(sys.modules[__name__])
