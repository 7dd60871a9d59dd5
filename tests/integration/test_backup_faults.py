"""A bucket that misbehaves: answers that say so, that come late or not at all, that are cut short, and that come after the work was
done. Whatever happens, what is there leads to a state that was committed, and the backup gets there in the end. The server
verifies no signature: test_backup_s3.py has a real one."""
import hashlib
import http.server
import os
import random
import re
import sys
import threading
import time
import urllib.parse

from litefs_fixture import run, wait_until
from test_backup import SEED, replay, work
from test_backup_s3 import Bucketed

FAULTS = ("500", "503", "429", "cut", "lost", "before", "slow")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", etag=None, cut=False):
        self.send_response(status)
        if etag:
            self.send_header("ETag", f'"{etag}"')
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True

    def error(self, status, code):
        self.answer(status, f"<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as it happens</Message></Error>".encode())

    def do(self):
        s = self.server.fake
        url = urllib.parse.urlsplit(self.path)
        key, query = urllib.parse.unquote(url.path)[len("/backups/"):], dict(urllib.parse.parse_qsl(url.query, True))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = s.next_fault()
        if fault == "before":
            self.close_connection = True
            return
        if fault in ("500", "503", "429"):
            self.error(int(fault), {"500": "InternalError", "503": "SlowDown", "429": "TooManyRequests"}[fault])
            return
        if fault == "slow":
            time.sleep(0.3)
        with s.lock:
            status, answer, etag = self.work(s, key, query, body)
        if fault == "lost":
            self.close_connection = True
            return
        self.answer(status, answer, etag, cut=fault == "cut" and len(answer) > 1)

    do_GET = do_PUT = do_POST = do_DELETE = do

    def work(self, s, key, query, body):
        if self.command == "GET" and key == "":
            return 200, s.page(query), None
        if self.command == "GET":
            if key not in s.objects:
                return 404, b"<Error><Code>NoSuchKey</Code></Error>", None
            data = s.objects[key][0]
            first, last = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups()
            if int(first) >= len(data):
                return 416, b"<Error><Code>InvalidRange</Code></Error>", None
            return 206, data[int(first):int(last) + 1], s.etag(key)
        if self.command == "DELETE":
            s.objects.pop(key, None)
            s.n_removed += 1
            return 204, b"", None
        if "delete" in query:
            s.n_batches += 1
            return (*s.batch, None)
        if self.headers.get("If-None-Match") == "*" and key in s.objects:
            return 412, b"<Error><Code>PreconditionFailed</Code></Error>", None
        match = self.headers.get("If-Match")
        if match is not None and (key not in s.objects or match.strip('"') != s.etag(key)):
            return 412, b"<Error><Code>PreconditionFailed</Code></Error>", None
        s.objects[key] = (body, time.time())
        return 200, b"", s.etag(key)


class Fake:
    access_key, secret_key, bucket = "a", "s", "backups"

    def __init__(self):
        self.objects, self.lock = {}, threading.Lock()
        self.batch, self.n_batches, self.n_removed = (501, b"<Error><Code>NotImplemented</Code></Error>"), 0, 0
        self.rng, self.chance, self.script, self.n_faults, self.n = random.Random(SEED), 0.0, [], 0, 0
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.fake = self
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def next_fault(self):
        with self.lock:
            self.n += 1
            fault = self.script.pop(0) if self.script else self.rng.choice(FAULTS) if self.rng.random() < self.chance else None
            self.n_faults += fault is not None
            return fault

    def etag(self, key):
        return hashlib.md5(self.objects[key][0]).hexdigest()

    def page(self, query):
        """Of at most 7 keys, so that lists have pages."""
        keys = sorted(k for k in self.objects if k.startswith(query.get("prefix", "")))
        keys = [k for k in keys if k > query.get("continuation-token", "")]
        rows = "".join(f"<Contents><Key>{k}</Key><LastModified>"
                       + time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(self.objects[k][1]))
                       + f"</LastModified><Size>{len(self.objects[k][0])}</Size></Contents>" for k in keys[:7])
        more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{keys[6]}</NextContinuationToken>" \
            if len(keys) > 7 else "<IsTruncated>false</IsTruncated>"
        return f"<?xml version=\"1.0\"?><ListBucketResult>{more}{rows}</ListBucketResult>".encode()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, tb):
        self.http.shutdown()
        self.http.server_close()


