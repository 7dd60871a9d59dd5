"""NAME@MOMENT: past states of a database from its log, opened by any program, beside writers and retention."""
import errno
import hashlib
import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time

from litefs_fixture import LITEFS, Node, REPLAY, in_step, replica_of, run, wait_until

MODES = ("delete", "truncate", "persist", "wal")
N_TRANSACTIONS = int(os.environ.get("TRANSACTIONS", 40))  # before the readers begin, and once more until they end


def replay_at(n, txid, name="t.db"):
    """The state of that transaction, as the replay of the log makes it."""
    out = os.path.join(n.root, f"replayed-{threading.get_ident()}")
    p = subprocess.run([REPLAY, n.data, name, out, txid], capture_output=True, text=True, check=False)
    assert p.returncode == 0 and p.stdout.startswith(txid), (p.stdout, p.stderr)
    with open(out, "rb") as f:
        return shown(f.read())


def shown(image):
    """As NAME@MOMENT shows it: SQLite opens no file in WAL mode without its WAL."""
    return image[:18] + b"\1\1" + image[20:]


def read_at(n, moment, name="t.db"):
    with open(n.path(f"{name}@{moment}"), "rb") as f:
        return f.read()


def digest(data):
    return hashlib.sha256(data).hexdigest()


def error_of(call):
    try:
        call()
    except OSError as e:
        return e.errno
    return 0


def txid_of(n, name="t.db"):
    return n.pos(name)[:16]


def utc(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds * 1000) % 1000:03d}Z"


