"""What the proxy makes of HTTP: a node alone, and applications that behave as they like."""
import hashlib
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import proxy_fixture as f
from proxy_fixture import Site, Upstream, echo, free_ports, http_fixture, wait_until
from litefs_fixture import LITEFS

MB = 1 << 20


def test_requests_and_their_fields():
    def handle(peer):
        while (head := peer.head()) is not None:
            peer.body(head[1])
            peer.answer(head[0] + "\n" + str(head[1]))

    with Site(handle) as s, s.client() as c:
        r = c.request("GET", "/a%20b?c=d", headers={"X-A": "1", "Connection": "keep-alive, X-Drop", "X-Drop": "2",
                                                    "X-Forwarded-For": "9.9.9.9", "TE": "trailers"})
        assert r.status == 200 and not r.is_last
        assert r.text.startswith("GET /a%20b?c=d HTTP/1.1\nHost: test\nX-A: 1\n"), r.text
        assert "X-Forwarded-For: 9.9.9.9, 127.0.0.1\n" in r.text and "X-Forwarded-Host: test\n" in r.text
        assert "X-Forwarded-Proto: http\n" in r.text
        assert not any(w in r.text for w in ("X-Drop", "TE:", "Connection")), r.text
        # All on one connection of either side.
        assert c.request("POST", "/p", "abc").text.startswith("POST /p")
        assert c.request("DELETE", "/d").text.startswith("DELETE /d")
        r = c.request("GET", "/", headers={"Connection": "close"})
        assert r.status == 200 and r.is_last and c.is_ended() and s.upstream.n_connections == 1


def test_pipelined_requests_are_answered_in_order():
    with Site() as s, s.client() as c:
        many = []
        for i in range(300):
            many.append(f"GET /{i} HTTP/1.1\r\nHost: x\r\n\r\n" if i % 3 == 0 else
                        f"POST /{i} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nbody{i % 10}" if i % 3 == 1 else
                        "GET /litefs/health HTTP/1.1\r\nHost: x\r\n\r\n")
        c.send(*many)
        for i in range(300):
            text = c.response().text
            assert text == (f"GET /{i} HTTP/1.1|" if i % 3 == 0 else f"POST /{i} HTTP/1.1|body{i % 10}" if i % 3 == 1
                            else "OK\n"), (i, text)
        assert len(s.upstream.seen) == 200


def test_old_clients_and_old_applications():
    def until_the_end(peer):
        peer.head()
        peer.send("HTTP/1.0 200 OK\r\n\r\n", b"x" * 100000)

    with Site() as s:
        with s.client() as c:
            r = c.send("GET / HTTP/1.0\r\n\r\n").response()
            assert r.text == "GET / HTTP/1.1|" and r.is_last and c.is_ended()
        with s.client() as c:
            for _ in range(3):
                r = c.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").response()
                assert r.text == "GET / HTTP/1.1|" and not r.is_last
    with Site(until_the_end) as s:
        with s.client() as c:
            for _ in range(2):
                r = c.request("GET", "/")
                assert r.body == b"x" * 100000 and not r.is_last and r.headers["Transfer-Encoding"] == "chunked"
        with s.client() as c:
            r = c.send("GET / HTTP/1.0\r\n\r\n").response()
            assert r.body == b"x" * 100000 and r.is_last and "Transfer-Encoding" not in r.headers


def test_head_and_responses_without_a_body():
    def handle(peer):
        while (head := peer.head()) is not None:
            if head[0].startswith("HEAD"):
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            elif "/304" in head[0]:
                peer.send("HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\nETag: e\r\n\r\n")
            else:
                peer.send("HTTP/1.1 204 No Content\r\n\r\n")

    with Site(handle) as s, s.client() as c:
        for _ in range(2):
            r = c.request("HEAD", "/")
            assert r.status == 200 and r.headers["Content-Length"] == "1000" and r.body == b""
            assert c.request("GET", "/304").status == 304
            assert c.request("GET", "/204").status == 204
        r = c.request("HEAD", "/litefs/health")
        assert r.status == 200 and r.body == b"" and s.upstream.n_connections == 1


