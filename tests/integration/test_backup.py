"""Backups to a directory: what is restored from there is a replay of the log, at each border, whatever happens to the node."""
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from litefs_fixture import LITEFS, REPLAY, Node, run, wait_until

SEED = int(os.environ.get("SEED", random.randrange(1 << 30)))


class Backed(Node):
    """A node whose databases go to self.backup."""

    def __init__(self, interval="50ms", more=""):
        super().__init__()
        self.backup = os.path.join(self.root, "backup")
        with open(self.config, "a") as f:
            f.write(f"backup:\n  url: file://{self.backup}\n  sync-interval: {interval}\n{more}")

    def place(self, name="t.db"):
        return os.path.join(self.backup, name)


def litefs(*args, code=0):
    p = subprocess.run([LITEFS, *args], capture_output=True, text=True)
    assert p.returncode == code, (args, p.returncode, p.stdout, p.stderr)
    return p


def restore(n, name="t.db", txid=None):
    """(TXID, position, image), or None when nothing is there yet."""
    out = os.path.join(n.root, "restored")
    options = ["-txid", txid] if txid else []
    p = litefs("restore", "-json", "-if-replica-exists", *options, "-force", "-o", out, n.place(name))
    if not p.stdout:
        return None
    said = json.loads(p.stdout)
    assert said["proved"]
    with open(out, "rb") as f:
        return said["txid"], said["txid"] + "/" + said["checksum"], f.read()


def restored_position(n, name="t.db"):
    got = restore(n, name)
    return got[1] if got else None


def wait_for_backup(n, name="t.db"):
    wait_until(lambda: restored_position(n, name) == n.pos(name), f"the backup of {name} to have {n.pos(name)}")


def replay(n, txid, name="t.db"):
    out = os.path.join(n.root, "replayed")
    p = subprocess.run([REPLAY, n.data, name, out, txid], capture_output=True, text=True)
    assert p.returncode == 0, p.stderr
    with open(out, "rb") as f:
        return p.stdout.split()[0], f.read()


def borders(n, name="t.db"):
    found = set()
    for level in range(10):
        directory = os.path.join(n.place(name), "ltx", str(level))
        if os.path.isdir(directory):
            found |= {f[17:33] for f in os.listdir(directory) if f.endswith(".ltx")}
    return sorted(found)


def check_borders(n, name="t.db"):
    all_of_them = borders(n, name)
    for txid in all_of_them:
        got = restore(n, name, txid)
        position, image = replay(n, txid, name)
        assert got[1] == position, (txid, got[1], position)
        assert got[2] == image, f"the state of {txid} differs"
    return len(all_of_them)


WORK = [
    "insert into t(x) values(randomblob(2000))",
    "insert into t(x) select randomblob(300) from t limit 30",
    "update t set x=randomblob(200) where id%3=0",
    "delete from t where id%4=1",
    "vacuum",
]


def work(c, rng, n):
    for _ in range(n):
        c.execute(rng.choice(WORK))


def each_mode(mode):
    rng = random.Random(SEED)
    with Backed() as n:
        c = n.connect()
        c.execute("pragma journal_mode=" + mode)
        c.execute("create table t(id integer primary key, x)")
        for _ in range(8):
            work(c, rng, 12)
            wait_for_backup(n)
        c.execute("pragma journal_mode=delete")
        c.execute("pragma page_size=2048")
        c.execute("vacuum")
        work(c, rng, 5)
        wait_for_backup(n)
        c.close()
        assert check_borders(n) >= 9
        assert restore(n)[2] == n.visible()


def test_delete():
    each_mode("delete")


def test_truncate():
    each_mode("truncate")


def test_persist():
    each_mode("persist")


def test_wal():
    each_mode("wal")


def test_killed_nodes_leave_a_state_that_was_committed():
    rng = random.Random(SEED)
    with Backed(interval="10ms") as n:
        c = n.connect()
        c.execute("pragma journal_mode=wal")
        c.execute("pragma synchronous=full")
        c.execute("create table t(id integer primary key, x)")
        for _ in range(5):
            timer = threading.Timer(rng.uniform(0.05, 0.5), n.process.kill)
            timer.start()
            try:
                while n.process.poll() is None:
                    work(c, rng, 1)
            except sqlite3.Error:
                pass
            timer.join()
            try:
                c.close()
            except sqlite3.Error:
                pass
            n.kill()
            got = restore(n)
            if got is not None:
                assert (got[1], got[2]) == replay(n, got[0])
            n.start()
            c = n.connect()
            work(c, rng, 2)
            wait_for_backup(n)
        c.close()
        check_borders(n)


def test_stop_brings_the_last_transactions_there():
    with Backed(interval="1h") as n:
        c = n.connect()
        c.execute("create table t(id integer primary key, x)")
        c.execute("insert into t(x) values(1)")
        c.close()
        assert n.stop() == 0
        n.start()
        c = n.connect()
        work(c, random.Random(SEED), 3)
        c.close()
        position = n.pos()
        assert n.stop() == 0
        assert restored_position(n) == position


