"""Damaged files in the data directory: the error names the file and the place and says what to do, nothing more is
destroyed, and the other databases go on."""
import glob
import json
import os
import sqlite3
import struct
import subprocess
import sys

import litefs_fixture
from litefs_fixture import LITEFS, Node, wait_until

ROWS = 30


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 0x10]))


def records(segment):
    """Offsets of its records and of their end (layout: lib/txlog/segment.c)."""
    with open(segment, "rb") as f:
        data = f.read()
    at, out = 4096, []
    while data[at:at + 4] == b"LREC":
        out.append(at)
        at = at + 80 + struct.unpack_from(">Q", data, at + 8)[0] + 7 & ~7
    return [*out, at]


class Damaged:
    """A stopped node with good.db and bad.db, of ROWS durable transactions each."""

    def __init__(self, is_killed=False):
        self.node = n = Node()
        n.start()
        for name in ("good.db", "bad.db"):
            c = n.connect(name)
            c.execute("create table t(a integer primary key, b)")
            for k in range(ROWS):
                c.execute("insert into t values(?, randomblob(3000))", (k,))
            c.close()
        if is_killed:
            n.kill()
        else:
            assert n.stop() == 0, n.log()
        self.dir = os.path.join(n.data, "dbs", "bad.db")
        [self.segment] = glob.glob(self.dir + "/log/*.seg")
        self.records = records(self.segment)
        assert len(self.records) > ROWS, self.records

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.node.__exit__(*exc)

    def verify(self):
        r = subprocess.run([LITEFS, "ltx", "verify", "-data-dir", self.node.data, "bad.db"],
                           capture_output=True, text=True)
        return r.returncode, r.stdout + r.stderr

    def content(self):
        out = {}
        for path in glob.glob(self.dir + "/**", recursive=True):
            if os.path.isfile(path):
                with open(path, "rb") as f:
                    out[path] = f.read()
        return out

    def start(self):
        """What the start logged. good.db works in any case."""
        n = self.node
        before = len(n.log())
        n.start()
        c = n.connect("good.db")
        assert c.execute("select count(*) from t").fetchone()[0] >= ROWS
        c.execute("insert into t(b) values('more')")
        c.close()
        n.check("good.db")
        return n.log()[before:]

    def is_refused(self, *words):
        """bad.db is not opened, the log says all of the words, and its files are as they were."""
        before = self.content()
        log = self.start()
        errors = [line for line in log.splitlines() if "level=ERROR" in line and "bad.db" in line]
        assert errors, log
        for word in words:
            assert word in errors[0], f"{word!r} is not in: {errors[0]}"
        try:
            self.node.connect("bad.db").execute("select count(*) from t")
            raise AssertionError("a damaged database was opened")
        except sqlite3.OperationalError:
            pass
        assert self.content() == before, "what is left of the database was changed"
        [finding] = json.loads(self.node.get("/findings"))["findings"]
        assert finding["level"] == "error" and finding["about"] == "bad.db" and "not opened" in finding["text"], finding
        assert 'litefs_db_failed{db="bad.db"} 1' in self.node.get("/metrics")


def test_flipped_byte_in_the_log():
    with Damaged() as d:
        at = d.records[10] + 200
        flip(d.segment, at)
        code, text = d.verify()
        assert code == 1 and d.segment in text and f"offset {d.records[10]}" in text, text
        d.is_refused(d.segment, f"offset {d.records[10]}", "restore", "backup")


def test_flipped_byte_in_the_log_of_a_killed_node():
    """No base tells how far the log went, but whole records behind the damaged one do, and each was synced before the
    next was begun. This is no torn tail: thirty acknowledged commits must not shrink to a dozen in silence."""
    with Damaged(is_killed=True) as d:
        flip(d.segment, d.records[10] + 200)
        d.is_refused(d.segment, f"offset {d.records[10]}", "restore", "backup")


def test_flipped_byte_in_a_segment_header():
    with Damaged() as d:
        flip(d.segment, 10)
        code, text = d.verify()
        assert code == 1 and d.segment in text and "offset 0" in text, text
        d.is_refused(d.segment, "offset 0", "restore")


