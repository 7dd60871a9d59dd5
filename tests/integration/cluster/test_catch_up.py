"""Nodes that come late, and readers that hold a replica up."""
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

from cluster_fixture import HERE, Cluster, need, run, wait_until

sys.path.insert(0, os.path.join(os.path.dirname(HERE), "http"))

from http_fixture import get, metrics

need("consul")
MB = 1 << 20


class Writer(threading.Thread):
    """Small transactions, one after the other; remembers the slowest."""

    def __init__(self, node, name="t.db", pause=0.002):
        super().__init__(daemon=True)
        self.node, self.db, self.pause = node, name, pause
        self.stop = threading.Event()
        self.n = 0
        self.times = []
        self.problem = None

    def run(self):
        try:
            c = self.node.connect(self.db)
            while not self.stop.is_set():
                begin = time.monotonic()
                c.execute("insert into small(v) values(?)", (self.n,))
                self.times.append((time.monotonic() - begin, begin))
                self.n += 1
                time.sleep(self.pause)
            c.close()
        except sqlite3.Error as e:
            self.problem = e

    def end(self):
        self.stop.set()
        self.join(60)
        assert self.problem is None, self.problem


def make_large(node, megabytes, mode="wal", name="t.db"):
    c = node.connect(name)
    c.execute(f"pragma journal_mode={mode}")
    c.execute("pragma synchronous=normal")
    c.execute("create table large(a integer primary key, b)")
    c.execute("create table small(a integer primary key, v)")
    for _ in range(megabytes):
        c.execute("insert into large(b) with recursive n(i) as (values(1) union all select i + 1 from n where i < 16) "
                  "select randomblob(65000) from n")
    c.close()


def memory_directory(megabytes):
    """Where the disk does not count that the other node writes to; None if there is no room."""
    space = os.statvfs("/dev/shm")
    return tempfile.mkdtemp(prefix="litefs-it-", dir="/dev/shm") if space.f_bavail * space.f_frsize > megabytes * MB \
        else None


def has_whole_log(node, name="t.db"):
    """Segments are numbered from 1."""
    return int(min(os.listdir(os.path.join(node.data, "dbs", name, "log")))[:16], 16) == 1


def late_join(megabytes, mode):
    with Cluster(0, data_options="  retention: 1s\n  retention-monitor-interval: 200ms\n") as cl:
        p = cl.add(data_parent=memory_directory(4 * megabytes)).start()
        cl.wait_primary()
        make_large(p, megabytes, mode)
        wait_until(lambda: not has_whole_log(p), "retention")
        w = Writer(p)
        w.start()
        wait_until(lambda: w.n > 200, "the writer")
        before = [t for t, _ in w.times]
        begin = time.monotonic()
        late = cl.add().start()
        wait_until(lambda: late.name in p.recent_log() and "sending a snapshot" in p.recent_log(), "a snapshot")
        wait_until(lambda: os.path.exists(late.path("t.db")), "the database on the joiner", 120)
        cl_lag = time.monotonic() - begin
        time.sleep(0.5)
        w.end()
        during = [t for t, at in w.times if at >= begin]
        print(f"     {megabytes} MB, {mode}: there after {cl_lag:.1f} s; {len(during)} commits meanwhile, slowest "
              f"{max(during) * 1000:.0f} ms (before: {max(before) * 1000:.0f} ms)", flush=True)
        cl.check_equal(has_whole_log=False)
        assert max(during) < max(0.1, cl_lag / 2), "a commit waited for the snapshot"


def test_late_join_wal():
    late_join(200, "wal")


def test_late_join_delete():
    late_join(200, "delete")


def test_small_late_join():
    """Each mode, and databases that came and went before."""
    with Cluster(1) as cl:
        p = cl.wait_primary()
        for mode in ("wal", "delete"):
            make_large(p, 2, mode, mode + ".db")
        make_large(p, 1, "wal", "gone.db")
        os.unlink(p.path("gone.db"))
        make_large(p, 1, "delete", "again.db")
        os.unlink(p.path("again.db"))
        make_large(p, 1, "wal", "again.db")
        late = cl.add().start()
        for name in ("wal.db", "delete.db", "again.db"):
            cl.check_equal(name)
        assert not os.path.exists(late.path("gone.db"))


