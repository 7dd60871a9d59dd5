"""The primary's part changes hands by API and command, in a cluster about a real etcd."""
import json
import sys
import threading
import time

from http_fixture import get, post, request, run, wait_until
from cluster_fixture import Cluster, need
from test_commands import litefs
from test_events import Listener

need("etcd")


def url(node):
    return f"http://127.0.0.1:{node.listen_port}"


def port(node):
    node.port = lambda: node.listen_port
    return node


def cluster(**kw):
    c = Cluster(backend="etcd", ttl="5s", **kw)
    return c


def leader(c):
    """The node that says by its API that it is the primary, and is the only one."""
    found = []

    def one():
        found[:] = [n for n in c.nodes if n.is_up() and get(n, "/info").json["isPrimary"]]
        return len(found) == 1
    wait_until(one, "one primary")
    return found[0]


def writes(node):
    db = node.connect()
    db.execute("create table if not exists t(a)")
    db.execute("insert into t values(1)")
    db.close()


def followers(c, p):
    """All others are its replicas, and have everything."""
    def all_there():
        replicas = get(p, "/info").json["replicas"]
        return len(replicas) == len(c.nodes) - 1 and all(r["isCaughtUp"] for r in replicas)
    wait_until(all_there, f"the others to follow {p.name}")


def test_handoff_and_promote():
    with cluster(n=3) as c:
        for n in c.nodes:
            port(n)
        p = leader(c)
        writes(p)
        followers(c, p)
        # by hostname
        target = next(n for n in c.nodes if n is not p)
        assert litefs("handoff", "-url", url(p), target.name, code=0).stdout == ""
        wait_until(lambda: leader(c) is target, f"{target.name} to lead")
        writes(target)
        followers(c, target)
        # by id
        target, before = next(n for n in c.nodes if n not in (p, target)), target
        a = post(before, "/handoff", nodeID=get(target, "/info").json["nodeID"])
        assert a.status == 200 and a.body == b"", a.text
        wait_until(lambda: leader(c) is target, f"{target.name} to lead")
        writes(target)
        followers(c, target)
        # a node that is not there: at once, and writers do not notice
        begin = time.monotonic()
        a = post(target, "/handoff", nodeID="00000000DEADBEEF")
        assert a.status == 500 and a.text.startswith("target node is not currently connected"), a.text
        p2 = litefs("handoff", "-url", url(target), "nobody", code=1)
        assert "target node is not currently connected" in p2.stderr, p2.stderr
        assert time.monotonic() - begin < 8, "it waited for it"
        writes(target)
        # the replica asks
        litefs("promote", "-url", url(before), code=0)
        assert leader(c) is before
        writes(before)
        followers(c, before)
        rows = litefs("status", "-url", url(target), code=0).stdout
        assert all(n.name in rows for n in c.nodes), rows
        assert json.loads(litefs("status", "-json", "-url", url(target), code=0).stdout)["primaryHostname"] == before.name
        # anybody
        assert post(before, "/handoff").status == 200
        wait_until(lambda: leader(c) is not before, "another to lead")
        writes(leader(c))
        c.check_equal()


def test_not_a_candidate():
    with cluster(n=1) as c:
        r = c.add(candidate=False)
        r.start()
        for n in c.nodes:
            port(n)
        p = leader(c)
        followers(c, p)
        a = post(r, "/promote")
        assert (a.status, a.text) == (409, "not eligible to become primary\n")
        assert post(p, "/promote").status == 200
        assert leader(c) is p


def test_demote_alone():
    """Without a replica the lease is given up; it comes back after the pause."""
    with cluster(n=1, options="  demote-delay: 2s\n") as c:
        n = port(c.nodes[0])
        assert leader(c) is n
        writes(n)
        with Listener(n) as l:
            assert l.next() == {"type": "init", "data": {"isPrimary": True}}
            begin = time.monotonic()
            assert json.loads(litefs("demote", "-json", "-url", url(n), code=0).stdout) == {"result": "demoted"}
            assert get(n, "/info").json["isPrimary"] is False
            assert request(n, "POST", "/import", body=b"", name="x.db").status == 503
            assert litefs("demote", "-url", url(n), code=1).stderr.startswith("ERROR: this node is not the primary; ")
            e = l.next()
            assert e == {"type": "primaryChange", "data": {"isPrimary": False}}, e
            e = l.next()
            assert e == {"type": "primaryChange", "data": {"isPrimary": True}}, e
            assert time.monotonic() - begin > 1.5, "it took the lease again before the pause was over"
        writes(n)


def test_demote_hands_over():
    with cluster(n=2) as c:
        for n in c.nodes:
            port(n)
        p = leader(c)
        other = next(n for n in c.nodes if n is not p)
        writes(p)
        followers(c, p)
        with Listener(p) as a, Listener(other) as b:
            assert a.next()["data"] == {"isPrimary": True}
            assert b.next()["data"] == {"isPrimary": False, "hostname": p.name}
            assert post(p, "/demote").status == 200
            wait_until(lambda: leader(c) is other, f"{other.name} to lead")
            e = a.next()
            while e["data"].get("hostname") != other.name:
                assert e["type"] == "primaryChange" and e["data"]["isPrimary"] is False, e
                e = a.next()
            e = b.next()
            while not e["data"]["isPrimary"]:
                e = b.next()
            assert e == {"type": "primaryChange", "data": {"isPrimary": True}}
        writes(other)
        c.check_equal()


if __name__ == "__main__":
    run(sys.modules[__name__])
