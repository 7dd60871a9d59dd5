"""Nodes with a proxy, applications behind it, and clients that see every byte."""
import http.client
import os
import socket
import struct
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(os.path.dirname(HERE), d) for d in (".", "http", "cluster", "lease", "tls")]

import cluster_fixture
import http_fixture
import litefs_fixture
from http_fixture import metrics, rss_bytes  # noqa: F401
from cluster_fixture import SEED
from litefs_fixture import free_ports, wait_until

TIMEOUT = 60


class Response:
    def __init__(self, sock, method="GET"):
        self.http = http.client.HTTPResponse(sock, method=method)
        self.http.begin()
        self.status = self.http.status
        self.headers = self.http.headers
        self.body = self.http.read()
        self.is_last = self.http.will_close

    @property
    def text(self):
        return self.body.decode()


class Client:
    """A connection that sends what it is told, and reads responses one by one."""

    def __init__(self, port, host="127.0.0.1"):
        self.sock = socket.create_connection((host, port), TIMEOUT)
        # One reader for all responses, or bytes of the next would be lost with the last.
        self.file = self.sock.makefile("rb")

    def makefile(self, mode):
        return Unclosed(self.file)

    def send(self, *parts):
        self.sock.sendall(b"".join(p.encode() if isinstance(p, str) else p for p in parts))
        return self

    def response(self, method="GET"):
        return Response(self, method)

    def request(self, method, path, body=None, headers=()):
        lines = [f"{method} {path} HTTP/1.1", "Host: test", *(f"{k}: {v}" for k, v in dict(headers).items())]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines), "\r\n\r\n", body or "")
        return self.response(method)

    def interim(self):
        """The head of a 1xx response."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.file.read(1)
            assert byte, f"the end after {head}"
            head += byte
        return head.decode()

    def is_ended(self):
        try:
            return self.file.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self):
        self.file.close()
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Unclosed:
    """HTTPResponse closes its file when a response ends."""

    def __init__(self, f):
        self.f = f

    def __getattr__(self, name):
        return getattr(self.f, name)

    def close(self):
        pass


def exchange(port, method, path, body=None, headers=(), host="127.0.0.1"):
    with Client(port, host) as c:
        return c.request(method, path, body, headers)


# --- WebSockets, from the client's side ---

def masked(opcode, data):
    n = len(data)
    size = bytes([0x80 | n]) if n < 126 else b"\xfe" + struct.pack("!H", n) if n < 65536 \
        else b"\xff" + struct.pack("!Q", n)
    return bytes([0x80 | opcode]) + size + b"\0\0\0\0" + data  # a mask of zeros leaves the data as it is


def read_frame(f):
    first, n = f.read(2)
    if n == 126:
        n, = struct.unpack("!H", f.read(2))
    elif n == 127:
        n, = struct.unpack("!Q", f.read(8))
    return first & 15, f.read(n)


WS_HEADERS = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
              "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
WS_ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


# --- what stands behind a proxy ---

class App:
    """app.py on the databases of a node."""

    def __init__(self, port, directory, name):
        self.process = subprocess.Popen(self.command(port, directory, name), env=self.environment(directory),
                                        stderr=subprocess.DEVNULL)

        def is_there():
            assert self.process.poll() is None, "the application ended at once"
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            except OSError:
                return False
        wait_until(is_there, "the application")

    def command(self, port, directory, name):
        return [sys.executable, os.path.join(HERE, "app.py"), str(port), directory, name]

    def environment(self, _directory):
        return None

    def stop(self):
        self.process.kill()
        self.process.wait()


class AppCluster(cluster_fixture.Cluster):
    """An application behind each node's proxy, at the node's `target`; `add` gives it one, and no `app` yet."""

    def start_apps(self):
        for n in self.nodes:
            n.wait_log("proxy server listening on")
            n.app = App(n.target, n.mnt, n.name)

    def close(self, is_failure):
        for n in self.nodes:
            if n.app is not None:
                n.app.stop()
        super().close(is_failure)


class Upstream:
    """Takes connections at a port of its own; `handle(Peer)` serves each on a thread of its own."""

    def __init__(self, handle, port=0):
        self.handle = handle
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        self.n_connections = 0
        self.seen = []  # heads of all requests
        self.peers = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.n_connections += 1
            peer = Peer(self, sock)
            self.peers.append(peer)
            threading.Thread(target=peer.run, daemon=True).start()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for p in self.peers:
            p.end()


class Peer:
    def __init__(self, upstream, sock):
        self.upstream = upstream
        self.sock = sock
        self.file = sock.makefile("rb")

    def run(self):
        try:
            self.upstream.handle(self)
        except (OSError, ValueError):
            pass
        self.end()

    def end(self):
        """So that the other side sees it now, whoever else has the socket."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()

    def head(self):
        """(request line, {field: value}) of the next request; None at the end."""
        line = self.file.readline().decode()
        if not line:
            return None
        fields = http.client.parse_headers(self.file)
        self.upstream.seen.append(line.strip())
        return line.strip(), fields

    def body(self, fields):
        if fields.get("Transfer-Encoding") == "chunked":
            whole = bytearray()
            while True:
                n = int(self.file.readline(), 16)
                whole += self.file.read(n)
                self.file.readline()
                if n == 0:
                    return bytes(whole)
        return self.file.read(int(fields.get("Content-Length", 0)))

    def send(self, *parts):
        self.sock.sendall(b"".join(p.encode() if isinstance(p, str) else p for p in parts))

    def answer(self, body=b"", status="200 OK", *fields):
        data = body.encode() if isinstance(body, str) else body
        self.send("\r\n".join([f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(data)}"]), "\r\n\r\n", data)


def echo(peer):
    """Answers each request with its line and body."""
    while (head := peer.head()) is not None:
        body = peer.body(head[1])
        data = f"{head[0]}|".encode() + body
        peer.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n",
                  b"" if head[0].startswith("HEAD") else data)


class Site:
    """A node alone, its proxy, and `handle` behind it: `with Site(echo) as s: s.client()`."""

    def __init__(self, handle=echo, options="", node_options="", env=None):
        self.env = env
        self.upstream = Upstream(handle) if handle is not None else None
        self.target = self.upstream.port if handle is not None else free_ports(1)[0]
        self.node = http_fixture.Node(
            extra=f"{node_options}proxy:\n  addr: \"127.0.0.1:0\"\n  target: \"127.0.0.1:{self.target}\"\n{options}")

    def __enter__(self):
        self.node.__enter__() if self.env is None else self.node.start(env=dict(os.environ, **self.env))
        wait_until(lambda: "proxy server listening on" in self.node.log(), "the proxy")
        self.port = int(self.node.log().rsplit("proxy server listening on:", 1)[1].split("(port ")[1].split(")")[0])
        return self

    def __exit__(self, *why):
        if self.upstream is not None:
            self.upstream.close()
        self.node.__exit__(*why)

    def client(self):
        return Client(self.port)

    def get(self, path, **kw):
        return exchange(self.port, "GET", path, **kw)

    def post(self, path, body="", **kw):
        return exchange(self.port, "POST", path, body, **kw)

    def metric(self, name):
        return metrics(self.node)[f"litefs_proxy_{name}"]


def run(module):
    print(f"SEED={SEED}", flush=True)
    litefs_fixture.run(module)