def test_away_for_long():
    """A replica whose place in the log is gone, with a database of its own to be brought up to date."""
    for mode in ("wal", "delete"):
        with Cluster(2, data_options="  retention: 100ms\n  retention-monitor-interval: 100ms\n") as cl:
            p = cl.wait_followers()
            r, = cl.replicas()
            make_large(p, 2, mode)
            c = r.connect()
            cl.in_step()
            assert c.execute("select count(*) from large").fetchone()[0] == 32
            c.close()
            assert r.stop() == 0
            c = p.connect()
            c.execute("pragma synchronous=normal")
            for _ in range(50):
                c.execute("update large set b = randomblob(60000)")
            c.close()
            wait_until(lambda: not has_whole_log(p), "retention")
            r.start()
            cl.check_equal(has_whole_log=False)
            assert "our log begins later" in p.recent_log()
            assert not os.path.exists(os.path.join(r.data, "orphans"))


def count(c):
    return c.execute("select count(*) from small").fetchone()[0]


def held_up_by_a_reader(mode, seconds):
    with Cluster(2) as cl:
        p = cl.wait_followers()
        r, = cl.replicas()
        for name in ("t.db", "other.db"):
            make_large(p, 1, mode, name)
            cl.in_step(name)
        reader = r.connect()
        reader.execute("begin")
        seen = count(reader)
        writers = [Writer(p, name, pause=0.01) for name in ("t.db", "other.db")]
        for w in writers:
            w.start()
        fresh = {name: r.connect(name) for name in ("t.db", "other.db")}
        begin = time.monotonic()
        worst = {"t.db": 0, "other.db": 0}
        while time.monotonic() - begin < seconds:
            assert count(reader) == seen
            for name, w in zip(("t.db", "other.db"), writers):
                n = w.n
                since = time.monotonic()
                if name == "other.db" or mode == "wal":
                    wait_until(lambda: count(fresh[name]) >= n, f"{name} on the replica while a reader stays")
                    worst[name] = max(worst[name], time.monotonic() - since)
        reader.execute("commit")
        for w in writers:
            w.end()
        print(f"     {mode}: a reader of {seconds} s; worst wait for a commit on the replica: "
              + ", ".join(f"{k} {v * 1000:.0f} ms" for k, v in worst.items()), flush=True)
        for c in fresh.values():
            c.close()
        for name in ("t.db", "other.db"):
            cl.check_equal(name)
        assert count(reader) == writers[0].n
        reader.close()


def test_a_reader_stops_no_other_database():
    """More comes for its database than all queues hold; what is dropped is asked for again when it is gone."""
    with Cluster(2) as cl:
        p = cl.wait_followers()
        r, = cl.replicas()
        for name in ("t.db", "other.db"):
            make_large(p, 1, "delete", name)
            cl.in_step(name)
        reader = r.connect()
        reader.execute("begin")
        count(reader)
        c, other = p.connect(), p.connect("other.db")
        for i in range(50):
            c.execute("update large set b = randomblob(65000)")
            other.execute("insert into small(v) values(?)", (i,))
        c.close()
        other.close()
        cl.in_step("other.db")
        assert r.pos() != p.pos()
        reader.execute("commit")
        reader.close()
        cl.check_equal()
        cl.check_equal("other.db")
        r.wait_log("asking for those that were dropped")
        assert "sending a snapshot" not in p.recent_log()


