"""The primary is lost in the middle of a rename: each database has one of its names afterwards, and never none."""
import os
import sys

from cluster_fixture import Cluster, run, wait_until

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


if __name__ == "__main__":
    run(sys.modules[__name__])
