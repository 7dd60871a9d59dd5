"""Thousands of connections by whoever likes: a node's health, its streams, its applications, and who shows the token are
served all the same.

All of it comes from one address, that of who is to be served, too: nothing but what they do tells them apart. The flood
opens again what it loses, as fast as one process can. FLOOD_CONNECTIONS is how many there are at a time."""
import os
import re
import socket
import sys
import time

import http_fixture
from flood import flood, head
from http_fixture import get, in_step, make_file, metrics, post, replica_of, request, rss_bytes, run, wait_until

TOKEN = "s3cret"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PATIENCE = 20  # seconds that an answer may take on a loaded machine
MB = 1 << 20

def with_token(node):
    with open(node.config, encoding="utf-8") as f:
        text = f.read()
    with open(node.config, "w", encoding="utf-8") as f:
        f.write(text.replace("http:\n", f"http:\n  token: {TOKEN}\n", 1))
    return node


SORTS = {
    "silent": b"",
    "half a head": b"GET /healthz HTTP/1.1\r\nHost: 127.0",
    "idle after a request": head("GET /healthz"),
    "events": head("GET /events"),
    "a body that does not come": head("GET /healthz", "Content-Length: 60000"),
    "an import that does not come": head("POST /import?name=x.db", "Content-Length: 60000", "Authorization: Bearer wrong"),
    "work": head("GET /metrics") * 10,
    "streams": head("GET /stream", "Connection: Upgrade", "Upgrade: litefs-stream/1"),
    "hops": head("GET /proxy", "Connection: Upgrade", "Upgrade: litefs-proxy/1"),
}


def check_service(p, r, c, i, small):
    """What must go on at the primary, by new connections and by those there are."""
    assert get(p, "/healthz", timeout=PATIENCE).status == 200
    assert get(p, "/readyz", timeout=PATIENCE).status == 200
    c.execute("insert into t values(?)", (i,))
    in_step(p, r)
    a = post(p, "/import", name="i.db", body=small, headers=BEARER, timeout=PATIENCE)
    assert a.status == 200, a.text
    assert request(p, "GET", "/export", name="t.db", headers=BEARER, timeout=PATIENCE).status == 200


def test_the_api():
    """Each sort in turn, at a primary with a replica."""
    with with_token(http_fixture.Node()) as p, with_token(replica_of(p)) as r:
        c = p.connect()
        c.execute("create table t(a)")
        in_step(p, r)
        small = make_file(os.path.join(p.root, "small"), "create table s(a)")
        before = rss_bytes(p)
        for name, words in SORTS.items():
            begin = time.monotonic()
            print(name, end=": ", flush=True)
            with flood(p.port(), words):
                for i in range(5):
                    check_service(p, r, c, i, small)
                with socket.create_connection(("127.0.0.1", p.port()), PATIENCE) as s:  # who shows the token hears events
                    s.sendall(head("GET /events", f"Authorization: Bearer {TOKEN}"))
                    f = s.makefile("rb")
                    assert b" 200 " in f.readline()
                    wait_until(lambda: b'"init"' in f.readline(), "the first event")
            print(f"{time.monotonic() - begin:.1f} s, {rss_bytes(p) // MB} MB")
        assert rss_bytes(p) - before < 200 * MB, f"{before // MB} MB, then {rss_bytes(p) // MB} MB"
        c.close()
        log = p.log()
        assert len(log.split("stream disconnected")) == 1, log
        lines = re.findall("http.addr: more connections than are served", log)
        assert 1 <= len(lines) <= 3 * len(SORTS), len(lines)
        wait_until(lambda: metrics(p)["litefs_http_connections"] < 50, "the connections to go")


def test_a_new_replica():
    """It gets its stream while others ask for theirs, without the token and with silence."""
    with with_token(http_fixture.Node()) as p:
        c = p.connect()
        c.execute("create table t(a)")
        with flood(p.port(), SORTS["streams"]), with_token(replica_of(p)) as r:
            in_step(p, r)
        c.close()


if __name__ == "__main__":
    run(sys.modules[__name__])
