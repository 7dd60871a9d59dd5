"""Where requests go on a primary and on a replica of it: two nodes with a static lease, app.py before each."""
import hashlib
import json
import os
import signal
import sqlite3
import sys
import threading
import time

import proxy_fixture as f
from litefs_fixture import stop_process
from proxy_fixture import App, Client, Upstream, exchange, free_ports, http_fixture, wait_until


class Side:
    """A node, its proxy and its application. Proxies have the same port everywhere, so the hosts differ."""

    def __init__(self, name, host, port, make, options, app):
        self.host, self.port = host, port
        self.app_port = free_ports(1)[0]
        self.node = make(f"proxy:\n  addr: \"{host}:{port}\"\n  target: \"127.0.0.1:{self.app_port}\"\n{options}")
        self.name, self.app, self.make_app = name, None, app

    def start(self, env=None):
        self.node.start(env=env)
        wait_until(lambda: "proxy server listening on" in self.node.log(), "the proxy")
        self.app = self.make_app(self.app_port, self.node.mnt, self.name)
        return self

    def stop(self, *why):
        if self.app is not None:
            self.app.stop()
        self.node.__exit__(*why)

    def get(self, path, **kw):
        return exchange(self.port, "GET", path, host=self.host, **kw)

    def post(self, path, body, **kw):
        return exchange(self.port, "POST", path, body, host=self.host, **kw)

    def notes(self, name, **kw):
        r = self.get(f"/notes/{name}", **kw)
        assert r.status == 200, r.text
        found = json.loads(r.text)
        assert found["node"] == self.name, "a read was answered elsewhere"
        return found["notes"]

    def metric(self, name):
        return f.metrics(self.node)[f"litefs_proxy_{name}"]


class Pair:
    def __init__(self, options="", env=None, app=App):
        self.port, self.options, self.env, self.app = free_ports(1)[0], options, env, app
        self.sides = []

    def __enter__(self):
        try:
            self.p = Side("primary", "127.0.0.1", self.port, lambda x: http_fixture.Node(extra=x), self.options,
                          self.app)
            self.sides.append(self.p)
            self.p.start()
            self.r = Side("replica", "127.0.0.2", self.port, lambda x: http_fixture.replica_of(self.p.node, x),
                          self.options, self.app)
            self.sides.append(self.r)
            self.r.start(self.env)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *why):
        for side in reversed(self.sides):
            side.stop(*why)

    def in_step(self, name):
        http_fixture.in_step(self.p.node, self.r.node, name)


def cookie(r):
    """{"Cookie": ...} that a browser would send back, or {}."""
    found = r.headers.get_all("Set-Cookie")
    return {"Cookie": "; ".join(c.partition(";")[0] for c in found)} if found else {}


def test_one_database_as_in_litefs():
    with Pair("  db: a.db\n  passthrough: [\"/notes/*.raw\"]\n  always-forward: [\"/add/*\"]\n") as x:
        r = x.p.post("/notes/a.db", "one")
        assert r.status == 201 and r.headers["X-Node"] == "primary"
        txid = x.p.node.pos("a.db").partition("/")[0]
        assert r.headers["Set-Cookie"].startswith(f"__txid={txid}; Path=/; Expires="), r.headers["Set-Cookie"]
        assert r.headers["Set-Cookie"].endswith(" GMT; HttpOnly")
        # The term of it has a cookie of its own, so that the one of LiteFS is as it was.
        assert cookie(r)["Cookie"] == f"__txid={txid}; __txid_term=0000000000000001", cookie(r)
        # From the replica the write goes to the primary's application, once, and the read that follows sees it.
        r = x.r.post("/notes/a.db", "two")
        assert r.status == 201 and r.headers["X-Node"] == "primary" and len(r.headers.get_all("Set-Cookie")) == 2
        assert x.r.notes("a.db", headers=cookie(r)) == ["one", "two"]
        # A GET that writes, by always-forward, with a cookie as well.
        r = x.r.get("/add/a.db?three")
        assert r.status == 201 and r.headers["X-Node"] == "primary" and cookie(r)
        assert x.r.notes("a.db", headers=cookie(r)) == ["one", "two", "three"]
        # passthrough: to the application here, and no cookie.
        r = x.r.post("/notes/x.raw", "four")
        assert r.headers["X-Node"] == "replica" and r.status == 500 and not cookie(r)
        r = x.r.get("/echo")
        assert "Litefs-Proxy-Hop" not in r.text and r.headers["X-Node"] == "replica"
        assert not cookie(r)
        assert x.r.metric('sent_to_primary_total{by="litefs"}') == 2
        assert x.r.metric('requests_total{kind="write"}') == 2 and x.p.metric('requests_total{kind="write"}') == 3
        assert x.r.metric('requests_total{kind="passthrough"}') == 1