def test_only_the_databases_that_match():
    with Backed(more="  databases: [\"in/*\"]\n") as n:
        os.mkdir(n.path("in"))
        for name in ("out.db", "in/a.db"):
            c = n.connect(name)
            c.execute("create table t(x)")
            c.close()
        wait_for_backup(n, "in/a.db")
        assert os.listdir(n.backup) == ["in"]


def test_destination_that_fails_is_tried_again():
    with Backed() as n:
        with open(n.backup, "w"):  # no directory
            pass
        c = n.connect()
        c.execute("create table t(id integer primary key, x)")
        wait_until(lambda: "level=WARN" in n.log(), "a warning")
        work(c, random.Random(SEED), 3)
        os.remove(n.backup)
        wait_for_backup(n)
        c.close()
        wait_until(lambda: "works again" in n.log(), "the end of the trouble in the log")


def test_data_of_another_cluster_is_not_written_over():
    with Backed() as n:
        c = n.connect()
        c.execute("create table t(id integer primary key, x)")
        c.close()
        wait_for_backup(n)
        position = n.pos()
        with Node(extra=f"backup: {{url: 'file://{n.backup}', sync-interval: 50ms}}\n") as other:
            c = other.connect()
            c.execute("create table other(x)")
            wait_until(lambda: "has the backup of another cluster" in other.log(), "the node to refuse")
            c.execute("insert into other values(1)")
            c.close()
        assert restored_position(n) == position


def test_restore_says_what_it_does():
    with Backed() as n:
        c = n.connect()
        c.execute("create table t(id integer primary key, x)")
        work(c, random.Random(SEED), 5)
        c.close()
        wait_for_backup(n)
        out = os.path.join(n.root, "out.db")
        url = "file://" + n.place()
        plan = json.loads(litefs("restore", "-dry-run", "-json", url).stdout)
        assert plan["files"][0]["level"] == 9 and plan["max_txid"] == n.pos().split("/")[0], plan
        assert not os.path.exists(out)
        said = litefs("restore", "-integrity-check", "full", "-o", out, url).stdout
        assert "restored " + out in said
        assert os.stat(out).st_mode & 0o777 == 0o600
        assert litefs("restore", "-if-db-not-exists", "-o", out, url).stdout == ""
        assert "exists already" in litefs("restore", "-o", out, url, code=1).stderr
        assert "no matching backup files" in litefs("restore", "-o", out + "2", url + "x", code=1).stderr
        assert litefs("restore", "-if-replica-exists", "-o", out + "2", url + "x").stdout == ""
        open(out + "2-wal", "w").close()
        assert "belongs to another file" in litefs("restore", "-o", out + "2", url, code=1).stderr
        assert "the backup begins later" in litefs("restore", "-timestamp", "2001-01-01T00:00:00Z", "-o", out + "3", url,
                                                   code=1).stderr
        litefs("restore", "-timestamp", "2101-01-01T00:00:00Z", "-o", out + "3", url)
        with open(out, "rb") as a, open(out + "3", "rb") as b:
            assert a.read() == b.read()
        assert "is not there" in litefs("restore", "-txid", "00000000000000ff", "-o", out + "4", url, code=1).stderr


LITESTREAM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "data/litestream-0.5.17/app.db")
WROTE = [[], [(1, 3, "one")], [(1, 3, "one"), (2, 20000, "xxx")], [(1, 3, "two"), (2, 20000, "xxx"), (3, 30000, "yyy")],
         [(1, 3, "two"), (3, 30000, "yyy")], [(1, 3, "two"), (3, 30000, "yyy")]]


def test_what_litestream_itself_wrote_is_restored():
    """Each transaction, and by times of its own; nothing there says what the whole database's checksum is."""
    with tempfile.TemporaryDirectory(prefix="litefs-it-") as d:
        out = os.path.join(d, "app.db")

        def rows(*options):
            said = json.loads(litefs("restore", "-json", "-force", "-integrity-check", "full", "-o", out, *options, LITESTREAM).stdout)
            assert not said["proved"], said
            c = sqlite3.connect(out)
            got = c.execute("select id, length(x), substr(x, 1, 3) from t").fetchall()
            c.close()
            return int(said["txid"], 16), got

        for txid, want in enumerate(WROTE, 1):
            assert rows("-txid", f"{txid:016x}") == (txid, want), txid
        assert rows() == (6, WROTE[5])
        assert rows("-timestamp", "2026-11-30T03:20:55Z") == (3, WROTE[2])
        assert rows("-timestamp", "2101-01-01T00:00:00Z") == (6, WROTE[5])
        litefs("restore", "-o", out + "x", "-timestamp", "2026-11-30T03:20:00Z", LITESTREAM, code=1)
        assert litefs("backup", "list", LITESTREAM).stdout.count("\n    0  ") == 6
        assert "without a checksum of the whole database" in litefs("backup", "verify", LITESTREAM).stdout


