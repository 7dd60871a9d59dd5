"""Commits over several databases beside hand-overs: what COMMIT has answered OK is in all of them, and what it has not is in
all or in none. In the rollback modes SQLite's super-journal makes one of them, which litefs logs as one; in WAL mode SQLite
commits one after the other, and a hand-over waits for those that are under way."""
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request

from cluster_fixture import Cluster, need, run, wait_until
from litefs_fixture import Node

need("etcd", "strace")

ROUNDS = int(os.environ.get("ROUNDS", 6))
MODES = ["delete", "truncate", "persist"]


class Writer(threading.Thread):
    def __init__(self, cluster, mode, number):
        super().__init__(daemon=True)
        self.cluster, self.mode, self.number = cluster, mode, number
        self.stop = threading.Event()
        self.acked, self.asked = [], 0

    def connect(self, node):
        c = sqlite3.connect(node.path(f"{self.mode}.db"), isolation_level=None, timeout=2)
        c.execute("attach ? as b", (node.path(f"sub/{self.mode}.db"),))
        c.execute(f"pragma main.journal_mode={self.mode}")
        c.execute(f"pragma b.journal_mode={self.mode}")
        return c

    def run(self):
        c = None
        while not self.stop.is_set():
            n = self.asked = self.asked + 1
            try:
                if c is None:
                    c = self.connect(self.cluster.wait_primary())
                self.commit(c, n)
                self.acked.append(n)
            except (sqlite3.Error, AssertionError, OSError):
                if c is not None:
                    c.close()
                c = None
                time.sleep(0.02)
        if c is not None:
            c.close()

    def commit(self, c, n):
        c.execute("begin")
        c.execute("insert into main.t values(?)", (n,))
        c.execute("insert into b.t values(?)", (n,))
        c.execute("commit")


def rows(node, name):
    c = sqlite3.connect("file:" + node.path(name) + "?mode=ro", uri=True, timeout=10)
    found = {n for n, in c.execute("select x from t")}
    c.close()
    return found


def hand_over(cl, by_demotion):
    old = cl.wait_primary()
    if by_demotion:
        url = f"http://127.0.0.1:{old.listen_port}/demote"
        urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=20).read()
    else:
        old.stop()
        old.start()
    cl.wait_primary()
    cl.wait_followers()


class WalWriter(Writer):
    """Over three databases in WAL mode, of which one is the connection's own."""

    def connect(self, node):
        c = sqlite3.connect(node.path(self.names()[0]), isolation_level=None, timeout=2)
        for i, name in enumerate(self.names()[1:]):
            c.execute(f"attach ? as d{i + 1}", (node.path(name),))
        return c

    def names(self):
        return [f"wal{self.number}{x}.db" for x in "abc"]

    def commit(self, c, n):
        c.execute("begin immediate")
        for name in ("main", "d1", "d2"):
            c.execute(f"insert into {name}.t values(?, randomblob(?))", (n, 20000 if n % 3 == 0 else 100))
        c.execute("commit")


class SlowWriter(WalWriter):
    """Whose transactions take longer than a hand-over waits for them."""

    is_inside = False

    def commit(self, c, n):
        c.execute("begin")
        for name in ("main", "d1", "d2"):
            c.execute(f"insert into {name}.t values(?, x'00')", (n,))
        self.is_inside = True
        self.stop.wait(5)
        self.is_inside = False
        c.execute("commit")


def make_wal(cl, writers):
    primary = cl.wait_primary()
    for w in writers:
        for name in w.names():
            c = sqlite3.connect(primary.path(name))
            c.execute("pragma journal_mode=wal")
            c.execute("create table t(x integer primary key, b)")
            c.close()
    cl.wait_followers()


def end(cl, writers):
    for w in writers:
        w.stop.set()
    for w in writers:
        w.join(60)
        assert not w.is_alive(), "a writer hangs"
    cl.wait_followers()
    return cl.wait_primary()