def test_torn_tail_of_a_killed_node():
    """A record that was not finished is cut, and said to be; all before it stands."""
    with Damaged(is_killed=True) as d:
        os.truncate(d.segment, d.records[-2] + 500)
        code, text = d.verify()
        assert code == 1 and d.segment in text and f"offset {d.records[-2]}" in text, text
        log = d.start()
        assert "cut" in log and d.segment in log and f"offset {d.records[-2]}" in log, log
        c = d.node.connect("bad.db")
        assert c.execute("select count(*) from t").fetchone() == (ROWS - 1,)
        assert c.execute("pragma integrity_check").fetchone() == ("ok",)
        c.execute("insert into t(b) values('more')")
        c.close()
        d.node.check("bad.db")


def test_log_that_lost_its_end():
    """After an orderly stop the base is the last transaction: no crash explains that the log ends before it."""
    with Damaged() as d:
        os.truncate(d.segment, d.records[-2] + 500)
        d.is_refused(d.segment, f"offset {d.records[-2]}", "restore")


def test_damaged_base():
    for damage in (lambda path: flip(path, 20), lambda path: flip(path, os.path.getsize(path) - 20),
                   lambda path: os.truncate(path, os.path.getsize(path) // 2)):
        with Damaged() as d:
            base = os.path.join(d.dir, "base")
            damage(base)
            d.is_refused(base, "offset", "move it out")
            # The advice works.
            assert d.node.stop() == 0
            os.unlink(base)
            d.start()
            c = d.node.connect("bad.db")
            assert c.execute("select count(*) from t").fetchone() == (ROWS,)
            c.close()
            d.node.check("bad.db")


def test_flipped_byte_in_the_database_file():
    """Opening trusts the base; reading all of it in the background finds what has changed. The database then accepts
    nothing more, for a commit would spread the damage."""
    with Damaged() as d:
        path = os.path.join(d.dir, "database")
        flip(path, 5 * 4096 + 700)
        before = len(d.node.log())
        d.start()
        wait_until(lambda: "verified: 2 databases, 1 damaged" in d.node.log()[before:], "the databases to be read")
        errors = [line for line in d.node.log()[before:].splitlines() if "level=ERROR" in line]
        assert any("page 6 in" in line and path in line and "litefs import" in line for line in errors), errors
        c = d.node.connect("bad.db")
        try:
            c.execute("insert into t(b) values('more')")
            raise AssertionError("a commit on top of a damaged page")
        except sqlite3.OperationalError as e:
            assert "disk I/O" in str(e) or "unable to open" in str(e), e
        assert c.execute("select count(*) from t").fetchone() == (ROWS,)
        c.close()


def test_sound_databases_are_read_and_let_be():
    with Damaged() as d:
        before = len(d.node.log())
        d.start()
        wait_until(lambda: "verified: 2 databases, 0 damaged" in d.node.log()[before:], "the databases to be read")
        d.node.check("bad.db")


def test_whole_log_verifies():
    with Damaged() as d:
        code, text = d.verify()
        assert code == 0 and text.count(" ok, ") == len(d.records) - 1, text


def test_adopted_file_without_a_database_header():
    """LiteFS 0.5 left a database file that is none."""
    with Node() as n:
        n.stop()
        dbs = os.path.join(n.data, "dbs")
        os.makedirs(os.path.join(dbs, "broken.db", "ltx"))
        path = os.path.join(dbs, "broken.db", "database")
        image = b"SQLite format 3\0" + b"\xff" * 5000
        with open(path, "wb") as f:
            f.write(image)
        before = len(n.log())
        n.start()
        log = n.log()[before:]
        errors = [line for line in log.splitlines() if "level=ERROR" in line]
        assert errors and path in errors[0] and "offset" in errors[0], log
        assert "restore" in errors[0] or "move" in errors[0], errors[0]
        c = n.connect("good.db")
        c.execute("create table t(a)")
        c.close()
        n.check("good.db")
        with open(path, "rb") as f:
            assert f.read() == image


if __name__ == "__main__":
    litefs_fixture.run(sys.modules[__name__])
