"""Clients that are slow, many, rude or broken: replication and the other clients do not notice."""
import http.client
import os
import random
import resource
import socket
import sys
import threading
import time

from http_fixture import (Node, count_fds, get, in_step, make_file, metrics, post, replica_of, rss_bytes, run,
                          wait_until)

SEED = int(os.environ.get("SEED", random.randrange(1 << 30)))
print("SEED=%d" % SEED, flush=True)

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connect(node, timeout=60):
    s = socket.create_connection(("127.0.0.1", node.port()), timeout=timeout)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def read_all(s):
    """Until the peer closes; resets count as that."""
    got = b""
    try:
        while True:
            part = s.recv(65536)
            if not part:
                return got
            got += part
    except ConnectionResetError:
        return got


def is_alive(node):
    a = get(node, "/healthz", timeout=60)
    return (a.status, a.text) == (200, "OK\n")


def test_huge_heads():
    with Node() as n:
        before = rss_bytes(n)
        for head in (b"GET /info HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * (1 << 20) + b"\r\n\r\n",
                     b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
                     b"GET /info HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X%d: y\r\n" % i for i in range(100000)) + b"\r\n",
                     b"A" * (1 << 20), b"\r\n" * 500000, b"GET /stream HTTP/1.1\r\nX: " + b"a" * (1 << 20)):
            s = connect(n)
            try:
                s.sendall(head)
            except (ConnectionResetError, BrokenPipeError):
                pass
            try:
                s.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            got = read_all(s)
            assert got == b"" or got.startswith(b"HTTP/1.1 4"), got[:100]
            s.close()
            assert is_alive(n)
        assert rss_bytes(n) - before < 16 << 20


