"""A data directory of LiteFS 0.5 is taken over: journal rolled back, WAL applied, position continued."""
import os
import shutil
import sqlite3
import struct
import subprocess
import sys

import litefs_fixture
from litefs_fixture import Node

FLAG = 1 << 63
TABLE = []
for i in range(256):
    c = i
    for _ in range(8):
        c = c >> 1 ^ (0xD800000000000000 if c & 1 else 0)
    TABLE.append(c)


def crc64(data, crc=0):
    crc ^= (1 << 64) - 1
    for b in data:
        crc = TABLE[(crc ^ b) & 0xff] ^ crc >> 8
    return crc ^ (1 << 64) - 1


def page_sum(pgno, page):
    return crc64(struct.pack(">I", pgno) + page)


def database_sum(image, page_size):
    s = 0
    for i in range(0, len(image), page_size):
        s ^= page_sum(i // page_size + 1, image[i:i + page_size])
    return FLAG | s


def lz4_frame(data):
    return subprocess.run(["lz4", "-c", "-"], input=data, capture_output=True, check=True).stdout


def ltx_v1(pages, page_size, commit, txid, pre, post, compress=False, wal=(0, 0, 0, 0)):
    flags = 1 if compress else 0
    header = struct.pack(">4sIIIQQqQqqIIQ20x", b"LTX1", flags, page_size, commit, txid, txid, 1700000000000, pre,
                         wal[0], wal[1], wal[2], wal[3], 0x1234)
    block = b"".join(struct.pack(">I", n) + p for n, p in pages) + b"\0\0\0\0"
    tail = struct.pack(">Q", post)
    crc = FLAG | crc64(header + block + tail)
    return header + (lz4_frame(block) if compress else block) + tail + struct.pack(">Q", crc)


def split(image, page_size):
    return [(i // page_size + 1, image[i:i + page_size]) for i in range(0, len(image), page_size)]


class Legacy:
    """dbs/t.db of a LiteFS 0.5 node, made by hand."""

    def __init__(self, n, page_size=1024):
        self.page_size = page_size
        self.dir = os.path.join(n.data, "dbs", "t.db")
        os.makedirs(os.path.join(self.dir, "ltx"))
        self.scratch = os.path.join(n.root, "scratch.db")

    def path(self, name):
        return os.path.join(self.dir, name)

    def make(self, rows, wal=False):
        c = sqlite3.connect(self.scratch, isolation_level=None)
        c.execute(f"pragma page_size={self.page_size}")
        c.execute("create table t(x)")
        if wal:
            c.execute("pragma journal_mode=wal")
        c.executemany("insert into t values(?)", [(bytes([i % 256]) * 300,) for i in range(rows)])
        return c

    def image(self):
        return open(self.scratch, "rb").read()

    def put(self, name, data):
        with open(self.path(name), "wb") as f:
            f.write(data)

    def put_ltx(self, txid, data):
        self.put(f"ltx/{txid:016x}-{txid:016x}.ltx", data)


def expect(n, txid, checksum, rows):
    assert n.pos() == f"{txid:016x}/{checksum:016x}", n.pos()
    c = n.connect()
    assert c.execute("pragma integrity_check").fetchone()[0] == "ok"
    assert c.execute("select count(*) from t").fetchone()[0] == rows
    c.execute("insert into t values('next')")
    c.close()
    assert int(n.pos().split("/")[0], 16) == txid + 1
    left = set(os.listdir(os.path.join(n.data, "dbs", "t.db")))
    assert not left & {"ltx", "journal"}, left
    n.restart()
    c = n.connect()
    assert c.execute("select count(*) from t").fetchone()[0] == rows + 1
    c.close()


def start_legacy(n):
    n.start()
    return n


def with_node(fn):
    n = Node()
    try:
        fn(n)
    finally:
        n.__exit__(*sys.exc_info())


def test_position_continues_from_the_last_ltx():
    for compress in ([False, True] if shutil.which("lz4") else [False]):
        def body(n):
            old = Legacy(n)
            old.make(50).close()
            image = old.image()
            post = database_sum(image, 1024)
            old.put("database", image)
            old.put("shm", b"\0" * 32768)
            old.put_ltx(0x41, b"an older file is not read")
            old.put_ltx(0x42, ltx_v1(split(image, 1024)[:2], 1024, len(image) // 1024, 0x42, FLAG | 7, post, compress))
            n.start()
            expect(n, 0x42, post, 50)
        with_node(body)


def test_last_ltx_is_applied_again():
    def body(n):
        old = Legacy(n)
        c = old.make(50)
        before = old.image()
        c.execute("update t set x='changed' where rowid<20")
        c.close()
        after = old.image()
        changed = [(i, p) for (i, p), (_, q) in zip(split(after, 1024), split(before, 1024)) if p != q]
        old.put("database", before)
        old.put_ltx(9, ltx_v1(changed, 1024, len(after) // 1024, 9, database_sum(before, 1024), database_sum(after, 1024)))
        n.start()
        c = n.connect()
        assert c.execute("select count(*) from t where x='changed'").fetchone()[0] == 19
        c.close()
        expect(n, 9, database_sum(after, 1024), 50)
    with_node(body)


def test_hot_journal_is_rolled_back():
    def body(n):
        old = Legacy(n)
        c = old.make(200)
        image = old.image()
        c.execute("pragma cache_size=2")
        c.execute("begin")
        c.execute("update t set x=randomblob(300)")
        torn, journal = old.image(), open(old.scratch + "-journal", "rb").read()
        assert torn != image
        c.execute("rollback")
        c.close()
        old.put("database", torn)
        old.put("journal", journal)
        old.put_ltx(5, ltx_v1([], 1024, len(image) // 1024, 5, FLAG | 3, database_sum(image, 1024)))
        n.start()
        expect(n, 5, database_sum(image, 1024), 200)
    with_node(body)


def test_wal_is_applied_up_to_the_last_ltx():
    def body(n):
        old = Legacy(n)
        c = old.make(20, wal=True)
        c.execute("pragma wal_checkpoint(truncate)")
        c.execute("insert into t values('logged')")
        logged = len(open(old.scratch + "-wal", "rb").read())
        image = bytes(litefs_fixture.lay_wal_over(bytearray(old.image()), open(old.scratch + "-wal", "rb").read()))
        c.execute("insert into t values('behind the log')")
        wal = open(old.scratch + "-wal", "rb").read()
        assert len(wal) > logged
        old.put("database", old.image())
        old.put("wal", wal)
        salts = struct.unpack(">II", wal[16:24])
        post = database_sum(image, 1024)
        old.put_ltx(7, ltx_v1([], 1024, len(image) // 1024, 7, FLAG | 3, post, wal=(32, logged - 32) + salts))
        c.close()
        n.start()
        expect(n, 7, post, 21)
    with_node(body)


def test_database_without_ltx_gets_a_position():
    def body(n):
        old = Legacy(n)
        old.make(10).close()
        old.put("database", old.image())
        n.start()
        expect(n, 1, database_sum(old.image(), 1024), 10)
    with_node(body)


def test_wrong_checksum_is_refused_and_nothing_removed():
    def body(n):
        old = Legacy(n)
        old.make(10).close()
        image = old.image()
        old.put("database", image[:2048] + b"\x55" + image[2049:])
        old.put_ltx(3, ltx_v1([], 1024, len(image) // 1024, 3, FLAG | 3, database_sum(image, 1024)))
        n.start()
        assert "does not match LTX post-apply checksum" in n.log()
        try:
            open(n.path("t.db"))
            raise AssertionError("a database that did not open can be read")
        except OSError:
            pass
        assert os.path.exists(old.path("database")) and os.listdir(old.path("ltx"))
    with_node(body)


if __name__ == "__main__":
    litefs_fixture.run(sys.modules[__name__])