def check(n, server):
    """What is there, read while the server behaves."""
    chance, server.chance = server.chance, 0.0
    got = n.restore()
    server.chance = chance
    if got is not None:
        assert got == replay(n, got[0].split("/")[0]), got[0]


def test_any_request_may_fail():
    rng = random.Random(SEED)
    with Fake() as server, Bucketed(server, "p") as n:
        c = n.connect()
        c.execute("create table t(id integer primary key, x)")
        server.chance = 0.3
        i = -1
        while i < 24 or server.n_faults <= 10:
            i += 1
            work(c, rng, 4)
            if i % 3 == 0:
                check(n, server)
            if i % 8 == 7:
                n.kill()
                n.start()
                c = n.connect()
            time.sleep(0.05)
        c.close()
        server.chance = 0.0
        n.wait_for_backup()
        check(n, server)
        assert "no backup to" not in n.log(), "its own requests, of which no answer came, were taken for another node's"


def test_each_kind_of_fault_at_each_request():
    """Of those that begin a backup and bring the first transactions there."""
    for fault in ("503", "lost"):
        for nth in range(10):
            with Fake() as server, Bucketed(server, "p") as n:
                server.script = [None] * nth + [fault]
                c = n.connect()
                c.execute("create table t(id integer primary key, x)")
                c.execute("insert into t(x) values(1)")
                c.close()
                n.wait_for_backup()
                assert "no backup to" not in n.log(), (fault, nth)


def test_a_server_that_ignores_conditions_is_said():
    with Fake() as server, Bucketed(server, "p") as n:
        work_as_before = Handler.work
        try:
            def careless(self, s, key, query, body):
                for name in ("If-None-Match", "If-Match"):
                    del self.headers[name]
                return work_as_before(self, s, key, query, body)
            Handler.work = careless
            c = n.connect()
            c.execute("create table t(id integer primary key, x)")
            c.close()
            n.wait_for_backup()
            wait_until(lambda: "ignores If-None-Match" in n.log(), "a warning")
        finally:
            Handler.work = work_as_before


def test_a_server_that_removes_one_by_one_or_nothing():
    with Fake() as server, Bucketed(server, "p", "  snapshot:\n    interval: 1s\n    retention: 1s\n") as n:
        def fill():
            c = n.connect()
            c.execute("create table if not exists t(id integer primary key, x)")
            for _ in range(3):
                c.execute("insert into t(x) values(1)")
                n.wait_for_backup()
                time.sleep(1.1)
            c.close()
            n.restart()  # the next look at what may go is its first
            c = n.connect()
            c.execute("insert into t(x) values(1)")
            c.close()

        fill()
        wait_until(lambda: server.n_removed >= 2, "what is old to go, one by one")
        assert server.n_batches == 1
        server.batch = (200, b"<DeleteResult><Error><Key>p/x</Key><Code>AccessDenied</Code></Error></DeleteResult>")
        fill()
        wait_until(lambda: "objects cannot be removed there" in n.log(), "a warning")
        n.wait_for_backup()
        check(n, server)


def test_idle_node_asks_for_nothing():
    with Fake() as server, Bucketed(server, "p") as n:
        c = n.connect()
        c.execute("create table t(id integer primary key, x)")
        c.close()
        n.wait_for_backup()
        time.sleep(1)
        before = server.n
        time.sleep(3)
        assert server.n == before
        assert os.path.exists(n.mnt)


if __name__ == "__main__":
    print("SEED", SEED)
    run(sys.modules[__name__])