def metrics(n):
    with urllib.request.urlopen(f"http://127.0.0.1:{n.port()}/metrics", timeout=30) as r:
        lines = [line for line in r.read().decode().splitlines() if line.startswith("litefs_backup_")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_commands_say_where_the_backups_are():
    with Backed(interval="1h") as n:
        url = f"http://127.0.0.1:{n.port()}"
        c = n.connect()
        c.execute("create table t(id integer primary key, x)")
        litefs("backup", "sync", "-url", url)
        assert restored_position(n) == n.pos()
        litefs("backup", "sync", "-url", url)  # nothing to do
        for i in range(3):
            c.execute("insert into t(x) values(?)", (i,))
        name = f'{{destination="file://{n.backup}",db="t.db"}}'
        m = metrics(n)
        assert m["litefs_backup_lag_seconds" + name] > 0 and m["litefs_backup_blocked" + name] == 0, m
        assert m[f'litefs_backup_requests_total{{destination="file://{n.backup}"}}'] > 0
        status = json.loads(litefs("backup", "status", "-json", "-url", url).stdout)["destinations"][0]
        assert status["active"] and status["databases"][0]["lagTransactions"] == 3, status
        assert "lacks 3 transactions" in litefs("backup", "status", "-url", url).stdout
        litefs("backup", "sync", "-url", url)
        assert restored_position(n) == n.pos()
        m = metrics(n)
        assert m["litefs_backup_lag_seconds" + name] == 0, m
        assert m["litefs_backup_txid" + name] == int(n.pos().split("/")[0], 16), m
        c.close()

        listed = json.loads(litefs("backup", "list", "-json", n.place()).stdout)
        assert [o["level"] for o in listed] == [0, 9], listed
        assert "epoch 0" in litefs("backup", "list", "-config", n.config, "t.db").stdout
        assert "ok: 2 files make " + n.pos() in litefs("backup", "verify", "-config", n.config, "t.db").stdout
        out = os.path.join(n.root, "by-name.db")
        litefs("restore", "-config", n.config, "-o", out, "t.db")
        with open(out, "rb") as f:
            assert f.read() == n.visible()


def test_verify_finds_damage_and_status_finds_trouble():
    with Backed() as n:
        url = f"http://127.0.0.1:{n.port()}"
        c = n.connect()
        c.execute("create table t(id integer primary key, x)")
        c.execute("insert into t(x) values(1)")
        wait_for_backup(n)
        directory = os.path.join(n.place(), "ltx/9")
        path = os.path.join(directory, os.listdir(directory)[0])
        with open(path, "r+b") as f:
            f.seek(300)
            byte = f.read(1)
            f.seek(300)
            f.write(bytes([byte[0] ^ 1]))
        assert "ERROR: 0009/" in litefs("backup", "verify", n.place(), code=1).stderr
        os.rename(n.backup, n.backup + ".away")
        with open(n.backup, "w"):
            pass
        c.execute("insert into t(x) values(2)")
        wait_until(lambda: subprocess.run([LITEFS, "backup", "status", "-url", url], capture_output=True).returncode == 1,
                   "the trouble to be known")
        assert "fails: " in litefs("backup", "status", "-url", url, code=1).stdout
        assert "Not a directory" in litefs("backup", "sync", "-timeout", "1s", "-url", url, code=1).stderr
        c.close()
    with Node() as n:
        url = f"http://127.0.0.1:{n.port()}"
        assert "no destination" in litefs("backup", "status", "-url", url).stdout
        assert "no destination" in litefs("backup", "sync", "-url", url, code=1).stderr


def test_drill_proves_the_backup_and_finds_damage():
    with Backed(more="  drill: 240ms\n") as n:
        url = f"http://127.0.0.1:{n.port()}"
        name = f'{{destination="file://{n.backup}"}}'
        c = n.connect()
        c.execute("create table t(id integer primary key, x)")
        wait_for_backup(n)
        wait_until(lambda: "1 databases were restored" in n.log(), "a round")
        for _ in range(5):
            work(c, random.Random(SEED), 3)
        wait_for_backup(n)
        begin = time.time()
        wait_until(lambda: metrics(n)["litefs_backup_drill_timestamp_seconds" + name] > begin + 1, "more rounds")
        assert metrics(n)["litefs_backup_drill_failed" + name] == 0, n.log()
        assert "restored and proved" in litefs("backup", "status", "-url", url).stdout
        assert "cannot be restored" not in n.log()
        directory = os.path.join(n.place(), "ltx/9")
        os.remove(os.path.join(directory, os.listdir(directory)[0]))
        wait_until(lambda: "cannot be restored" in n.log(), "the loss to be noticed")
        wait_until(lambda: metrics(n)["litefs_backup_drill_failed" + name] == 1, "the metric to say so")
        assert "1 of 1 databases cannot be restored" in litefs("backup", "status", "-url", url, code=1).stdout
        c.close()


if __name__ == "__main__":
    print("SEED", SEED)
    run(sys.modules[__name__])