def handoff(cl):
    old = cl.wait_primary()
    url = f"http://127.0.0.1:{old.listen_port}/handoff"
    urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=20).read()
    cl.wait_primary(other_than=[old])
    cl.wait_followers()
    return old


def check_whole(primary, w):
    found = [rows(primary, name) for name in w.names()]
    everywhere, somewhere = set.intersection(*found), set.union(*found)
    lost = [n for n in w.acked if n not in everywhere]
    print(f"{type(w).__name__}: {len(w.acked)} of {w.asked} commits answered, {len(lost)} of them lost, "
          f"{len(somewhere - everywhere)} halved", flush=True)
    assert not lost, (w.names(), lost, [[n in f for f in found] for n in lost])
    assert somewhere == everywhere, (w.names(), sorted(somewhere - everywhere))


def test_wal_commits_over_several_databases_are_whole():
    with Cluster(2, backend="etcd", ttl="2s") as cl:
        writers = [WalWriter(cl, "wal", 0), WalWriter(cl, "wal", 1)]
        make_wal(cl, writers)
        for w in writers:
            w.start()
        for i in range(ROUNDS * 3):
            time.sleep(0.3)
            handoff(cl)
        hand_over(cl, False)
        hand_over(cl, True)
        primary = end(cl, writers)
        for w in writers:
            check_whole(primary, w)
            assert len(w.acked) > 10


def test_a_transaction_that_outlasts_the_wait_is_refused_as_a_whole():
    with Cluster(2, backend="etcd", ttl="2s") as cl:
        writers = [SlowWriter(cl, "wal", 0), WalWriter(cl, "wal", 1)]
        make_wal(cl, writers)
        for w in writers:
            w.start()
        for i in range(2):
            wait_until(lambda: writers[0].is_inside, "a transaction")
            asked = writers[0].asked
            old = handoff(cl)
            if writers[0].asked == asked:
                old.wait_log("write transactions that did not end")
            wait_until(lambda: writers[0].asked > asked, "the transaction to end")
        primary = end(cl, writers)
        for w in writers:
            check_whole(primary, w)
        assert len(writers[0].acked) < writers[0].asked - 1, "nothing was refused"


HALFWAY = """
import os, sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
for i in (1, 2):
    c.execute(f"attach ? as d{i}", (sys.argv[1 + i],))
c.execute("begin immediate")
for name in ("main", "d1", "d2"):
    c.execute(f"insert into {name}.t values(?, x'00')", (int(sys.argv[4]),))
print(os.getpid(), flush=True)
sys.stdin.readline()
c.execute("commit")
"""


