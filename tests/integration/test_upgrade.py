"""`litefs upgrade`: another program takes a node over while applications have files of the mount open, and they do not notice."""
import errno
import json
import os
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "http"))

import litefs_fixture
from halt_fixture import Halt
from litefs_fixture import GIVES_BACK, LITEFS, Node, in_step, is_traced, replica_of, wait_until

ROUNDS = int(os.environ.get("ROUNDS", "4"))
MODES = ("wal", "delete", "truncate", "persist", "memory", "off")


class Upgradable(Node):
    """Its program is a copy, at whose path another one can be put."""

    def __init__(self, **kw):
        super().__init__(**kw)
        self.program = os.path.join(self.root, "litefs")
        self.install(LITEFS)

    def install(self, program):
        new = self.program + ".new"
        shutil.copy(program, new)
        os.chmod(new, 0o755)
        os.rename(new, self.program)

    def install_script(self, text):
        script = os.path.join(self.root, "script")
        with open(script, "w", encoding="utf-8") as f:
            f.write(f"#!{sys.executable}\n{text}")
        os.chmod(script, 0o755)
        self.install(script)

    def url(self):
        return f"http://127.0.0.1:{self.port()}"

    def info(self):
        with urllib.request.urlopen(self.url() + "/info", timeout=60) as answer:
            return json.load(answer)

    def has_failed(self, name):
        with urllib.request.urlopen(self.url() + "/db", timeout=60) as answer:
            return next(d["isFailed"] for d in json.load(answer)["databases"] if d["name"] == name)

    def try_upgrade(self):
        return subprocess.run([LITEFS, "upgrade", "-url", self.url()], capture_output=True, text=True, timeout=120)

    def upgrade(self):
        before, pid = self.info()["nodeID"], self.process.pid
        r = self.try_upgrade()
        assert r.returncode == 0, r.stderr
        assert self.process.poll() is None and self.process.pid == pid
        assert self.info()["nodeID"] != before


def test_open_transactions_go_on():
    """In each journal mode, with nothing written yet, with pages that have spilled, and between transactions."""
    with Upgradable() as n:
        connections = {mode: n.connect(mode + ".db") for mode in MODES}
        for mode, c in connections.items():
            c.execute(f"pragma journal_mode={mode}")
            c.execute("pragma cache_size=5")
            c.execute("create table t(id integer primary key, a)")
        rows = 0
        for batch in (1, 300):
            for c in connections.values():
                c.execute("begin immediate")
                c.executemany("insert into t(a) values(?)", [("x" * 500,)] * batch)
            n.upgrade()
            rows += batch
            for mode, c in connections.items():
                c.execute("insert into t(a) values(1)")
                c.execute("commit")
                assert c.execute("select count(*) from t").fetchone()[0] == rows + 1, mode
            rows += 1
        for mode, c in connections.items():
            c.execute("begin immediate")
            c.execute("delete from t")
        n.upgrade()
        for mode, c in connections.items():
            if mode != "off":
                c.execute("rollback")
                assert c.execute("select count(*) from t").fetchone()[0] == rows, mode
                assert c.execute("pragma integrity_check").fetchone()[0] == "ok", mode
            c.close()
            n.check(mode + ".db")


APPLICATION = """
import sqlite3, sys, threading
path, mode = sys.argv[1:]
end = threading.Event()
def connect():
    return sqlite3.connect(path, isolation_level=None, timeout=120, check_same_thread=False)
writer, reader = connect(), connect()
writer.execute("pragma journal_mode=" + mode)
writer.execute("create table t(id integer primary key, a)")
print("ready", flush=True)
def read():
    last = 0
    while not end.is_set():
        n, top = reader.execute("select count(*), coalesce(max(id), 0) from t").fetchone()
        assert n == top and n >= last and n % 2 == 0, (n, top, last)
        last = n
thread = threading.Thread(target=read)
failed = []
threading.excepthook = lambda a: (failed.append(a.exc_value), end.set())
thread.start()
stop = threading.Thread(target=lambda: (sys.stdin.read(), end.set()))
stop.start()
n = 0
while not end.is_set():
    writer.execute("begin immediate")
    writer.execute("insert into t(a) values(randomblob(700))")
    writer.execute("insert into t(a) values(randomblob(9000))")
    writer.execute("commit")
    n += 2
thread.join()
assert not failed, failed
assert writer.execute("select count(*) from t").fetchone()[0] == n
assert writer.execute("pragma integrity_check").fetchone()[0] == "ok"
print(n, flush=True)
"""


