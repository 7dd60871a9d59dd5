"""Import and export: whole databases through the API while applications go on."""
import http.client
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time

from http_fixture import (Node, count_fds, get, in_step, make_file, metrics, port_of, post, replica_of, request,
                          rss_bytes, run, wait_until)

SEED = int(os.environ.get("SEED", random.randrange(1 << 30)))
print("SEED=%d" % SEED, flush=True)

# Bytes of the header that an import sets: versions, change counter, size, schema cookie, the counter's twin.
MARKED = [18, 19, *range(24, 32), *range(40, 44), *range(92, 96)]


def without_marks(image):
    b = bytearray(image)
    for i in MARKED:
        b[i] = 0
    return bytes(b)


def export(node, name="t.db"):
    a = get(node, "/export", name=name)
    assert a.status == 200, (a.status, a.text)
    assert int(a.headers["content-length"]) == len(a.body)
    return a.body


def import_(node, body, name="t.db", status=200):
    a = post(node, "/import", body=body, name=name)
    assert a.status == status, (a.status, a.text)
    return a.text


def check_image(image, query, want):
    c = sqlite3.connect(":memory:", isolation_level=None)
    fixed = bytearray(image)
    fixed[18] = fixed[19] = 1  # an image in memory has no WAL
    c.deserialize(bytes(fixed))
    assert c.execute("pragma integrity_check").fetchone()[0] == "ok"
    got = c.execute(query).fetchall()
    assert got == want, (got, want)
    c.close()


