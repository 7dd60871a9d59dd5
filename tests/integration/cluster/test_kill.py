"""A node that is killed while it applies: it must end, though it uses its own mount, and come back whole."""
import sys
import threading

from cluster_fixture import SEED, Cluster, need, run, wait_until

import random
import time

need("etcd")


def kill_replicas(mode, rounds):
    rng = random.Random(SEED)
    with Cluster(2, backend="etcd", ttl="5s") as cl:
        p = cl.wait_followers()
        r, = cl.replicas()
        c = p.connect(check_same_thread=False)
        c.execute(f"pragma journal_mode={mode}")
        c.execute("pragma synchronous=off")
        c.execute("create table t(a integer primary key, b)")
        cl.in_step()
        stop = threading.Event()

        def write():
            while not stop.is_set():
                c.execute("insert into t(b) values(randomblob(100))")

        t = threading.Thread(target=write)
        t.start()
        try:
            for _ in range(rounds):
                begin = r.pos()
                wait_until(lambda: r.pos() != begin, "the replica to apply")
                time.sleep(rng.uniform(0, 0.3))
                r.kill()
                r.start()
                r.wait_log("connected to cluster")
        finally:
            stop.set()
            t.join()
        cl.check_equal(has_whole_log=False)
        c.close()


def test_wal():
    kill_replicas("wal", 25)


def test_delete():
    kill_replicas("delete", 25)


if __name__ == "__main__":
    run(sys.modules[__name__])
