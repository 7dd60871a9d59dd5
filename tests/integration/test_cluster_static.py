"""A primary and replicas under a static lease: what the primary commits is on the replicas, byte for byte."""
import os
import random
import sqlite3
import subprocess
import sys
import time

import litefs_fixture
from litefs_fixture import Node, in_step, replica_of, wait_until

SEED = int(os.environ.get("SEED", random.randrange(1 << 30)))
print("SEED=%d" % SEED, flush=True)


def primary():
    return Node()


def check_equal(p, r, name="t.db", is_log_whole=True):
    in_step(p, r, name)
    p.check(name)
    if is_log_whole:
        r.check(name)
    a, b = p.visible(name), r.visible(name)
    assert a == b, f"{name}: {len(a)} bytes on the primary, {len(b)} on the replica"
    c = r.connect(name)
    assert c.execute("pragma integrity_check").fetchone()[0] == "ok"
    c.close()


def test_each_journal_mode():
    for mode in ("delete", "truncate", "persist", "wal", "memory"):
        with primary() as p, replica_of(p) as r:
            c = p.connect()
            c.execute(f"pragma journal_mode={mode}")
            c.execute("create table t(a integer primary key, b)")
            in_step(p, r)
            reader = r.connect()
            for i in range(50):
                c.execute("insert into t(b) values(randomblob(?))", (i * 50 % 3000,))
                if i % 10 == 0:
                    in_step(p, r)
                    assert reader.execute("select count(*) from t").fetchone()[0] == i + 1
            c.execute("delete from t where a % 3 = 0")
            if mode != "wal":
                c.execute("vacuum")
            reader.close()
            check_equal(p, r)
            c.close()


def test_database_life():
    """Made, deleted, made again, vacuumed to another page size, in and out of WAL mode, in a directory."""
    with primary() as p, replica_of(p) as r:
        c = p.connect()
        c.execute("create table t(a integer primary key, b)")
        c.executemany("insert into t(b) values(?)", [("x" * 500,)] * 300)
        check_equal(p, r)
        c.execute("pragma page_size=1024")
        c.execute("vacuum")
        check_equal(p, r)
        c.execute("pragma journal_mode=wal")
        c.execute("insert into t(b) values('wal')")
        check_equal(p, r)
        reader = r.connect()
        assert reader.execute("select count(*) from t").fetchone()[0] == 301
        c.execute("insert into t(b) values('more')")
        in_step(p, r)
        assert reader.execute("select count(*) from t").fetchone()[0] == 302
        c.execute("pragma journal_mode=delete")
        c.execute("insert into t(b) values('back')")
        in_step(p, r)
        assert reader.execute("select count(*) from t").fetchone()[0] == 303
        reader.close()
        check_equal(p, r)
        c.close()
        os.unlink(p.path("t.db"))
        wait_until(lambda: not os.path.exists(r.path("t.db")), "deletion on the replica")
        c = p.connect()
        c.execute("create table u(a)")
        check_equal(p, r)
        c.close()
        os.makedirs(p.path("dir/sub"))
        c = p.connect("dir/sub/d.db")
        c.execute("create table t(a)")
        check_equal(p, r, "dir/sub/d.db")
        c.close()


def test_random_workload_with_readers():
    rng = random.Random(SEED)
    for mode in ("delete", "wal"):
        with primary() as p, replica_of(p) as r, replica_of(p) as r2:
            c = p.connect()
            c.execute(f"pragma journal_mode={mode}")
            c.execute("create table t(a integer primary key, b int, c)")
            c.execute("insert into t values(1, 0, '')")
            in_step(p, r)
            in_step(p, r2)
            readers = [n.connect() for n in (r, r2)]
            for i in range(400):
                c.execute("begin")
                v = rng.randrange(1000)
                for _ in range(rng.randrange(1, 8)):
                    c.execute("insert into t(b, c) values(?, randomblob(?))", (v, rng.randrange(2000)))
                # The invariant that a reader must find: the sum is in row 1, negated.
                c.execute("update t set b = -(select total(b) from t where a > 1) where a = 1")
                if rng.randrange(20) == 0:
                    c.execute("rollback")
                else:
                    c.execute("commit")
                for reader in readers:
                    assert reader.execute("select total(b) from t").fetchone()[0] == 0
                if i % 100 == 99 and mode == "wal":
                    c.execute("pragma wal_checkpoint(truncate)")
            for reader in readers:
                reader.close()
            c.close()
            check_equal(p, r)
            check_equal(p, r2)


def test_replica_restarts_and_catches_up():
    with primary() as p, replica_of(p) as r:
        c = p.connect()
        c.execute("pragma journal_mode=wal")
        c.execute("create table t(a integer primary key, b)")
        check_equal(p, r)
        assert r.stop() == 0
        for _ in range(200):
            c.execute("insert into t(b) values(randomblob(300))")
        r.start()
        check_equal(p, r)
        r.kill()
        for _ in range(200):
            c.execute("insert into t(b) values(randomblob(300))")
        r.start()
        check_equal(p, r)
        p.restart()
        c.close()