def test_a_database_that_cannot_be_read():
    """It is left alone for a while; the others' stream goes on."""
    with Cluster(1) as cl:
        p = cl.wait_primary()
        for name in ("t.db", "other.db"):
            make_large(p, 1, "wal", name)
        log = os.path.join(p.data, "dbs", "t.db", "log")
        os.rename(log, log + ".away")
        r = cl.add().start()
        cl.in_step("other.db")
        p.wait_log("not sent to node2 for")
        c = p.connect("other.db")
        c.execute("insert into small(v) values(1)")
        c.close()
        cl.in_step("other.db")
        assert p.recent_log().count("stream connected") == 1, "the stream broke"
        assert not os.path.exists(r.path("t.db"))
        os.rename(log + ".away", log)
        cl.check_equal()


def test_a_full_disk_on_the_replica():
    """It waits for space; nothing is sent again meanwhile."""
    with tempfile.TemporaryDirectory(prefix="litefs-it-") as small, Cluster(1) as cl:
        p = cl.wait_primary()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", small], check=True)
        try:
            r = cl.add(data_parent=tempfile.mkdtemp(dir=small)).start()
            make_large(p, 40)
            # Where what came is not written as fast as it comes, its place in DATA/tmp is what is missing first.
            wait_until(lambda: "transaction not applied, " in r.recent_log() or "transaction not received, " in r.recent_log(),
                       "the disk to be full")
            time.sleep(2)
            assert "sending a snapshot" not in p.recent_log()
            sent = metrics(p)["litefs_stream_sent_bytes_total"]
            assert sent < 60 * MB, f"{sent / MB:.0f} MB sent"
            subprocess.run(["mount", "-o", "remount,size=300m", small], check=True)
            cl.check_equal()
            r.stop()
        finally:
            subprocess.run(["umount", "-l", small], check=True)


def test_a_large_transaction_and_a_full_disk():
    """One that finds no room while it is received is asked for again, by the same stream, after pauses."""
    with tempfile.TemporaryDirectory(prefix="litefs-it-") as small, Cluster(1) as cl:
        p = cl.wait_primary()
        make_large(p, 1)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", small], check=True)
        try:
            r = cl.add(data_parent=tempfile.mkdtemp(dir=small)).start()
            cl.in_step()
            space = os.statvfs(small)
            filler = os.path.join(small, "filler")
            with open(filler, "wb") as f:
                f.write(bytes(space.f_bavail * space.f_frsize - 2 * MB))
            before = metrics(p)["litefs_stream_sent_bytes_total"]
            c = p.connect()
            c.execute("insert into large(b) with recursive n(i) as (values(1) union all select i + 1 from n where i < 64) "
                      "select randomblob(65000) from n")
            c.close()
            r.wait_log("keep a transaction of t.db")
            time.sleep(1)
            assert p.recent_log().count("stream connected") == 1, "the stream broke"
            sent = metrics(p)["litefs_stream_sent_bytes_total"] - before
            assert sent < 40 * MB, f"{sent / MB:.0f} MB sent within a second"
            # What it has not got it knows that it lacks.
            assert r.stop() == 0
            r.start()
            r.wait_log("keep a transaction of t.db")
            time.sleep(1.5)
            assert get(r, "/readyz").status == 503
            os.unlink(filler)
            cl.check_equal()
            wait_until(lambda: get(r, "/readyz").status == 200, "the replica to be ready")
            r.stop()
        finally:
            subprocess.run(["umount", "-l", small], check=True)


def test_who_lacks_a_transaction_leads_last():
    """Both candidates were there in the term, but a full disk keeps one from having all of it; it is the quicker one."""
    with tempfile.TemporaryDirectory(prefix="litefs-it-") as small, Cluster(1, backend="etcd", ttl="2s") as cl:
        p = cl.wait_primary()
        make_large(p, 1)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", small], check=True)
        try:
            lacking = cl.add(data_parent=tempfile.mkdtemp(dir=small)).start()
            whole = cl.add().start()
            cl.in_step()
            space = os.statvfs(small)
            with open(os.path.join(small, "filler"), "wb") as f:
                f.write(bytes(space.f_bavail * space.f_frsize - 2 * MB))
            c = p.connect()
            c.execute("insert into large(b) with recursive n(i) as (values(1) union all select i + 1 from n where i < 64) "
                      "select randomblob(65000) from n")
            c.close()
            lacking.wait_log("keep a transaction of t.db")
            wait_until(lambda: whole.pos() == p.pos(), "the other replica")
            time.sleep(1.5)  # a heartbeat
            wait_until(lambda: get(lacking, "/readyz").status == 503, "it to know that it lacks something")
            p.kill()
            whole.lease_link.slow(0.1)
            cl.wait_primary(other_than=(p,))
            assert whole.is_primary(), "the one that lacks a transaction leads"
            os.unlink(os.path.join(small, "filler"))
            cl.check_equal(has_whole_log=False)
            lacking.stop()
        finally:
            subprocess.run(["umount", "-l", small], check=True)


