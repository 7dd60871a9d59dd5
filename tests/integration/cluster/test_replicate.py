"""What the primary commits is on every replica, byte for byte."""
import os
import random
import sys
import threading
import time

from cluster_fixture import SEED, Cluster, need, run, wait_until

need("consul")
IS_SLOW = sys.argv[1:2] == ["slow"]
if IS_SLOW:
    del sys.argv[1]


def test_each_journal_mode():
    with Cluster() as cl:
        p = cl.wait_primary()
        for mode in ("delete", "truncate", "persist", "wal", "memory"):
            name = mode + ".db"
            c = p.connect(name)
            c.execute(f"pragma journal_mode={mode}")
            c.execute("create table t(a integer primary key, b)")
            for i in range(40):
                c.execute("insert into t(b) values(randomblob(?))", (i * 60 % 3000,))
            c.execute("delete from t where a % 3 = 0")
            cl.check_equal(name)
            c.execute("vacuum")
            c.execute("insert into t(b) values(1)")
            cl.check_equal(name)
            c.close()
            cl.check_equal(name)


def test_page_sizes_change():
    with Cluster() as cl:
        p = cl.wait_primary()
        c = p.connect()
        c.execute("pragma page_size=512")
        c.execute("create table t(a integer primary key, b)")
        c.executemany("insert into t(b) values(randomblob(?))", [(n,) for n in range(100)])
        for size in (4096, 65536, 1024):
            c.execute(f"pragma page_size={size}")
            c.execute("vacuum")
            c.execute("insert into t(b) values(?)", (size,))
            cl.check_equal()
            for n in cl.nodes:
                r = n.connect()
                assert r.execute("pragma page_size").fetchone()[0] == size
                assert r.execute("select b from t order by a desc limit 1").fetchone()[0] == size
                r.close()
        c.close()


def test_deleted_and_made_again():
    with Cluster() as cl:
        p = cl.wait_primary()
        for mode in ("delete", "wal", "wal", "delete"):
            c = p.connect()
            c.execute(f"pragma journal_mode={mode}")
            c.execute("create table t(a integer primary key, b)")
            c.execute("insert into t(b) values(randomblob(5000))")
            cl.check_equal()
            c.close()
            os.unlink(p.path("t.db"))
            for r in cl.replicas():
                wait_until(lambda r=r: not os.path.exists(r.path("t.db")), "the deletion on the replica")


def test_many_databases():
    names = [f"db{i:03}.db" for i in range(200)]
    with Cluster() as cl:
        p = cl.wait_primary()
        for i, name in enumerate(names):
            c = p.connect(name)
            if i % 2:
                c.execute("pragma journal_mode=wal")
            c.execute("create table t(a)")
            c.execute("insert into t values(?)", (i,))
            c.close()
        for name in names:
            cl.in_step(name)
        for r in cl.replicas():
            assert cl.names(r) == names
            for i, name in enumerate(names):
                c = r.connect(name)
                assert c.execute("select a from t").fetchall() == [(i,)], name
                c.close()
        for name in random.Random(SEED).sample(names, 10):
            cl.check_equal(name)


def test_nothing_to_do_costs_nothing():
    with Cluster() as cl:
        c = cl.wait_primary().connect()
        c.execute("create table t(a)")
        c.close()
        cl.in_step()
        before = {n: n.cpu_seconds() for n in cl.nodes}
        time.sleep(2)
        for n in cl.nodes:
            assert n.cpu_seconds() - before[n] < 0.3, f"{n.name} spends {n.cpu_seconds() - before[n]} s of 2 s"


def transfer(c, rng):
    a, b = rng.sample(range(1, 51), 2)
    c.execute("begin immediate")
    c.execute("update t set v = v - ? where k = ?", (7, a))
    c.execute("update t set v = v + ? where k = ?", (7, b))
    c.execute("commit")


class Readers(threading.Thread):
    """Reads the sum over and over on one node. It never changes, whatever is transferred."""

    def __init__(self, node, name):
        super().__init__()
        self.node, self.name_of_db = node, name
        self.stop = threading.Event()
        self.n = 0
        self.problem = None

    def run(self):
        try:
            c = self.node.connect(self.name_of_db)
            while not self.stop.is_set():
                c.execute("begin")
                first = c.execute("select sum(v), count(*) from t").fetchone()
                again = c.execute("select sum(v), count(*) from (select * from t order by v)").fetchone()
                c.execute("commit")
                assert first == again == (5000, 50), (first, again)
                self.n += 1
            c.close()
        except Exception as e:
            self.problem = (self.node.name, getattr(e, "sqlite_errorname", ""), repr(e))


def transactions_under_readers(mode, n):
    rng = random.Random(SEED)
    with Cluster() as cl:
        p = cl.wait_primary()
        c = p.connect()
        c.execute(f"pragma journal_mode={mode}")
        c.execute("pragma synchronous=normal")
        c.execute("create table t(k integer primary key, v, filler)")
        c.executemany("insert into t(v, filler) values(100, randomblob(?))", [(300,)] * 50)
        cl.in_step()
        readers = [Readers(r, "t.db") for r in cl.replicas() for _ in range(2)]
        for r in readers:
            r.start()
        for _ in range(n):
            transfer(c, rng)
        cl.in_step()
        for r in readers:
            r.stop.set()
        for r in readers:
            r.join()
            assert r.problem is None, r.problem
            assert r.n > 0
        print(f"     {mode}: {n} transactions, {sum(r.n for r in readers)} reads", flush=True)
        cl.check_equal()
        c.close()


def test_transactions_under_readers_wal():
    transactions_under_readers("wal", 10000 if IS_SLOW else 1000)


def test_transactions_under_readers_delete():
    transactions_under_readers("delete", 2000 if IS_SLOW else 200)


if __name__ == "__main__":
    run(sys.modules[__name__])
