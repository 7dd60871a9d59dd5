"""Proxies where nodes speak TLS: writes go by the nodes' ports, which show nothing to who listens, and who has not the
right certificate and token is none of them. Each proxy has a port of its own, so that there is no other way."""
import http.client
import os
import shutil
import socket
import ssl
import sys
import threading

import proxy_fixture as f
from proxy_fixture import AppCluster, Client, cluster_fixture, exchange, free_ports, http_fixture, wait_until
from certificates import Authority
from cluster_fixture import Member, need
from tcp_link import Link
from tls_fixture import section, tls_node, with_http

SECRET = "the-client's-own-words"
TOKEN = "  token: s3cret\n"
ASK = "GET /proxy HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: litefs-proxy/1\r\n"
GOOD = ASK + "Authorization: Bearer s3cret\r\n\r\n"


def proxy_section(port, target, options=""):
    return f"proxy:\n  addr: \"127.0.0.1:{port}\"\n  target: \"127.0.0.1:{target}\"\n{options}"


def metric(context, node, name):
    c = http.client.HTTPSConnection("127.0.0.1", http_fixture.port_of(node), timeout=30, context=context)
    c.request("GET", "/metrics")
    text = c.getresponse().read().decode()
    c.close()
    return next(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"litefs_proxy_{name} "))


# --- three nodes ---

class TlsCluster(AppCluster):
    def __init__(self, ca):
        super().__init__(3, backend="etcd", ttl="5s", http_options=section(ca) + TOKEN)

    def add(self):
        port, target = free_ports(2)
        self.data_options = proxy_section(port, target, "  primary-redirect-timeout: 20s\n"
                                          "  always-forward: [\"/primary*\", \"/ws\"]\n")
        node = Member(self, f"node{len(self.nodes) + 1}")
        node.proxy_port, node.target, node.app = port, target, None
        node.link.recorded = bytearray()
        self.nodes.append(node)
        return node


def test_three_nodes():
    with Authority() as ca:
        ca.make("node")
        with TlsCluster(ca) as c:
            c.start_apps()
            first = c.wait_primary()
            for n in c.nodes:
                r = exchange(n.proxy_port, "POST", "/notes/a.db", f"{SECRET} {n.name}")
                assert r.status == 201 and r.headers["X-Node"] == first.name, r.text
            c.in_step("a.db")
            one, two = c.replicas()
            for r in (one, two):
                text = exchange(r.proxy_port, "GET", "/notes/a.db").text
                assert text.count(SECRET) == 3, text
            # The application there sees what it would have seen had the client come to its own proxy.
            seen = exchange(one.proxy_port, "GET", "/primary", headers={"X-Forwarded-For": "10.1.1.1"})
            assert seen.headers["X-Node"] == first.name and "X-Forwarded-For: 10.1.1.1, 127.0.0.1\r" in seen.text.replace(
                "\n", "\r"), seen.text
            assert "Litefs-Proxy-Hop" not in seen.text
            # Connections are kept: for all of these there is one from each node, or two if it took long.
            with Client(one.proxy_port) as x:
                for i in range(20):
                    assert x.request("POST", "/notes/a.db", str(i)).status == 201
            assert metric(ca.context("node"), first, "node_connections") <= 4
            recorded = bytes(first.link.recorded)
            assert len(recorded) > 10000 and SECRET.encode() not in recorded and b"/notes" not in recorded \
                and b"s3cret" not in recorded
            first.kill()
            second = c.wait_primary(other_than=(first,))
            other = next(n for n in (one, two) if n is not second)
            r = exchange(other.proxy_port, "POST", "/notes/a.db", "later")
            assert r.status == 201 and r.headers["X-Node"] == second.name, r.text


# --- two ---

class Pair:
    """A primary, and a replica that reaches it through `link`; `handle` is behind both proxies."""

    def __init__(self, ca, handle=f.echo, options=""):
        self.ca, self.handle, self.options = ca, handle, options

    def __enter__(self):
        for name in ("node", "replica"):
            self.ca.make(name)
        self.operator = self.ca.context("node")  # who looks at what goes wrong, so he believes anybody
        self.operator.check_hostname, self.operator.verify_mode = False, ssl.CERT_NONE
        self.upstream, self.replica_upstream = f.Upstream(self.handle), f.Upstream(self.handle)
        self.ports = free_ports(2)
        section_of = lambda i, up: proxy_section(self.ports[i], up.port, self.options)
        self.p = with_http(tls_node(self.ca, extra=section_of(0, self.upstream)), TOKEN).start()
        self.link = Link(self.p.port())
        url = f"  candidate: false\n  reconnect-delay: 100ms\n  advertise-url: https://127.0.0.1:{self.link.port}\n"
        self.r = with_http(tls_node(self.ca, "replica", extra=url + section_of(1, self.replica_upstream)), TOKEN).start()
        for n in (self.p, self.r):
            wait_until(lambda n=n: "proxy server listening on" in n.log(), "the proxies")
        self.port = self.ports[1]
        return self

    def __exit__(self, *why):
        for up in (self.upstream, self.replica_upstream):
            up.close()
        self.r.__exit__(*why)
        self.p.__exit__(*why)
        self.link.close()

    def post(self, body="", **kw):
        return exchange(self.port, "POST", "/x", body, **kw)

    def failures(self, reason):
        return metric(self.operator, self.r, f'hop_failures_total{{reason="{reason}"}}')