def test_reader_in_wal_mode():
    held_up_by_a_reader("wal", 20)


def test_reader_in_rollback_mode():
    held_up_by_a_reader("delete", 20)


READER = """
import select, sqlite3, sys, time
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
while not select.select([sys.stdin], [], [], 0)[0]:
    c.execute("begin")
    c.execute("select count(*) from small").fetchone()
    time.sleep(0.05)
    c.execute("commit")
"""


def test_many_readers_that_stay_for_a_moment():
    """In rollback mode a transaction needs a moment without readers; readers that overlap leave none."""
    with Cluster(2) as cl:
        p = cl.wait_followers()
        r, = cl.replicas()
        make_large(p, 1, "delete")
        cl.in_step()
        # Processes: connections of one process share its locks, so that they would leave no moment to any other.
        readers = [subprocess.Popen([sys.executable, "-c", READER, r.path("t.db")], stdin=subprocess.PIPE)
                   for _ in range(4)]
        c = p.connect()
        try:
            for i in range(20):
                c.execute("insert into small(v) values(?)", (i,))
                cl.in_step()
        finally:
            for reader in readers:
                reader.stdin.close()
            codes = [reader.wait() for reader in readers]
        assert codes == [0] * 4
        c.close()
        cl.check_equal()


def test_a_stream_that_breaks_while_a_reader_stays():
    """The other databases go on over a new connection."""
    with Cluster(2) as cl:
        p = cl.wait_followers()
        r, = cl.replicas()
        for name in ("t.db", "other.db"):
            make_large(p, 1, "delete", name)
            cl.in_step(name)
        reader = r.connect()
        reader.execute("begin")
        seen = count(reader)
        on = {name: p.connect(name) for name in ("t.db", "other.db")}
        for c in on.values():
            c.execute("insert into small(v) values(1)")
        cl.in_step("other.db")
        p.link.cut()
        on["other.db"].execute("insert into small(v) values(2)")
        p.link.heal()
        cl.in_step("other.db")
        assert count(reader) == seen
        reader.execute("commit")
        for name, c in on.items():
            c.close()
            cl.check_equal(name)
        reader.close()


def test_a_promotion_while_a_reader_stays():
    """A reader may keep its snapshot, but not the cluster from having a primary."""
    for mode in ("wal", "delete"):
        with Cluster(2, backend="etcd", ttl="2s") as cl:
            p = cl.wait_followers()
            r, = cl.replicas()
            for name in ("t.db", "other.db"):
                make_large(p, 1, mode, name)
                cl.in_step(name)
            reader = r.connect()
            reader.execute("begin")
            seen = count(reader)
            received = "litefs_stream_received_bytes_total"
            before = metrics(r)[received]
            c = p.connect()
            c.execute("insert into small(v) values(randomblob(3000))")
            c.close()
            wait_until(lambda: metrics(r)[received] > before + 3000, "the transaction to be received")
            p.kill()
            wait_until(lambda: r.is_primary(), f"the replica to become the primary ({mode})")
            c = r.connect("other.db")
            c.execute("insert into small(v) values(2)")
            c.close()
            assert count(reader) == seen
            reader.execute("commit")
            reader.close()
            p.start()
            for name in ("t.db", "other.db"):
                cl.check_equal(name)


if __name__ == "__main__":
    run(sys.modules[__name__])
