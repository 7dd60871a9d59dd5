"""What arrives at a node's port need not come from a node: it is refused, the log says why, and the node lives."""
import contextlib
import os
import socket
import struct
import subprocess
import sys
import time

from cluster_fixture import Cluster, free_ports, need, run, wait_until
from litefs_fixture import Node

need("consul")
OPEN = b"GET /stream HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: litefs-stream/1\r\n\r\n"
HELLO, POSITIONS, LTX, DATA, LTX_END, READY, HEARTBEAT, HANDOFF, ACK, ERROR = range(1, 11)


def frame(kind, payload=b""):
    return struct.pack(">IB", 1 + len(payload), kind) + payload


def text8(s):
    return bytes([len(s)]) + s


def hello(cluster=b"", node_id=77, term=0, version=1, name=b"stranger", url=b"http://127.0.0.1:1"):
    return frame(HELLO, struct.pack(">HQQ", version, node_id, term) + text8(cluster) + text8(name) +
                 struct.pack(">H", len(url)) + url)


def positions(entries=(), flags=3, count=None):
    body = b"".join(text8(n) + struct.pack(">QQ", t, c) for n, t, c in entries)
    return frame(POSITIONS, struct.pack(">BI", flags, len(entries) if count is None else count) + body)


def cluster_id(node):
    with open(os.path.join(node.data, "clusterid"), "rb") as f:
        return f.read().strip()


def converse(node, data, is_ended=False, seconds=60):
    """Sends `data`; everything that comes until the node closes the connection."""
    with socket.create_connection(("127.0.0.1", node.listen_port), 60) as s:
        end = time.monotonic() + seconds
        got = b""
        try:
            s.sendall(data)
            if is_ended:
                s.shutdown(socket.SHUT_WR)
            while True:
                s.settimeout(max(0.001, end - time.monotonic()))
                part = s.recv(65536)
                if not part:
                    return got
                got += part
        except ConnectionError:
            return got
        except TimeoutError:
            raise AssertionError(f"the connection stays open after {data[:60]!r}; it said {got[:80]!r}") from None


BAD_HEADS = {
    "noise": bytes(range(256)) * 20,
    "endless head": b"GET /stream HTTP/1.1\r\n" + b"X: " + b"y" * 20000,
    "endless line": b"G" * 200000,
}

BAD_STREAMS = {
    "oversized": struct.pack(">IB", 0xffffffff, HELLO),
    "empty": struct.pack(">I", 0) + b"\0" * 20,
    "unknown type": hello() + frame(99, b"x" * 50),
    "type 0": hello() + frame(0),
    "positions first": positions(),
    "hello twice": hello() + hello(),
    "short hello": frame(HELLO, b"\0" * 10),
    "control characters": hello(name=b"a\nb"),
    "version 0": hello(version=0),
    "a primary's frame": hello() + frame(READY),
    "a record from a replica": hello() + positions() + frame(DATA, struct.pack(">I", 1) + b"x" * 1000),
    "too many names": hello() + positions(count=513),
    "names that are not there": hello() + positions(count=100),
    "a name twice": hello() + positions([(b"a.db", 1, 1 << 63), (b"a.db", 2, 1 << 63)]),
    "a name twice in two frames": hello() + positions([(b"a.db", 1, 1 << 63)], 2) + positions([(b"a.db", 2, 1 << 63)]),
    "a list that is complete in part": hello() + positions([(b"a.db", 1, 1 << 63)], 2) + positions([(b"b.db", 2, 1 << 63)], 1),
    "a bad name": hello() + positions([(b"../etc/passwd", 1, 1 << 63)]),
    "a companion's name": hello() + positions([(b"t.db-wal", 1, 1 << 63)]),
    "a checksum without its bit": hello() + positions([(b"t.db", 1, 5)]),
    "another cluster": hello(cluster=b"LFSC0123456789ABCDEF"),
    "a malformed cluster": hello(cluster=b"LFSC0123456789abcdef"),
    "a later term": hello(term=1 << 60),
}


def works(cl, c, i):
    c.execute("insert into t values(?)", (i,))
    cl.in_step()


def reasons(node):
    return sum(node.recent_log().count(w) for w in ("closed: ", "refused: "))


