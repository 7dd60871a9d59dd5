"""A primary and replicas under a static lease: what the primary commits is on the replicas, byte for byte."""
import os
import random
import sqlite3
import subprocess
import sys
import time

import litefs_fixture
from litefs_fixture import Node, wait_until

SEED = int(os.environ.get("SEED", random.randrange(1 << 30)))
print("SEED=%d" % SEED, flush=True)


def primary():
    return Node()


def replica_of(p):
    return Node(extra=f"  candidate: false\n  advertise-url: http://127.0.0.1:{p.port()}\n  reconnect-delay: 100ms\n")


def in_step(p, r, name="t.db", seconds=10):
    def same():
        try:
            return r.pos(name) == p.pos(name)
        except FileNotFoundError:
            return False
    wait_until(same, f"{name} on the replica", seconds)


def check_equal(p, r, name="t.db"):
    in_step(p, r, name)
    p.check(name)
    r.check(name)
    a, b = p.visible(name), r.visible(name)
    assert a == b, f"{name}: {len(a)} bytes on the primary, {len(b)} on the replica"
    c = r.connect(name)
    assert c.execute("pragma integrity_check").fetchone()[0] == "ok"
    c.close()


def test_each_journal_mode():
    for mode in ("delete", "truncate", "persist", "wal", "memory"):
        with primary() as p, replica_of(p) as r:
            c = p.connect()
            c.execute(f"pragma journal_mode={mode}")
            c.execute("create table t(a integer primary key, b)")
            in_step(p, r)
            reader = r.connect()
            for i in range(50):
                c.execute("insert into t(b) values(randomblob(?))", (i * 50 % 3000,))
                if i % 10 == 0:
                    in_step(p, r)
                    assert reader.execute("select count(*) from t").fetchone()[0] == i + 1
            c.execute("delete from t where a % 3 = 0")
            if mode != "wal":
                c.execute("vacuum")
            reader.close()
            check_equal(p, r)
            c.close()


if __name__ == "__main__":
    litefs_fixture.run(sys.modules[__name__])
