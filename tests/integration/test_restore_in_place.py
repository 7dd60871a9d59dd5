"""litefs restore -name: a database of a running cluster becomes what it was, by a transaction like any other."""
import json
import os
import random
import re
import sqlite3
import subprocess
import sys

from litefs_fixture import LITEFS, Node, in_step, replica_of, run, wait_until
from test_moments import replay_at, txid_of


def restore(n, *args):
    return subprocess.run([LITEFS, "restore", "-url", f"http://127.0.0.1:{n.port()}", "-config", n.config, "-name", "t.db", *args],
                          capture_output=True, text=True, timeout=120, check=False)


def done(n, *args):
    p = restore(n, "-json", *args)
    assert p.returncode == 0, (p.stdout, p.stderr)
    return json.loads(p.stdout)


def rows(n, name="t.db"):
    c = n.connect(name)
    found = c.execute("select a, b from t order by a").fetchall()
    assert c.execute("pragma integrity_check").fetchone() == ("ok",)
    c.close()
    return found


def fill(c, rng, n=200):
    c.execute("begin")
    for _ in range(n):
        c.execute("insert or replace into t values (?, ?)", (rng.randrange(2000), rng.randbytes(400)))
    c.execute("commit")


def test_back_and_forth_in_each_mode_with_connections_open():
    for mode in ("delete", "truncate", "persist", "wal"):
        rng = random.Random(3)
        with Node() as n:
            c = n.connect()
            c.execute(f"pragma journal_mode={mode}")
            c.execute("create table t(a integer primary key, b)")
            fill(c, rng)
            then, was = txid_of(n), rows(n)
            fill(c, rng)
            c.execute("create table u(x)")
            c.execute("delete from t where a < 900")
            before, is_now = n.pos(), rows(n)
            reader = n.connect()
            assert reader.execute("select count(*) from t").fetchone() == (len(is_now),)
            size = os.path.getsize(n.path("t.db"))

            answer = done(n, "-txid", then)
            assert answer["restored"]["txid"] == then
            assert f'{answer["before"]["txid"]}/{answer["before"]["postApplyChecksum"]}' == before
            assert int(answer["after"]["txid"], 16) == int(before[:16], 16) + 1
            assert n.pos() == f'{answer["after"]["txid"]}/{answer["after"]["postApplyChecksum"]}'
            # Whoever had it open reads the old state anew, and its schema, and can write.
            assert reader.execute("select a, b from t order by a").fetchall() == was, mode
            assert reader.execute("select count(*) from sqlite_master").fetchone() == (1,)
            reader.execute("insert into t values (-1, 'x')")
            reader.execute("delete from t where a = -1")
            n.check()

            text = restore(n, "-txid", before[:16])  # undone
            undo = re.search(r"`(litefs restore .*)` brings that back$", text.stdout, re.M)
            assert text.returncode == 0 and undo, text
            assert rows(n) == is_now and c.execute("select count(*) from t").fetchone() == (len(is_now),)
            assert c.execute("select count(*) from u").fetchone() == (0,)
            c.execute("insert into u values (1)")
            n.check()
            assert size > 0
            # The command that takes it back, as it is printed.
            subprocess.run(["sh", "-ec", undo[1].replace("litefs", LITEFS, 1)], check=True, timeout=120, cwd="/", stdout=subprocess.DEVNULL)
            assert rows(n) == was, mode
            n.check()
            c.close()
            reader.close()
            n.restart()
            n.check()


def log_bytes(n):
    p = subprocess.run([LITEFS, "ltx", "list", "-data-dir", n.data, "t.db"], capture_output=True, text=True, check=True)
    return [int(line.split()[2]) for line in p.stdout.splitlines() if line[:1] == "0"]


def test_only_what_differs_is_written():
    with Node() as n:
        c = n.connect()
        c.execute("create table t(a integer primary key, b)")
        fill(c, random.Random(1), 5000)
        then, whole = txid_of(n), log_bytes(n)[-1]
        c.execute("update t set b = 'x' where a = (select min(a) from t)")
        done(n, "-txid", then)
        assert log_bytes(n)[-1] < whole / 20, log_bytes(n)
        c.close()


def test_another_page_size_and_a_database_that_is_gone():
    with Node() as n:
        c = n.connect()
        c.execute("create table t(a integer primary key, b)")
        fill(c, random.Random(2))
        then, was = txid_of(n), rows(n)
        c.execute("pragma page_size=1024")
        c.execute("vacuum")
        done(n, "-txid", then)
        c.close()
        assert rows(n) == was and n.connect().execute("pragma page_size").fetchone() == (4096,)
        os.unlink(n.path("t.db"))
        done(n, "-txid", then)
        assert rows(n) == was
        n.check()


def test_replicas_follow_and_refuse():
    with Node() as p, replica_of(p) as r:
        c = p.connect()
        c.execute("pragma journal_mode=wal")
        c.execute("create table t(a integer primary key, b)")
        fill(c, random.Random(4))
        then, was = txid_of(p), rows(p)
        fill(c, random.Random(5))
        in_step(p, r)
        reader = r.connect()
        reader.execute("select count(*) from t").fetchone()
        refused = restore(r, "-txid", then)
        assert refused.returncode == 1 and "this node is a replica: restore on the primary" in refused.stderr, refused
        done(p, "-txid", then)
        in_step(p, r)
        assert rows(r) == was and reader.execute("select a, b from t order by a").fetchall() == was
        c.close()
        reader.close()


def test_what_cannot_be_had_changes_nothing():
    with Node() as n:
        c = n.connect()
        c.execute("create table t(a integer primary key, b)")
        pos = n.pos()
        for args, code, text in ((("-txid", "000000000000002a"), 1, "there is no transaction 000000000000002a yet"),
                                 (("-timestamp", "2000-01-02T03:04:05Z"), 1, "the log begins with transaction"),
                                 (("-txid", "2a"), 2, "16 hex digits"), ((), 2, "-name wants"),
                                 (("-o", "x", "-txid", "000000000000002a"), 2, "-name goes with")):
            p = restore(n, *args)
            assert p.returncode == code and text in p.stderr, (args, p)
        c.execute("begin immediate")
        c.execute("insert into t values (1, 2)")
        c.execute("rollback")
        assert n.pos() == pos
        c.close()


def test_out_of_a_backup_what_the_log_does_not_have():
    with Node() as old:
        place = os.path.join(old.root, "backup")
        os.mkdir(place)
        backup = f"backup:\n  - url: file://{place}\n    sync-interval: 100ms\n"
        c = old.connect()
        c.execute("create table t(a integer primary key, b)")
        fill(c, random.Random(6))
        was = rows(old)
        c.close()
        old.stop()
        with open(old.config, "a", encoding="utf-8") as f:
            f.write(backup)
        old.start()
        then = txid_of(old)

        def is_backed_up():
            p = subprocess.run([LITEFS, "backup", "list", f"{place}/t.db"], capture_output=True, text=True, check=False)
            return then in p.stdout
        wait_until(is_backed_up, "the backup")
        with Node(extra=backup) as new:
            answer = done(new, "-txid", then)
            assert answer["restored"] is None
            assert rows(new) == was
            missing = restore(new, "-txid", "000000000000ffff")
            assert missing.returncode == 1 and "from a backup" in missing.stderr, missing
            new.check()


if __name__ == "__main__":
    run(sys.modules[__name__])
