"""What was answered as committed while the lease changes hands is there afterwards: imports, and transactions of 8 MB."""
import os
import sqlite3
import subprocess
import sys
import threading
import time

from cluster_fixture import Cluster, need, run, wait_until
from litefs_fixture import LITEFS

need("etcd")

HANDOFFS = 8


def numbered(path, n):
    """A database of some MB that says which one it is."""
    if os.path.exists(path):
        os.unlink(path)
    c = sqlite3.connect(path)
    c.execute("create table t(n, filler)")
    c.execute("insert into t select ?, zeroblob(2000000)", (n,))
    c.commit()
    c.close()


class Importer(threading.Thread):
    """Imports one numbered database after the other by whoever is the primary: each replaces the one before."""

    def __init__(self, cl, directory):
        super().__init__(daemon=True)
        self.cl, self.path = cl, os.path.join(directory, "import.db")
        self.stop = threading.Event()
        self.answered = 0  # the last one that was answered OK
        self.refused = 0

    def run(self):
        n = 0
        while not self.stop.is_set():
            n += 1
            numbered(self.path, n)
            node = next(iter(self.cl.primaries()), self.cl.nodes[0])
            r = subprocess.run([LITEFS, "import", "-url", f"http://127.0.0.1:{node.listen_port}", "-name", "i.db", self.path],
                               capture_output=True, check=False)
            if r.returncode == 0:
                self.answered = n
            else:
                self.refused += 1


class Writer(threading.Thread):
    """Transactions that a worker captures, on the node that is the primary."""

    def __init__(self, cl):
        super().__init__(daemon=True)
        self.cl = cl
        self.stop = threading.Event()
        self.answered = []
        self.refused = 0

    def run(self):
        n = 0
        while not self.stop.is_set():
            n += 1
            node = next(iter(self.cl.primaries()), self.cl.nodes[0])
            c = sqlite3.connect(node.path("w.db"), isolation_level=None, timeout=5)
            try:
                c.execute("begin immediate")
                c.execute("update filler set a = randomblob(8000000)")
                c.execute("insert into t values(?)", (n,))
                c.execute("commit")
                self.answered.append(n)
            except sqlite3.Error:
                self.refused += 1
                time.sleep(0.01)
            c.close()


def hand_over(cl):
    for _ in range(HANDOFFS):
        p = cl.wait_primary()
        r = subprocess.run([LITEFS, "handoff", "-config", p.config], capture_output=True, text=True, check=False)
        if r.returncode == 0:
            cl.wait_primary(other_than=(p,))
        time.sleep(0.3)


def test_imports_under_handoffs():
    with Cluster(2, backend="etcd", ttl="5s") as cl:
        im = Importer(cl, cl.nodes[0].root)
        im.start()
        wait_until(lambda: im.answered > 0, "an import")
        hand_over(cl)
        im.stop.set()
        im.join(60)
        p = cl.in_step("i.db")
        c = p.connect("i.db")
        n = c.execute("select n from t").fetchone()[0]
        c.close()
        print(f"     {im.answered} imports, {im.refused} refused")
        assert n >= im.answered, f"import {im.answered} was answered OK, and {n} is what is there"


def test_large_transactions_under_handoffs():
    with Cluster(2, backend="etcd", ttl="5s") as cl:
        c = cl.wait_primary().connect("w.db")
        c.execute("create table t(n)")
        c.execute("create table filler(a)")
        c.execute("insert into filler values(1)")
        c.close()
        w = Writer(cl)
        w.start()
        wait_until(lambda: w.answered, "a transaction")
        hand_over(cl)
        w.stop.set()
        w.join(60)
        p = cl.in_step("w.db")
        c = p.connect("w.db")
        there = {n for n, in c.execute("select n from t")}
        c.close()
        print(f"     {len(w.answered)} transactions of 8 MB, {w.refused} refused")
        lost = [n for n in w.answered if n not in there]
        assert not lost, f"answered, and lost: {lost}"


if __name__ == "__main__":
    run(sys.modules[__name__])