def test_under_load():
    """Writers and readers of each journal mode, in processes of their own, while the program is replaced again and again."""
    with Upgradable() as n:
        applications = []
        for mode in ("wal", "delete", "truncate", "persist"):
            applications.append((mode, subprocess.Popen(
                [sys.executable, "-c", APPLICATION, n.path(mode + ".db"), mode], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)))
        try:
            for mode, a in applications:
                assert a.stdout.readline() == "ready\n", a.communicate()[1]
            for _ in range(3):
                positions = {mode: n.pos(mode + ".db") for mode, _ in applications}
                n.upgrade()
                for mode, a in applications:
                    wait_until(lambda: a.poll() is not None or n.pos(mode + ".db") != positions[mode], f"{mode} to go on")
                    assert a.poll() is None, (mode, a.communicate()[1])
            for mode, a in applications:
                out, error = a.communicate(timeout=120)
                assert a.returncode == 0 and int(out) > 0, (mode, error)
        finally:
            for _, a in applications:
                a.kill()
                a.wait()
        for mode, _ in applications:
            n.check(mode + ".db")


def test_files_stay():
    """Plain files, one without a name, directories and a listing; and what is remembered of them."""
    with Upgradable() as n:
        os.makedirs(n.path("a/b"))
        named, nameless = open(n.path("a/b/f"), "w+"), open(n.path("a/g"), "w+")
        for f in (named, nameless):
            f.write("before ")
            f.flush()
        os.unlink(n.path("a/g"))
        n.upgrade()
        for f in (named, nameless):
            f.write("after")
            f.flush()
            f.seek(0)
            assert f.read() == "before after"
            f.close()
        assert os.listdir(n.path("a")) == ["b"] and os.listdir(n.path("a/b")) == ["f"]
        os.rename(n.path("a/b/f"), n.path("a/h"))
        with open(n.path("a/h")) as f:
            assert f.read() == "before after"


def test_replica():
    """A reader stays open, what the primary commits arrives, and the primary is the next to be upgraded."""
    with Upgradable() as p:
        c = p.connect()
        c.execute("pragma journal_mode=wal")
        c.execute("create table t(a)")
        r = Upgradable(extra=f"  candidate: false\n  advertise-url: {p.url()}\n  reconnect-delay: 100ms\n")
        with r:
            in_step(p, r)
            reader = r.connect()
            for i, node in enumerate((r, p), 1):
                reader.execute("select * from t").fetchall()
                node.upgrade()
                c.execute("insert into t values(1)")
                in_step(p, r)
                assert reader.execute("select count(*) from t").fetchone()[0] == i
            reader.close()
            r.check()
        c.close()
        p.check()


def test_past_states():
    """One that is open is in the way; the nodes of others are made anew by who opens them."""
    with Upgradable() as n:
        c = n.connect()
        c.execute("create table t(a)")
        past = n.path("t.db@" + n.pos().split("/")[0])
        c.execute("insert into t values(1)")
        with open(past, "rb") as f:
            before = f.read()
            r = n.try_upgrade()
            assert r.returncode == 1 and "a past state of t.db is open" in r.stderr, r.stderr
        states = os.listdir(n.path(".history/t.db"))
        wait_until(lambda: n.try_upgrade().returncode == 0, "the file's close to arrive")  # which nobody waits for
        for _ in range(2):
            with open(past, "rb") as f:
                assert f.read() == before
            assert os.listdir(n.path(".history/t.db")) == states
        c.execute("insert into t values(2)")
        c.close()
        n.check()


def still_the_same(n, c, before):
    assert n.info()["nodeID"] == before
    c.execute("insert into t values(1)")


