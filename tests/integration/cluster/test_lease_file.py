"""Nodes of one machine whose lease is a file: killed, stopped, ended and handed over, and no commit is lost or forked."""
import json
import sqlite3
import subprocess
import sys

from cluster_fixture import Cluster, run, wait_until
from litefs_fixture import LITEFS


def write(node, value):
    c = sqlite3.connect(node.path("t.db"), isolation_level=None, timeout=10)
    try:
        c.execute("create table if not exists t(x primary key)")
        c.execute("insert or ignore into t values(?)", (value,))
    finally:
        c.close()


def write_soon(c, value):
    """By the primary: one that has just become it may refuse for a moment, and on a busy machine it may be another."""
    def is_written():
        try:
            write(c.wait_primary(), value)
            return True
        except sqlite3.OperationalError:
            return False
    wait_until(is_written, f"row {value} to be written")


def rows(node):
    """None: the database is not there yet, or not to be read at the moment."""
    try:
        c = sqlite3.connect(f"file:{node.path('t.db')}?mode=ro", uri=True, timeout=10)
    except sqlite3.OperationalError:
        return None
    try:
        return [x for x, in c.execute("select x from t order by x")]
    except sqlite3.OperationalError:
        return None
    finally:
        c.close()


def wait_rows(c, n):
    c.wait_for_all(lambda p, r: rows(r) == list(range(n)) and rows(p) == list(range(n)), f"{n} rows on each node")


def kill_primary(c):
    """With rows 0 and 1 in the end, and it follows again: its successor."""
    write_soon(c, 0)
    wait_rows(c, 1)
    first = c.wait_primary()
    first.kill()
    second = c.wait_primary()
    assert second is not first
    write_soon(c, 1)
    first.start()
    c.wait_followers()
    wait_rows(c, 2)
    return second


def test_a_primary_that_dies_is_succeeded_without_a_wait():
    """By the lock that the kernel gives up: with a TTL of ten minutes nothing else can do it."""
    with Cluster(3, backend="file", ttl="10m") as c:
        second = kill_primary(c)
        # By SIGTERM it hands over.
        second.stop()
        write_soon(c, 2)
        second.start()
        c.wait_followers()
        wait_rows(c, 3)
        c.check_equal()
        with open(c.server.path, encoding="utf-8") as f:
            state = json.load(f)
        assert state["holder"]["hostname"] == c.wait_primary().name and state["term"] >= 3, state


def test_a_primary_that_is_stopped_loses_the_lease_after_its_ttl():
    with Cluster(2, backend="file", ttl="4s") as c:
        write_soon(c, 0)
        wait_rows(c, 1)
        first = c.wait_primary()
        first.pause()
        c.wait_primary(other_than=(first,))
        write_soon(c, 1)
        first.resume()
        c.wait_followers()
        wait_rows(c, 2)
        c.check_equal()


def doctor(node):
    return subprocess.run([LITEFS, "doctor", "-config", node.config], capture_output=True, text=True, timeout=60,
                          check=False).stdout


def test_doctor_knows_it():
    with Cluster(1, backend="file") as c:
        node = c.wait_primary()
        said = doctor(node)
        assert "file: held by node1, term " in said, said
        with open(c.server.path, "w", encoding="utf-8") as f:
            f.write("something else\n")
        said = doctor(node)
        assert f"{c.server.path} is not a lease that litefs wrote" in said, said


def test_a_node_of_another_cluster_leaves_the_lease_as_it_is():
    """Though it was in a later term: what it wrote there would keep those whose lease it is from leading."""
    with Cluster(1, backend="file", ttl="2s") as own, Cluster(1, backend="file", ttl="2s") as other:
        node, stranger = own.wait_primary(), other.wait_primary()
        stranger.stop()
        stranger.start()
        assert other.wait_primary() is stranger  # in term 2
        node.stop()
        stranger.stop()
        before = own.server.read("lease")
        with open(stranger.config, encoding="utf-8") as f:
            text = f.read().replace(other.server.path, own.server.path)
        with open(stranger.config, "w", encoding="utf-8") as f:
            f.write(text)
        stranger.start()
        stranger.wait_log("the lease is of cluster")
        stranger.stop()
        assert own.server.read("lease") == before
        node.start()
        assert own.wait_primary() is node


if __name__ == "__main__":
    run(sys.modules[__name__])
