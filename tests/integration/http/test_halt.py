"""Halt locks: a replica writes, the primary commits. Static leases; the way to the primary is a link that can be cut."""
import concurrent.futures
import contextlib
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time

from http_fixture import Node, get, in_step, request, run, wait_until
from halt_fixture import Halt
from litefs_fixture import LITEFS
from tcp_link import Link

TTL = 10
GIVEN_BACK = TTL - 2  # seconds; not by running out


class Three:
    """A primary, the replica that writes (behind the link), and one that looks on. `n` replicas of these."""

    def __init__(self, mode="wal", n=1, page_size=4096):
        self.mode, self.page_size = mode, page_size
        self.p = Node()
        self.replicas = []
        self.n = n

    def __enter__(self):
        self.p.start()
        db = self.p.connect()
        db.execute(f"pragma page_size={self.page_size}")
        db.execute(f"pragma journal_mode={self.mode}")
        db.execute("create table t(a)")
        db.execute("insert into t values('p')")
        db.close()
        self.link = Link(self.p.port())
        try:
            for i in range(self.n):
                port = self.link.port if i == 0 else self.p.port()
                self.replicas.append(Node(extra=f"  candidate: false\n  advertise-url: http://127.0.0.1:{port}\n"
                                                "  reconnect-delay: 100ms\n").start())
            self.r = self.replicas[0]
            self.in_step()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, value, tb):
        for n in [*self.replicas, self.p]:
            n.__exit__(kind, value, tb)
        self.link.close()

    def in_step(self):
        for r in self.replicas:
            in_step(self.p, r)

    def check(self):
        """All are equal, in what they show and what their logs make."""
        self.in_step()
        images = []
        for n in [self.p, *self.replicas]:
            n.check()
            images.append(n.visible())
            c = n.connect()
            assert c.execute("pragma integrity_check").fetchone()[0] == "ok"
            c.close()
        assert all(i == images[0] for i in images)


def rows(node, name="t.db"):
    c = node.connect(name)
    found = [a for a, in c.execute("select a from t order by rowid")]
    c.close()
    return found


def write(node, value):
    c = node.connect()
    try:
        c.execute("insert into t values(?)", (value,))
    finally:
        c.close()


def is_refused(db, sql="insert into t values('refused')"):
    try:
        db.execute(sql)
        return False
    except sqlite3.OperationalError as e:
        assert "readonly" in str(e) or "disk I/O" in str(e), e
        return True


def is_locked(node):
    """Whether a writer finds the database locked by another."""
    c = node.connect(timeout=0)
    try:
        c.execute("begin immediate")
        c.execute("rollback")
        return False
    except sqlite3.OperationalError as e:
        assert "locked" in str(e), e
        return True
    finally:
        c.close()


def key(node):
    return {"Litefs-Id": get(node, "/info").json["nodeID"]}


# --- what it is for ---

def write_from_replica(mode, page_size=4096):
    with Three(mode, n=2, page_size=page_size) as c:
        # Readers that are there before, on either side, stay there.
        on_p, on_r = c.p.connect(), c.r.connect()
        assert on_p.execute("select count(*) from t").fetchone() == (1,)
        assert is_refused(on_r)
        with Halt(c.r):
            assert is_locked(c.p)
            for i in range(30):
                on_r.execute("insert into t values(?)", (f"r{i}",))
                assert c.p.pos() == c.r.pos(), "acknowledged before the primary had it"
                assert on_p.execute("select count(*) from t").fetchone() == (2 + i,)
            on_r.execute("begin")
            on_r.executemany("insert into t values(?)", [(os.urandom(3000).hex(),) for _ in range(800)])
            on_r.execute("commit")
            on_r.execute("begin")
            on_r.execute("delete from t where length(a) > 100")
            on_r.execute("rollback")
            on_r.execute("delete from t where length(a) > 100")
            on_r.execute("vacuum")
            assert is_locked(c.p)
        wait_until(lambda: not is_locked(c.p), "the primary's writers to go on", GIVEN_BACK)
        assert is_refused(on_r)
        write(c.p, "p2")
        c.check()
        assert rows(c.p) == ["p", *(f"r{i}" for i in range(30)), "p2"]
        with Halt(c.r):  # again, with the same connections
            on_r.execute("insert into t values('again')")
        c.check()
        assert rows(c.replicas[1])[-1] == "again"
        on_p.close()
        on_r.close()
        # Nothing that came back by the stream was an error to the node that had made it.
        assert "not applied" not in c.r.log(), c.r.log()