def test_continue():
    def handle(peer):
        while (head := peer.head()) is not None:
            if "/no" in head[0]:
                peer.answer("too much", "413 Content Too Large", "Connection: close")
                return
            assert head[1]["Expect"] == "100-continue"
            peer.send("HTTP/1.1 100 Continue\r\n\r\n")
            peer.answer(peer.body(head[1]))

    ask = "POST /{} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    with Site(handle) as s:
        with s.client() as c:
            for _ in range(2):
                assert c.send(ask.format("yes")).interim().startswith("HTTP/1.1 100")
                assert c.send("abc").response().text == "abc"
        with s.client() as c:
            r = c.send(ask.format("no")).response()
            assert r.status == 413 and r.text == "too much" and c.is_ended()
        r = s.post("/", "abc", headers={"Expect": "miracles"})
        assert r.status == 417 and r.is_last


def big(n):
    return hashlib.shake_128(b"seed").digest(MB) * (n // MB)


def chunks(data):
    return [b"%x\r\n%s\r\n" % (len(p), p) for p in (data[i:i + 50000] for i in range(0, len(data), 50000))] + [b"0\r\n\r\n"]


def test_a_slow_client_holds_the_response_back():
    size = 64 * MB
    sent = []

    def handle(peer):
        while (head := peer.head()) is not None:
            data, is_chunked = big(size), "/chunked" in head[0]
            peer.send("HTTP/1.1 200 OK\r\n",
                      "Transfer-Encoding: chunked\r\n\r\n" if is_chunked else f"Content-Length: {size}\r\n\r\n")
            for piece in chunks(data) if is_chunked else [data[i:i + 50000] for i in range(0, size, 50000)]:
                peer.send(piece)
                sent.append(len(piece))

    with Site(handle) as s:
        for path in ("/chunked", "/length"):
            sent.clear()
            before = f.rss_bytes(s.node)
            with s.client() as c:
                c.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
                stays_below(sent, size / 2)
                assert f.rss_bytes(s.node) - before < 16 * MB
                assert s.get("/litefs/health").status == 200
                assert hashlib.sha1(c.response().body).digest() == hashlib.sha1(big(size)).digest()


def stays_below(sent, limit):
    """Waits until no more is taken; then it must be less than `limit` bytes."""
    last = None
    while last != (last := sum(sent)) or last == 0:
        time.sleep(0.3)
    assert last < limit, f"{last} bytes were taken that nobody reads"


def test_a_slow_application_holds_the_request_back():
    size = 64 * MB
    may_read = threading.Event()
    found = []

    def handle(peer):
        while (head := peer.head()) is not None:
            may_read.wait(60)
            found.append(hashlib.sha1(peer.body(head[1])).digest())
            peer.answer("done")

    with Site(handle) as s:
        for is_chunked in (True, False):
            may_read.clear()
            sent = []
            before = f.rss_bytes(s.node)
            with s.client() as c:
                def push(c=c, sent=sent, is_chunked=is_chunked):
                    data = big(size)
                    c.send("POST / HTTP/1.1\r\nHost: x\r\n",
                           "Transfer-Encoding: chunked\r\n\r\n" if is_chunked else f"Content-Length: {size}\r\n\r\n")
                    for piece in chunks(data) if is_chunked else [data[i:i + 50000] for i in range(0, size, 50000)]:
                        c.send(piece)
                        sent.append(len(piece))
                pusher = threading.Thread(target=push)
                pusher.start()
                stays_below(sent, size / 2)
                assert f.rss_bytes(s.node) - before < 16 * MB
                may_read.set()
                assert c.response().text == "done"
                pusher.join()
        assert found == [hashlib.sha1(big(size)).digest()] * 2


def test_nothing_is_held_back():
    """Of a stream of events each is there before the next one is made."""
    go = threading.Semaphore(0)

    def handle(peer):
        peer.head()
        peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(5):
            go.acquire()
            peer.send(f"9\r\ndata: {i}\n\n\r\n")
        peer.send("0\r\n\r\n")

    with Site(handle) as s, s.client() as c:
        c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        r = http.client.HTTPResponse(c)
        r.begin()
        for i in range(5):
            go.release()
            assert r.read(9) == f"data: {i}\n\n".encode()
        assert r.read() == b""


def test_both_ways_at_once():
    """A response that begins before its request has ended."""
    def handle(peer):
        peer.head()
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while (n := int(peer.file.readline(), 16)) > 0:
            data = peer.file.read(n)
            peer.file.readline()
            peer.send(f"{n:x}\r\n", data, "\r\n")
        peer.send("0\r\n\r\n")

    with Site(handle) as s, s.client() as c:
        c.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        c.send("4\r\nping\r\n")
        r = http.client.HTTPResponse(c)
        r.begin()
        for i in range(50):
            assert r.read(4) == b"ping"
            c.send("4\r\nping\r\n" if i < 49 else "0\r\n\r\n")
        assert r.read() == b""


SMUGGLED = [
    "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG",
    "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    "Content-Length: 5,5\r\n\r\nabcde",
    "Content-Length: +5\r\n\r\nabcde",
    "Content-Length: 99999999999999999999999\r\n\r\nabcde",
    "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n3\r\nabcXX0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n3\rXabc\r\n0\r\n\r\n",
]


def test_smuggled_requests_are_refused():
    with Site() as s:
        for fields in SMUGGLED:
            with s.client() as c:
                r = c.send(f"POST / HTTP/1.1\r\nHost: x\r\n{fields}",
                           "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n").response()
                assert r.status in (400, 501) and r.text.startswith("Bad request: "), (fields, r.status, r.text)
                assert c.is_ended(), fields
        # A body that turns bad when its head has gone on.
        with s.client() as c:
            r = c.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcGET /smuggled "
                       "HTTP/1.1\r\nHost: x\r\n\r\n").response()
            assert r.status == 400 and c.is_ended()
        assert not any("smuggled" in line for line in s.upstream.seen), s.upstream.seen
        assert s.get("/fine").text == "GET /fine HTTP/1.1|"