def test_refusals_change_nothing():
    with Upgradable() as n:
        c = n.connect()
        c.execute("create table t(a)")
        before = n.info()["nodeID"]
        with open(n.config, encoding="utf-8") as f:
            config = f.read()
        for wrong, reason in ((config.replace(n.mnt, n.mnt + "2"), "stop it and start it instead"),
                              (config + "nonsense: 1\n", "nonsense")):
            with open(n.config, "w", encoding="utf-8") as f:
                f.write(wrong)
            r = n.try_upgrade()
            assert r.returncode == 1 and reason in r.stderr, r.stderr
            still_the_same(n, c, before)
        with open(n.config, "w", encoding="utf-8") as f:
            f.write(config)
        n.install_script("import sys\nsys.exit('ERROR: litefs has no command ' + sys.argv[1])\n")
        r = n.try_upgrade()
        assert r.returncode == 1 and "has no command takeover-check" in r.stderr, r.stderr
        still_the_same(n, c, before)
        r = subprocess.run([LITEFS, "takeover-check", "999999", n.mnt, n.data, "0", "", "-config", n.config], capture_output=True, text=True)
        assert r.returncode == 1 and "restart the node" in r.stderr, r.stderr
        n.install(LITEFS)
        os.chmod(n.program, 0o775)
        r = n.try_upgrade()
        assert r.returncode == 1 and "chmod go-w" in r.stderr, r.stderr
        still_the_same(n, c, before)
        n.install(LITEFS)
        n.upgrade()
        c.execute("insert into t values(1)")
        c.close()
        n.check()


def test_refused_with_a_failed_database():
    """The next program would not open it, and the others are not to end for that."""
    with Upgradable() as n:
        for name in ("damaged.db", "t.db"):
            c = n.connect(name)
            c.execute("create table t(a)")
            c.execute("insert into t values(zeroblob(50000))")
            c.close()
        assert n.stop() == 0
        with open(os.path.join(n.data, "dbs/damaged.db/database"), "r+b") as f:
            f.seek(30000)
            f.write(b"damage")
        n.start()
        c = n.connect()
        wait_until(lambda: n.has_failed("damaged.db"), "the damage to be seen")
        before = n.info()["nodeID"]
        r = n.try_upgrade()
        assert r.returncode == 1 and "damaged.db has failed" in r.stderr, r.stderr
        still_the_same(n, c, before)
        c.close()
        n.check()


def test_refused_with_halt_locks():
    """On the node that has one, and on the primary, whose program gives it."""
    with Upgradable() as p:
        c = p.connect()
        c.execute("create table t(a)")
        with Upgradable(extra=f"  candidate: false\n  advertise-url: {p.url()}\n  reconnect-delay: 100ms\n") as r:
            in_step(p, r)
            with Halt(r):
                w = r.connect()
                w.execute("insert into t values(1)")
                for node in (r, p):
                    before, refused = node.info()["nodeID"], node.try_upgrade()
                    assert refused.returncode == 1 and "the halt lock of t.db" in refused.stderr, refused.stderr
                    assert node.info()["nodeID"] == before
                w.execute("insert into t values(2)")
                w.close()
            for node in (r, p):
                wait_until(lambda: node.try_upgrade().returncode == 0, "the lock to be given back")
            with Halt(r):
                w = r.connect()
                w.execute("insert into t values(3)")
                w.close()
            in_step(p, r)
            assert [a for a, in c.execute("select a from t")] == [1, 2, 3]
            r.check()
        c.close()
        p.check()


def test_refused_with_passthrough():
    """Which cannot be agreed upon with the kernel, or given up, later than at the mount."""
    for now, then in (("full", "off"), ("off", "full")):
        with Upgradable() as n:
            assert n.stop() == 0
            with open(n.config, encoding="utf-8") as f:
                config = f.read()
            if "wal-passthrough" in config:
                return  # what all nodes have is what is to be tested
            for value in (now, then):
                with open(n.config, "w", encoding="utf-8") as f:
                    f.write(config.replace("fuse:\n", f"fuse:\n  wal-passthrough: {value}\n"))
                if value == now:
                    n.start()
            c = n.connect()
            c.execute("pragma journal_mode=wal")
            c.execute("create table t(a)")
            before, r = n.info()["nodeID"], n.try_upgrade()
            assert r.returncode == 1 and "fuse.wal-passthrough" in r.stderr, r.stderr
            still_the_same(n, c, before)
            c.close()
            n.check()