def serve(peer):
    """What `echo` does, and a tunnel, and what is to be read slowly."""
    while (head := peer.head()) is not None:
        line, fields = head
        if fields.get("Upgrade") == "websocket":
            peer.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            while data := peer.sock.recv(65536):
                peer.send(data)
            return
        if fields.get("Expect") == "100-continue":
            peer.send("HTTP/1.1 100 Continue\r\n\r\n")
        if "/early" in line:  # it answers while the request still comes
            n = int(peer.file.readline(), 16)
            peer.send(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{n:x}\r\n", peer.file.read(n + 2))
            while n:
                n = int(peer.file.readline(), 16)
                peer.send(f"{n:x}\r\n", peer.file.read(n + 2))
        else:
            peer.answer(peer.body(fields))


def test_bodies_tunnels_and_interim_answers():
    with Authority() as ca, Pair(ca, serve, "  always-forward: [\"/ws\"]\n") as x:
        big = os.urandom(1 << 16) * 200
        with Client(x.port) as c:
            sender = threading.Thread(target=lambda: c.send(f"POST /big HTTP/1.1\r\nHost: x\r\nContent-Length: {len(big)}\r\n\r\n", big))
            sender.start()
            assert c.response().body == big
            sender.join()
            c.send("POST /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            assert c.interim() == "HTTP/1.1 100 Continue\r\n\r\n"
            assert c.send("ab").response().body == b"ab"
            c.send("POST /early HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
            assert c.interim().startswith("HTTP/1.1 200 OK")
            assert c.file.read(8) == b"3\r\none\r\n"
            c.send("3\r\ntwo\r\n")
            assert c.file.read(8) == b"3\r\ntwo\r\n"
            assert c.send("0\r\n\r\n").file.read(5) == b"0\r\n\r\n"
        with Client(x.port) as c:
            c.send("GET /ws HTTP/1.1\r\nHost: x\r\n", *(f"{k}: {v}\r\n" for k, v in f.WS_HEADERS.items()), "\r\n")
            assert c.interim().startswith("HTTP/1.1 101")
            for data in (b"hello", b"x" * 300000):
                sender = threading.Thread(target=lambda data=data: c.send(data))
                sender.start()
                assert c.file.read(len(data)) == data
                sender.join()
        assert not x.replica_upstream.seen and len(x.upstream.seen) == 4, x.upstream.seen
        wait_until(lambda: metric(x.operator, x.p, "tunnels") == 0, "the tunnel to end")


def test_who_says_at_the_proxys_port_to_be_a_proxy_is_none():
    with Authority() as ca, Pair(ca) as x:
        hop = {"Litefs-Proxy-Hop": "1"}
        assert x.post("one", headers=hop).status == 200 and len(x.upstream.seen) == 1  # it is sent on all the same
        assert exchange(x.port, "GET", "/x", headers=hop).status == 200
        assert len(x.replica_upstream.seen) == 1, "a read is a read"


# --- who is not let in ---

def swap(ca, name, other):
    for kind in (".pem", ".key"):
        shutil.copy(ca.path(other + kind), ca.path(name + kind + ".new"))
        os.replace(ca.path(name + kind + ".new"), ca.path(name + kind))


def refused(x, words, reason):
    before = x.failures(reason)
    r = x.post()
    assert r.status == 502 and r.text.startswith("Proxy error: the primary's proxy cannot be reached") and words in r.text, r.text
    assert x.failures(reason) > before
    assert not x.upstream.seen and not x.replica_upstream.seen


def test_certificates_that_are_refused():
    with Authority() as ca, Pair(ca) as x:
        ca.make("stranger-ca", issuer=None)
        ca.make("stranger", issuer="stranger-ca")
        ca.make("elsewhere", names="DNS:elsewhere.example")
        for name in ("node", "replica"):
            for kind in (".pem", ".key"):
                shutil.copy(ca.path(name + kind), ca.path("good-" + name + kind))
        swap(ca, "replica", "stranger")  # read when the next connection is made; the stream goes on
        refused(x, "the other side does not know the authority that made our certificate", "tls")
        assert "proxy: requests do not get to the primary: TLS with 127.0.0.1" in x.r.log(), x.r.log()
        swap(ca, "replica", "good-replica")
        swap(ca, "node", "stranger")
        refused(x, "the certificate of the other side is refused", "tls")
        swap(ca, "node", "elsewhere")
        refused(x, "the certificate of the other side is not for 127.0.0.1", "tls")
        swap(ca, "node", "good-node")
        assert x.post("at last").status == 200


def ask(context, port, text):
    """The answer to what is sent to a node's port: its head and what follows at once."""
    with socket.create_connection(("127.0.0.1", port), 20) as plain, \
            context.wrap_socket(plain, server_hostname="127.0.0.1") as s:
        s.sendall(text.encode())
        got = b""
        while b"\r\n\r\n" not in got and (data := s.recv(65536)):
            got += data
        if b" 101 " not in got:
            return got.decode(), None
        s.sendall(b"GET /seen HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.2.2.2\r\nConnection: close\r\n\r\n")
        return got.decode(), b"".join(iter(lambda: s.recv(65536), b"")).decode()


def test_strangers_at_the_nodes_port():
    def show(peer):
        while (head := peer.head()) is not None:
            peer.answer("\n".join(f"{k}: {v}" for k, v in head[1].items()))

    with Authority() as ca, Pair(ca, show) as x:
        client, port = ca.context("node"), x.p.port()
        for context, text in ((ca.context(), GOOD),):
            try:
                got = ask(context, port, text)
                raise AssertionError(f"one without a certificate was let in: {got}")
            except (ssl.SSLError, ConnectionError):
                pass
        assert ask(client, port, ASK + "\r\n")[0].startswith("HTTP/1.1 401 ")
        assert ask(client, port, ASK + "Authorization: Bearer s3cre\r\n\r\n")[0].startswith("HTTP/1.1 401 ")
        assert ask(client, port, GOOD.replace("litefs-proxy/1", "h2c"))[0].startswith("HTTP/1.1 426 ")
        assert ask(client, port, GOOD + "GET / HTTP/1.1\r\n")[0].startswith("HTTP/1.1 400 ")
        assert ask(client, port, ASK + "X: " + "x" * 5000)[0].startswith("HTTP/1.1 400 ")
        assert not x.upstream.seen
        head, answer = ask(client, port, GOOD)
        assert head.startswith("HTTP/1.1 101 ") and "X-Forwarded-For: 10.2.2.2\n" in answer + "\n", (head, answer)
        with socket.create_connection(("127.0.0.1", port), 20) as s:  # not even asked what it wants
            s.sendall(GOOD.encode())
            assert s.makefile("rb").read().startswith(b"HTTP/1.1 400 Bad Request (TLS expected)")


def test_answers_of_another_primary():
    """What stands at the primary's address says no, or nothing."""
    answer = []

    def handle(peer):
        s = context.wrap_socket(peer.sock, server_side=True)
        head = b""
        while b"\r\n\r\n" not in head and (data := s.recv(4096)):
            head += data
        if head.startswith(b"GET /proxy ") and answer[-1]:
            s.sendall(answer[-1])
            s.unwrap()

    with Authority() as ca, Pair(ca, options="  primary-redirect-timeout: 500ms\n") as x:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(ca.path("node.pem"), ca.path("node.key"))
        other = f.Upstream(handle)
        x.link.target = other.port  # of new connections; the stream stays
        for text, words, reason in ((b"HTTP/1.1 401 Unauthorized\r\n\r\n", "http.token must be the same", "token"),
                                    (b"HTTP/1.1 404 Not Found\r\n\r\n", "proxy.target must be set there", "other"),
                                    (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "takes no requests now", "other"),
                                    (b"HTTP/1.1 200 OK\r\n\r\n", "no proxy there, the answer was: HTTP/1.1 200 OK", "other"),
                                    (b"", "Connection reset by peer", "other")):
            answer.append(text)
            refused(x, words, reason)
        # A crowd does not make a handshake each: who failed is asked again by one at a time.
        before = other.n_connections
        clients = [Client(x.port).send("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n") for _ in range(100)]
        for c in clients:
            assert c.response().status == 502
            c.close()
        assert other.n_connections - before < 20, other.n_connections - before
        x.link.target = x.p.port()
        assert x.post("at last").status == 200
        other.close()


if __name__ == "__main__":
    need("etcd")
    cluster_fixture.run(sys.modules[__name__])
