"""The primary is lost in the middle of a rename: each database has one of its names afterwards, and never none."""
import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
import time

from cluster_fixture import Cluster, run, wait_until
from litefs_fixture import LITEFS, pos_or_none

SOURCES = ["a.db", "d/x.db", "d/y.db"]
TARGETS = ["b.db", "e/x.db", "e/y.db"]


def make(node, name):
    os.makedirs(os.path.dirname(node.path(name)), exist_ok=True)
    c = node.connect(name)
    c.execute("create table t(x)")
    c.execute("insert into t values(?)", (name,))
    c.close()


def content(node, name):
    c = node.connect(name)
    try:
        return c.execute("select x from t").fetchone()[0]
    finally:
        c.close()


def have(node, names):
    return [name for name in names if os.path.exists(node.path(name))]


def test_the_next_primary_finishes_what_it_has():
    """The replica's acknowledgements stand still, so the sources are not sent away; then the primary dies."""
    with Cluster(2, backend="file") as c:
        first = c.wait_primary()
        for name in SOURCES:
            make(first, name)
        for name in SOURCES:
            c.in_step(name)
        first = c.wait_primary()
        second, = c.replicas()
        first.link.stall("there")
        os.rename(first.path("a.db"), first.path("b.db"))
        os.rename(first.path("d"), first.path("e"))
        wait_until(lambda: have(second, TARGETS) == TARGETS, "the targets to come")
        assert have(second, SOURCES) == SOURCES and not have(first, SOURCES)
        first.kill()
        first.link.heal()
        assert c.wait_primary(other_than=[first]) is second
        wait_until(lambda: not have(second, SOURCES), "the renames to be finished")
        for source, target in zip(SOURCES, TARGETS):
            assert content(second, target) == source
        first.start()
        for name in ["a.db", *TARGETS]:
            c.in_step(name)
        assert have(first, SOURCES + TARGETS) == TARGETS


def test_a_replica_has_the_target_first_also_after_a_restart_of_the_primary():
    """The target cannot be sent for as long as its log cannot be read; the deletion of the source does not go before it."""
    with Cluster(2, backend="file") as c:
        first = c.wait_primary()
        make(first, "a.db")
        c.in_step("a.db")
        first = c.wait_primary()
        second, = c.replicas()
        assert second.stop() == 0
        os.rename(first.path("a.db"), first.path("b.db"))
        assert first.stop() == 0
        first.start()
        assert c.wait_primary() is first and have(first, ["a.db", "b.db"]) == ["b.db"]
        log = os.path.join(first.data, "dbs/b.db/log")
        os.rename(log, log + ".away")
        second.start()
        second.wait_log(f"following primary={first.name}")
        first.wait_log("not sent to")
        assert have(second, ["a.db", "b.db"]) == ["a.db"]
        os.rename(log + ".away", log)
        wait_until(lambda: have(second, ["a.db", "b.db"]) == ["b.db"], "the rename")
        assert content(second, "b.db") == "a.db"


class Users:
    """Threads that go on until the end, whoever leads; each says how often it has done what it is there for."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.is_over = threading.Event()
        self.threads, self.done, self.problems = [], {}, []

    def add(self, name, fn):
        self.done[name] = 0

        def go_on():
            while not self.is_over.is_set():
                try:
                    fn()
                    self.done[name] += 1
                except (OSError, sqlite3.Error, AssertionError):
                    pass  # it leads no more, or something is open, or is being renamed
                except BaseException as e:
                    self.problems.append((name, repr(e)))
                time.sleep(0.003)  # or the others hardly come to anything
        self.threads.append(threading.Thread(target=go_on))
        self.threads[-1].start()

    def end(self):
        self.is_over.set()
        for t in self.threads:
            t.join()
        assert not self.problems, self.problems[:3]


def leader(c):
    now = c.primaries()
    if len(now) != 1:
        raise OSError
    return now[0]


def settled_names(c):
    """What both nodes have, once nothing of it goes any more: renames that were cut short are finished within a second or two."""
    seen = []

    def is_settled():
        seen.append([have(node, [*SOURCES, *TARGETS, "app.db"]) for node in c.nodes])
        time.sleep(0.5)
        return len(seen) > 6 and all(names == seen[-1][0] for both in seen[-6:] for names in both)
    try:
        wait_until(is_settled, "the same names on both", 20)
    except AssertionError:
        raise AssertionError(f"not the same names: {seen[-1]}; positions "
                             f"{[(name, [pos_or_none(n, name) for n in c.nodes]) for name in [*SOURCES, *TARGETS]]}") from None
    return seen[-1][0]


def test_renames_beside_writers_readers_and_hand_overs():
    """Whatever each is told: in the end each database has one of its names at least, alike on both nodes, and is sound."""
    def move(source, target):
        p = leader(c)
        if os.path.exists(p.path(source)):
            os.rename(p.path(source), p.path(target))

    def opened(path, mode):
        """Of one that is there: SQLite would make it anew while it is being renamed."""
        return contextlib.closing(sqlite3.connect(f"file:{path}?mode={mode}", uri=True, timeout=0.5, isolation_level=None))

    def replace():
        p = leader(c)
        if os.path.exists(p.path("new.db")):
            os.unlink(p.path("new.db"))
        with opened(p.path("app.db"), "ro") as k:
            k.execute("vacuum into ?", (p.path("new.db"),))
        os.rename(p.path("new.db"), p.path("app.db"))

    def write(name):
        with opened(leader(c).path(name), "rw") as k:
            k.execute("insert into t values(?)", (name,))

    def read(node):
        for name in [*SOURCES, *TARGETS, "app.db"]:
            if os.path.exists(node.path(name)):
                with opened(node.path(name), "ro") as k:
                    k.execute("select count(*) from t").fetchall()

    with Cluster(2, backend="file") as c:
        p = c.wait_primary()
        for name in [*SOURCES, "app.db"]:
            make(p, name)
        for name in [*SOURCES, "app.db"]:
            c.in_step(name)
        users = Users(c)
        try:
            for source, target in (("a.db", "b.db"), ("b.db", "a.db"), ("d", "e"), ("e", "d")):
                users.add(f"{source} to {target}", lambda s=source, t=target: move(s, t))
            users.add("replace", replace)
            for name in ("app.db", "a.db", "d/x.db"):
                users.add("write " + name, lambda n=name: write(n))
            for node in c.nodes:
                users.add("read " + node.name, lambda n=node: read(n))
            for _ in range(2):
                now = dict(users.done)
                wait_until(lambda: all(users.done[name] > now[name] + 1 for name in ("a.db to b.db", "write app.db")),
                           "renames and writes under this primary")
                subprocess.run([LITEFS, "handoff", "-config", c.wait_primary().config], check=False, capture_output=True)
        finally:
            users.end()
        print("    ", users.done)
        names = settled_names(c)
        for source, target in [*zip(SOURCES, TARGETS), ("app.db", "app.db")]:
            assert source in names or target in names, (source, names)
        for name in names:
            c.check_equal(name)


if __name__ == "__main__":
    run(sys.modules[__name__])