PASSED_WRITER = """
import sqlite3, sys
path, synchronous = sys.argv[1:]
c = sqlite3.connect(path, isolation_level=None, timeout=120)
c.execute("pragma synchronous=" + synchronous)
c.execute("pragma wal_autocheckpoint=20")
c.execute("pragma cache_size=5")
n, round = c.execute("select count(*) from t").fetchone()[0], 0
while True:
    round += 1
    c.execute("begin immediate")
    for _ in range(1 + round % 7):
        c.execute("insert into t values(?, randomblob(900))", (n,))
        n += 1
    if round % 20 == 19:
        c.execute("delete from t where rowid % 3 = 0")
        c.execute("rollback")
        n = c.execute("select count(*) from t").fetchone()[0]
        continue
    c.execute("commit")
    print(n, flush=True)
"""


STARTS_LATE = """
import os, sys, time
if sys.argv[1] != "takeover-check":
    open({begun!r}, "w").close()
    while not os.path.exists({done!r}):
        time.sleep(0.01)
os.execv({litefs!r}, sys.argv)
"""


def passes_through(n, mode):
    """Whether that can be had on this machine; the node is started anew with it."""
    assert n.stop() == 0
    with open(n.config, encoding="utf-8") as f:
        lines = [line for line in f.read().splitlines() if "wal-passthrough:" not in line]
    lines.insert(lines.index("fuse:") + 1, f"  wal-passthrough: {mode}")
    with open(n.config, "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")
    n.start()
    return "WALs are passed through" in n.log()


def last_row(out):
    """That was told to be committed."""
    with open(out, encoding="utf-8") as f:
        lines = f.read().split("\n")
    return int(lines[-2]) if len(lines) > 1 else 0


def test_wals_that_are_passed_through():
    """Writers that nobody holds up go on from program to program: what they commit in between is the new one's to capture, and
    a WAL may begin anew. One that is killed right before, or in the middle, loses nothing that it was told of."""
    for mode, synchronous in (("full", "full"), ("full", "normal"), ("fast", "normal")):
        with Upgradable() as n:
            if not passes_through(n, mode):
                return
            c = n.connect()
            c.execute("pragma journal_mode=wal")
            c.execute("create table t(a, b)")
            reader, out = n.connect(), os.path.join(n.root, "out")
            for i in range(ROUNDS):
                with open(out, "w", encoding="utf-8") as f:
                    writer = subprocess.Popen([sys.executable, "-c", PASSED_WRITER, n.path("t.db"), synchronous], stdout=f)
                try:
                    wait_until(lambda: last_row(out) > 0, "rows")
                    if i % 3 == 1:
                        writer.kill()
                    elif i % 3 == 2:
                        threading.Timer(0.02 * (i % 5), writer.kill).start()
                    reader.execute("begin")
                    seen = reader.execute("select count(*) from t").fetchone()[0]
                    n.upgrade()
                    assert reader.execute("select count(*) from t").fetchone()[0] == seen
                    reader.execute("commit")
                    if i % 3 == 0:
                        before = last_row(out)
                        wait_until(lambda: last_row(out) > before or writer.poll() is not None, "more rows")
                        assert writer.poll() is None
                finally:
                    writer.kill()
                    writer.wait()
                told, there = last_row(out), c.execute("select count(*), count(distinct a) from t").fetchone()
                assert there[0] == there[1] >= told, (mode, synchronous, told, there)
                assert c.execute("pragma integrity_check").fetchone()[0] == "ok"
            assert not n.has_failed("t.db"), n.log()
            reader.close()
            c.close()
            n.check()


