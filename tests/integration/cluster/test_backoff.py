"""A lease service that refuses again and again is asked less and less often, and the log has a line when that begins and one
when it is over. What a busy machine does to these bounds is to keep further away from them."""
import sys
import time

from cluster_fixture import run, wait_until
from lease_fixture import Script
from litefs_fixture import Node
from test_broken_server import Consul, Etcd

WATCHED_S = 10
LINES = "level=WARN msg=\"lease: "


def node_of(backend, url):
    n = Node()
    with open(n.config) as f:
        text = f.read()
    where = f"    url: {url}\n" if backend == "consul" else f"    endpoints: [\"{url}\"]\n"
    with open(n.config, "w") as f:
        f.write(text.replace("type: static", f"type: {backend}")
                + "  advertise-url: http://127.0.0.1:1\n"
                + f"  {backend}:\n{where}    key: k\n    ttl: 2s\n")
    return n


def is_one_of(path, paths):
    return any(p in path for p in paths)


def asked(server, paths):
    return sum(is_one_of(path, paths) for _, path, _ in server.requests)


def watch(server, paths):
    """How often it was asked for one of these, and in all, in how long."""
    since, one, all_of_it = time.monotonic(), asked(server, paths), len(server.requests)
    time.sleep(WATCHED_S)
    return asked(server, paths) - one, len(server.requests) - all_of_it, time.monotonic() - since


def refuse(backend, good, paths, refusal):
    """Changes are refused while reads are answered, for a node that would lead; then they are not."""
    server = Script(lambda m, p, b: refusal if is_one_of(p, paths) else good(m, p, b))
    with node_of(backend, server.url) as n:
        wait_until(lambda: LINES in n.log(), "a line about it")
        changes, requests, took = watch(server, paths)
        assert changes <= 5 + 1.5 * took, f"{changes} changes tried in {took:.0f} s"
        assert requests <= 60 + 12 * took, f"{requests} requests in {took:.0f} s"
        n_lines = n.log().count(LINES)
        assert n_lines <= 2, n.log()
        server.answer = good
        wait_until(lambda: "primary lease acquired" in n.log(), "the lease, once it is to be had")
        assert "lease: it is renewed or taken again, after " in n.log(), n.log()
    server.close()


class Empty(Consul):
    """As a Consul that was never used: until somebody locks the key, there is none, and the cluster has no name."""
    name = None

    def __call__(self, method, path, body):
        if "/clusterid" in path and method == "PUT":
            self.name = self.name or body
            return 200, "true"
        if "/clusterid" in path and self.name:
            return 200, self.name
        if method == "GET" and not self.session:
            return 404, ""
        return super().__call__(method, path, body)


def test_consul_refuses_sessions():
    refuse("consul", Empty(), ["/session/create"], (403, "Permission denied"))


def test_consul_refuses_transactions():
    refuse("consul", Empty(), ["/txn"], (500, "rpc error: no cluster leader"))


def test_etcd_has_no_space():
    refuse("etcd", Etcd(), ["/lease/grant"],
           (500, '{"error":"etcdserver: mvcc: database space exceeded","code":8}'))


def test_a_service_that_refuses_everything():
    server = Script(lambda *_: (403, "Permission denied"))
    good = Empty()
    with node_of("consul", server.url) as n:
        wait_until(lambda: LINES in n.log(), "a line about it")
        _, requests, took = watch(server, [])
        assert requests <= 5 + 2 * took, f"{requests} requests in {took:.0f} s"
        assert n.log().count(LINES) <= 2, n.log()
        server.answer = good
        wait_until(lambda: "primary lease acquired" in n.log(), "the lease, once it is to be had")
        assert "lease: it is read again, after " in n.log(), n.log()
    server.close()


if __name__ == "__main__":
    run(sys.modules[__name__])
