"""GET /events: what commits and who leads, line by line."""
import json
import os
import re
import socket
import sys
import time

from http_fixture import Node, get, in_step, make_file, metrics, post, replica_of, run, wait_until


class Listener:
    def __init__(self, node, timeout=60):
        wait_until(lambda: get(node, "/readyz").status == 200, "the node to know its role")
        self.s = socket.create_connection(("127.0.0.1", node.port()), timeout=timeout)
        self.s.sendall(b"GET /events HTTP/1.0\r\n\r\n")  # 1.0: a body without chunks
        self.f = self.s.makefile("rb")
        self.head = []
        while True:
            line = self.f.readline()
            if line in (b"\r\n", b""):
                break
            self.head.append(line.decode().strip())

    def line(self):
        return self.f.readline().decode()

    def next(self):
        line = self.line()
        assert line.endswith("\n"), f"cut off: {line!r}"
        return json.loads(line)

    def close(self):
        self.f.close()
        self.s.close()

    def __enter__(self):
        return self

    def __exit__(self, *a):
        self.close()


TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,2}[1-9])?Z")


def test_lines():
    with Node() as n, Listener(n) as l:
        assert l.head[0] == "HTTP/1.1 200 OK" or l.head[0] == "HTTP/1.0 200 OK", l.head
        assert "Content-Type: application/json" in l.head
        assert l.line() == '{"type":"init","data":{"isPrimary":true}}\n'
        c = n.connect()
        c.execute("create table t(a)")
        line = l.line()
        e = json.loads(line)
        assert list(e) == ["type", "db", "data"] and " " not in line
        assert list(e["data"]) == ["txID", "postApplyChecksum", "pageSize", "commit", "timestamp"]
        assert TIME.fullmatch(e["data"]["timestamp"]), e
        assert f"{e['data']['txID']}/{e['data']['postApplyChecksum']}" == n.pos()
        assert e["db"] == "t.db" and e["data"]["pageSize"] == 4096 and e["data"]["commit"] == 2
        c.close()
        os.unlink(n.path("t.db"))
        e = l.next()
        assert e["data"]["commit"] == 0 and e["data"]["txID"] == "0000000000000002"
        assert post(n, "/import", name="i.db", body=make_file(os.path.join(n.root, "i"), "create table t(a)")).status == 200
        e = l.next()
        assert e["db"] == "i.db" and f"{e['data']['txID']}/{e['data']['postApplyChecksum']}" == n.pos("i.db")


def expect_run(l, db, first, last):
    for txid in range(first, last + 1):
        e = l.next()
        assert (e["type"], e["db"], int(e["data"]["txID"], 16)) == ("tx", db, txid), (e, txid)


def test_every_transaction_once():
    """In order and without a gap, on the primary and on a replica, and for those who come later."""
    with Node() as n, replica_of(n) as r:
        c = n.connect()
        c.execute("pragma journal_mode=wal")
        c.execute("pragma synchronous=off")
        c.execute("create table t(a)")
        in_step(n, r)
        begin = int(n.pos()[:16], 16)
        with Listener(n) as a, Listener(r) as b:
            assert a.next()["type"] == "init"
            e = b.next()
            assert e["type"] == "init" and e["data"]["isPrimary"] is False and e["data"]["hostname"] == "localhost"
            for i in range(1000):
                c.execute("insert into t values(?)", (i,))
            expect_run(a, "t.db", begin + 1, begin + 1000)
            expect_run(b, "t.db", begin + 1, begin + 1000)
            with Listener(n) as late:
                assert late.next()["type"] == "init"
                c.execute("insert into t values(-1)")
                for l in (a, b, late):
                    expect_run(l, "t.db", begin + 1001, begin + 1001)
        c.execute("insert into t values(-2)")
        with Listener(n) as again:  # nobody listened meanwhile
            assert again.next()["type"] == "init"
            c.execute("insert into t values(-3)")
            expect_run(again, "t.db", begin + 1003, begin + 1003)
        c.close()


def test_several_databases():
    with Node() as n, Listener(n) as l:
        assert l.next()["type"] == "init"
        for i in range(30):
            c = n.connect(f"d{i}.db")
            c.execute("create table t(a)")
            c.close()
        assert sorted(l.next()["db"] for _ in range(30)) == sorted(f"d{i}.db" for i in range(30))


def test_listeners_that_leave_are_forgotten():
    with Node() as n:
        held = [Listener(n) for _ in range(50)]
        for l in held:
            assert l.next()["type"] == "init"
        assert metrics(n)["litefs_http_event_subscribers"] == 50
        for l in held:
            l.close()
        wait_until(lambda: metrics(n)["litefs_http_event_subscribers"] == 0, "listeners that left to be forgotten")


def test_listener_that_does_not_read():
    """It is cut off, and holds up nobody."""
    with Node() as n:
        c = n.connect()
        c.execute("pragma journal_mode=wal")
        c.execute("pragma synchronous=off")
        c.execute("create table t(a)")
        with Listener(n) as deaf, Listener(n) as good:
            deaf.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            assert good.next()["type"] == "init"
            begin = int(n.pos()[:16], 16)
            done = 0
            for _ in range(200):
                for i in range(300):
                    c.execute("insert into t values(?)", (i,))
                expect_run(good, "t.db", begin + done + 1, begin + done + 300)
                done += 300
                if metrics(n)["litefs_http_event_subscribers"] == 1:
                    break
            assert metrics(n)["litefs_http_event_subscribers"] == 1, f"it was still kept after {done} transactions"
        c.close()


def test_init_on_a_replica():
    with Node() as n, replica_of(n) as r:
        wait_until(lambda: get(r, "/readyz").status == 200, "readiness")
        with Listener(r) as l:
            assert l.next() == {"type": "init", "data": {"isPrimary": False, "hostname": "localhost"}}


if __name__ == "__main__":
    run(sys.modules[__name__])