def test_names_and_rules():
    with Node() as n:
        c = n.connect()
        c.execute("create table t(a)")
        c.execute("insert into t values (1)")
        first = txid_of(n)
        wait_until(lambda: time.time() * 1000 // 1 > os.stat(n.path("t.db")).st_mtime * 1000 + 5, "the clock to move on")
        then = time.time()
        wait_until(lambda: time.time() > then + 0.01, "the clock to move on")
        c.execute("delete from t")
        os.chmod(n.path("t.db"), 0o640)
        for moment, rows in ((first, 1), (utc(then), 1), ("-0s", 0)):
            past = sqlite3.connect(n.path(f"t.db@{moment}"))
            assert past.execute("select count(*) from t").fetchone() == (rows,), moment
            assert past.execute("pragma integrity_check").fetchone() == ("ok",)
            try:
                past.execute("insert into t values (2)")
                raise AssertionError("a past state was written")
            except sqlite3.OperationalError as e:
                assert "readonly" in str(e), e
            past.close()
        name = n.path(f"t.db@{first}")
        st = os.stat(name)
        assert (st.st_mode & 0o7777, st.st_size) == (0o440, len(replay_at(n, first)))
        assert os.listdir(n.mnt) == ["t.db"]
        assert error_of(lambda: open(name, "r+b")) == errno.EACCES
        assert error_of(lambda: open(name, "ab")) == errno.EACCES
        assert error_of(lambda: os.truncate(name, 0)) == errno.EACCES
        assert error_of(lambda: os.chmod(name, 0o600)) == errno.EACCES
        assert error_of(lambda: os.unlink(name)) == errno.ENOENT
        for suffix in ("-journal", "-wal", "-shm"):
            assert not os.path.exists(name + suffix)
        # What is no moment, or none that there was; and asking makes no file of that name.
        for moment in ("-5m", "-1x", "5m", "2026-01-02", "2026-13-02T03:04:05Z", "2000-01-02T03:04:05Z", "000000000000002a",
                       "0000000000000000", "2a", ""):
            assert error_of(lambda: open(n.path(f"t.db@{moment}"), "rb")) == errno.ENOENT, moment
        try:
            sqlite3.connect(n.path("t.db@-5m")).execute("select * from sqlite_master")
            raise AssertionError("no such state, and it was opened")
        except sqlite3.OperationalError as e:
            assert "unable to open" in str(e), e
        assert os.listdir(n.mnt) == ["t.db"] and "t.db@-5m: no such state: the log begins with transaction" in n.log()
        # A real name wins.
        with open(n.path("x@-5m"), "wb") as f:
            f.write(b"mine")
        fd = os.open(n.path("t.db@-5m"), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        os.write(fd, b"mine, too")
        os.close(fd)
        with open(n.path("t.db@-5m"), "rb") as f:
            assert f.read() == b"mine, too"
        c.close()


def test_a_relative_moment_moves():
    with Node() as n:
        c = n.connect()
        c.execute("create table t(a)")
        wait_until(lambda: os.path.exists(n.path("t.db@-1s")), "the database to be a second old")
        assert sqlite3.connect(n.path("t.db@-1s")).execute("select count(*) from t").fetchone() == (0,)
        c.execute("insert into t values (1)")
        wait_until(lambda: sqlite3.connect(n.path("t.db@-1s")).execute("select count(*) from t").fetchone() == (1,), "the row")
        c.close()


def workload(n, mode, rng, seen, stop, failures):
    """Random transactions in all shapes; notes what each led to."""
    try:
        c = n.connect("t.db", check_same_thread=False)
        c.execute(f"pragma journal_mode={mode}")
        c.execute("create table if not exists t(a integer primary key, b)")
        while not stop.is_set():
            what = rng.random()
            if what < 0.02:
                c.execute("vacuum")
            elif what < 0.03:
                c.execute("pragma journal_mode=delete")
                c.execute(f"pragma page_size={rng.choice((512, 1024, 4096, 65536))}")
                c.execute("vacuum")
                c.execute(f"pragma journal_mode={mode}")
            elif what < 0.04:
                c.close()
                os.unlink(n.path("t.db"))
                c = n.connect("t.db", check_same_thread=False)
                c.execute(f"pragma journal_mode={mode}")
                c.execute("create table t(a integer primary key, b)")
            elif what < 0.2:
                c.execute("delete from t where a % 7 = ?", (rng.randrange(7),))
            else:
                c.execute("begin")
                for _ in range(rng.randrange(1, 20)):
                    c.execute("insert or replace into t values (?, ?)", (rng.randrange(500), rng.randbytes(rng.randrange(2000))))
                c.execute("commit")
            seen.append(txid_of(n))
        c.close()
    except Exception as e:
        failures.append(e)
        raise


def read_again_and_again(n, txid, want, stop, failures):
    """Through one file that is held open, and through one that is opened anew."""
    try:
        fd = os.open(n.path(f"t.db@{txid}"), os.O_RDONLY)
        while True:
            is_last = stop.is_set()
            with open(f"/proc/self/fd/{fd}", "rb") as f:  # the same node, another file
                assert digest(f.read()) == want, txid
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            got = os.pread(fd, os.fstat(fd).st_size, 0)
            assert digest(got) == want, txid
            if is_last:
                break
        os.close(fd)
    except Exception as e:
        failures.append(e)
        raise


def test_20_readers_at_different_moments_beside_a_writer():
    for mode in MODES:
        seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
        print(f"SEED={seed} {mode}", flush=True)
        rng = random.Random(seed)
        with Node() as n:
            seen, failures, stop = [], [], threading.Event()
            writer = threading.Thread(target=workload, args=(n, mode, rng, seen, stop, failures))
            writer.start()
            wait_until(lambda: len(seen) > N_TRANSACTIONS or failures, "transactions", 120)
            readers, n_compared = [], 0
            for txid in sorted(random.Random(seed).sample(sorted(set(seen)), 20)):
                try:
                    image = replay_at(n, txid)
                except AssertionError:
                    continue  # deleted then
                if len(image) < 512:
                    assert not os.path.exists(n.path(f"t.db@{txid}"))
                    continue
                readers.append(threading.Thread(target=read_again_and_again,
                                                args=(n, txid, digest(image), stop, failures)))
                readers[-1].start()
                n_compared += 1
            wait_until(lambda: len(seen) > 2 * N_TRANSACTIONS or failures, "more transactions", 120)
            stop.set()
            for t in [*readers, writer]:
                t.join()
            assert not failures, failures
            assert n_compared > 10, n_compared
            n.check()


def test_every_transaction_is_there():
    with Node() as n:
        seen, failures, stop = [], [], threading.Event()
        rng = random.Random(5)
        writer = threading.Thread(target=workload, args=(n, "wal", rng, seen, stop, failures))
        writer.start()
        wait_until(lambda: len(seen) > 60 or failures, "transactions", 120)
        stop.set()
        writer.join()
        assert not failures, failures
        n_read = 0
        for txid in range(1, int(txid_of(n), 16) + 1):
            image = replay_at(n, f"{txid:016x}")
            if len(image) >= 512:
                assert read_at(n, f"{txid:016x}") == image, txid
                n_read += 1
            else:
                assert error_of(lambda: read_at(n, f"{txid:016x}")) == errno.ENOENT
        assert n_read > 50


def test_retention_takes_nothing_from_what_is_open():
    """The log loses its beginning under files that are open: they read on; by name their states are gone."""
    n = Node()
    with open(n.config, encoding="utf-8") as f:
        text = f.read()
    with open(n.config, "w", encoding="utf-8") as f:
        f.write(text.replace("data:\n", "data:\n  retention: 1s\n  retention-monitor-interval: 100ms\n"))
    with n:
        c = n.connect()
        c.execute("pragma journal_mode=wal")
        c.execute("create table t(a integer primary key, b)")
        c.execute("insert into t values (0, randomblob(100000))")
        old = txid_of(n)
        want = replay_at(n, old)
        held = os.open(n.path(f"t.db@{old}"), os.O_RDONLY)
        assert os.read(held, 4096) == want[:4096]

        def is_dropped():
            # 64 MiB of log move the base, behind which whole segments may go.
            for _ in range(40):
                c.execute("insert or replace into t values (abs(random()) % 100, randomblob(200000))")
            names = sorted(os.listdir(os.path.join(n.data, "dbs", "t.db", "log")))
            return names[0] != "0000000000000001.seg"
        wait_until(is_dropped, "retention", 120)
        os.posix_fadvise(held, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(held, len(want) + 1, 0) == want
        os.close(held)
        assert error_of(lambda: read_at(n, old)) == errno.ENOENT
        assert f"t.db@{old}: no such state: the log begins with transaction" in n.log(), n.log()[-2000:]
        c.close()


def test_on_a_replica_and_after_a_restart():
    with Node() as p:
        c = p.connect()
        c.execute("create table t(a)")
        moments = []
        for i in range(5):
            c.execute("insert into t values (?)", (i,))
            moments.append((txid_of(p), replay_at(p, txid_of(p))))
        with replica_of(p) as r:
            in_step(p, r)
            c.execute("insert into t values (99)")
            in_step(p, r)
            # What it has been sent as a whole has no states before that; what came since is there.
            last = txid_of(p)
            assert read_at(r, last) == replay_at(p, last)
        c.close()
        p.restart()
        for txid, image in moments:
            assert read_at(p, txid) == image


def test_a_database_in_a_directory_and_one_that_is_gone():
    with Node() as n:
        os.mkdir(n.path("d"))
        c = n.connect("d/x.db")
        c.execute("create table t(a)")
        txid = txid_of(n, "d/x.db")
        c.close()
        image = replay_at(n, txid, "d/x.db")
        assert read_at(n, txid, "d/x.db") == image
        os.unlink(n.path("d/x.db"))
        assert read_at(n, txid, "d/x.db") == image
        assert error_of(lambda: read_at(n, "-0s", "d/x.db")) == errno.ENOENT
        assert os.listdir(n.path("d")) == []


def test_log_shows_what_has_happened():
    def log(n, *args, code=0):
        p = subprocess.run([LITEFS, "log", "-data-dir", n.data, *args, "t.db"], capture_output=True, text=True, check=False)
        assert p.returncode == code, p
        return p.stdout if code == 0 else p.stderr

    with Node() as n:
        c = n.connect()
        c.execute("create table t(a)")
        c.execute("create table u(a)")
        middle = txid_of(n)
        c.execute("insert into t values (randomblob(20000))")
        last = txid_of(n)
        c.close()
        os.unlink(n.path("t.db"))
        rows = json.loads(log(n, "-json"))
        assert [int(row["txid"], 16) for row in rows] == list(range(int(last, 16) + 1, 0, -1))
        assert rows[0]["pages"] == 0 and rows[0]["changedPages"] == 0
        assert rows[-1]["isWhole"] and rows[-1]["changedPages"] == rows[-1]["pages"]
        insert = rows[1]
        assert insert["changedPages"] == insert["pages"] - rows[2]["pages"] + 2, rows  # page 1, the table's, and new ones
        for row in rows[1:]:
            image = read_at(n, row["txid"])
            assert len(image) == row["pages"] * row["pageSize"]
        shown = log(n, "-n", "2").splitlines()
        assert len(shown) == 4 and shown[1].endswith("deleted") and shown[2].startswith(last), shown
        assert shown[3].startswith(f"Past states begin with {1:016x} of "), shown
        assert [row["hasState"] for row in rows] == [False] + [True] * (len(rows) - 1)
        assert [row["txid"] for row in json.loads(log(n, "-json", "-since", middle))][-1] == middle
        assert json.loads(log(n, "-json", "-since", "-0s")) == []
        assert len(json.loads(log(n, "-json", "-since", "-1d"))) == len(rows)
        assert "-n wants a number" in log(n, "-n", "-3", code=2) and "-since wants" in log(n, "-since", "x", code=2)
        assert "the database is missing" in subprocess.run([LITEFS, "log"], capture_output=True, text=True, check=False).stderr
        assert "no log of database" in subprocess.run([LITEFS, "log", "-data-dir", n.data, "x"], capture_output=True, text=True,
                                                      check=False).stderr


def test_clone_and_diff():
    def litefs(*args):
        return subprocess.run([LITEFS, *args], capture_output=True, text=True, timeout=120, check=False)

    with Node() as n:
        c = n.connect()
        c.execute("pragma journal_mode=wal")
        c.execute("create table t(a integer primary key, b)")
        c.execute("insert into t values (1, 'one')")
        then = txid_of(n)
        c.execute("update t set b = 'uno'")
        outside = os.path.join(n.root, "copy.db")
        for moment, to, value in ((f"@{then}", outside, "one"), ("", n.path("now.db"), "uno"), (f"@{then}", n.path("then.db"), "one")):
            p = litefs("clone", "-json", n.path("t.db") + moment, to)
            assert p.returncode == 0 and json.loads(p.stdout)["bytes"] == os.path.getsize(to), p
            copy = sqlite3.connect(to)
            assert copy.execute("select b from t").fetchall() == [(value,)]
            copy.execute("insert into t values (2, 'two')")
            copy.commit()
            copy.close()
        with open(outside, "rb") as f:
            before = f.read()
        assert os.stat(outside).st_mode & 0o7777 == os.stat(n.path("t.db")).st_mode & 0o444 | 0o200
        for name in ("now.db", "then.db"):
            n.check(name)
        p = litefs("clone", n.path("t.db"), outside)  # never over what is there
        with open(outside, "rb") as f:
            assert p.returncode == 1 and "File exists" in p.stderr and f.read() == before, p
        gone = os.path.join(n.root, "gone.db")
        p = litefs("clone", n.path("t.db@-5m"), gone)
        assert p.returncode == 1 and "cannot open" in p.stderr and not os.path.exists(gone), p
        assert litefs("clone", n.path("t.db")).returncode == 2

        # What is run is sqldiff: by its name, with the two states.
        tools = os.path.join(n.root, "tools")
        os.mkdir(tools)
        with open(os.path.join(tools, "sqldiff"), "w", encoding="utf-8") as f:
            f.write('#!/bin/sh\nfor f; do sqlite3 -readonly "$f" "select b from t"; done\n')
        os.chmod(os.path.join(tools, "sqldiff"), 0o755)
        path = os.environ["PATH"]
        try:
            os.environ["PATH"] = tools + ":" + path
            p = litefs("diff", n.path(f"t.db@{then}"), n.path("t.db"))
            assert p.returncode == 0 and p.stdout == "one\nuno\n", p
            p = litefs("diff", n.path("t.db@-5m"), n.path("t.db"))
            assert p.returncode == 1 and "cannot read" in p.stderr, p
        finally:
            os.environ["PATH"] = path
        c.close()


def test_history_is_a_directory():
    with Node() as n:
        os.mkdir(n.path("d"))
        for name in ("t.db", "d/x.db"):
            c = n.connect(name)
            c.execute("create table t(a)")
            c.execute("insert into t values (1)")
            c.close()
        os.chmod(n.path("t.db"), 0o640)
        assert sorted(os.listdir(n.mnt)) == ["d", "t.db"]
        assert sorted(os.listdir(n.path(".history"))) == ["d", "t.db"]
        assert os.listdir(n.path(".history/d")) == ["x.db"]
        assert os.stat(n.path(".history/t.db")).st_mode & 0o7777 == 0o550
        for name in ("t.db", "d/x.db"):
            listed = os.listdir(n.path(f".history/{name}"))
            assert 1 <= len(listed) <= 2, listed  # of one minute, or two
            txid = txid_of(n, name)
            with open(n.path(f".history/{name}/{sorted(listed)[-1]}"), "rb") as f:
                assert f.read() == replay_at(n, txid, name)
            with open(n.path(f".history/{name}/{txid}"), "rb") as f:
                assert f.read() == read_at(n, txid, name)
            with sqlite3.connect(n.path(f".history/{name}/-0s")) as past:
                assert past.execute("select a from t").fetchall() == [(1,)]
            past.close()
        for name in (".history/none", ".history/d/none", ".history/t.db/x", ".history/t.db/-5m", ".history/t.db/none.db"):
            assert not os.path.exists(n.path(name)), name
        for call in (lambda: os.mkdir(n.path(".history")), lambda: os.mkdir(n.path(".history/d/y")),
                     lambda: open(n.path(".history/y"), "wb"), lambda: open(n.path(".history/t.db/y"), "wb"),
                     lambda: os.rmdir(n.path(".history")), lambda: os.rmdir(n.path(".history/d")),
                     lambda: os.rename(n.path(".history/d"), n.path("e")), lambda: os.chmod(n.path(".history"), 0o700)):
            assert error_of(call) != 0
        assert sorted(os.listdir(n.mnt)) == ["d", "t.db"]


def test_history_reaches_back_whatever_is_written():
    """The log loses its beginning, and what was before is there by a whole database that is kept."""
    n = Node()

    def configure(text):
        with open(n.config, encoding="utf-8") as f:
            before = f.read()
        with open(n.config, "w", encoding="utf-8") as f:
            f.write(before.replace("data:\n", "data:\n" + text))

    def segments():
        return sorted(os.listdir(os.path.join(n.data, "dbs", "t.db", "log")))

    def log(*args):
        return subprocess.run([LITEFS, "log", "-data-dir", n.data, *args, "t.db"], capture_output=True, text=True, check=True).stdout

    def write():
        c = n.connect()
        for _ in range(200):  # 40 MB, which are at least two segments
            c.execute("insert or replace into t values (abs(random()) % 20, randomblob(200000))")
        c.close()

    configure("  retention: 1s\n  retention-monitor-interval: 100ms\n")
    with n:
        c = n.connect()
        c.execute("create table t(a integer primary key, b)")
        c.close()
        write()
        n.restart()  # moves the base, in front of which whole segments may go
        wait_until(lambda: len(segments()) == 1, "retention")
        assert "No past state can be opened" in log("-n", "1")
        assert n.stop() == 0
        configure("  history: 1h\n  history-size: 1MB\n")
        n.start()
        wait_until(lambda: "its history is not kept: data.history-size allows" in n.log(), "the warning")
        p = subprocess.run([LITEFS, "doctor", "-config", n.config, "-json"], capture_output=True, text=True, check=False)
        assert "no past state of t.db can be opened" in p.stdout, p
        assert n.stop() == 0
        with open(n.config, encoding="utf-8") as f:
            text = f.read()
        with open(n.config, "w", encoding="utf-8") as f:
            f.write(text.replace("history-size: 1MB", "history-size: 1GB"))
        n.start()
        history = os.path.join(n.data, "dbs", "t.db", "history")
        wait_until(lambda: os.path.isdir(history) and any(x.endswith(".ltx") for x in os.listdir(history)), "a whole database")
        c = n.connect()
        c.execute("insert into t values (1000, 'old')")
        c.close()
        old, last = txid_of(n), segments()[-1]
        want = digest(read_at(n, old))
        write()
        n.restart()
        write()
        assert segments()[0] <= last < segments()[-1]
        assert digest(read_at(n, old)) == want
        assert os.listdir(n.path(".history/t.db"))
        p = subprocess.run([LITEFS, "restore", "-url", f"http://127.0.0.1:{n.port()}", "-config", n.config, "-name", "t.db",
                            "-txid", old], capture_output=True, text=True, check=False)
        assert p.returncode == 0, p
        c = n.connect()
        assert c.execute("select b from t where a = 1000").fetchall() == [("old",)]
        assert c.execute("pragma integrity_check").fetchone() == ("ok",)
        c.close()
        assert n.stop() == 0
        assert {row["txid"]: row["hasState"] for row in json.loads(log("-json", "-n", "0"))}[old]
        assert "Past states begin with" in log("-n", "1") and "times the whole database" in log("-n", "1")


if __name__ == "__main__":
    run(sys.modules[__name__])