def test_bad_heads():
    with Site() as s:
        for text, status in [("GET / HTTP/1.1\r\n\r\n", 400), ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
                             ("CONNECT x:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501), ("GET / HTTP/2.0\r\n\r\n", 505),
                             ("\x16\x03\x01\x02\x03\x04", 501), ("GET / HTTP/1.1\r\nHost: x\r\nA: " + "b" * 100000, 431),
                             ("GET / HTTP/1.1\r\nHost: x\r\n" + "A: b\r\n" * 1000 + "\r\n", 431)]:
            with s.client() as c:
                try:
                    r = c.send(text).response()
                except (BrokenPipeError, ConnectionResetError):
                    assert status == 431  # it need not read all of it
                    continue
                assert r.status == status, (text[:50], r.status, r.text)
        assert s.upstream.seen == []
        assert s.metric('errors_total{code="4xx"}') == 7


def test_random_requests():
    """Whatever is sent, the next client is served, and no memory stays behind."""
    rng = random.Random(f.SEED)
    seeds = [b"GET /a?b HTTP/1.1\r\nHost: x\r\nCookie: __txid=0000000000000001\r\n\r\n",
             b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
             b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
             b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nabc"]

    def mutated():
        data = bytearray(b"".join(rng.choice(seeds) for _ in range(rng.randint(1, 4))))
        for _ in range(rng.randint(0, 5)):
            at = rng.randrange(len(data))
            data[at:at + rng.randint(0, 3)] = rng.choice((b"\r", b"\n", b"\r\n", b"\0", b":", b" ", b"", b"f", b"a" * 5000))
        return bytes(data)

    with Site(options="  read-header-timeout: 2s\n  read-timeout: 2s\n") as s:
        s.get("/")
        before = f.rss_bytes(s.node)
        for _ in range(60):
            clients = [s.client() for _ in range(25)]
            for c in clients:
                try:
                    c.send(mutated())
                except OSError:
                    pass
            for c in clients:
                if rng.random() < 0.5:
                    c.sock.settimeout(0.02)
                    try:
                        c.sock.recv(100000)
                    except OSError:
                        pass
                c.close()
            assert s.get("/fine").text == "GET /fine HTTP/1.1|"
        wait_until(lambda: s.metric("connections") == 0, "all to be gone")
        assert f.rss_bytes(s.node) - before < 16 * MB


def test_a_part_is_never_taken_for_the_whole():
    def handle(peer):
        line, _ = peer.head()
        peer.send("HTTP/1.1 200 OK\r\n", "Content-Length: 100\r\n\r\n" if "/length" in line else
                  "Transfer-Encoding: chunked\r\n\r\n5\r\n", "01234")

    with Site(handle) as s:
        for path in ("/length", "/chunked"):
            try:
                r = s.get(path)
                raise AssertionError(f"{path}: {r.body} is whole")
            except (http.client.IncompleteRead, ConnectionResetError):
                pass


def test_applications_that_fail():
    def handle(peer):
        line, fields = peer.head()
        if "/garbage" in line:
            peer.send("SSH-2.0-nothing for you\r\n\r\n")
        elif "/two-lengths" in line:
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        elif "/101" in line:
            peer.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
        elif "/status" in line:
            peer.send("HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n")
        elif "/reason" in line:
            peer.send("HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n")
        elif "/head" in line:
            peer.send("HTTP/1.1 200 OK\r\n" + "A: b\r\n" * 20000 + "\r\n")
        elif "/late" in line:
            peer.file.read(1)

    with Site(handle, "  write-timeout: 2s\n") as s:
        for path in ("/nothing", "/garbage", "/two-lengths", "/101", "/status", "/reason", "/head"):
            r = s.get(path)
            assert r.status == 502 and r.text.startswith("Proxy error: the application"), (path, r.text)
            assert r.text.count("\n") == 1 and not r.is_last
        r = s.get("/late")
        assert r.status == 504 and r.text.startswith("Proxy timeout"), r.text
        assert s.metric('errors_total{code="502"}') == 7 and s.metric('errors_total{code="504"}') == 1


def test_a_proxy_is_not_its_own_application():
    port = free_ports(1)[0]
    for addr, target in (("127.0.0.1", "localhost"), ("", "127.0.0.1"), ("", "[::1]"), ("0.0.0.0", "")):
        n = http_fixture.Node(extra=f"proxy:\n  addr: \"{addr}:{port}\"\n  target: \"{target}:{port}\"\n")
        p = subprocess.run([LITEFS, "mount", "-config", n.config], capture_output=True, text=True, timeout=60)
        shutil.rmtree(n.root)
        assert p.returncode == 1 and f"proxy.target {target}:{port} is proxy.addr" in p.stderr, (addr, target, p.stderr)


def test_an_application_that_starts_late_is_waited_for():
    with Site(None) as s:
        with s.client() as c:
            c.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
            wait_until(lambda: s.metric("retries_total") > 0, "a try")
            late = Upstream(echo, s.target)
            assert c.response().text == "POST / HTTP/1.1|abc"
            late.close()


def test_a_kept_connection_that_was_closed():
    """What may be sent twice is, over a new connection; a POST is not."""
    def handle(peer):
        head = peer.head()
        peer.body(head[1])
        peer.answer("first")
        peer.head()  # and it ends the connection

    with Site(handle) as s, s.client() as c:
        for _ in range(3):
            assert c.request("GET", "/get").text == "first"
        assert s.metric("retries_total") == 2
        assert len([line for line in s.upstream.seen if "/get" in line]) == 5
        assert c.request("POST", "/post", "x").status == 502
        assert len([line for line in s.upstream.seen if "/post" in line]) == 1


def test_what_writes_is_not_sent_twice():
    """The application sees a request on a kept connection, does what it asks, and goes: 12 of 12 were done again."""
    def handle(peer):
        peer.head()
        peer.answer("first")
        head = peer.head()
        if head is None:
            return
        line = head[0]
        if "partial" in line:
            peer.send("HTTP/1.1 2")
        elif "interim" in line:
            peer.send("HTTP/1.1 103 Early Hints\r\n\r\n")

    with Site(handle, "  always-forward: [\"/writes/*\"]\n  passthrough: [\"/as-it-is/*\"]\n") as s, s.client() as c:
        for method, path in (("GET", "/writes/a"), ("HEAD", "/writes/b"), ("OPTIONS", "/writes/c"), ("PUT", "/d"),
                             ("DELETE", "/e"), ("PATCH", "/f"), ("PUT", "/as-it-is/g"), ("DELETE", "/as-it-is/h"),
                             ("GET", "/partial"), ("GET", "/writes/partial"), ("GET", "/as-it-is/partial"),
                             ("GET", "/interim")):
            assert c.request("GET", "/warm").text == "first"
            c.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n")
            if path == "/interim":
                c.interim()
            r = c.response(method)
            assert r.status == 502, (method, path, r.status)
            assert len([line for line in s.upstream.seen if path in line]) == 1, (method, path)
        assert s.metric("retries_total") == 0
        # What only reads is, when nothing has come.
        for method, path in (("GET", "/reads/i"), ("HEAD", "/reads/j"), ("OPTIONS", "/as-it-is/k")):
            assert c.request("GET", "/warm").text == "first"
            assert c.request(method, path).status == 200, (method, path)
            assert len([line for line in s.upstream.seen if path in line]) == 2


def test_web_socket():
    def handle(peer):
        line, fields = peer.head()
        if "/no" in line:
            peer.answer("no such thing", "404 Not Found")
            return
        assert fields["Upgrade"] == "websocket" and fields["Connection"] == "Upgrade"
        peer.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                  f"Sec-WebSocket-Accept: {f.WS_ACCEPT}\r\n\r\n", "early")
        while data := peer.sock.recv(65536):
            if data.endswith(b"bye"):
                peer.send("last words")
                return
            peer.send(data)

    with Site(handle) as s:
        with s.client() as c:
            ask = "".join(f"{k}: {v}\r\n" for k, v in f.WS_HEADERS.items())
            # The first bytes of the tunnel may come with the head.
            c.send(f"GET /ws HTTP/1.1\r\nHost: x\r\n{ask}\r\nwith the head")
            head = c.interim()
            assert head.startswith("HTTP/1.1 101") and f.WS_ACCEPT in head and "Connection: Upgrade" in head
            assert c.file.read(5 + 13) == b"earlywith the head"
            assert s.metric("tunnels") == 1
            for n in (1, 1000, 3 * MB):
                data = os.urandom(n - 1) + b"."
                sender = threading.Thread(target=c.send, args=(data,))
                sender.start()
                assert c.file.read(n) == data
                sender.join()
            c.send("bye")
            assert c.file.read() == b"last words"
        wait_until(lambda: s.metric("tunnels") == 0, "the tunnel to end")
        assert s.get("/no", headers=f.WS_HEADERS).status == 404
        # Another upgrade is not passed on.
        assert s.get("/no", headers={"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"}).status == 404


def test_times():
    with Site(options="  read-header-timeout: 400ms\n  read-timeout: 800ms\n  idle-timeout: 600ms\n") as s:
        with s.client() as slow, s.client() as body, s.client() as idle, s.client() as silent:
            slow.send("GET / HTTP/1.1\r\n")
            body.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
            assert idle.request("GET", "/").status == 200
            r = slow.response()
            assert r.status == 408 and slow.is_ended()
            assert idle.is_ended() and silent.is_ended()
            r = body.response()
            assert r.status == 408 and "read-timeout" in r.text and body.is_ended()
        wait_until(lambda: s.metric("connections") == 0, "all to be closed")


def test_a_thousand_idle_clients():
    with Site(options="  read-header-timeout: 60s\n  idle-timeout: 60s\n") as s:
        s.get("/")
        before = f.rss_bytes(s.node)
        idle = []
        for i in range(1000):
            c = socket.create_connection(("127.0.0.1", s.port))
            if i % 2:
                c.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 2000)
            else:  # of those that have said nothing yet there may be no more than 768
                c.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert c.recv(1000).startswith(b"HTTP/1.1 200")
            idle.append(c)
        wait_until(lambda: s.metric("connections") >= 1000, "all to be there")
        assert f.rss_bytes(s.node) - before < 32 * MB
        assert all(s.get("/").status == 200 for _ in range(20))
        for c in idle:
            c.close()
        wait_until(lambda: s.metric("connections") == 0, "all to be gone")