def test_snapshot_for_a_replica_that_has_nothing_the_log_begins_with():
    """A replica with another history gets a snapshot while writes go on, with and without readers."""
    for mode in ("delete", "wal"):
        with primary() as other:
            c = other.connect()
            c.execute("create table mine(a)")
            c.executemany("insert into mine values(randomblob(?))", [(i,) for i in range(500)])
            c.close()
            other.stop()
            with primary() as p:
                c = p.connect()
                c.execute(f"pragma journal_mode={mode}")
                c.execute("create table t(a integer primary key, b)")
                c.executemany("insert into t(b) values(randomblob(?))", [(i,) for i in range(900)])
                with open(other.config) as f:
                    text = f.read()
                with open(other.config, "w") as f:
                    f.write(text + f"  candidate: false\n  advertise-url: http://127.0.0.1:{p.port()}\n")
                os.unlink(os.path.join(other.data, "clusterid"))
                other.start()
                for _ in range(100):
                    c.execute("insert into t(b) values(randomblob(100))")
                check_equal(p, other, is_log_whole=False)
                assert len(os.listdir(os.path.join(other.data, "orphans"))) == 1
                c.close()


def test_replica_that_is_ahead_is_set_aside():
    """Its own history is longer than the primary's: it ends equal, and what it had is kept."""
    for mode in ("delete", "wal"):
        with primary() as other:
            c = other.connect()
            c.execute(f"pragma journal_mode={mode}")
            c.execute("create table mine(a)")
            for i in range(30):
                c.execute("insert into mine values(?)", (i,))
            c.close()
            other.stop()
            with primary() as p:
                c = p.connect()
                c.execute("create table t(a)")
                c.execute("insert into t values(1)")
                with open(other.config) as f:
                    text = f.read()
                with open(other.config, "w") as f:
                    f.write(text + f"  candidate: false\n  advertise-url: http://127.0.0.1:{p.port()}\n")
                os.unlink(os.path.join(other.data, "clusterid"))
                other.start()
                check_equal(p, other, is_log_whole=False)
                for _ in range(50):
                    c.execute("insert into t values(2)")
                check_equal(p, other, is_log_whole=False)
                orphans = os.listdir(os.path.join(other.data, "orphans"))
                assert len(orphans) == 1, orphans
                kept = sqlite3.connect(os.path.join(other.data, "orphans", orphans[0], "database"))
                assert kept.execute("select count(*) from mine").fetchone()[0] == 30
                kept.close()
                other.restart()
                check_equal(p, other, is_log_whole=False)
                c.close()


def test_replica_killed_while_it_waits_for_a_reader():
    """It has the database open through its own mount then, and must still be able to die."""
    with primary() as p, replica_of(p) as r:
        c = p.connect()
        c.execute("create table t(a)")
        in_step(p, r)
        reader = r.connect()
        reader.execute("begin")
        reader.execute("select count(*) from t").fetchall()
        c.execute("insert into t values(1)")
        time.sleep(0.5)
        assert r.pos() != p.pos()
        r.kill()
        reader.close()
        r.start()
        check_equal(p, r)
        c.close()


def test_large_transactions_and_many_databases():
    with primary() as p, replica_of(p) as r:
        c = p.connect()
        c.execute("pragma journal_mode=wal")
        c.execute("create table t(a integer primary key, b)")
        for _ in range(3):
            c.execute("begin")
            for _ in range(30):
                c.execute("insert into t(b) values(randomblob(1000000))")
            c.execute("commit")
        for i in range(60):
            d = p.connect(f"db{i}")
            d.execute("create table t(a)")
            d.execute("insert into t values(?)", (i,))
            d.close()
        check_equal(p, r)
        for i in range(60):
            check_equal(p, r, f"db{i}")
        with replica_of(p) as late:
            check_equal(p, late)
        c.close()


def test_long_reader_on_a_replica():
    with primary() as p, replica_of(p) as r:
        c = p.connect()
        c.execute("pragma journal_mode=wal")
        c.execute("create table t(a integer primary key, b)")
        c.execute("insert into t(b) values('first')")
        in_step(p, r)
        reader = r.connect()
        reader.execute("begin")
        assert reader.execute("select count(*) from t").fetchone()[0] == 1
        for _ in range(3000):
            c.execute("insert into t(b) values(randomblob(900))")
        in_step(p, r)
        assert reader.execute("select count(*) from t").fetchone()[0] == 1
        second = r.connect()
        assert second.execute("select count(*) from t").fetchone()[0] == 3001
        reader.execute("commit")
        assert reader.execute("select count(*) from t").fetchone()[0] == 3001
        reader.close()
        second.close()
        check_equal(p, r)
        c.close()


if __name__ == "__main__":
    litefs_fixture.run(sys.modules[__name__])