def test_strangers():
    with Cluster(2) as cl:
        p = cl.wait_followers()
        c = p.connect()
        c.execute("create table t(a)")
        for i, (what, data) in enumerate(BAD_HEADS.items()):
            converse(p, data)
            works(cl, c, i)
        for path, method, want in ((b"/elsewhere", b"GET", [b"404"]), (b"/stream", b"PUT", [b"426"])):
            head = OPEN.replace(b"/stream", path).replace(b"GET", method)
            assert converse(p, head, is_ended=True).split()[1] in want, path
        got = converse(p, b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n", is_ended=True)
        assert got.split()[1] == b"426", got[:50]
        for i, (what, data) in enumerate(BAD_STREAMS.items()):
            before = reasons(p)
            got = converse(p, OPEN + data)
            assert got.startswith(b"HTTP/1.1 101"), (what, got[:60])
            assert reasons(p) > before, f"{what}: the log does not say why"
            works(cl, c, i)
        c.close()
        cl.check_equal()


def test_cut_short():
    """The end within a frame, wherever it is."""
    whole = OPEN + hello() + positions([(b"t.db", 3, 1 << 63)])
    with Cluster(2) as cl:
        p = cl.wait_followers()
        c = p.connect()
        c.execute("create table t(a)")
        for n in range(0, len(whole), 3):
            converse(p, whole[:n], is_ended=True)
        works(cl, c, 1)
        c.close()


def test_many_connections():
    """Also those that say nothing keep nobody out."""
    with Cluster(1) as cl:
        p = cl.wait_primary()
        idle = [socket.create_connection(("127.0.0.1", p.listen_port), 5) for _ in range(300)]
        half = [socket.create_connection(("127.0.0.1", p.listen_port), 5) for _ in range(50)]
        for s in half:
            s.sendall(OPEN + hello())
        c = p.connect()
        c.execute("create table t(a)")
        cl.add().start()
        works(cl, c, 1)
        # Streams have a bound, and places in it are not for those who never say where they are.
        more = [socket.create_connection(("127.0.0.1", p.listen_port), 5) for _ in range(128)]
        for s in more:
            s.sendall(OPEN + hello())
        refused = sum(s.recv(16).split()[1] == b"503" for s in more)
        assert refused == 50 + 1, f"{refused} of 128 more streams were refused"
        for s in half:
            s.settimeout(60)
            while s.recv(65536):
                pass
        works(cl, c, 2)
        for s in idle + half + more:
            s.close()
        c.close()
        cl.check_equal()


def test_a_replica_is_asked():
    with Cluster(2) as cl:
        cl.wait_followers()
        r, = cl.replicas()
        assert converse(r, OPEN, is_ended=True).split()[1] == b"503"


def test_who_is_ahead_has_not_everything():
    """A replica at a later transaction of another history, or at another one at the same number, lacks ours: the lease is
    not handed to it."""
    with Cluster(1) as cl:
        p = cl.wait_primary()
        c = p.connect()
        c.execute("create table t(a)")
        txid = int(p.pos().split("/")[0], 16)
        with contextlib.ExitStack() as streams:
            asked = {}
            for name, n in ((b"same", txid), (b"ahead", txid + 1000)):
                t = streams.enter_context(socket.create_connection(("127.0.0.1", p.listen_port), 5))
                t.sendall(OPEN + hello(cluster=cluster_id(p), name=name, node_id=n) + positions([(b"t.db", n, 1 << 63 | 5)]))
                p.wait_log(f"stream connected: replica={name.decode()}")
                asked[name] = subprocess.Popen([os.environ["LITEFS_BIN"], "handoff", "-config", p.config, name],
                                               stderr=subprocess.PIPE, text=True)
            for name, process in asked.items():
                said = process.communicate(timeout=60)[1]
                assert process.returncode != 0 and "has everything" in said, (name, said)
        c.execute("insert into t values(1)")
        c.close()


class FakePrimary:
    """Says `data` to whoever connects, and then nothing more."""

    def __init__(self, data):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(60)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.data = data

    def accept(self):
        """A connection with its request; one that ends before that, of a replica that was not answered in time, is none."""
        while True:
            s, _ = self.listener.accept()
            s.settimeout(60)
            got = b""
            try:
                while b"\r\n\r\n" not in got and (part := s.recv(65536)):
                    got += part
            except ConnectionError:
                pass
            if b"\r\n\r\n" in got:
                return s
            s.close()

    def serve(self):
        """True when the other closed the connection."""
        with self.accept() as s:
            try:
                s.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: litefs-stream/1\r\n\r\n")
                s.sendall(self.data)
                while s.recv(65536):
                    pass
            except ConnectionError:
                pass
            return True


def ltx(stream=1, term=1, low=1, high=1, pre=0, post=1 << 63, page_size=4096, commit=1, size=0, name=b"evil.db",
        history=0):
    return frame(LTX, struct.pack(">IQQQQQqIIQB", stream, term, low, high, pre, post, 0, page_size, commit, size, history) +
                 text8(name))


def ltx_end(stream=1, status=0, n=0):
    return frame(LTX_END, struct.pack(">IBQ", stream, status, n))


def data(payload, stream=1):
    return frame(DATA, struct.pack(">I", stream) + payload)


GREETING = hello(node_id=5, term=1, name=b"fake")

BAD_PRIMARIES = {
    "oversized": struct.pack(">IB", 0x7fffffff, LTX),
    "no hello": frame(READY),
    "a record before hello": ltx(),
    "data for nothing": GREETING + data(b"x"),
    "an end for nothing": GREETING + ltx_end(),
    "two records in one": GREETING + ltx() + ltx(),
    "noise as a record": GREETING + ltx() + data(os.urandom(5000)) + ltx_end(n=5000),
    "an empty record": GREETING + ltx() + ltx_end(),
    "more than announced": GREETING + ltx(size=200) + data(b"x" * 300),
    "less than announced": GREETING + ltx(size=20000) + data(b"x" * 300) + ltx_end(n=300),
    "more than the pages can be": GREETING + ltx(size=1 << 40),
    "a snapshot without an end": GREETING + ltx() + data(b"x" * 200000),
    "no such history": GREETING + ltx(history=3),
    "a name twice": GREETING + positions([(b"evil.db", 1, 1 << 63)] * 2),
    "a wrong sum": GREETING + ltx() + data(b"x" * 300) + ltx_end(n=299),
    "another term": GREETING + ltx(term=2),
    "a page size": GREETING + ltx(page_size=4095),
    "a name": GREETING + ltx(name=b"../../evil"),
    "an ACK": GREETING + frame(ACK, struct.pack(">QQ", 1, 1 << 63) + text8(b"a")),
    "an error with noise": GREETING + frame(ERROR, struct.pack(">HH", 2, 3) + b"\x01\x02\x03"),
}


def replica(url):
    return Node(extra=f"  candidate: false\n  advertise-url: {url}\n  reconnect-delay: 50ms\n")


def test_a_primary_that_is_none():
    for what, said in BAD_PRIMARIES.items():
        fake = FakePrimary(said)
        with replica(fake.url) as r:
            assert fake.serve(), what
            wait_until(lambda: "stream from the primary at" in r.log(), f"{what}: a reason in the log")
            assert r.process.poll() is None, what
            assert not os.path.exists(r.path("evil.db")), (what, os.listdir(r.mnt))
            assert not os.path.exists("/tmp/evil")
        fake.listener.close()


def test_a_node_that_follows_itself():
    port = free_ports(1)[0]
    n = replica(f"http://127.0.0.1:{port}")
    with open(n.config) as f:
        text = f.read()
    with open(n.config, "w") as f:
        f.write(text.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    with n:
        wait_until(lambda: "stream from the primary at" in n.log(), "a reason in the log")
        assert n.process.poll() is None


def test_data_of_another_cluster():
    """It neither joins nor wins; a message says what to do."""
    with Cluster(1) as other:
        p = other.wait_primary()
        c = p.connect()
        c.execute("create table mine(a)")
        c.close()
        p.stop()
        with Cluster(1) as cl:
            p2 = cl.wait_primary()
            c = p2.connect()
            c.execute("create table t(a)")
            c.close()
            stranger = cl.add()
            os.makedirs(stranger.data)
            with open(os.path.join(p.data, "clusterid")) as f, \
                    open(os.path.join(stranger.data, "clusterid"), "w") as g:
                g.write(f.read())
            stranger.start()
            wait_until(lambda: "belongs to cluster" in stranger.log() or "is of cluster" in stranger.log(),
                       "the reason in the log")
            assert not os.path.exists(stranger.path("t.db"))
            p2.stop()
            time.sleep(1.5)
            assert not stranger.is_primary(), "a node of another cluster has become the primary"


if __name__ == "__main__":
    run(sys.modules[__name__])
