"""A node that speaks TLS, and a replica: what works, who is turned away and how it is told."""
import http.client
import http.server
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings

from tls_fixture import ready, request, run, section, tls_node, tls_replica, wait_until, with_http
from certificates import Authority
from http_fixture import count_fds, in_step, make_file, port_of, rss_bytes
import litefs_fixture
from litefs_fixture import LITEFS, Node


def fill(node, rows=50, name="t.db"):
    c = node.connect(name)
    c.execute("create table t(a, b)")
    for i in range(rows):
        c.execute("insert into t values(?, ?)", (i, os.urandom(300)))
    return c


def command(*words):
    p = subprocess.run([LITEFS, *words], capture_output=True, text=True, timeout=60)
    return p.returncode, p.stdout, p.stderr


def test_replication_and_http():
    with Authority() as ca:
        ca.make("node")
        client = ca.context("node")
        with tls_node(ca) as n, tls_replica(ca, n) as r:
            ready(n, client)
            c = fill(n)
            in_step(n, r)
            a = request(r, client, "GET", "/info")
            assert a.status == 200 and a.json["primary"]["url"] == f"https://127.0.0.1:{n.port()}", a.text
            assert len(request(r, client, "GET", "/cluster").json["nodes"]) == 2  # it has asked the primary
            image = request(r, client, "GET", "/export?name=t.db").body
            assert image[:16] == b"SQLite format 3\0" and len(image) == len(n.visible())
            path = os.path.join(n.root, "new.db")
            make_file(path, "create table x(a); insert into x values(randomblob(3000000))")
            with open(path, "rb") as f:
                a = request(n, client, "POST", "/import?name=new.db", f.read())
            assert a.status == 200, a.text
            in_step(n, r, "new.db")
            r.check("new.db")
            c.close()
            assert "open to the network" not in n.log()


# --- bytes as they come ---

def connect(node, context, timeout=60):
    s = socket.create_connection(("127.0.0.1", port_of(node)), timeout)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(s, server_hostname="127.0.0.1")


def read_all(s):
    """Raises when the end comes without a close_notify."""
    return b"".join(iter(lambda: s.recv(65536), b""))


def test_requests_in_pieces_and_pipelined():
    with Authority() as ca:
        ca.make("node")
        client = ca.context("node")
        client.suppress_ragged_eofs = False
        with tls_node(ca) as n:
            ready(n, client)
            last = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            for step in (1, 7, 1000):
                s = connect(n, client)
                for i in range(0, len(last), step):
                    s.sendall(last[i:i + step])
                got = read_all(s)
                assert got.startswith(b"HTTP/1.1 200 OK\r\n") and got.endswith(b"\r\n\r\nOK\n"), got
            s = connect(n, client)
            s.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20 + last)
            assert read_all(s).count(b"HTTP/1.1 200 OK") == 21
            for is_stream, path in ((True, "stream"), (False, "info")):
                s = connect(n, client)
                s.sendall(f"GET /{path} HTTP/1.1\r\nHost: localhost\r\n".encode())
                s.sendall(b"Connection: Upgrade\r\nUpgrade: litefs-stream/1\r\n\r\n")
                assert s.recv(12) == (b"HTTP/1.1 101" if is_stream else b"HTTP/1.1 200")
                s.close()