def test_round_trips():
    with Node() as n:
        for page_size in (512, 4096, 65536):
            for wal in (False, True):
                name = f"p{page_size}-{wal}.db"
                path = os.path.join(n.root, name)
                body = make_file(path, "create table t(a, b); with recursive r(i) as (select 1 union all select i+1 "
                                       "from r where i<500) insert into t select i, randomblob(i) from r;", page_size, wal)
                assert import_(n, body, name) == ""
                n.check(name)
                out = export(n, name)
                assert without_marks(out) == without_marks(body), name
                c = n.connect(name)
                assert c.execute("pragma integrity_check").fetchone()[0] == "ok"
                assert c.execute("pragma journal_mode").fetchone()[0] == ("wal" if wal else "delete")
                assert c.execute("select count(*), sum(length(b)) from t").fetchone() == (500, 500 * 501 // 2)
                c.execute("insert into t values(0, 0)")
                c.close()
                n.check(name)
                assert metrics(n)[f'litefs_db_commit_count{{db="{name}"}}'] == 2


def test_replaces_under_open_connections():
    """Those who are connected see the new content with their next transaction, twice in a row."""
    for mode in ("wal", "delete"):
        with Node() as n, replica_of(n) as r:
            c = n.connect()
            c.execute(f"pragma journal_mode={mode}")
            c.execute("create table old(a)")
            c.executemany("insert into old values(?)", [(i,) for i in range(2000)])
            assert c.execute("select count(*) from old").fetchone()[0] == 2000
            in_step(n, r)
            rc = r.connect()
            assert rc.execute("select count(*) from old").fetchone()[0] == 2000
            for i in range(3):
                body = make_file(os.path.join(n.root, f"new{i}.db"),
                                 f"create table new{i}(a); insert into new{i} values({i})")
                import_(n, body)
                assert c.execute(f"select a from new{i}").fetchall() == [(i,)], mode
                assert c.execute("select name from sqlite_master").fetchall() == [(f"new{i}",)]
                in_step(n, r)
                assert rc.execute(f"select a from new{i}").fetchall() == [(i,)], mode
                n.check()
                r.check()
                c.execute(f"insert into new{i} values(99)")
            assert c.execute("pragma journal_mode").fetchone()[0] == mode
            assert c.execute("pragma integrity_check").fetchone()[0] == "ok"
            in_step(n, r)
            assert n.visible() == r.visible()
            c.close()
            rc.close()


def test_other_page_size():
    with Node() as n, replica_of(n) as r:
        c = n.connect()
        c.execute("create table t(a)")
        c.execute("insert into t values(1)")
        c.close()
        body = make_file(os.path.join(n.root, "n.db"), "create table u(a); insert into u values(2)", 8192)
        import_(n, body)
        n.check()
        in_step(n, r)
        r.check()
        for node in (n, r):
            c = node.connect()
            assert c.execute("select a from u").fetchall() == [(2,)]
            assert c.execute("pragma page_size").fetchone()[0] == 8192
            c.close()


def test_other_page_size_over_a_wal_database_that_nobody_has_open():
    with Node() as n:
        for name, is_left in (("closed.db", False), ("left.db", True)):
            c = n.connect(name)
            c.execute("pragma journal_mode=wal")
            c.execute("create table t(a)")
            c.execute("insert into t values(zeroblob(10000))")
            c.close()
            if is_left:  # with its WAL, by a process that was killed
                subprocess.run([sys.executable, "-c", "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
                                "c.execute('insert into t values(1)'); c.commit(); os.kill(os.getpid(), 9)", n.path(name)],
                               check=False)
            for page_size in (8192, 4096, 512):
                import_(n, make_file(os.path.join(n.root, f"{name}-{page_size}"), "create table u(b); insert into u values(2)", page_size), name)
                c = n.connect(name)
                assert c.execute("pragma page_size").fetchone() == (page_size,)
                assert c.execute("select b from u").fetchall() == [(2,)]
                c.close()
                n.check(name)


def test_reader_keeps_its_snapshot():
    with Node() as n:
        c = n.connect()
        c.execute("pragma journal_mode=wal")
        c.execute("create table t(a)")
        c.execute("insert into t values(1)")
        reader = n.connect()
        reader.execute("begin")
        assert reader.execute("select a from t").fetchall() == [(1,)]
        import_(n, make_file(os.path.join(n.root, "n.db"), "create table t(a); insert into t values(2)"))
        assert reader.execute("select a from t").fetchall() == [(1,)]
        assert c.execute("select a from t").fetchall() == [(2,)]
        reader.execute("commit")
        assert reader.execute("select a from t").fetchall() == [(2,)]
        n.check()
        c.close()
        reader.close()


def test_waits_for_a_writer():
    for mode in ("wal", "delete"):
        with Node() as n:
            c = n.connect(check_same_thread=False)
            c.execute(f"pragma journal_mode={mode}")
            c.execute("create table t(a)")
            c.execute("begin immediate")
            c.execute("insert into t values(1)")
            body = make_file(os.path.join(n.root, "n.db"), "create table t(a); insert into t values(2)")
            done = []
            t = threading.Thread(target=lambda: done.append(post(n, "/import", body=body, name="t.db")))
            t.start()
            t.join(0.3)
            assert t.is_alive(), "the import did not wait for the writer"
            c.execute("commit")
            t.join(60)
            assert done[0].status == 200, done[0].text
            assert c.execute("select a from t").fetchall() == [(2,)]
            n.check()
            # Two transactions: the writer's, then the import.
            assert metrics(n)['litefs_db_commit_count{db="t.db"}'] >= 2
            c.close()


def test_gives_up_on_a_writer_that_stays():
    with Node() as n:
        c = n.connect()
        c.execute("create table t(a)")
        c.execute("begin immediate")
        c.execute("insert into t values(1)")
        body = make_file(os.path.join(n.root, "n.db"), "create table u(a)")
        text = import_(n, body, status=503)
        assert "in use" in text, text
        c.execute("commit")
        assert c.execute("select a from t").fetchall() == [(1,)]
        n.check()
        c.close()


def test_bad_files():
    with Node() as n:
        good = make_file(os.path.join(n.root, "n.db"), "create table t(a); insert into t values(zeroblob(20000))")
        c = n.connect()
        c.execute("create table t(a)")
        c.close()
        pos = n.pos()
        fds = count_fds(n)
        bad_page_size = good[:16] + b"\x00\x03" + good[18:]
        for body in (b"", b"x", b"SQLite format 3\x00", os.urandom(5000), good[:99], good[:4096], good[:-1], good[:-4096],
                     bad_page_size, b"\x00" * 100000):
            for name in ("t.db", "fresh.db"):
                text = import_(n, body, name, status=400)
                assert text.strip(), (len(body), text)
        assert "read database header: EOF" in import_(n, b"", status=400)
        assert "cut off" in import_(n, good[:-4096], status=400)
        assert n.pos() == pos
        assert sorted(f for f in os.listdir(n.mnt) if f.endswith(".db")) == ["t.db"], os.listdir(n.mnt)
        import_(n, good, "fresh.db")
        wait_until(lambda: count_fds(n) <= fds + 4, "temporary files to be closed")
        assert os.listdir(os.path.join(n.data, "tmp")) == []


def test_refused_on_a_replica():
    with Node() as n, replica_of(n) as r:
        body = make_file(os.path.join(n.root, "n.db"), "create table t(a)")
        assert "this node is a replica: import on the primary, localhost at http" in import_(r, body, status=503)
        import_(n, body)
        in_step(n, r)
        assert without_marks(export(r)) == without_marks(body)


def test_survives_kill():
    with Node() as n:
        body = make_file(os.path.join(n.root, "n.db"), "create table t(a); insert into t values(randomblob(300000))")
        import_(n, body)
        pos = n.pos()
        n.kill()
        n.start()
        assert n.pos() == pos
        n.check()
        assert without_marks(export(n)) == without_marks(body)


def test_deleted_and_imported_again():
    with Node() as n:
        body = make_file(os.path.join(n.root, "n.db"), "create table t(a); insert into t values(7)")
        import_(n, body)
        first = int(n.pos()[:16], 16)
        os.unlink(n.path("t.db"))
        assert get(n, "/export", name="t.db").status == 404
        import_(n, body)
        assert int(n.pos()[:16], 16) == first + 2
        n.check()
        c = n.connect()
        assert c.execute("select a from t").fetchall() == [(7,)]
        c.close()


def test_export_is_one_position():
    """Each transaction moves an amount from one row to another: in every export the sum is the same."""
    for mode in ("wal", "delete"):
        with Node() as n:
            c = n.connect()
            c.execute(f"pragma journal_mode={mode}")
            c.execute("create table t(id integer primary key, v, pad)")
            c.executemany("insert into t values(?, 100, randomblob(900))", [(i,) for i in range(2000)])
            c.close()
            stop = threading.Event()
            waits = []

            def write():
                w = n.connect()
                rnd = random.Random(SEED)
                while not stop.is_set():
                    a, b = rnd.sample(range(2000), 2)
                    begin = time.monotonic()
                    w.execute("begin immediate")
                    w.execute("update t set v = v - 1, pad = randomblob(900) where id = ?", (a,))
                    w.execute("update t set v = v + 1 where id = ?", (b,))
                    w.execute("commit")
                    waits.append(time.monotonic() - begin)
                w.close()

            t = threading.Thread(target=write)
            t.start()
            try:
                positions = set()
                while len(positions) < 12 or len(waits) < 200:
                    image = export(n)
                    check_image(image, "select count(*), sum(v) from t", [(2000, 200000)])
                    positions.add(hash(image))
            finally:
                stop.set()
                t.join()
            n.check()
            print(f"     {mode}: {len(positions)} exports, {len(waits)} commits, the longest took {max(waits) * 1000:.0f} ms")
            assert max(waits) < 10, "an export held up writers"


def test_export_while_the_wal_is_copied_back():
    """Pages that were in the WAL only when the export began: some are rewritten before the checkpoint, some after it, and
    the WAL begins anew, while the export is not read."""
    with Node() as n:
        c = n.connect()
        c.execute("pragma journal_mode=wal")
        c.execute("pragma synchronous=normal")
        c.execute("pragma wal_autocheckpoint=0")
        c.execute("create table t(id integer primary key, v, pad)")
        fill = ("insert into t with recursive n(i) as (values(?) union all select i + 1 from n where i < ?) "
                "select i, 1, randomblob(3000) from n")
        c.execute(fill, (0, 1999))
        c.execute("pragma wal_checkpoint(restart)")
        c.execute("update t set v = 2, pad = randomblob(3000) where id % 3 > 0")
        c.execute(fill, (2000, 5999))
        want = c.execute("select count(*), sum(v) from t").fetchall()
        with socket.create_connection(("127.0.0.1", port_of(n)), 30) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            s.sendall(b"GET /export?name=t.db HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            got = s.recv(1000)
            c.execute("update t set v = 100 where id % 5 = 0")
            assert c.execute("pragma wal_checkpoint(restart)").fetchone()[0] == 0
            c.execute("update t set v = 1000 where id % 7 = 0")
            assert c.execute("pragma wal_checkpoint(restart)").fetchone()[0] == 0
            c.execute("update t set v = 10000")
            while part := s.recv(1 << 20):
                got += part
        c.close()
        head, body = got.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 200"), head
        check_image(body, "select count(*), sum(v) from t", want)
        n.check()


def test_export_waits_for_another():
    """One database is read for one at a time; the others get their turn, and nobody an error."""
    with Node() as n:
        import_(n, make_file(os.path.join(n.root, "n.db"),
                             "create table t(a); with recursive r(i) as (select 1 union all select i+1 from r where "
                             "i<3000) insert into t select randomblob(3000) from r"))
        answers = []

        def one():
            a = get(n, "/export", name="t.db")
            answers.append((a.status, len(a.body)))

        threads = [threading.Thread(target=one) for _ in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(60)
        assert len(answers) == 6 and len(set(answers)) == 1 and answers[0][0] == 200, answers


def test_memory_stays_bounded():
    """300 MB in and out; a reader that stops in the middle costs as little."""
    with Node() as n:
        path = os.path.join(n.root, "big.db")
        c = sqlite3.connect(path, isolation_level=None)
        c.execute("create table t(a)")
        c.execute("with recursive r(i) as (select 1 union all select i+1 from r where i<300) "
                  "insert into t select randomblob(1000000) from r")
        c.close()
        size = os.path.getsize(path)
        worst = [0]
        stop = threading.Event()

        def watch():
            while not stop.is_set():
                worst[0] = max(worst[0], rss_bytes(n))
                stop.wait(0.02)

        before = rss_bytes(n)
        w = threading.Thread(target=watch)
        w.start()
        try:
            with open(path, "rb") as f:
                a = post(n, "/import", body=f, name="big.db", headers={"Content-Length": str(size)}, timeout=120)
            assert a.status == 200, a.text
            conn = http.client.HTTPConnection("127.0.0.1", n.port(), timeout=60)
            conn.request("GET", "/export?name=big.db")
            r = conn.getresponse()
            got = bytearray(r.read(1 << 20))
            c = n.connect("big.db")  # it is in nobody's way
            c.execute("create table u(a)")
            while True:
                part = r.read(1 << 20)
                if not part:
                    break
                got += part
            conn.close()
        finally:
            stop.set()
            w.join()
        assert len(got) == size
        check_image(got, "select count(*), sum(length(a)) from t", [(300, 300000000)])
        c.close()
        assert worst[0] - before < 96 << 20, f"{(worst[0] - before) >> 20} MiB more than before"


def test_cut_off_transfers_leave_nothing():
    with Node() as n:
        body = make_file(os.path.join(n.root, "n.db"),
                         "create table t(a); with recursive r(i) as (select 1 union all select i+1 from r where i<2000) "
                         "insert into t select randomblob(3000) from r")
        import_(n, body)
        pos, fds = n.pos(), count_fds(n)
        for _ in range(10):
            c = http.client.HTTPConnection("127.0.0.1", n.port(), timeout=60)
            c.putrequest("POST", "/import?name=t.db")
            c.putheader("Content-Length", str(len(body)))
            c.endheaders()
            c.send(body[:len(body) // 2])
            c.close()
            c = http.client.HTTPConnection("127.0.0.1", n.port(), timeout=60)
            c.request("GET", "/export?name=t.db")
            c.getresponse().read(10000)
            c.close()
        wait_until(lambda: count_fds(n) <= fds, "files of requests that were cut off to be closed")
        assert n.pos() == pos
        assert len(export(n)) == len(body)
        n.check()


if __name__ == "__main__":
    run(sys.modules[__name__])
