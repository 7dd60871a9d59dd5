"""Three nodes about a real etcd, an application and a proxy before each: clients write anywhere, read what they wrote
anywhere, and go on when the primary goes."""
import json
import random
import signal
import subprocess
import sys
import threading

import proxy_fixture as f
from proxy_fixture import AppCluster, Client, cluster_fixture, exchange, free_ports, wait_until
from cluster_fixture import SEED, Member, need
from litefs_fixture import LITEFS

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
                             "  primary-redirect-timeout: 10s\n  always-forward: [\"/ws/primary\"]\n")
        node = Member(self, f"node{len(self.nodes) + 1}", host=host)
        node.host, node.target, node.app = host, target, None
        self.nodes.append(node)
        return node


def cookie(r, *names):
    """{"Cookie": ...} with what a write's answer sets, or with these only."""
    found = dict(c.partition(";")[0].split("=") for c in r.headers.get_all("Set-Cookie"))
    assert set(found) == {"__txid", "__txid_term"}, found
    return {"Cookie": "; ".join(f"{k}={v}" for k, v in found.items() if not names or k in names)}


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
            self.cookie = cookie(r)
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


def all_notes(c, node, name, headers=()):
    r = exchange(c.proxy_port, "GET", f"/notes/{name}", headers=headers, host=node.host)
    assert r.status == 200, (node.name, r.status, r.text)
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


def test_web_sockets_follow_the_primary():
    """What was opened as a write ends with the primary that it was opened to; what was not stays."""
    def open_socket(node, path):
        c = Client(proxy_port, node.host)
        ask = "".join(f"{k}: {v}\r\n" for k, v in f.WS_HEADERS.items())
        head = c.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n{ask}\r\n").interim()
        assert head.startswith("HTTP/1.1 101"), head
        return c, head.partition("X-Node: ")[2].partition("\r")[0]

    with ProxyCluster() as c:
        c.start_apps()
        proxy_port = c.proxy_port
        old = c.wait_primary()
        for change in ("handoff", "pause"):
            forwarded = [open_socket(n, "/ws/primary") for n in c.nodes]
            local = [open_socket(n, "/ws") for n in c.nodes]
            assert {name for _, name in forwarded} == {old.name}
            assert [name for _, name in local] == [n.name for n in c.nodes]
            if change == "handoff":
                subprocess.run([LITEFS, "handoff", "-config", old.config], check=True, timeout=60)
            else:
                old.pause()
            new = c.wait_primary(other_than=(old,))
            for n, (socket, _) in zip(c.nodes, forwarded):
                if n.is_up() and not (change == "pause" and n is old):
                    assert socket.is_ended(), f"{n.name} leaves it with {old.name} after a {change}"
            for n, (socket, _) in zip(c.nodes, local):
                if not (change == "pause" and n is old):
                    socket.send(f.masked(2, b"still here"))
                    assert f.read_frame(socket.file) == (2, b"still here"), n.name
            again, name = open_socket(new, "/ws/primary")
            assert name == new.name
            if change == "pause":
                old.resume()
            for socket, _ in (*forwarded, *local, (again, name)):
                socket.close()
            old = new


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
            readers = [Client(c.proxy_port, old.host) for _ in range(40)]
            for reader in readers:
                reader.send(f"GET /notes/a.db HTTP/1.1\r\nHost: test\r\nCookie: {cookie(r)['Cookie']}\r\n\r\n")
            old.resume()
            for reader in readers:
                found = reader.response()
                assert found.status == 200 and f"new {n}" in json.loads(found.text)["notes"], (found.status, found.text)
                reader.close()


def test_positions_of_a_lost_history_are_none():
    """A former primary with transactions that nobody else has comes back, and cannot reach its successor: it knows higher
    TXIDs than the cookies that the successor gives, but does not have what they stand for."""
    with ProxyCluster() as c:
        c.start_apps()
        old = c.wait_primary()
        assert exchange(c.proxy_port, "POST", "/notes/a.db", "all have it", host=old.host).status == 201
        c.in_step("a.db")
        for n in c.nodes:
            n.link.cut()
        for i in range(5):
            r = exchange(c.proxy_port, "POST", "/notes/a.db", f"tail {i}", host=old.host)
            assert r.status == 201
        before = cookie(r)
        # Its own clients still read what they wrote.
        assert "tail 4" in all_notes(c, old, "a.db", before)
        old.kill()
        for n in c.nodes:
            if n is not old:
                n.link.heal()
        new = c.wait_primary(other_than=(old,))
        r = exchange(c.proxy_port, "POST", "/notes/a.db", "in the new term", host=new.host)
        assert r.status == 201
        third = next(n for n in c.nodes if n not in (old, new))
        assert all_notes(c, third, "a.db", cookie(r)) == {"all have it", "in the new term"}
        # What was lost is not waited for where the primary can be asked.
        assert all_notes(c, third, "a.db", before) == {"all have it", "in the new term"}
        for n in (new, third):
            n.link.cut()
        for lease_way in ("there", "cut"):
            if lease_way == "cut":
                old.kill()
                old.lease_link.cut()
            old.start()
            old.wait_log("proxy server listening on")
            readers = []
            for names in ((), ("__txid",)):
                reader = Client(c.proxy_port, old.host)
                reader.send(f"GET /notes/a.db HTTP/1.1\r\nHost: test\r\nCookie: {cookie(r, *names)['Cookie']}\r\n\r\n")
                readers.append((names, reader))
            for names, reader in readers:
                found = reader.response()
                assert found.status == 504, (lease_way, names, found.status, found.text)
                reader.close()
            assert "tail 4" in all_notes(c, old, "a.db"), "who has no cookie is not made to wait"
        waiting = Client(c.proxy_port, old.host)
        waiting.send(f"GET /notes/a.db HTTP/1.1\r\nHost: test\r\nCookie: {cookie(r)['Cookie']}\r\n\r\n")
        for n in c.nodes:
            n.link.heal()
            n.lease_link.heal()
        found = waiting.response()
        assert found.status == 200 and set(json.loads(found.text)["notes"]) == {"all have it", "in the new term"}
        waiting.close()


if __name__ == "__main__":
    need("etcd")
    cluster_fixture.run(sys.modules[__name__])