def test_slow_reader():
    """An export that nobody reads waits in bounded memory, and arrives whole."""
    with Authority() as ca:
        ca.make("node")
        client = ca.context("node")
        with tls_node(ca) as n:
            ready(n, client)
            c = n.connect()
            c.execute("create table t(a)")
            c.execute("insert into t values(zeroblob(60000000))")
            c.close()
            s = connect(n, client)
            s.sendall(b"GET /export?name=t.db HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            got = s.recv(1000)
            before = rss_bytes(n)
            for i in range(20):  # others are served meanwhile
                assert request(n, client, "GET", "/healthz").status == 200
            assert rss_bytes(n) - before < 8 << 20
            got += read_all(s)
            assert len(got.split(b"\r\n\r\n", 1)[1]) == len(n.visible())


def test_events():
    with Authority() as ca:
        ca.make("node")
        client = ca.context("node")
        with tls_node(ca) as n:
            ready(n, client)
            s = connect(n, client)
            s.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            f = s.makefile("rb")
            fill(n, rows=3).close()
            seen = []
            while sum(e.get("type") == "tx" for e in seen) < 4:
                line = f.readline()
                assert line, "the events ended"
                if line.startswith(b"{"):
                    seen.append(json.loads(line))
            assert seen[0]["type"] == "init"
            fds = count_fds(n)
            f.close()
            s.close()
            wait_until(lambda: count_fds(n) <= fds - 3, "the connection to be let go of")


# --- who is turned away ---

def test_strangers():
    """Each is told why, and so is the node's operator."""
    with Authority() as ca:
        ca.make("node")
        ca.make("stranger-ca", issuer=None)
        ca.make("stranger", issuer="stranger-ca")
        with tls_node(ca) as n:
            ready(n, ca.context("node"))
            with socket.create_connection(("127.0.0.1", n.port()), 10) as s:
                s.sendall(b"GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n")
                got = s.makefile("rb").read()
                assert got.startswith(b"HTTP/1.1 400") and got.endswith(b"this port speaks TLS: ask it with https://..."), got
            wait_until(lambda: "it sent plain HTTP, not TLS" in n.log(), "the node's words")
            for name in (None, "stranger"):
                for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                    client = ca.context(name)
                    client.minimum_version = client.maximum_version = version
                    try:
                        request(n, client, "POST", "/handoff")
                        raise AssertionError(f"{name} was let in by {version}")
                    except ssl.SSLError as e:
                        assert "alert" in str(e).lower(), e
            old = ca.context("node")
            with warnings.catch_warnings(action="ignore"):
                old.minimum_version = ssl.TLSVersion.TLSv1
                old.maximum_version = ssl.TLSVersion.TLSv1_1
            old.set_ciphers("ALL:@SECLEVEL=0")
            try:
                request(n, old, "GET", "/info")
                raise AssertionError("TLS 1.1 was let in")
            except ssl.SSLError:
                pass
            new = ca.context("node")
            new.maximum_version = ssl.TLSVersion.TLSv1_2
            assert request(n, new, "GET", "/info").status == 200


def replica_says(replica, text):
    with replica as r:
        wait_until(lambda: re.search(text, r.log()), f"'{text}' in the replica's log")
        assert not os.path.exists(r.path("t.db"))


def test_replicas_that_do_not_get_in():
    with Authority() as ca:
        ca.make("node")
        ca.make("elsewhere", names="IP:10.9.9.9,DNS:elsewhere.example")
        ca.make("stranger-ca", issuer=None)
        ca.make("stranger", issuer="stranger-ca")
        url = "  candidate: false\n  reconnect-delay: 100ms\n  advertise-url: {}://127.0.0.1:{}\n"
        with tls_node(ca) as n:
            fill(n).close()
            replica_says(tls_replica(ca, n, "stranger"), "the other side does not know the authority")
            replica_says(tls_replica(ca, n, trusted="stranger-ca"), "the certificate of the other side is refused")
            # One without a certificate, and one that does not know that the primary speaks TLS.
            replica_says(with_http(Node(extra=url.format("https", n.port())), f"  tls:\n    ca: {ca.path('ca.pem')}\n"),
                         "the other side demands a certificate")
            replica_says(Node(extra=url.format("http", n.port())), r"400 Bad Request \(TLS expected\)")
            assert "refused: unable to get local issuer certificate" in n.log(), n.log()
        with tls_node(ca, "elsewhere") as n:
            replica_says(tls_replica(ca, n), "the certificate of the other side is not for 127.0.0.1")
        with Node() as n:
            replica_says(tls_replica(ca, n), "the other side does not speak TLS|TLS handshake with .*: Connection reset")


class Eavesdropper:
    """Who listens in clear where the lease says that the primary is, and keeps what comes."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.heard, self.n = b"", 0
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            self.n += 1
            threading.Thread(target=self.hear, args=(s,), daemon=True).start()

    def hear(self, s):
        with s:
            s.settimeout(5)
            try:
                while piece := s.recv(65536):
                    self.heard += piece
                    s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            except OSError:
                pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def test_a_primary_in_clear_is_told_nothing():
    """A lease may name anybody: a node with TLS follows him, asks him and sends him requests by TLS or not at all."""
    application = http_server()
    with Authority() as ca:
        ca.make("node")
        spy = Eavesdropper()
        port = litefs_fixture.free_ports(1)[0]
        n = Node(extra=f"  candidate: false\n  reconnect-delay: 100ms\n  advertise-url: http://127.0.0.1:{spy.port}\n"
                       f"proxy:\n  addr: 127.0.0.1:{port}\n  target: 127.0.0.1:{application.server_port}\n"
                       "skip-sync: true\n")
        # What it has of the cluster, from a time when it was by itself.
        clear = open(n.config, encoding="utf-8").read()
        with open(n.config, "w", encoding="utf-8") as f:
            f.write(clear.replace("  candidate: false\n", "  candidate: true\n"))
        n.start()
        fill(n).close()
        assert n.stop() == 0
        with open(n.config, "w", encoding="utf-8") as f:
            f.write(clear)
        with with_http(n, section(ca) + "  token: s3cret\n"):
            context, token = ca.context("node"), {"Authorization": "Bearer s3cret"}
            wait_until(lambda: "waits" in request(n, context, "GET", "/info").json, "the reason")
            reason = request(n, context, "GET", "/info").json["waits"]["reason"]
            assert "is not https://, and this node has http.tls" in reason, reason
            assert request(n, context, "GET", "/readyz").status == 503
            assert "is not https://" in request(n, context, "GET", "/cluster").text
            assert request(n, context, "POST", "/promote", headers=token).status in (409, 500)
            try:
                open(n.path("t.db-lock"), "r+b", buffering=0).close()
                raise AssertionError("a halt lock was given")
            except OSError:
                pass
            c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            c.request("POST", "/write", b"x")
            a = c.getresponse()
            assert a.status == 503 and b"is not at https://" in a.read()
            c.close()
            _, said, _ = command("doctor", "-config", n.config, "-url", f"https://localhost:{n.port()}")
            assert "is not https://" in said, said
            warned = n.log().count('msg="connect to the primary: ')
            assert warned == 1, n.log()
        assert spy.n == 0 and spy.heard == b"", spy.heard
        spy.close()
        application.shutdown()


def http_server():
    """An application that has nothing to say."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(204)
            self.end_headers()

        def log_message(self, *words):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def test_server_only_tls_with_a_token():
    """Without client-ca anybody may ask, and the token decides; a replica needs no certificate."""
    with Authority() as ca:
        ca.make("node")
        client = ca.context()
        with with_http(Node(), section(ca, client_ca=None) + "  token: s3cret\n") as n:
            ready(n, client)
            assert request(n, client, "POST", "/handoff").status == 401
            assert request(n, client, "GET", "/export?name=t.db").status == 401
            assert request(n, client, "GET", "/export?name=t.db", headers={"Authorization": "Bearer s3cret"}).status == 404
            fill(n).close()
            url = f"  candidate: false\n  reconnect-delay: 100ms\n  advertise-url: https://127.0.0.1:{n.port()}\n"
            trust = f"  tls:\n    ca: {ca.path('ca.pem')}\n"
            replica_says(with_http(Node(extra=url), trust), "the tokens differ")
            with with_http(Node(extra=url), trust + "  token: s3cret\n") as r:
                in_step(n, r)


# --- clients that hurt ---

def test_garbage_and_stalls():
    """They are closed within the time for a handshake, and leave nothing behind."""
    with Authority() as ca:
        ca.make("node")
        client = ca.context("node")
        hello = bytes.fromhex("1603010200010001fc0303") + bytes(32)
        with tls_node(ca) as n:
            ready(n, client)
            wait_until(lambda: request(n, client, "GET", "/healthz").status == 200, "the node")
            fds, begin = count_fds(n), time.monotonic()
            held = []
            for start in (b"", b"\x16", hello[:5], hello, b"\x16\x03\x01\xff\xff" + os.urandom(300), os.urandom(50),
                          b"\x00" * 70000, b"\x17\x03\x03\x00\x10" + os.urandom(16), b"GET / HTT"):
                for _ in range(10):
                    s = socket.create_connection(("127.0.0.1", n.port()), 60)
                    s.settimeout(60)
                    try:
                        s.sendall(start)
                    except ConnectionError:
                        pass
                    held.append(s)
            half = connect(n, client)  # a handshake and no request
            for s in held:
                try:
                    while s.recv(65536):
                        pass
                except ConnectionError:
                    pass
                s.close()
            assert time.monotonic() - begin < 30, f"closed after {time.monotonic() - begin:.1f} s"
            half.settimeout(60)
            assert half.recv(10) == b""
            wait_until(lambda: count_fds(n) <= fds, "all to be let go of")
            # The rest of a connection that was good is not.
            s = connect(n, client)
            raw = socket.socket(fileno=os.dup(s.fileno()))
            raw.sendall(os.urandom(100))
            raw.settimeout(60)
            while True:
                try:
                    if not raw.recv(1000):
                        break
                except ConnectionError:
                    break
            raw.close()
            s.close()
            assert request(n, client, "GET", "/healthz").status == 200


def test_1000_idle_connections():
    """With a handshake behind them, half of them with a request begun: replication goes on, a replica can join, memory
    is bounded."""
    with Authority() as ca:
        ca.make("node")
        client = ca.context("node")
        with tls_node(ca) as n:
            ready(n, client)
            c = fill(n)
            with tls_replica(ca, n) as r:
                in_step(n, r)
                before, held = rss_bytes(n), []
                for i in range(1000):
                    s = connect(n, client)
                    if i >= 400:
                        s.sendall(b"GET /info HTTP/1.1\r\nX: y")
                    held.append(s)
                grown = rss_bytes(n) - before
                worst = 0
                for i in range(50):
                    begin = time.monotonic()
                    c.execute("insert into t values(?, ?)", (i, "x"))
                    worst = max(worst, time.monotonic() - begin)
                in_step(n, r)
                assert worst < 10, f"a commit took {worst} s"
                with tls_replica(ca, n) as late:
                    in_step(n, late)
                assert request(n, client, "GET", "/healthz").status == 200
                print(f"1,000 connections: {grown / 1000 / 1024:.0f} KiB each, slowest commit {worst * 1000:.0f} ms")
                assert grown < 150 << 20
                for s in held:
                    s.close()
            c.close()


# --- operators ---

def test_commands():
    with Authority() as ca:
        ca.make("node", names="DNS:db1.example,IP:127.0.0.1")
        ca.make("other")
        ca.make("operator")
        with tls_node(ca) as n, tls_replica(ca, n) as r:
            fill(n).close()
            in_step(n, r)
            # -config: the node's own address, by the certificate that is there.
            for node in (n, r):
                with open(node.config) as f:
                    text = f.read().replace("127.0.0.1:0", f"localhost:{node.port()}")
                path = os.path.join(node.root, "client.yml")
                with open(path, "w") as f:
                    f.write(text)
                code, out, err = command("status", "-config", path)
                assert code == 0 and "t.db" in out and "could not be asked" not in out, (out, err)
            config = os.path.join(n.root, "client.yml")
            target, source = os.path.join(n.root, "out.db"), os.path.join(n.root, "in.db")
            code, out, err = command("export", "-config", config, "-name", "t.db", target)
            assert code == 0 and os.path.getsize(target) == len(n.visible()), err
            make_file(source, "create table x(a)")
            code, out, err = command("import", "-config", config, "-name", "new.db", source)
            assert code == 0, err
            in_step(n, r, "new.db")
            # -url: by name and authority.
            url = f"https://127.0.0.1:{n.port()}"
            files = ["-ca", ca.path("ca.pem"), "-cert", ca.path("operator.pem"), "-key", ca.path("operator.key")]
            code, out, err = command("status", "-url", url, *files)
            assert code == 0 and "t.db" in out, err
            code, out, err = command("handoff", "-url", url, *files)
            assert code == 1 and "static lease" in err, err
            code, out, err = command("status", "-url", url, *files[:2])
            assert code == 1 and "certificate" in err, err
            code, out, err = command("status", "-url", url, *files[2:])
            assert code == 1 and "certificate" in err, err
            code, out, err = command("status", "-url", f"http://127.0.0.1:{n.port()}")
            assert code == 1 and "speaks TLS" in err and "https://HOST:PORT" in err, err
            # Another's certificate at the address that the configuration names.
            with open(config) as f:
                text = f.read().replace("node.pem", "other.pem").replace("node.key", "other.key")
            with open(config, "w") as f:
                f.write(text)
            code, out, err = command("status", "-config", config)
            assert code == 1 and "another certificate" in err, err


def served(node, client):
    with connect(node, client) as s:
        return s.getpeercert(True)


def test_certificates_are_read_again():
    with Authority() as ca:
        for name in ("node", "next", "client"):
            ca.make(name)
        client = ca.context("client")

        def replace(name):
            for kind in ("key", "pem"):
                shutil.copy(ca.path(f"{name}.{kind}"), ca.path("node.new"))
                os.rename(ca.path("node.new"), ca.path(f"node.{kind}"))

        def der(name):
            with open(ca.path(name + ".pem")) as f:
                return ssl.PEM_cert_to_DER_cert(f.read())

        with tls_node(ca) as n:
            held = connect(n, client)
            first = served(n, client)
            replace("next")
            assert served(n, client) == der("next") != first
            with open(ca.path("node.pem"), "w") as f:
                f.write("nothing\n")
            assert served(n, client) == der("next")
            wait_until(lambda: "node.pem: not a certificate that can be used" in n.log(), "the reason")
            assert served(n, client) == der("next")
            assert n.log().count("node.pem: not a certificate") == 1, n.log()
            replace("next")
            assert served(n, client) == der("next")
            held.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert held.recv(12) == b"HTTP/1.1 200"


def test_wrong_configuration():
    with Authority() as ca:
        ca.make("node")
        ca.make("other")
        good = section(ca)
        for bad, words in ((good.replace("node.key", "other.key"), "node.pem|other.key: not a key|mismatch"),
                           (good.replace("node.pem", "node.key"), "node.key: not a certificate"),
                           (good.replace("ca.pem", "node.key"), "node.key: not a file of certificates"),
                           (good.replace(ca.path("node.pem"), "/nowhere.pem"), "/nowhere.pem: No such file"),
                           (good.replace("    key", "    #"), "http.tls.cert: http.tls.key is not set")):
            n = with_http(Node(), bad)
            code, out, err = command("mount", "-config", n.config)
            shutil.rmtree(n.root)
            assert code != 0 and any(w in err for w in words.split("|")), (bad, err)
        n = with_http(Node(extra="  advertise-url: http://127.0.0.1:1\n"), good)
        code, out, err = command("mount", "-config", n.config)
        shutil.rmtree(n.root)
        assert code != 0 and "lease.advertise-url" in err and "https://" in err, err


if __name__ == "__main__":
    run(sys.modules["__main__"])
