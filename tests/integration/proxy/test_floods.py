"""Thousands of connections to a proxy by whoever likes: its health, other nodes' requests and clients' are served, and
the application does not see the flood."""
import re
import socket
import sys
import time

from proxy_fixture import Site, rss_bytes, run, wait_until
from flood import N, flood, head

PATIENCE = 20
MB = 1 << 20
HOP = {"Litefs-Proxy-Hop": "1"}  # how nodes without TLS mark what they pass on

SORTS = {
    "silent": b"",
    "half a head": b"GET / HTTP/1.1\r\nHost: 127.0",
    "idle after a request": head("GET /litefs/health"),
    "a body that does not come": head("POST /x", "Content-Length: 10"),
    "a body that begins": head("POST /x", "Content-Length: 10") + b"1",
}


def echo_or_hang(peer):
    while (h := peer.head()) is not None:
        if " /hang " in h[0]:
            peer.file.read(1)
            return
        peer.answer(h[0].encode() + b"|" + peer.body(h[1]))


def check_health(s):
    with socket.create_connection(("127.0.0.1", s.port), PATIENCE) as c:
        c.sendall(head("GET /litefs/health", "Connection: close"))
        assert c.makefile("rb").readline().split()[1] == b"200"


def test_floods():
    n = max(N, 2500)  # than it takes
    with Site(echo_or_hang) as s, s.client() as held:
        assert held.request("GET", "/first").status == 200
        before = rss_bytes(s.node)
        for name, words in SORTS.items():
            begin = time.monotonic()
            with flood(s.port, words, n):
                for i in range(5):
                    check_health(s)
                    a = s.get(f"/{i}")
                    assert a.text == f"GET /{i} HTTP/1.1|", f"{name}: {a.status} {a.text}"
                    if "begins" not in name:  # who looks like the flood and comes from where it does has to wait
                        assert s.post("/p", "body").text == "POST /p HTTP/1.1|body"
            print(f"{name}: {time.monotonic() - begin:.1f} s, {rss_bytes(s.node) // MB} MB")
            if "not come" in name:
                assert not any(line.startswith("POST /x") for line in s.upstream.seen)
        assert rss_bytes(s.node) - before < 200 * MB
        assert re.search("proxy.addr: more connections than are served", s.node.log())


def test_an_application_that_does_not_answer():
    """All connections wait for it: the proxy still answers for itself and serves other nodes."""
    with Site(echo_or_hang) as s, flood(s.port, head("GET /hang"), max(N, 2500)):
        wait_until(lambda: "more connections than are served" in s.node.log(), "the flood to be in")
        for _ in range(5):
            check_health(s)
            assert s.get("/x", headers=HOP).text == "GET /x HTTP/1.1|"


if __name__ == "__main__":
    run(sys.modules[__name__])
