"""One node that speaks TLS, and a replica: what works, and who is turned away."""
import os
import socket
import ssl
import subprocess
import sys

from tls_fixture import Authority, ready, request, run, tls_node, tls_replica
from http_fixture import in_step, make_file
from litefs_fixture import LITEFS, wait_until


def fill(node, rows=50):
    c = node.connect()
    c.execute("create table t(a, b)")
    for i in range(rows):
        c.execute("insert into t values(?, ?)", (i, os.urandom(300)))
    return c


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


if __name__ == "__main__":
    run(sys.modules["__main__"])