def test_commits_between_two_programs():
    """Unsynced ones in a WAL that is passed through, of a writer that is killed then: the next program captures all."""
    with Upgradable() as n:
        if not passes_through(n, "fast"):
            return
        c = n.connect()
        c.execute("pragma journal_mode=wal")
        c.execute("create table t(a, b)")
        out, begun, done = (os.path.join(n.root, name) for name in ("out", "begun", "done"))
        n.install_script(STARTS_LATE.format(begun=begun, done=done, litefs=LITEFS))
        with open(out, "w", encoding="utf-8") as f:
            writer = subprocess.Popen([sys.executable, "-c", PASSED_WRITER.replace("checkpoint=20", "checkpoint=0"), n.path("t.db"),
                                       "normal"], stdout=f)
        try:
            wait_until(lambda: last_row(out) > 0, "rows")
            upgrade = subprocess.Popen([LITEFS, "upgrade", "-url", n.url()])
            wait_until(lambda: os.path.exists(begun), "the next program")
            before = last_row(out)
            wait_until(lambda: last_row(out) > before + 10, "rows while no program runs")
        finally:
            writer.kill()
            writer.wait()
            with open(done, "w", encoding="utf-8"):
                pass
        assert upgrade.wait(60) == 0
        told = last_row(out)
        assert c.execute("select count(distinct a) from t").fetchone()[0] >= told
        pos = n.pos()
        c.execute("insert into t values(-1, '')")
        wait_until(lambda: n.pos() != pos, "the next commit to be captured")
        c.close()
        n.check()


def damage(path, offset):
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(b"damage")


def errors_of(c, *statements):
    """Whether each fails with an I/O error, and none says that the database is malformed."""
    texts = []
    for sql in statements:
        try:
            c.execute(sql).fetchall()
            texts.append("no error")
        except sqlite3.OperationalError as e:
            texts.append(str(e))
    return all("disk I/O error" in t or "unable to open" in t for t in texts), texts


def error_number(call, *words):
    try:
        call(*words)
    except OSError as e:
        return e.errno
    return 0


def test_a_damaged_database_fails_alone():
    """Damage that only the next program sees, and then the old one that is back: both would end the node for it."""
    with Upgradable() as n:
        connections = {}
        for name, mode in (("w.db", "wal"), ("d.db", "delete"), ("t.db", "delete"), ("u.db", "wal")):
            c = connections[name] = n.connect(name)
            c.execute(f"pragma journal_mode={mode}")
            c.execute("create table t(a)")
            c.execute("insert into t values(zeroblob(20000))")
            assert c.execute("select count(*) from t").fetchone()[0] == 1
        for name in ("d.db", "t.db", "u.db"):
            connections[name].execute("begin immediate")
            connections[name].execute("insert into t values(1)")
        damage(os.path.join(n.data, "dbs/w.db/wal"), 5000)  # which the log has
        damage_log(n, "d.db")
        r = n.try_upgrade()
        assert r.returncode == 1 and ("w.db" in r.stderr or "d.db" in r.stderr), r.stderr
        failed, texts = errors_of(connections["d.db"], "commit")
        assert failed, texts
        for name in ("w.db", "d.db"):
            wait_until(lambda: errors_of(connections[name], "select count(*) from t")[0], f"{name} to answer errors")
            failed, texts = errors_of(connections[name], "select count(*) from t", "insert into t values(1)")
            assert failed, (name, texts)
            assert error_number(open, n.path(name), "rb") == errno.EIO
        for name in ("t.db", "u.db"):
            connections[name].execute("commit")
            assert connections[name].execute("select count(*) from t").fetchone()[0] == 2
        log = n.log()
        for name in ("w.db", "d.db"):
            assert sum(name in line and "not taken over, the other" in line for line in log.splitlines()) == 1, log
        n.upgrade()  # of what is left
        for name in ("w.db", "d.db"):
            failed, texts = errors_of(connections[name], "select count(*) from t")
            assert failed, (name, texts)
        for c in connections.values():
            c.close()
        n.restart()
        c = n.connect("w.db")
        assert c.execute("select count(*) from t").fetchone()[0] == 1
        c.close()
        for name in ("w.db", "t.db", "u.db"):
            n.check(name)


def damage_log(node, name):
    """Of its last record: what is there then is an older state."""
    log = os.path.join(node.data, "dbs", name, "log")
    (segment,) = (os.path.join(log, f) for f in os.listdir(log))
    with open(segment, "rb") as f:
        damage(segment, len(f.read().rstrip(b"\0")) - 20)