def test_byte_by_byte():
    """A slow client gets its answer, whatever it asks for, and costs no processor time while it waits."""
    for request, answer in ((b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
                            (b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 426 "),
                            (b"POST /import?name=a.db HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
                             b"HTTP/1.1 400 ")):
        with Node() as n:
            s = connect(n)
            for i in range(len(request)):
                s.send(request[i:i + 1])
                time.sleep(0.002)  # the client's slowness, not a wait for anything
            got = read_all(s)
            assert got.startswith(answer), got
            s.close()


def test_waiting_for_a_head_costs_nothing():
    with Node() as n:
        held = []
        for beginning in (b"", b"G", b"GET /strea", b"GET /stream ", b"GET /info HTTP/1.1\r\n",
                          b"POST /import?name=a.db HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc"):
            for _ in range(20):
                s = connect(n)
                s.send(beginning)
                held.append(s)
        assert is_alive(n)
        begin, cpu = time.monotonic(), n.cpu_seconds()
        while time.monotonic() - begin < 1.5:
            assert is_alive(n)
            time.sleep(0.1)
        assert n.cpu_seconds() - cpu < 0.3, f"{n.cpu_seconds() - cpu} s of processor time"
        for s in held:
            s.close()


def test_idle_connections_do_not_hurt():
    """1,000 that say nothing and 1,100 that have begun a request: commits reach a replica, a replica that comes gets
    its stream, the API answers."""
    with Node() as n:
        c = n.connect()
        c.execute("create table t(a)")
        with replica_of(n) as r:
            in_step(n, r)
            before = rss_bytes(n)
            held = [connect(n) for _ in range(1000)]
            for i in range(1100):
                s = connect(n)
                s.send(b"GET /info HTTP/1.1\r\nX: " + b"y" * (i % 100))
                held.append(s)
            worst = 0
            for i in range(100):
                begin = time.monotonic()
                c.execute("insert into t values(?)", (i,))
                worst = max(worst, time.monotonic() - begin)
            assert worst < 10, f"a commit took {worst} s"
            in_step(n, r)
            begin = time.monotonic()
            for path in ("/info", "/db", "/metrics"):
                assert get(n, path).status == 200
            assert time.monotonic() - begin < 20
            assert metrics(n)["litefs_http_connections"] <= 1200
            r.stop()
            c.execute("insert into t values(-1)")
            r.start()
            in_step(n, r)
            assert rss_bytes(n) - before < 128 << 20, f"{(rss_bytes(n) - before) >> 20} MiB for 2,100 connections"
            for s in held:
                s.close()
        wait_until(lambda: metrics(n)["litefs_http_connections"] <= 2, "connections that have ended to be gone")
        c.close()


def test_a_flood_that_never_stops():
    """Connections are opened as fast as they can be, for as long as the test runs; the API and a stream go on."""
    with Node() as n, replica_of(n) as r:
        c = n.connect()
        c.execute("create table t(a)")
        in_step(n, r)
        stop = threading.Event()
        made = [0]

        def flood():
            held = []
            while not stop.is_set():
                try:
                    held.append(connect(n))
                    made[0] += 1
                except OSError:
                    pass
                if len(held) > 3000:
                    held.pop(0).close()
            for s in held:
                s.close()

        threads = [threading.Thread(target=flood) for _ in range(2)]
        for t in threads:
            t.start()
        try:
            wait_until(lambda: made[0] > 1500, "the flood to begin")
            for i in range(20):
                c.execute("insert into t values(?)", (i,))
                in_step(n, r)
        finally:
            stop.set()
            for t in threads:
                t.join()
        assert is_alive(n)
        c.close()


def test_random_bytes():
    rnd = random.Random(SEED)
    pieces = [b"GET ", b"POST ", b"HEAD ", b"/info", b"/import?name=", b"/export?name=t.db", b"/stream", b" HTTP/1.1\r\n", b"\r\n",
              b"Host: localhost\r\n", b"Content-Length: ", b"-1", b"99999999999999999999", b"Transfer-Encoding: chunked\r\n",
              b"ffffffffffffffff\r\n", b"0\r\n\r\n", b"Expect: 100-continue\r\n", b"Upgrade: litefs-stream/1\r\n",
              b"Connection: upgrade\r\n", b"%00", b"%2e%2e%2f", b"\x00", b"Authorization: Bearer \r\n", b" HTTP/9.9\r\n",
              b"Range: bytes=0-1\r\n", b"/events", b"\xff\xfe", b"?", b"&", b"="]
    with Node() as n:
        c = n.connect()
        c.execute("create table t(a)")
        fds, before = None, None
        for i in range(600):
            s = connect(n)
            if rnd.random() < 0.3:
                data = rnd.randbytes(rnd.randrange(1, 3000))
            else:
                data = b"".join(rnd.choice(pieces) for _ in range(rnd.randrange(1, 30)))
            try:
                s.sendall(data)
                if rnd.random() < 0.5:
                    s.shutdown(socket.SHUT_WR)
                    s.settimeout(0.05)
                    s.recv(1000)
            except (OSError, TimeoutError):
                pass
            s.close()
            if i == 100:
                fds, before = count_fds(n), rss_bytes(n)
        assert is_alive(n)
        wait_until(lambda: count_fds(n) <= fds, "connections to be closed")
        assert rss_bytes(n) - before < 24 << 20
        c.execute("insert into t values(1)")
        n.check()
        assert sorted(f for f in os.listdir(n.mnt) if f.endswith(".db")) == ["t.db"]
        c.close()


def test_bodies_that_nobody_asked_for():
    with Node() as n:
        for path in ("/handoff", "/promote", "/info", "/nope"):
            for size in (0, 1, 60000, 5 << 20):
                try:
                    a = post(n, path, body=b"x" * size)
                    assert a.status in (200, 404, 405, 413, 500), (path, size, a.status)
                except (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected):
                    assert size > 65536, (path, size)
        s = connect(n)
        s.sendall(b"POST /promote HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = 0
        try:
            while sent < 64 << 20:
                s.sendall(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
                sent += 0x4000
            raise AssertionError("a body without end was taken")
        except (ConnectionResetError, BrokenPipeError):
            pass
        s.close()
        assert is_alive(n)


def test_keepalive_and_pipelining():
    with Node() as n:
        c = http.client.HTTPConnection("127.0.0.1", n.port(), timeout=60)
        c.connect()
        own = c.sock
        for i in range(300):
            path, want = (("/healthz", 200), ("/info", 200), ("/nope", 404), ("/export?name=x", 404))[i % 4]
            c.request("GET", path)
            r = c.getresponse()
            r.read()
            assert r.status == want
            assert c.sock is own, "the connection was not kept"
        c.request("POST", "/promote")
        r = c.getresponse()
        r.read()
        assert r.status == 200 and c.sock is own
        c.close()
        s = connect(n)
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50 +
                  b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert read_all(s).count(b"HTTP/1.1 200 OK") == 51
        s.close()


def test_expect_continue_and_chunks():
    with Node() as n:
        body = make_file(os.path.join(n.root, "n.db"), "create table t(a); insert into t values(randomblob(100000))")
        s = connect(n)
        s.sendall(b"POST /import?name=a.db HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nConnection: close\r\n"
                  b"Content-Length: %d\r\n\r\n" % len(body))
        assert s.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(body)
        assert read_all(s).startswith(b"HTTP/1.1 200 OK")
        s.close()
        parts = (body[i:i + 777] for i in range(0, len(body), 777))
        c = http.client.HTTPConnection("127.0.0.1", n.port(), timeout=60)
        c.request("POST", "/import?name=b.db", body=parts, encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
        r = c.getresponse()
        assert r.status == 200, r.read()
        c.close()
        assert len(get(n, "/export", name="b.db").body) == len(body)


def test_stops_with_requests_under_way():
    """SIGTERM ends the node although exports are half read, bodies half sent, and somebody listens."""
    with Node() as n:
        body = make_file(os.path.join(n.root, "n.db"),
                         "create table t(a); with recursive r(i) as (select 1 union all select i+1 from r where i<3000) "
                         "insert into t select randomblob(9000) from r")
        assert post(n, "/import", body=body, name="t.db").status == 200
        held = []
        for request in (b"GET /export?name=t.db HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n",
                        b"GET /export?name=t.db HTTP/1.1\r\nHost: localhost\r\n\r\n",
                        b"POST /import?name=u.db HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n" + body[:3000000],
                        b"GET /in", b""):
            s = connect(n)
            s.sendall(request)
            held.append(s)
        assert held[0].recv(100).startswith(b"HTTP/1.1 200")
        begin = time.monotonic()
        assert n.stop() == 0
        assert time.monotonic() - begin < 20
        for s in held:
            read_all(s)
            s.close()
        n.start()
        n.check()
        assert not os.path.exists(n.path("u.db"))


if __name__ == "__main__":
    run(sys.modules[__name__])
