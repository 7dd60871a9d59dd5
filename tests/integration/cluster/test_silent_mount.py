"""A mount that does not answer: health says so, and another node leads."""
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request

from cluster_fixture import Cluster, need, run, wait_until
from litefs_fixture import HungMount

need("etcd")
if shutil.which("strace") is None:
    print("strace is not installed (scripts/setup installs it)")
    sys.exit(77)


def ask(node, path):
    """(status, text)"""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{node.listen_port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def test_a_primary_whose_mount_hangs_gives_the_lease_up():
    """Its lease is renewed all the while, and its process lives: nothing but the mount tells."""
    with Cluster(2, backend="etcd", ttl="5s") as cl:
        p = cl.wait_primary()
        c = p.connect()
        c.execute("create table t(a)")
        c.execute("insert into t values(1)")
        c.close()
        cl.in_step()
        assert ask(p, "/healthz")[0] == 200 and ask(p, "/readyz")[0] == 200
        with HungMount(p):
            wait_until(lambda: ask(p, "/healthz") == (503, "the mount does not answer\n"), "bad health")
            assert ask(p, "/readyz") == (503, "not ready: the mount does not answer\n")
            other = cl.wait_primary(other_than=(p,))
            c = other.connect()
            c.execute("insert into t values(2)")
            c.close()
            assert other.stop() == 0  # it leaves the lease to whoever can
            wait_until(lambda: '"for": "mount"' in ask(p, "/info")[1], "the one whose mount hangs to say what it waits for")
            assert not p.is_primary()
        assert p.log().count("has not answered for") == 1, "one line"
        wait_until(lambda: ask(p, "/healthz")[0] == 200, "good health")
        other.start()
        cl.check_equal()
        c = cl.wait_primary().connect()
        assert c.execute("select a from t").fetchall() == [(1,), (2,)]
        c.close()
        assert os.path.isdir(p.path(HungMount.NAME))


def test_a_database_that_stands_still_holds_nobody_up_who_looks():
    """A write to it does not return, with its lock held: what the node says of its databases, its heartbeats and its lease
    do not wait for that."""
    with Cluster(2, backend="etcd", ttl="2s") as cl:
        p = cl.wait_primary()
        replica = cl.replicas()[0]
        c = p.connect()
        c.execute("pragma journal_mode=wal")
        c.execute("create table t(a)")
        c.close()
        cl.in_step()
        late = cl.add()
        insert = [sys.executable, "-c", "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
                  "c.execute('insert into t values(zeroblob(20000))'); c.commit()", p.path("t.db")]
        with HungMount(p, "pwrite64", insert, os.path.join(p.data, "dbs", "t.db", "wal")):
            wait_until(lambda: os.path.getsize(os.path.join(p.root, "held")) > 0, "a write to be held")
            assert '"t.db"' in ask(p, "/db")[1] and "litefs_db_" in ask(p, "/metrics")[1]
            late.start()  # to whom the primary says what it has
            wait_until(lambda: f"following primary={p.name}" in late.recent_log(), "a node to join")
            time.sleep(3)  # longer than the lease lasts if nobody renews it
            assert p.is_primary()
            assert json.loads(ask(replica, "/info")[1])["lagMS"] < 2500
        wait_until(lambda: ask(p, "/healthz")[0] == 200, "good health")
        cl.check_equal()


if __name__ == "__main__":
    run(sys.modules[__name__])