class Halfway:
    """A transaction over three databases in WAL mode, which stands still when its commit has the first one behind it: a signal
    stops it at its first write to the WAL of the second."""

    def __init__(self, node, names, n):
        paths = [node.path(name) for name in names]
        self.trace = os.path.join(node.root, f"trace{n}")
        self.process = subprocess.Popen(
            ["strace", "-f", "-qq", "-o", self.trace, "-P", paths[1] + "-wal", "-e", "trace=pwrite64", "-e",
             "inject=pwrite64:signal=STOP:when=1", sys.executable, "-c", HALFWAY, *paths, str(n)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = int(self.process.stdout.readline())

    def commit(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

        def has_stopped():
            with open(self.trace, encoding="utf-8") as f:
                return "stopped by SIGSTOP" in f.read()
        wait_until(has_stopped, "the commit to stand still")

    def go_on(self):
        os.kill(self.pid, signal.SIGCONT)
        self.process.communicate(timeout=60)


def wait_barrier(node, handoff_thread):
    """Until the write lock of a WAL that nobody writes to is taken; or the hand-over has ended without that."""
    c = sqlite3.connect(node.path("probe.db"), isolation_level=None, timeout=0)
    try:
        c.execute("select * from t").fetchall()
        while handoff_thread.is_alive():
            c.execute("begin immediate")
            c.execute("rollback")
    except sqlite3.OperationalError:
        pass
    finally:
        c.close()


def hand_over_halfway(cl, writer, n, begins_before, rest):
    """One commit beside a hand-over that begins when the commit is halfway, or when its transaction is open; it goes on @rest
    seconds after the hand-over has begun. Whether it had ended in the time that it is given."""
    old = cl.wait_primary()
    log_begin = len(old.recent_log())
    t = Halfway(old, writer.names(), n)
    if begins_before:
        t.commit()
    thread = threading.Thread(target=handoff, args=(cl,))
    thread.start()
    wait_barrier(old, thread)
    if not begins_before:
        t.commit()
    time.sleep(rest)
    t.go_on()
    thread.join(60)
    assert not thread.is_alive(), "the hand-over hangs"
    if "write transactions that did not end" in old.recent_log()[log_begin:]:
        return False
    primary = cl.wait_followers()
    assert [n in rows(primary, name) for name in writer.names()] == [True] * 3, "half of a commit was refused"
    return True


def test_a_commit_that_is_halfway_ends_before_the_hand_over():
    with Cluster(2, backend="etcd", ttl="5s") as cl:
        writer = WalWriter(cl, "wal", 0)
        make_wal(cl, [writer])
        c = sqlite3.connect(cl.wait_primary().path("probe.db"))
        c.execute("pragma journal_mode=wal")
        c.execute("create table t(x)")
        c.close()
        cl.in_step("probe.db")
        numbers = iter(range(1, 100))
        # On a machine that stands still for a second the time is over: that is no fault, and tried again.
        for begins_before, rest in ((True, 0), (False, 1.3)):
            assert any(hand_over_halfway(cl, writer, next(numbers), begins_before, rest) for _ in range(12)), \
                "no commit was given the time to end"


def end_halfway(node, names, n):
    """The same where the node ends, and no other takes over."""
    log_begin = len(node.log())
    t = Halfway(node, names, n)
    t.commit()
    node.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    t.go_on()
    assert node.process.wait(60) == 0
    node.process = None
    node.log_file.close()
    is_refused = "write transactions that did not end" in node.log()[log_begin:]
    node.start()
    assert is_refused or [n in rows(node, name) for name in names] == [True] * 3, "half of a commit was refused"
    return not is_refused


def test_a_commit_that_is_halfway_ends_before_the_node():
    with Node() as node:
        names = ["a.db", "b.db", "c.db"]
        for name in names:
            c = node.connect(name)
            c.execute("pragma journal_mode=wal")
            c.execute("create table t(x integer primary key, b)")
            c.close()
        assert any(end_halfway(node, names, n) for n in range(12)), "no commit was given the time to end"


def test_commits_over_several_databases_are_whole():
    with Cluster(2, backend="etcd", ttl="2s") as cl:
        primary = cl.wait_primary()
        os.mkdir(primary.path("sub"))
        for mode in MODES:
            for name in (f"{mode}.db", f"sub/{mode}.db"):
                c = sqlite3.connect(primary.path(name))
                c.execute("create table t(x integer primary key)")
                c.close()
        cl.wait_followers()
        writers = [Writer(cl, mode, i) for i, mode in enumerate(MODES)]
        for w in writers:
            w.start()
        for i in range(ROUNDS):
            time.sleep(0.7)
            hand_over(cl, i % 2 == 0)
        time.sleep(0.5)
        primary = end(cl, writers)
        for w in writers:
            a, b = rows(primary, f"{w.mode}.db"), rows(primary, f"sub/{w.mode}.db")
            lost = [n for n in w.acked if n not in a or n not in b]
            print(f"{w.mode}: {len(w.acked)} of {w.asked} commits answered, {len(lost)} of them lost, "
                  f"{len(a ^ b)} halved")
            assert len(w.acked) > 10
            assert not lost, (w.mode, lost, [n in a for n in lost], [n in b for n in lost])
            assert a == b, (w.mode, sorted(a ^ b))
        for name in os.listdir(primary.mnt):
            assert "-mj" not in name, name


if __name__ == "__main__":
    run(sys.modules[__name__])
