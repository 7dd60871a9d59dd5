"""What takes long on the way to a replica does not keep other databases behind."""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from litefs_fixture import Node, have_same, in_step, pos_or_none, run, wait_until
from tcp_link import Link

RATE = 2 << 20
MODES = ("delete", "wal")


def through(link, extra=""):
    return Node(extra=f"  candidate: false\n  advertise-url: http://127.0.0.1:{link.port}\n  reconnect-delay: 100ms\n{extra}")


class Slow:
    """A primary, and a way to it with that rate."""

    def __enter__(self):
        self.p = Node().__enter__()
        self.link = Link(self.p.port(), rate=RATE)
        return self.p, self.link

    def __exit__(self, *exc):
        self.link.close()
        self.p.__exit__(*exc)


def create(node, name, mode="delete", n_bytes=0):
    c = node.connect(name)
    c.execute(f"pragma journal_mode={mode}")
    c.execute("create table t(a)")
    c.close()
    if n_bytes > 0:
        insert(node, name, n_bytes)


def insert(node, name, n_bytes=10):
    """One transaction, of what cannot be compressed."""
    c = node.connect(name)
    c.execute("begin")
    for _ in range(max(1, n_bytes >> 20)):
        c.execute("insert into t values(randomblob(?))", (min(n_bytes, 1 << 20),))
    c.execute("commit")
    c.close()


def test_small_transactions_come_while_a_large_one_is_under_way():
    for mode in MODES:
        with Slow() as (p, link), through(link) as r:
            for name in ("big.db", "other.db", "small.db"):
                create(p, name, mode)
                in_step(p, r, name)
            insert(p, "big.db", 24 << 20)  # 12 s
            for _ in range(3):
                insert(p, "small.db")
                in_step(p, r, "small.db")
                assert not have_same(p, r, "big.db"), "it came behind the large one"
            insert(p, "other.db", 4 << 20)
            in_step(p, r, "other.db")
            assert not have_same(p, r, "big.db"), "it came behind the large one"
            in_step(p, r, "big.db")
            for name in ("big.db", "other.db", "small.db"):
                r.check(name)


def test_a_database_with_much_to_catch_up_keeps_no_other_behind():
    """Many transactions of one, each of them short; and a snapshot."""
    with Slow() as (p, link):
        create(p, "big.db", "wal", 16 << 20)
        create(p, "many.db", "wal")
        for _ in range(40):
            insert(p, "many.db", 200 << 10)
        create(p, "small.db")
        with through(link) as r:
            in_step(p, r, "small.db")
            assert not have_same(p, r, "big.db") and not have_same(p, r, "many.db")
            for name in ("many.db", "big.db"):
                in_step(p, r, name)
                r.check(name)


def test_more_large_ones_than_may_be_under_way():
    """They take turns, and each comes whole."""
    names = [f"{i}.db" for i in range(7)]
    with Slow() as (p, link), through(link) as r:
        for name in names:
            create(p, name)
            in_step(p, r, name)
        for name in names:
            insert(p, name, 3 << 20)
        insert(p, names[0])
        for name in names:
            in_step(p, r, name)
            r.check(name)


def test_a_stream_that_breaks_with_several_under_way_goes_on():
    with Slow() as (p, link), through(link) as r:
        for name in ("a.db", "b.db", "c.db"):
            create(p, name)
            in_step(p, r, name)
        before = [pos_or_none(r, name) for name in ("a.db", "b.db")]
        insert(p, "a.db", 8 << 20)
        insert(p, "b.db", 8 << 20)
        insert(p, "c.db")
        in_step(p, r, "c.db")
        assert before == [pos_or_none(r, name) for name in ("a.db", "b.db")]
        link.cut()
        wait_until(lambda: not link.ways, "the connections to end")
        link.heal()
        for name in ("a.db", "b.db", "c.db"):
            in_step(p, r, name)
            r.check(name)


if __name__ == "__main__":
    run(sys.modules[__name__])
