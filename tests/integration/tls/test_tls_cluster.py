"""Three nodes with mutual TLS about a lease server that speaks TLS, too: what a cluster does, it does so as well."""
import os
import sys
import time

from tls_fixture import request, run, section, tls_node, tls_replica, wait_until
from certificates import Authority
from cluster_fixture import Cluster, need
from http_fixture import in_step
from litefs_fixture import Node

need("consul", "etcd")


def lease_files(server):
    path = server.ca.path
    return f"    ca: {path('ca.pem')}\n    cert: {path('client.pem')}\n    cert-key: {path('client.key')}\n"


def tls_cluster(ca, backend, server, **kw):
    for i in (1, 2, 3):
        ca.make(f"node{i}")
    # All have one file: a member's configuration does not know its name.
    return Cluster(3, backend=backend, server=server, lease_options=lease_files(server),
                   http_options=section(ca, "node1") + "  token: s3cret\n", **kw)


def write(node, n=20, create=False):
    c = node.connect()
    if create:
        c.execute("pragma journal_mode=wal")
        c.execute("create table t(a, b)")
    for i in range(n):
        c.execute("insert into t values(?, randomblob(2000))", (i,))
    count = c.execute("select count(*) from t").fetchone()[0]
    c.close()
    return count


def test_etcd():
    """Replication, a hand-over by the API, and a primary that is killed."""
    from test_etcd import EtcdTls
    with Authority() as ca, tls_cluster(ca, "etcd", EtcdTls(), ttl="2s") as c:
        client, token = ca.context("node2"), {"Authorization": "Bearer s3cret"}
        first = c.wait_primary()
        write(first, create=True)
        c.check_equal()
        second = c.replicas()[0]
        a = request(second, client, "POST", "/promote", headers=token)
        assert a.status == 200, a.text
        wait_until(second.is_primary, "the hand-over")
        c.wait_followers()
        write(second)
        c.check_equal()
        second.kill()
        third = c.wait_primary(other_than=(second,))
        assert write(third) == 60
        second.start()
        c.wait_followers()
        c.check_equal()
        for n in c.nodes:
            assert "http://" not in n.log(), n.log()


def test_consul():
    from test_consul import ConsulTls
    with Authority() as ca, tls_cluster(ca, "consul", ConsulTls()) as c:
        first = c.wait_primary()
        write(first, create=True)
        c.check_equal()
        assert first.stop() == 0
        second = c.wait_primary(other_than=(first,))
        assert write(second) == 40
        c.check_equal()


# --- speed ---

def seconds_of_a_snapshot(primary, replica):
    begin = time.monotonic()
    with replica as r:
        in_step(primary, r)
        return time.monotonic() - begin


def test_speed_of_a_snapshot():
    """Prints what TLS costs; no bound, the machine is not ours alone."""
    size_mb = int(os.environ.get("SNAPSHOT_MB", "32"))
    http = "  candidate: false\n  reconnect-delay: 100ms\n  advertise-url: http://127.0.0.1:"
    with Authority() as ca:
        ca.make("node")
        for is_tls in (False, True):
            with (tls_node(ca) if is_tls else Node()) as n:
                c = n.connect()
                c.execute("create table t(a)")
                c.execute("with recursive i(n) as (select 1 union all select n + 1 from i where n < ?) "
                          "insert into t select randomblob(1000000) from i", (size_mb,))
                c.close()
                times = [seconds_of_a_snapshot(n, tls_replica(ca, n) if is_tls else Node(extra=f"{http}{n.port()}\n"))
                         for _ in range(2)]
                print(f"snapshot of {size_mb} MB {'with' if is_tls else 'without'} TLS: "
                      f"{', '.join(f'{size_mb / t:.0f}' for t in times)} MB/s")


if __name__ == "__main__":
    run(sys.modules["__main__"])
