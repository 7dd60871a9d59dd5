"""A transaction that a change of the primary has cut short is nowhere to be seen, whoever looks, though its writer never comes
back to roll it back."""
import os
import sqlite3
import subprocess
import sys

from cluster_fixture import Cluster, need, run, wait_until
from litefs_fixture import LITEFS

need("etcd")

# Pages get into the file, and make it longer, before the end of the transaction.
WRITER = """
import sqlite3, sys
path, mode, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
c = sqlite3.connect(path, isolation_level=None)
c.execute("pragma journal_mode=" + mode)
c.execute("pragma cache_size=5")
c.execute("begin immediate")
c.executemany("insert into t values(zeroblob(4000))", [()] * rows)
print("open", flush=True)
sys.stdin.readline()
try:
    c.execute("commit")
    print("committed", flush=True)
except sqlite3.Error as e:
    print("refused:", e, flush=True)
"""


class Writer:
    def __init__(self, node, name, mode, rows):
        self.process = subprocess.Popen([sys.executable, "-c", WRITER, node.path(name), mode, str(rows)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == "open\n"

    def commit(self):
        """What it was told; then it is gone, as is its connection."""
        said, _ = self.process.communicate("\n", timeout=60)
        return said

    def kill(self):
        self.process.kill()
        self.process.communicate()


def create(cl, name, mode):
    c = cl.wait_primary().connect(name)
    c.execute(f"pragma journal_mode={mode}")
    c.execute("create table t(a)")
    c.execute("insert into t values(1)")
    c.close()
    cl.in_step(name)


def hand_over(cl):
    """(the old primary, the new one)"""
    old = cl.wait_followers()
    r = subprocess.run([LITEFS, "handoff", "-config", old.config], capture_output=True, text=True, check=False)
    assert r.returncode == 0, r.stderr
    return old, cl.wait_primary(other_than=(old,))


def size(node, name):
    return os.stat(node.path(name)).st_size


def test_a_refused_transaction_shows_nowhere():
    """By a capture of the thread that answers, by a worker's, and by no journal at all."""
    with Cluster(2, backend="etcd", ttl="5s") as cl:
        for mode, rows in (("delete", 3), ("delete", 900), ("truncate", 3), ("persist", 900), ("off", 3)):
            name = f"{mode}{rows}.db"
            create(cl, name, mode)
            w = Writer(cl.wait_primary(), name, mode, rows)
            old, new = hand_over(cl)
            said = w.commit()
            assert said.startswith("refused"), (name, said)
            wait_until(lambda: size(old, name) == size(new, name), f"{name} to have its committed size on the old primary")
            assert old.visible(name) == new.visible(name), name
            c = old.connect(name)
            assert c.execute("select count(*) from t").fetchone() == (1,), name
            c.close()


def test_a_writer_that_dies_in_its_transaction():
    with Cluster(2, backend="etcd", ttl="5s") as cl:
        create(cl, "t.db", "delete")
        w = Writer(cl.wait_primary(), "t.db", "delete", 100)
        old, new = hand_over(cl)
        assert size(old, "t.db") > size(new, "t.db")
        w.kill()
        wait_until(lambda: size(old, "t.db") == size(new, "t.db"), "t.db to have its committed size on the old primary")
        assert not os.path.exists(old.path("t.db-journal"))
        cl.check_equal()


def test_a_transaction_that_is_alive_can_be_rolled_back_by_who_made_it():
    with Cluster(2, backend="etcd", ttl="5s") as cl:
        create(cl, "t.db", "delete")
        p = cl.wait_primary()
        c = p.connect()
        c.execute("pragma cache_size=5")
        c.execute("begin immediate")
        c.executemany("insert into t values(zeroblob(4000))", [()] * 100)
        old, new = hand_over(cl)
        assert old is p and size(old, "t.db") > size(new, "t.db")
        d = new.connect()
        d.execute("insert into t values(2)")  # the old one cannot show it yet
        d.close()
        c.execute("rollback")
        assert c.execute("pragma integrity_check").fetchone() == ("ok",)
        cl.check_equal()
        assert c.execute("select a from t").fetchall() == [(1,), (2,)]
        try:
            c.execute("insert into t values(3)")
            raise AssertionError("a replica wrote")
        except sqlite3.OperationalError:
            pass
        c.close()


if __name__ == "__main__":
    run(sys.modules[__name__])