def test_a_damaged_database_of_a_replica():
    """The primary gives it anew; who had it open opens it again."""
    with Upgradable() as p:
        c = p.connect()
        c.execute("create table t(a)")
        c.execute("insert into t values(1)")
        with Upgradable(extra=f"  candidate: false\n  advertise-url: {p.url()}\n  reconnect-delay: 100ms\n") as r:
            in_step(p, r)
            reader = r.connect()
            reader.execute("select * from t").fetchall()
            damage_log(r, "t.db")
            result = r.try_upgrade()
            assert result.returncode == 1 and "t.db" in result.stderr, result.stderr
            c.execute("insert into t values(2)")
            in_step(p, r)
            failed, texts = errors_of(reader, "select count(*) from t")
            assert failed, texts
            reader.close()
            reader = r.connect()
            assert reader.execute("select count(*) from t").fetchone()[0] == 2
            r.upgrade()
            c.execute("insert into t values(3)")
            in_step(p, r)
            assert reader.execute("select count(*) from t").fetchone()[0] == 3
            reader.close()
        c.close()


def test_refused_without_descriptors():
    with Upgradable() as n:
        c = n.connect()
        c.execute("create table t(a)")
        files = [open(n.path(f"f{i}"), "w") for i in range(100)]  # each open twice while it is handed over
        n_open = len(os.listdir(f"/proc/{n.process.pid}/fd"))
        _, most = resource.prlimit(n.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(n.process.pid, resource.RLIMIT_NOFILE, (n_open + 50, most))
        before = n.info()["nodeID"]
        r = n.try_upgrade()
        assert r.returncode == 1 and "LimitNOFILE" in r.stderr, r.stderr
        still_the_same(n, c, before)
        resource.prlimit(n.process.pid, resource.RLIMIT_NOFILE, (most, most))
        n.upgrade()
        c.close()
        for f in files:
            f.close()
        n.check()


def test_node_ends_when_it_cannot_go_on():
    """With an error, and with the application of `exec` told."""
    if shutil.which("strace") is None:
        return
    with Upgradable() as n:
        assert n.stop() == 0
        with open(n.root + "/application", "w", encoding="utf-8") as f:
            f.write(f"trap 'echo told > {n.root}/told; exit 0' TERM\necho > {n.root}/runs\nwhile :; do sleep 0.1; done\n")
        with open(n.config, "a", encoding="utf-8") as f:
            f.write(f"exec: sh {n.root}/application\n")
        n.start()
        wait_until(lambda: os.path.exists(n.root + "/runs"), "the application")
        tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=memfd_create", "-e",
                                   "inject=memfd_create:error=ENOMEM", "-p", str(n.process.pid)])
        try:
            wait_until(lambda: is_traced(n.process.pid), "strace")
            with urllib.request.urlopen(urllib.request.Request(n.url() + "/upgrade", method="POST"), timeout=60):
                pass
            assert n.process.wait(60) == 1
        finally:
            tracer.kill()
            tracer.wait(30)
        n.process = None
        assert os.path.exists(n.root + "/told")
        assert "could not be handed over" in n.log()


OPENS_A_PAST_STATE = """
import os, sys, time
f = open({past!r}, "rb")
if os.fork() == 0:
    os.closerange(0, 3)
    while not os.path.exists({done!r}):
        time.sleep(0.05)
"""


def test_refused_after_it_has_begun():
    """What has come up since the node was asked is told to who asked."""
    with Upgradable() as n:
        c = n.connect()
        c.execute("create table t(a)")
        past, done = n.path("t.db@" + n.pos().split("/")[0]), os.path.join(n.root, "done")
        before = n.info()["nodeID"]
        n.install_script(OPENS_A_PAST_STATE.format(past=past, done=done))
        try:
            r = n.try_upgrade()
        finally:
            with open(done, "w"):
                pass
        assert r.returncode == 1 and "a past state of t.db is open" in r.stderr, r.stderr
        assert "a past state of t.db is open" in n.info()["upgradeError"]
        still_the_same(n, c, before)
        n.install(LITEFS)
        wait_until(lambda: n.try_upgrade().returncode == 0, "the file's close to arrive")
        assert "upgradeError" not in n.info()
        c.close()
        n.check()