def test_reads_wait_for_any_database():
    """With the replica's stream held up, a read waits exactly for what its client wrote."""
    with Pair("  db: \"*\"\n") as x:
        r = x.p.post("/notes/a.db", "one")
        both = x.p.post("/notes/b.db", "eins", headers=cookie(r))
        x.in_step("a.db")
        x.in_step("b.db")
        assert both.headers["Set-Cookie"].count("&") == 1
        # Somebody reads a.db on the replica, so that it cannot take the next transaction (a rollback journal's way).
        reader = sqlite3.connect(x.r.node.path("a.db"), isolation_level=None)
        reader.execute("begin")
        reader.execute("select * from note").fetchall()
        mine = x.r.post("/notes/a.db", "two", headers=cookie(both))
        assert mine.status == 201 and mine.headers["Set-Cookie"].count("&") == 1
        assert x.r.notes("a.db") == ["one"], "without the cookie nothing is waited for"
        assert x.r.notes("a.db", headers=cookie(both)) == ["one"]
        found = []
        waiting = threading.Thread(target=lambda: found.append(x.r.notes("a.db", headers=cookie(mine))))
        waiting.start()
        wait_until(lambda: x.r.metric("txid_waits_total") == 1, "the read to wait")
        assert not found
        reader.close()
        waiting.join(60)
        assert found == [["one", "two"]]
        assert x.r.metric("txid_timeouts_total") == 0


def test_what_the_cluster_does_not_have_is_not_waited_for():
    """Positions, and a term, that are lost or never were: the primary says so when it is asked after the request came."""
    with Pair("  db: a.db\n") as x:
        x.p.post("/notes/a.db", "one")
        x.in_step("a.db")
        lost = {"Cookie": "x=y; __txid=00000000000000ff"}
        assert x.p.notes("a.db", headers=lost) == ["one"]
        assert x.r.notes("a.db", headers=lost) == ["one"]
        assert x.r.notes("a.db", headers={"Cookie": "__txid=0000000000000001; __txid_term=00000000000000ff"}) == ["one"]
        assert x.r.notes("a.db", headers={"Cookie": "__txid_term=0ff; __txid=00000000000000ff"}) == ["one"]
        assert x.r.metric("txid_waits_total") == 3 and x.r.metric("txid_timeouts_total") == 0
        # Nor is a database that there is not, or what is no cookie.
        for value in ("00000000000000gg", "0000000000000000", "", "ff"):
            assert x.r.notes("a.db", headers={"Cookie": f"__txid={value}"}) == ["one"]
        assert x.r.metric("txid_waits_total") == 3 and x.p.metric("txid_waits_total") == 0


def test_a_read_does_not_wait_for_ever():
    with Pair("  db: a.db\n") as x:
        x.p.post("/notes/a.db", "one")
        x.in_step("a.db")
        stop_process(x.p.node.process)  # so that nobody can say what there is
        try:
            r = x.r.get("/notes/a.db", headers={"Cookie": "x=y; __txid=00000000000000ff"})
            assert r.status == 504 and r.text.startswith("Proxy timeout")
            assert x.r.metric("txid_timeouts_total") == 1
        finally:
            x.p.node.process.send_signal(signal.SIGCONT)


def test_fly_replay():
    with Pair("  db: a.db\n", env=dict(os.environ, FLY_APP_NAME="app")) as x:
        r = x.r.post("/notes/a.db", "one")
        assert r.status == 200 and r.body == b"" and r.headers["fly-replay"] == "instance=localhost"
        assert x.p.get("/notes/a.db").status == 200 and x.p.notes("a.db") == []
        assert x.r.metric('sent_to_primary_total{by="fly-replay"}') == 1


def test_health_and_a_primary_that_is_gone():
    with Pair("  max-lag: 300ms\n  primary-redirect-timeout: 700ms\n") as x:
        wait_until(lambda: x.r.get("/litefs/health").status == 200, "the replica to be in step")
        assert x.p.get("/litefs/health").text == "OK\n"
        # A request that was sent on to a node that is no primary goes no further; an older node is not told so at once.
        began = time.monotonic()
        r = x.r.post("/notes/a.db", "one", headers={"Litefs-Proxy-Hop": "1"})
        assert r.status == 503 and r.text.startswith("Proxy error: no primary available") and r.text.count("\n") == 1
        assert time.monotonic() - began > 0.6
        r = x.r.post("/notes/a.db", "one", headers={"Litefs-Proxy-Hop": "2"})
        assert r.status == 503 and r.headers["Litefs-Proxy-Moved"] == "1"
        x.p.app.stop()
        x.p.node.kill()
        wait_until(lambda: x.r.get("/litefs/health").status == 503, "the lag to be seen")
        assert x.r.get("/litefs/health").text == "Replication lag exceeded\n"
        began = time.monotonic()
        r = x.r.post("/notes/a.db", "one")
        assert r.status == 502 and "the primary's proxy cannot be reached" in r.text and "refused" in r.text, r.text
        assert time.monotonic() - began > 0.6
        assert x.r.notes("a.db") == []


