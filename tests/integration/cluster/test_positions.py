"""Positions decide within a term: what a live candidate has acknowledged survives, whoever sees the free lease first."""
import os
import sqlite3
import sys
import urllib.request

from cluster_fixture import Cluster, need, run, wait_until

need("etcd", "consul")


def write(node, values, name="t.db"):
    c = sqlite3.connect(node.path(name), isolation_level=None, timeout=10)
    c.execute("pragma synchronous=off")
    c.execute("create table if not exists t(x)")
    for v in values:
        c.execute("insert into t values(?)", (v,))
    c.close()


def rows(node, name="t.db"):
    c = sqlite3.connect("file:" + node.path(name) + "?mode=ro", uri=True, timeout=10)
    found = {x for x, in c.execute("select x from t")}
    c.close()
    return found


def test_who_is_behind_fetches_from_who_is_ahead():
    for backend, ttl in (("etcd", "2s"), ("consul", "10s")):
        with Cluster(3, backend=backend, ttl=ttl, lock_delay="100ms") as cl:
            primary = cl.wait_primary()
            cl.wait_followers()
            write(primary, range(5))
            cl.in_step()
            behind, ahead = cl.replicas()
            wait_until(lambda: all(len(open(f"{n.data}/peers").read().split()) == 2 for n in (behind, ahead)),
                       "the replicas to know each other")
            behind.kill()
            write(primary, range(5, 105))
            wait_until(lambda: rows(ahead) == set(range(105)), "the other replica to have all")
            ahead.lease_link.cut()  # the one that is behind sees the free lease first
            primary.kill()
            behind.start()
            leader = cl.wait_primary()
            assert leader is behind, leader.name
            behind.wait_log(f"fetched from {ahead.name}")
            ahead.lease_link.heal()
            cl.wait_followers()
            wait_until(lambda: rows(behind) == set(range(105)), "100 of 100 rows on both")
            primary.start()
            cl.wait_followers()
            cl.check_equal()


def write_large(node, n_bytes):
    c = sqlite3.connect(node.path("t.db"), isolation_level=None, timeout=10)
    c.execute("pragma synchronous=off")
    c.execute("insert into t values(randomblob(?))", (n_bytes,))
    c.close()


def large_rows(node):
    c = sqlite3.connect("file:" + node.path("t.db") + "?mode=ro", uri=True, timeout=10)
    found = c.execute("select count(*) from t where length(x) > 1000000").fetchone()[0]
    c.close()
    return found


def knows_both(node):
    with open(f"{node.data}/peers") as f:
        return len(f.read().split()) == 2


def add_archive(cl):
    """A node that may not lead, the primary, and the other candidate, which is killed and so lacks what is written from now on."""
    archive = cl.add(candidate=False)
    archive.start()
    primary = cl.wait_followers()
    write(primary, range(5))
    cl.in_step()
    behind = next(n for n in cl.replicas() if n is not archive)
    wait_until(lambda: knows_both(behind), "the candidate to know the others")
    behind.kill()
    return archive, primary, behind


def test_a_large_transaction_is_fetched_while_there_is_time():
    with Cluster(2, backend="etcd", ttl="2s") as cl:
        archive, primary, behind = add_archive(cl)
        write_large(primary, 70 << 20)
        wait_until(lambda: large_rows(archive) == 1, "the other node to have it")
        primary.kill()
        behind.start()
        assert cl.wait_primary() is behind
        # A machine that cannot send it in three seconds leaves it where it is, and says so.
        assert "does not have what follows our position" not in behind.recent_log(), "nothing was sent"
        if f"only {archive.name} has is going to be set aside" not in behind.recent_log():
            behind.wait_log(f"fetched from {archive.name}")
            assert large_rows(behind) == 1, "it was not fetched"
        cl.wait_followers()
        cl.check_equal()


def test_what_only_a_node_that_may_not_lead_has_is_fetched():
    with Cluster(2, backend="etcd", ttl="2s") as cl:
        archive, primary, behind = add_archive(cl)
        write(primary, range(5, 105))
        wait_until(lambda: rows(archive) == set(range(105)), "the other node to have all")
        primary.kill()
        behind.start()
        assert cl.wait_primary() is behind
        behind.wait_log(f"fetched from {archive.name}")
        assert rows(behind) == set(range(105)), sorted(set(range(105)) - rows(behind))
        write(behind, [105])
        primary.start()
        cl.wait_followers()
        cl.check_equal()
        for n in cl.nodes:
            assert os.listdir(f"{n.data}/orphans") == [] if os.path.exists(f"{n.data}/orphans") else True, n.name


class Reader:
    """Keeps transactions of a database in a rollback mode out."""

    def __init__(self, node, name):
        self.c = sqlite3.connect(node.path(name), isolation_level=None)
        self.c.execute("begin")
        self.c.execute("select * from t").fetchall()

    def close(self):
        self.c.close()


def test_two_candidates_that_each_have_more_of_another_database():
    with Cluster(3, backend="etcd", ttl="2s") as cl:
        primary = cl.wait_primary()
        cl.wait_followers()
        for name in ("a.db", "b.db"):
            write(primary, range(5), name)
            cl.in_step(name)
        one, other = cl.replicas()
        wait_until(lambda: knows_both(one) and knows_both(other), "the replicas to know each other")
        readers = [Reader(one, "a.db"), Reader(other, "b.db")]
        for name in ("a.db", "b.db"):
            write(primary, range(5, 25), name)
        wait_until(lambda: rows(one, "b.db") == rows(other, "a.db") == set(range(25)), "each to have one of them")
        assert rows(one, "a.db") == rows(other, "b.db") == set(range(5))
        for n in (one, other, primary):
            n.kill(may_hang=True)
        for r in readers:
            r.close()
        for n in (one, other):
            n.start()
        leader = cl.wait_primary()
        for name in ("a.db", "b.db"):
            wait_until(lambda: rows(leader, name) == set(range(25)), f"{name} of both on {leader.name}")
            write(leader, [25], name)
        cl.wait_followers()
        for name in ("a.db", "b.db"):
            cl.check_equal(name)


def test_positions_are_told():
    with Cluster(1, backend="etcd", ttl="2s") as cl:
        primary = cl.wait_primary()
        write(primary, range(3))
        with urllib.request.urlopen(f"http://127.0.0.1:{primary.listen_port}/positions", timeout=10) as answer:
            told = answer.read()
        assert b"node1" in told and b"t.db" in told, told


if __name__ == "__main__":
    run(sys.modules[__name__])