def test_write_from_replica_wal():
    write_from_replica("wal")


def test_write_from_replica_delete():
    write_from_replica("delete", 1024)


def change_mode(db, mode):
    """SQLite does not wait for the locks that this takes; the node itself may hold one for a moment."""
    try:
        return db.execute(f"pragma journal_mode={mode}").fetchone() == (mode,)
    except sqlite3.OperationalError as e:
        assert "locked" in str(e), e
        return False


def test_journal_modes_change():
    with Three("delete") as c:
        db = c.r.connect()
        with Halt(c.r):
            for mode in ("truncate", "persist", "wal", "delete", "wal"):
                wait_until(lambda mode=mode: change_mode(db, mode), f"journal mode {mode}")
                db.execute("insert into t values(?)", (mode,))
                assert is_locked(c.p), mode
        db.close()
        c.check()
        assert rows(c.p) == ["p", "truncate", "persist", "wal", "delete", "wal"]


def test_run():
    with Three("wal") as c:
        def litefs(*words, **kw):
            return subprocess.run([LITEFS, "run", *words], capture_output=True, text=True, timeout=60, check=False, **kw)
        insert = [sys.executable, "-c", "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
                  "c.execute('insert into t values(?)', (sys.argv[2],))"]
        with_lock = ["-with-halt-lock-on", c.r.path("t.db"), "--"]
        r = litefs(*with_lock, *insert, c.r.path("t.db"), "run")
        assert (r.returncode, r.stdout, r.stderr) == (0, "", ""), r
        assert rows(c.p) == rows(c.r) == ["p", "run"]
        wait_until(lambda: not is_locked(c.p), "the lock to be given back")
        # On the primary there is nothing to take.
        r = litefs("-v", "-with-halt-lock-on", c.p.path("t.db"), "--", *insert, c.p.path("t.db"), "on p")
        assert r.returncode == 0, r
        c.check()
        # The command's end is ours.
        assert litefs(*with_lock, "sh", "-c", "exit 7").returncode == 7
        assert litefs(*with_lock, "sh", "-c", "kill -9 $$").returncode == 128 + 9
        for words, error in [(["-promote", *with_lock, "true"], "cannot specify both -promote & -with-halt-lock-on"),
                             (["true"], "too many arguments, specify a '--' to specify an exec command"),
                             (["-promote", "--"], "no command to run is given behind `--`"),
                             (["-with-halt-lock-on", c.r.path("no.db"), "--", "true"],
                              f"cannot lock {c.r.path('no.db')}: there is no such database"),
                             (["-with-halt-lock-on", c.r.config, "--", "true"],
                              f"cannot lock {c.r.config}: {c.r.root} is not the mount of a litefs that runs"),
                             (["--", "/no/such/command"], "cannot run /no/such/command: No such file or directory")]:
            r = litefs(*words)
            assert r.returncode in (1, 2) and re.match(r"ERROR: (litefs run: )?" + re.escape(error), r.stderr), r
        assert litefs().returncode == 2
        r = litefs("-if-candidate", "-url", f"http://127.0.0.1:{c.r.port()}", "--", "sh", "-c", "echo ran")
        assert (r.returncode, r.stdout, r.stderr) == (0, "", "node is not a candidate, skipping execution\n"), r
        r = litefs("-if-candidate", "-promote", "-url", f"http://127.0.0.1:{c.p.port()}", "--", "sh", "-c", "echo ran")
        assert (r.returncode, r.stdout) == (0, "ran\n"), r
        r = litefs("-promote", "-url", f"http://127.0.0.1:{c.r.port()}", "--", "true")
        assert r.returncode == 1 and r.stderr.startswith("ERROR: not eligible to become primary; "), r
        # Signals go on to it.
        process = subprocess.Popen([LITEFS, "run", *with_lock, "sh", "-c",
                                    "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done"], stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        assert is_locked(c.p)
        process.terminate()
        assert process.wait(60) == 5
        wait_until(lambda: not is_locked(c.p), "the lock to be given back", GIVEN_BACK)


def test_name_of_the_lock():
    with Three("wal") as c:
        for n in (c.p, c.r):
            assert "t.db-lock" not in os.listdir(n.mnt)
            assert os.stat(n.path("t.db-lock")).st_size == 0
            with open(n.path("t.db-lock"), "rb") as f:
                assert f.read() == b""
        assert not os.path.exists(c.p.path("other-lock"))
        with open(c.p.path("other-lock"), "w") as f:  # of no database: a file like any other
            f.write("mine")
        with open(c.p.path("other-lock")) as f:
            assert f.read() == "mine"


# --- who may, and for how long ---

def test_owner_is_checked():
    with Three("wal") as c:
        mine, other = key(c.r), {"Litefs-Id": "00000000000000AB"}
        post = lambda **kw: request(c.p, "POST", "/halt", **{"headers": mine, "name": "t.db", **kw})
        drop = lambda **kw: request(c.p, "DELETE", "/halt", **{"headers": mine, "name": "t.db", **kw})
        tx = lambda **kw: request(c.p, "POST", "/tx", **{"headers": mine, "name": "t.db", "body": b"x" * 200, **kw})
        assert tx(lockID=7).status == 409
        assert post(id=7, renew="true").status == 409
        a = post(id=7)
        assert a.status == 200, a.text
        assert a.json["id"] == 7 and a.json["expires"][10] == "T" and a.json["ttlMS"] == TTL * 1000
        assert c.p.pos() == f"{a.json['pos']['TXID']}/{a.json['pos']['PostApplyChecksum']}"
        assert post(id=7).status == 200 and post(id=7, renew="true").status == 200
        assert is_locked(c.p)
        # Neither another node nor another id has it, may renew it, write by it or give it back.
        for kw in ({"lockID": 8}, {"lockID": 7, "headers": other}, {"lockID": 7, "headers": {}}):
            assert tx(**kw).status == 409, kw
        for kw in ({"id": 8}, {"id": 7, "headers": other}):
            assert post(renew="true", **kw).status == 409, kw
            assert drop(**kw).status == 200
            assert is_locked(c.p), kw
        # The holder's transaction has to be one, and the next one.
        a = tx(lockID=7)
        assert a.status == 400 and is_locked(c.p), a.text
        for id in ("", "0", "x", "1x", "99999999999999999999"):
            a = post(id=id)
            assert (a.status, a.text) == (400, f'invalid id: "{id}"\n'), a.text
        assert post(id=7, name="no.db").status == drop(id=7, name="no.db").status == 404
        assert post(id=7, name="../x").status == 400
        a = post(id=7, headers=key(c.p))
        assert (a.status, a.text) == (400, "cannot remotely halt self\n")
        a = request(c.r, "POST", "/halt", headers=other, name="t.db", id=7)
        assert a.status == 503 and "not the primary" in a.text, a.text
        # Who waits gets it when it is given back.
        got = []
        t = threading.Thread(target=lambda: got.append(post(id=9, headers=other)))
        t.start()
        time.sleep(0.1)
        assert not got
        assert drop(id=7).status == 200
        t.join()
        assert got[0].status == 200, got[0].text
        assert drop(id=9, headers=other).status == 200 and not is_locked(c.p)


def test_drop_takes_no_lock():
    """Who deletes the primary's database takes none of SQLite's locks, and is refused all the same."""
    with Three("wal") as c:
        assert request(c.p, "POST", "/halt", headers=key(c.r), name="t.db", id=7).status == 200
        try:
            os.unlink(c.p.path("t.db"))
            raise AssertionError("deleted under a halt lock")
        except OSError:
            pass
        assert rows(c.p) == ["p"]
        assert request(c.p, "DELETE", "/halt", headers=key(c.r), name="t.db", id=7).status == 200
        os.unlink(c.p.path("t.db"))


def test_killed_application():
    with Three("delete") as c:
        holder = subprocess.Popen([sys.executable, "-c",
                                   "import os, sqlite3, sys, time\n"
                                   "os.open(sys.argv[1] + '-lock', os.O_RDWR)\n"
                                   "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
                                   "c.execute('pragma cache_size=5')\n"
                                   "c.execute('begin')\n"
                                   "c.executemany('insert into t values(?)', [('x' * 4000,)] * 100)\n"
                                   "print('ready', flush=True)\n"
                                   "time.sleep(60)\n", c.r.path("t.db")], stdout=subprocess.PIPE)
        assert holder.stdout.readline() == b"ready\n"
        assert is_locked(c.p)
        holder.kill()
        holder.wait()
        wait_until(lambda: not is_locked(c.p), "the lock to be given back", GIVEN_BACK)
        write(c.p, "after")
        assert rows(c.r)[0] == "p"
        c.check()
        assert rows(c.r) == ["p", "after"]


def killed_node():
    with Three("wal") as c:
        lock = os.open(c.r.path("t.db-lock"), os.O_RDWR)
        assert is_locked(c.p)
        c.r.kill()
        os.close(lock)
        wait_until(lambda: not is_locked(c.p), "the lock to run out")
        write(c.p, "after")


def renewed():
    with Three("wal") as c:
        with Halt(c.r):
            time.sleep(TTL + 1)
            assert is_locked(c.p)
            write(c.r, "late")
        c.check()


def test_stopped_node_gives_back():
    with Three("wal") as c:
        lock = os.open(c.r.path("t.db-lock"), os.O_RDWR)
        assert is_locked(c.p)
        stop = threading.Thread(target=c.r.stop)
        stop.start()
        wait_until(lambda: not is_locked(c.p), "the lock to be given back", GIVEN_BACK)
        os.close(lock)
        stop.join()


def test_dead_writer_of_the_primary():
    """With its journal hot and its pages spilled, a writer dies on the primary: nobody takes them for committed."""
    with Three("delete") as c:
        writer = subprocess.Popen([sys.executable, "-c",
                                   "import sqlite3, sys, time\n"
                                   "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
                                   "c.execute('pragma cache_size=5')\n"
                                   "c.execute('begin')\n"
                                   "c.execute(\"update t set a='dirty'\")\n"
                                   "c.executemany('insert into t values(?)', [('x' * 4000,)] * 100)\n"
                                   "print('ready', flush=True)\n"
                                   "time.sleep(60)\n", c.p.path("t.db")], stdout=subprocess.PIPE)
        assert writer.stdout.readline() == b"ready\n"
        writer.kill()
        writer.wait()
        with Halt(c.r):
            assert rows(c.p) == ["p"]
            write(c.r, "r")
            assert rows(c.p) == ["p", "r"]
        c.check()


def test_writer_at_work():
    """A halt waits for the primary's transaction that is open, and has what it commits."""
    with Three("wal") as c:
        w = c.p.connect()
        w.execute("begin immediate")
        w.execute("insert into t values('first')")
        got = []

        def write_there():
            with Halt(c.r):
                write(c.r, "second")
                got.append(rows(c.r))
        t = threading.Thread(target=write_there)
        t.start()
        time.sleep(0.2)
        assert not got
        w.execute("commit")
        t.join()
        w.close()
        assert got == [["p", "first", "second"]]
        c.check()


# --- when the network fails ---

def test_answer_is_lost():
    """The primary has committed, its answer does not come: the same is sent again, and counts once."""
    with Three("wal") as c:
        db = c.r.connect()
        with Halt(c.r):
            db.execute("insert into t values('r1')")
            before = c.p.pos()
            c.link.stall("back")
            t = threading.Thread(target=lambda: write(c.r, "r2"))
            t.start()
            wait_until(lambda: c.p.pos() != before, "the primary to commit")
            c.link.cut()
            time.sleep(0.2)
            c.link.heal()
            t.join(60)
            assert not t.is_alive()
            db.execute("insert into t values('r3')")
        db.close()
        c.check()
        assert rows(c.p) == ["p", "r1", "r2", "r3"]


def link_is_cut(mode):
    with Three(mode) as c:
        db = c.r.connect()
        with Halt(c.r):
            db.execute("insert into t values('r1')")
            db.execute("begin")
            db.execute("insert into t values('lost')")
            c.link.cut()
            begin = time.monotonic()
            assert is_refused(db, "commit")
            assert time.monotonic() - begin < TTL + 30
            if db.in_transaction:
                db.execute("rollback")
            assert rows(c.r) == ["p", "r1"]  # as it was
            assert is_refused(db)
            wait_until(lambda: not is_locked(c.p), "the lock to run out")
            write(c.p, "p2")
            c.link.heal()
            in_step(c.p, c.r)
            assert rows(c.r) == ["p", "r1", "p2"]
            assert is_refused(db)  # a lock that was lost stays lost
        with Halt(c.r):
            db.execute("insert into t values('r2')")
        db.close()
        c.check()
        assert rows(c.p) == ["p", "r1", "p2", "r2"]


def stuck_commits_hold_up_nobody():
    """More of them than there are workers wait for a primary that says nothing; the node does all else as before."""
    names = [f"n{i}.db" for i in range(6)]
    with Three("wal") as c:
        for name in names:
            db = c.p.connect(name)
            # Not DELETE: the kernel locks the directory while a journal's removal is not answered.
            db.execute("pragma journal_mode=wal")
            db.execute("create table t(a)")
            db.close()
            in_step(c.p, c.r, name)
        with open(os.path.join(c.r.data, "files", "plain"), "wb") as f:
            f.write(b"of another time, when this was the primary")
        with contextlib.ExitStack() as halts, concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
            for name in names:
                halts.enter_context(Halt(c.r, name))
            c.link.stall()

            def commit(name):
                db = c.r.connect(name)
                refused = is_refused(db, "insert into t values('lost')")
                db.close()
                return refused

            commits = [pool.submit(commit, name) for name in names]
            time.sleep(0.5)  # they are on their way
            begin = time.monotonic()
            with open(c.r.path("plain"), "rb") as f:
                os.fsync(f.fileno())  # takes a worker
            assert rows(c.r) == ["p"] and get(c.r, "/info").status == get(c.r, "/db").status == 200
            assert time.monotonic() - begin < 3, "all else waited for them"
            assert not any(f.done() for f in commits), "too late to tell"
            assert all(f.result() for f in commits)
        c.link.heal()
        c.check()


def test_what_takes_until_it_runs_out():
    """Side by side, because each waits for that long."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for f in [pool.submit(f, *args) for f, *args in ((link_is_cut, "wal"), (link_is_cut, "delete"), (killed_node,),
                                                         (renewed,), (stuck_commits_hold_up_nobody,))]:
            f.result()


def test_no_primary():
    with Three("wal") as c:
        c.link.cut()
        begin = time.monotonic()
        r = subprocess.run([LITEFS, "run", "-with-halt-lock-on", c.r.path("t.db"), "--", "true"], capture_output=True,
                           text=True, check=False, timeout=60)
        assert r.returncode == 1 and "cannot take the halt lock of" in r.stderr, r
        assert time.monotonic() - begin < 50
        c.link.heal()
        in_step(c.p, c.r)
        with Halt(c.r):
            write(c.r, "r")
        c.check()


if __name__ == "__main__":
    run(sys.modules[__name__])