def test_shutdown_waits_for_what_is_under_way():
    may_go = threading.Event()

    def handle(peer):
        while (head := peer.head()) is not None:
            if "/slow" in head[0]:
                may_go.wait(60)
            peer.answer("done")

    with Site(handle) as s, s.client() as busy, s.client() as idle:
        assert idle.request("GET", "/").status == 200
        busy.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: "GET /slow HTTP/1.1" in s.upstream.seen, "the request")
        s.node.process.send_signal(signal.SIGTERM)
        wait_until(lambda: s.get("/litefs/health").text == "Stopping\n", "the health to be bad")
        # Who has a connection gets an answer on it, and its end with it.
        r = idle.request("GET", "/")
        assert r.text == "done" or (r.status == 503 and "this node is stopping" in r.text), (r.status, r.text)
        assert r.is_last and idle.is_ended()
        may_go.set()
        r = busy.response()
        assert r.text == "done" and r.is_last and busy.is_ended()
        assert s.node.process.wait(60) == 0
        s.node.process = None
        s.node.log_file.close()


def test_shutdown_does_not_wait_for_ever():
    def handle(peer):
        peer.head()
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        peer.file.read(1)

    with Site(handle) as s, s.client() as c:
        c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").interim()
        began = time.monotonic()
        assert s.node.stop() == 0
        assert time.monotonic() - began < 40


if __name__ == "__main__":
    f.run(sys.modules[__name__])