CANNOT_BE_RUN = """
import os, sys
with open(sys.argv[0] + ".new", "wb") as f:
    f.write(b"\\177ELF nonsense")
os.chmod(sys.argv[0] + ".new", 0o755)
os.rename(sys.argv[0] + ".new", sys.argv[0])
"""


def test_old_program_goes_on():
    """The new program fails although it has said that it would not: the old one has everything back."""
    with Upgradable() as n:
        c = n.connect()
        c.execute("create table t(a)")
        for i, (script, reason) in enumerate(((GIVES_BACK, "does not like it"), (CANNOT_BE_RUN, "cannot run it")), 1):
            c.execute("begin immediate")
            c.execute("insert into t values(1)")
            n.install_script(script)
            r = n.try_upgrade()
            assert r.returncode == 1 and reason in r.stderr, r.stderr
            c.execute("commit")
            assert c.execute("select count(*) from t").fetchone()[0] == i
            assert reason in n.info()["upgradeError"]
        n.install(LITEFS)
        n.upgrade()
        assert "upgradeError" not in n.info()
        c.close()
        n.check()


def test_application_stays():
    """The application of `exec` is the same process, and still ends with its node."""
    with Upgradable() as n:
        assert n.stop() == 0
        with open(n.root + "/application", "w", encoding="utf-8") as f:
            f.write(f"echo $$ >> {n.root}/pid\nexec sleep 100000\n")
        with open(n.config, "a", encoding="utf-8") as f:
            f.write(f"exec: sh {n.root}/application\n")
        n.start()
        wait_until(lambda: os.path.exists(n.root + "/pid") and open(n.root + "/pid").read().endswith("\n"), "the application")
        pids = open(n.root + "/pid").read().split()
        n.upgrade()
        n.upgrade()  # a stop may come before the next program's start is over
        assert open(n.root + "/pid").read().split() == pids and os.path.exists("/proc/" + pids[0])
        assert n.stop() == 0
        assert not os.path.exists("/proc/" + pids[0])


def test_proxy_that_cannot_listen():
    """The node serves, and goes on to."""
    with Upgradable() as n, socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        c = n.connect()
        c.execute("create table t(a)")
        with open(n.config, "a", encoding="utf-8") as f:
            f.write(f"proxy:\n  addr: 127.0.0.1:{other.getsockname()[1]}\n  target: 127.0.0.1:1\n  db: t.db\n")
        n.upgrade()
        wait_until(lambda: "no proxy: " in n.log(), "the proxy's error")
        still_the_same(n, c, n.info()["nodeID"])
        c.close()
        n.check()


def n_guards(parent):
    """Children of that name, dead ones that were not waited for among them."""
    n = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
                head, _, tail = f.read().rpartition(")")
        except OSError:
            continue  # it has ended meanwhile
        n += head.endswith("(litefs-guard") and int(tail.split()[1]) == parent
    return n


def test_slash_behind_the_directory():
    """The new program asks the mount nothing before it answers there, however fuse.dir is spelled."""
    with Upgradable() as n:
        assert n.stop() == 0
        link = os.path.join(n.root, "link")
        os.symlink(n.mnt + "/", link)
        with open(n.config, encoding="utf-8") as f:
            config = f.read()
        for directory in (n.mnt + "/", link):
            with open(n.config, "w", encoding="utf-8") as f:
                f.write(config.replace(f"dir: {n.mnt}\n", f"dir: {directory}\n"))
            n.start()
            c = n.connect()
            c.execute("create table if not exists t(a)")
            c.execute("begin immediate")
            c.execute("insert into t values(1)")
            n.upgrade()
            c.execute("commit")
            c.close()
            assert n.stop() == 0
        n.start()
        n.check()


def test_killed_afterwards():
    """The guard of the old program has gone with it, and the new program's ends the mount."""
    with Upgradable() as n:
        n.upgrade()
        wait_until(lambda: n_guards(n.process.pid) == 1, "one guard")
        c = n.connect()
        c.execute("create table t(a)")
        n.kill()
        n.start()
        assert n.connect().execute("select count(*) from t").fetchone()[0] == 0


if __name__ == "__main__":
    litefs_fixture.run(sys.modules[__name__])
