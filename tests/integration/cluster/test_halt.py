"""A node writes under a halt lock while the primary changes, dies or loses its lease."""
import os
import sqlite3
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "http"))

from cluster_fixture import Cluster, is_readonly, need, run, wait_until
from halt_fixture import Halt
from http_fixture import post

need("etcd")


class Writer(threading.Thread):
    """Appends numbered rows on one node under a halt lock, for as long as that can be had; asks again when it is lost."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node = node
        self.stop = threading.Event()
        self.acked, self.errors = [], []

    def run(self):
        n = 0
        while not self.stop.is_set():
            try:
                with Halt(self.node):
                    c = self.node.connect(timeout=1)
                    try:
                        while not self.stop.is_set():
                            n += 1
                            c.execute("insert into t values(?)", (n,))
                            self.acked.append(n)
                    finally:
                        c.close()
            except (OSError, sqlite3.Error) as e:
                self.errors.append(str(e))
                time.sleep(0.05)

    def end(self):
        self.stop.set()
        self.join(60)
        assert not self.is_alive(), f"the writer on {self.node.name} hangs"

    def wait_more(self, n, seconds=90):
        want = len(self.acked) + n
        wait_until(lambda: len(self.acked) >= want, f"{n} more rows; errors so far: {self.errors[-5:]}", seconds)


def begin(c, mode):
    p = c.wait_followers()
    db = p.connect()
    db.execute(f"pragma journal_mode={mode}")
    db.execute("create table t(a)")
    db.close()
    c.in_step()
    return p


def check(c, writer):
    """Every acknowledged row is there, once, in order; what was not may be there or not. All nodes are equal."""
    p = c.in_step()
    db = p.connect()
    found = [a for a, in db.execute("select a from t order by rowid")]
    db.close()
    assert found == sorted(set(found)), "rows twice, or out of order"
    lost = set(writer.acked) - set(found)
    assert not lost, f"{len(lost)} acknowledged rows are lost: {sorted(lost)[:10]}"
    c.check_equal(has_whole_log=False)
    print(f"{len(writer.acked)} rows acknowledged, {len(found)} there, {len(writer.errors)} errors: "
          f"{sorted(set(writer.errors))}", flush=True)


def primary_changes(mode, change):
    with Cluster(3, backend="etcd", ttl="2s") as c:
        p = begin(c, mode)
        writer = Writer(c.replicas()[0])
        writer.start()
        writer.wait_more(20)
        change(c, p, writer)
        writer.wait_more(20)
        writer.end()
        check(c, writer)


def hand_over(c, p, writer):
    """To the third node: the writer's lock is lost, and had again from the new primary."""
    target = next(n for n in c.nodes if n not in (p, writer.node))
    a = post(p, "/handoff", hostname=target.name)
    assert a.status == 200, a.text
    c.wait_primary(other_than=(p,))


def hand_over_to_writer(c, p, writer):
    a = post(p, "/handoff", hostname=writer.node.name)
    assert a.status == 200, a.text
    c.wait_primary(other_than=(p,))


def kill(c, p, writer):
    p.kill(may_hang=True)
    c.wait_primary(other_than=(p,))


def test_handed_over_wal():
    primary_changes("wal", hand_over)


def test_handed_over_delete():
    primary_changes("delete", hand_over)


def test_handed_over_to_the_holder():
    primary_changes("wal", hand_over_to_writer)


def test_primary_is_killed():
    """Acknowledged means that the primary had it; a node may be elected that had not yet received it."""
    with Cluster(2, backend="etcd", ttl="2s") as c:  # so that there is none
        p = begin(c, "wal")
        writer = Writer(c.replicas()[0])
        writer.start()
        writer.wait_more(20)
        kill(c, p, writer)
        writer.wait_more(20)
        writer.end()
        p.start()
        check(c, writer)


def test_primary_without_its_lease():
    """Cut from the lease service, the primary fences itself: it takes no transaction of the holder either."""
    with Cluster(2, backend="etcd", ttl="2s") as c:
        p = begin(c, "wal")
        r = c.replicas()[0]
        r.lease_link.cut()  # so that it does not take over
        with Halt(r):
            db = r.connect(timeout=1)
            db.execute("insert into t values(1)")
            p.lease_link.cut()
            wait_until(lambda: is_fenced(db), "the primary to refuse")
            db.close()
        p.lease_link.heal()
        r.lease_link.heal()
        c.wait_followers()
        c.check_equal(has_whole_log=False)


def is_fenced(db):
    try:
        db.execute("insert into t values(2)")
        return False
    except sqlite3.OperationalError as e:
        assert is_readonly(e), e
        return True


if __name__ == "__main__":
    run(sys.modules[__name__])
