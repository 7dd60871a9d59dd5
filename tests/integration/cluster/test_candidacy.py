"""The lease goes to nobody that cannot lead."""
import sqlite3
import sys
import urllib.error
import urllib.request

from cluster_fixture import Cluster, need, run, wait_until

need("etcd")


def post(node, path):
    q = urllib.request.Request(f"http://127.0.0.1:{node.listen_port}{path}", method="POST")
    try:
        with urllib.request.urlopen(q, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def write(node):
    c = sqlite3.connect(node.path("t.db"), isolation_level=None, timeout=10)
    c.execute("create table if not exists t(x)")
    c.execute("insert into t values(1)")
    c.close()


def test_the_only_candidate_stays_or_lets_go():
    with Cluster(1, backend="etcd", ttl="20s") as cl:
        primary = cl.wait_primary()
        replica = cl.add(candidate=False)
        replica.start()
        cl.wait_followers()
        write(primary)
        status, text = post(primary, f"/handoff?hostname={replica.name}")
        assert status == 500 and f"{replica.name} is not a candidate" in text, (status, text)
        status, text = post(primary, "/handoff")
        assert status == 500 and "not a candidate" in text, (status, text)
        write(primary)
        # Its restart finds the lease free, where an offer to the replica would keep it for the TTL.
        primary.stop()
        assert "handing the lease over" not in primary.recent_log()
        primary.start()
        wait_until(lambda: cl.primaries() == [primary], "the only candidate does not lead again", seconds=15)
        write(primary)
        cl.wait_followers()


def test_the_candidate_among_replicas_gets_it():
    with Cluster(1, backend="etcd", ttl="20s") as cl:
        primary = cl.wait_primary()
        for candidate in (False, False, True):
            cl.add(candidate=candidate).start()
        heir = cl.nodes[3]
        cl.wait_followers()
        write(primary)
        for leave in (lambda: primary.stop(), lambda: post(heir, "/demote")):
            leave()
            if not primary.is_up():
                assert f"handing the lease over to {heir.name}" in primary.recent_log(), primary.recent_log()
                wait_until(lambda: cl.primaries() == [heir], "the candidate does not lead", seconds=15)
                write(heir)
                primary.start()
                cl.wait_followers()
            else:
                assert f"handing the lease over to {primary.name}" in heir.recent_log()
                wait_until(lambda: cl.primaries() == [primary], "the other candidate does not lead", seconds=15)
                write(primary)


if __name__ == "__main__":
    run(sys.modules[__name__])
