"""Requests to a node's HTTP API, and what a test wants to know of the node besides."""
import http.client
import json
import os
import sqlite3
import sys
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE), *(os.path.join(os.path.dirname(HERE), d) for d in ("cluster", "lease"))]

import litefs_fixture
from litefs_fixture import in_step, replica_of, wait_until  # noqa: F401


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)


def port_of(node):
    return getattr(node, "listen_port", None) or node.port()


def request(node, method, path, body=None, headers=None, timeout=60, **query):
    if query:
        path += "?" + urllib.parse.urlencode(query)
    c = http.client.HTTPConnection("127.0.0.1", port_of(node), timeout=timeout)
    try:
        c.request(method, path, body, headers or {})
        return Answer(c.getresponse())
    finally:
        c.close()


def get(node, path, **kw):
    return request(node, "GET", path, **kw)


def post(node, path, **kw):
    return request(node, "POST", path, **kw)


def metrics(node):
    """{series: value} of /metrics."""
    a = get(node, "/metrics")
    assert a.status == 200, a.text
    found = {}
    for line in a.text.splitlines():
        if line and not line.startswith("#"):
            series, value = line.rsplit(" ", 1)
            assert series not in found, f"{series} twice"
            found[series] = float(value)
    return found


def rss_bytes(node):
    with open(f"/proc/{node.process.pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def count_fds(node):
    return len(os.listdir(f"/proc/{node.process.pid}/fd"))


class Node(litefs_fixture.Node):
    """Knows its part when the test begins, if it is to be the primary."""

    def start(self, **kw):
        super().start(**kw)
        if "candidate: false" not in self.extra:
            wait_until(lambda: get(self, "/readyz").status == 200, "the primary to be ready")
        return self


def make_file(path, sql, page_size=4096, wal=False):
    """A database outside of any mount; its bytes."""
    c = sqlite3.connect(path, isolation_level=None)
    c.execute(f"pragma page_size={page_size}")
    if wal:
        c.execute("pragma journal_mode=wal")
    c.executescript(sql)
    c.close()
    with open(path, "rb") as f:
        return f.read()


def run(module):
    litefs_fixture.run(module)