def test_web_socket_to_either():
    with Pair("  always-forward: [\"/ws/primary\"]\n") as x:
        for path, node in (("/ws", "replica"), ("/ws/primary", "primary")):
            with Client(x.port, x.r.host) as c:
                ask = "".join(f"{k}: {v}\r\n" for k, v in f.WS_HEADERS.items())
                head = c.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n{ask}\r\n").interim()
                assert f.WS_ACCEPT in head and f"X-Node: {node}" in head, head
                for data in (b"", b"hello", b"x" * 70000):
                    c.send(f.masked(2, data))
                    assert f.read_frame(c.file) == (2, data)
                c.send(f.masked(8, b""))
                assert f.read_frame(c.file) == (8, b"") and c.is_ended()


class Lookalike:
    """A replica, and at the port of its primary's proxy a program of ours: handle(Peer), as Upstream has it."""

    def __init__(self, handle):
        self.handle = handle

    def __enter__(self):
        self.other = Upstream(self.handle)
        self.p = http_fixture.Node()
        self.p.start()
        port = self.other.port
        self.r = http_fixture.replica_of(self.p, f"proxy:\n  addr: \"127.0.0.2:{port}\"\n  target: \"127.0.0.1:1\"\n")
        self.r.start()
        wait_until(lambda: "proxy server listening on" in self.r.log(), "the proxy")
        return self

    def client(self):
        return Client(self.other.port, "127.0.0.2")

    def __exit__(self, *why):
        self.other.close()
        self.r.__exit__(*why)
        self.p.__exit__(*why)


def test_a_node_that_is_not_the_primary_says_so():
    """And the request goes on, with its whole body, as nobody's application has seen it."""
    is_told = [True]

    def handle(peer):
        while (head := peer.head()) is not None:
            line, fields = head
            assert fields["Litefs-Proxy-Hop"] == "2"
            if peer.upstream.n_connections % 2 == 1:
                peer.answer("no", "503 Service Unavailable", "Litefs-Proxy-Moved: 1", "Connection: close")
                return
            if is_told[0]:
                peer.send("HTTP/1.1 102 Processing\r\nLitefs-Proxy-Taken: 1\r\n\r\n")
            data = peer.body(fields)
            peer.answer(f"{line}|{hashlib.sha256(data).hexdigest()}", "200 OK", "Connection: close")
            return

    with Lookalike(handle) as x:
        big = os.urandom(3 << 20)
        for body in (b"", b"short", os.urandom(250000), big):
            with x.client() as c:
                # It may send all or nothing before the answer comes: the kernel has room for some.
                sender = threading.Thread(target=c.send, args=(
                    f"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n", body))
                sender.start()
                r = c.response()
                sender.join()
                assert r.status == 200 and r.text == f"POST /p HTTP/1.1|{hashlib.sha256(body).hexdigest()}", (r.status, r.text)
                assert "Litefs-Proxy-Moved" not in r.headers
        for parts in ([b"a", b"bc" * 1000], [os.urandom(50000) for _ in range(40)]):
            with x.client() as c:
                chunks = b"".join(f"{len(p):x}\r\n".encode() + p + b"\r\n" for p in parts) + b"0\r\n\r\n"
                sender = threading.Thread(target=c.send, args=(
                    "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", chunks))
                sender.start()
                r = c.response()
                sender.join()
                assert r.text == f"POST /c HTTP/1.1|{hashlib.sha256(b''.join(parts)).hexdigest()}", (r.status, r.text)
        assert f.metrics(x.r)["litefs_proxy_retries_total"] == 6
        # One that is too old to give the word gets the rest of a long body all the same.
        is_told[0] = False
        with x.client() as c:
            sender = threading.Thread(target=c.send, args=(
                f"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: {len(big)}\r\n\r\n", big))
            sender.start()
            assert c.response().text == f"POST /p HTTP/1.1|{hashlib.sha256(big).hexdigest()}"
            sender.join()


def test_an_application_cannot_have_a_request_sent_again():
    """With what proxies say to each other."""
    class Liar:
        def __init__(self, port, *_):
            def handle(peer):
                while (head := peer.head()) is not None:
                    peer.body(head[1])
                    peer.send("HTTP/1.1 102 Processing\r\nLitefs-Proxy-Taken: 1\r\n\r\n")
                    peer.answer("no", "503 Service Unavailable", "Litefs-Proxy-Moved: 1", "X-Seen: yes")
            self.upstream = Upstream(handle, port)
            self.stop = self.upstream.close

    with Pair(app=Liar) as x:
        for side in (x.p, x.r):
            with Client(x.port, side.host) as c:
                c.send("POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na")
                assert "Taken" not in c.interim()
                r = c.response()
                assert r.status == 503 and r.headers["X-Seen"] == "yes" and "Litefs-Proxy-Moved" not in r.headers
        assert len(x.p.app.upstream.seen) == 2 and x.r.metric("retries_total") == 0


if __name__ == "__main__":
    f.run(sys.modules[__name__])
