"""Three nodes about a real etcd, an application and a proxy before each: clients write anywhere, read what they wrote
anywhere, and go on when the primary goes."""
import json
import random
import signal
import sys
import threading

import proxy_fixture as f
from proxy_fixture import AppCluster, Client, cluster_fixture, exchange, free_ports, wait_until
from cluster_fixture import SEED, Member, need

NAMES = ("a.db", "b.db")


class ProxyCluster(AppCluster):
    """Node n is known to others, and its proxy listens, at 127.0.0.n; all proxies have the same port."""

    def __init__(self):
        super().__init__(3, backend="etcd", ttl="2s")
        self.proxy_port = free_ports(1)[0]

    def add(self):
        host = f"127.0.0.{len(self.nodes) + 1}"
        target = free_ports(1)[0]
        self.data_options = (f"proxy:\n  addr: \"{host}:{self.proxy_port}\"\n  target: \"127.0.0.1:{target}\"\n"
                             "  primary-redirect-timeout: 10s\n")
        node = Member(self, f"node{len(self.nodes) + 1}", host=host)
        node.host, node.target, node.app = host, target, None
        self.nodes.append(node)
        return node


class Visitor(threading.Thread):
    """Writes at one node and reads at another, with the cookie as a browser keeps it."""

    def __init__(self, cluster, number):
        super().__init__()
        self.cluster, self.number = cluster, number
        self.random = random.Random(f"{SEED} {number}")
        self.cookie = {}
        self.written = {name: set() for name in NAMES}
        self.refused = []
        self.problem = None
        self.is_over = False
        self.n = 0

    def run(self):
        try:
            while not self.is_over:
                self.write()
                self.read()
        except BaseException as e:
            self.problem = e

    def ask(self, method, path, body=None):
        """None: the node is not there."""
        node = self.random.choice(self.cluster.nodes)
        try:
            return exchange(self.cluster.proxy_port, method, path, body, self.cookie, host=node.host)
        except (OSError, f.http.client.HTTPException):
            return None

    def write(self):
        name = self.random.choice(NAMES)
        text = f"{self.number}-{self.n}"
        self.n += 1
        r = self.ask("POST", f"/notes/{name}", text)
        if r is not None and r.status == 201:
            found = r.headers["Set-Cookie"]
            assert found and found.startswith("__txid="), found
            self.cookie = {"Cookie": found.partition(";")[0]}
            self.written[name].add(text)
        else:
            self.refused.append((r.status, r.text) if r is not None else None)

    def read(self):
        name = self.random.choice(NAMES)
        r = self.ask("GET", f"/notes/{name}")
        if r is None or r.status != 200:
            self.refused.append((r.status, r.text) if r is not None else None)
            return
        lost = self.written[name] - set(json.loads(r.text)["notes"])
        assert not lost, f"read at {json.loads(r.text)['node']} without {sorted(lost)}"


def run_visitors(c, meanwhile):
    visitors = [Visitor(c, i) for i in range(4)]
    for v in visitors:
        v.start()

    def all_wrote(n):
        wait_until(lambda: all(v.problem or sum(map(len, v.written.values())) >= n for v in visitors),
                   f"{n} notes of each", 60)
    try:
        all_wrote(10)
        meanwhile()
        n = max(sum(map(len, v.written.values())) for v in visitors)
        all_wrote(n + 10)
    finally:
        for v in visitors:
            v.is_over = True
        for v in visitors:
            v.join()
    for v in visitors:
        if v.problem is not None:
            raise v.problem
    return visitors


def all_notes(c, node, name):
    r = exchange(c.proxy_port, "GET", f"/notes/{name}", host=node.host)
    return set(json.loads(r.text)["notes"])


def test_visitors_read_what_they_wrote_through_a_change_of_primary():
    with ProxyCluster() as c:
        c.start_apps()
        first = c.wait_primary()
        for name in NAMES:  # what a replica has never heard of it does not wait for
            assert exchange(c.proxy_port, "POST", f"/notes/{name}", "first", host=first.host).status == 201
            c.in_step(name)
        old = []

        def terminate():
            first.process.send_signal(signal.SIGTERM)
            assert first.process.wait(60) == 0
            first.process = None
            first.log_file.close()
            old.append(c.wait_primary(other_than=(first,)))
        visitors = run_visitors(c, terminate)
        assert old[0] is not first
        for name in NAMES:
            c.in_step(name)
            want = set().union(*(v.written[name] for v in visitors))
            for n in c.nodes:
                if n.is_up():
                    assert want <= all_notes(c, n, name), f"{n.name} lacks what was acknowledged"
        # Those whose node had gone got no answer; nobody got one that does not say what to do.
        odd = {r for v in visitors for r in v.refused if r is not None and not r[1].startswith("Proxy ")}
        assert all(status == 500 for status, _ in odd), odd


def test_a_primary_that_was_stopped_does_not_answer_from_the_past():
    """It goes on before it knows that there is another by now; its proxy gets requests that are older than the news."""
    with ProxyCluster() as c:
        c.start_apps()
        for n in range(2):
            old = c.wait_primary()
            assert exchange(c.proxy_port, "POST", "/notes/a.db", f"{n}", host=old.host).status == 201
            c.in_step("a.db")
            old.pause()
            new = c.wait_primary(other_than=(old,))
            r = exchange(c.proxy_port, "POST", "/notes/a.db", f"new {n}", host=new.host)
            assert r.status == 201, r.text
            cookie = r.headers["Set-Cookie"].partition(";")[0]
            readers = [Client(c.proxy_port, old.host) for _ in range(40)]
            for reader in readers:
                reader.send(f"GET /notes/a.db HTTP/1.1\r\nHost: test\r\nCookie: {cookie}\r\n\r\n")
            old.resume()
            for reader in readers:
                r = reader.response()
                assert r.status == 200 and f"new {n}" in json.loads(r.text)["notes"], (r.status, r.text)
                reader.close()


if __name__ == "__main__":
    need("etcd")
    cluster_fixture.run(sys.modules[__name__])
