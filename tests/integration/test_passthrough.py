"""fuse.wal-passthrough: full. What a commit costs in requests, what becomes of one whose writer is killed before the wal-index
shows it, and that nobody reads or commits on in a mount that has ended."""
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request

import litefs_fixture
from litefs_fixture import Node, in_step, is_traced, replica_of, wait_until

litefs_fixture.WAL_PASSTHROUGH = "full"
from test_requests import assert_cost, assert_free, cost, open_table, select, totals, update  # noqa: E402

SEED = int(os.environ.get("SEED", random.randrange(1 << 30)))
ROUNDS = int(os.environ.get("ROUNDS", 40))
ON = "WALs are passed through"


def needs_passthrough():
    """Exit status 77 where the kernel does not offer it, or the rights are missing."""
    with Node() as n:
        if ON not in n.log():
            print([line for line in n.log().splitlines() if "wal-passthrough" in line])
            sys.exit(77)


needs_passthrough()


def run_python(text, *args, **kw):
    return subprocess.Popen([sys.executable, "-c", text, *args], stdout=subprocess.PIPE, text=True, **kw)


def without_visitors(made):
    return {k: v for k, v in made.items() if k not in ("OPEN", "RELEASE", "FLUSH")}


def test_requests_of_a_commit():
    with Node() as n:
        c = open_table(n, "wal", "full")
        write = update(c)
        # An OPEN is a visitor's, who looks whether a writer that stands still after its sync is dead.
        wait_until(lambda: without_visitors(cost(n, write)) == {"FSYNC": 20}, "each commit to be one request")
        c.execute("pragma synchronous=normal")
        assert_cost(n, write, {})
        assert_free(n, select(c))
        d = n.connect()
        assert_free(n, select(d))
        c.execute("pragma synchronous=full")

        values = itertools.count(1000)

        def cost_of_the_first():
            c.execute("pragma wal_checkpoint")  # and the WAL begins anew: SQLite syncs its header by itself
            return without_visitors(cost(n, lambda _: write(next(values)), 1))
        wait_until(lambda: cost_of_the_first() == {"FSYNC": 2}, "two requests for the first commit of a WAL")
        c.close()
        d.close()
        n.check()


def test_unsynced_commits_are_captured_and_told_of_once():
    with Node() as n:
        c = open_table(n, "wal", "normal")
        for i in range(300):
            c.execute("update t set b=? where a=1", (i,))
        wait_until(lambda: n.replay()[0] == n.pos() and int(n.pos()[:16], 16) >= 300, "all commits in the log")
        n.check()
        assert n.log().count("commits without syncing") == 1, n.log()
        c.close()
        n.check()


DYING = r"""
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("pragma synchronous=full")
c.execute("pragma wal_autocheckpoint=0")
c.execute("select count(*) from t").fetchone()
print("ready", flush=True)
sys.stdin.readline()
c.execute("insert into t(b) values(?)", ("dead" * int(sys.argv[2]),))
print("survived", flush=True)
"""


READER = r"""
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("select count(*) from t").fetchone()
print("ready", flush=True)
sys.stdin.readline()
"""


def die_after_sync(n, size=1):
    """The writer is killed when the fdatasync of its commit returns: captured, and in no wal-index. "" when it was."""
    p = run_python(DYING, n.path("t.db"), str(size), stdin=subprocess.PIPE)
    p.stdout.readline()
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", os.path.join(n.root, "trace"), "-e", "trace=fdatasync",
                               "-e", "inject=fdatasync:delay_exit=600000000", "-p", str(p.pid)])
    wait_until(lambda: is_traced(p.pid), "strace")
    before = totals(n)["FSYNC"]
    p.stdin.write("\n")
    p.stdin.flush()
    wait_until(lambda: totals(n)["FSYNC"] > before, "the writer's sync")
    wait_until(lambda: n.replay()[0] != n.pos(), "the commit in the log")
    return p, tracer


def end(p, tracer):
    p.kill()
    tracer.kill()
    tracer.wait(30)
    p.wait(30)
    p.stdin.close()
    p.stdout.close()


def prepare_dead(n):
    c = n.connect()
    c.execute("pragma journal_mode=wal")
    c.execute("pragma synchronous=full")
    c.execute("create table t(a integer primary key, b)")
    c.execute("insert into t(b) values('first')")
    wait_until(lambda: n.replay()[0] == n.pos(), "the commits to be shown")
    return c


def test_commit_that_is_not_published_is_told_to_nobody():
    with Node() as n, replica_of(n) as r:
        c = prepare_dead(n)
        in_step(n, r)
        position = n.pos()
        p, tracer = die_after_sync(n)
        assert n.pos() == position and r.pos() == position
        assert c.execute("select count(*) from t").fetchone() == (1,)
        end(p, tracer)
        # Nobody else writes: a visitor finds that the writer is dead, and the commit stands.
        wait_until(lambda: n.pos() != position, "the commit to be decided")
        assert c.execute("select b from t order by a").fetchall() == [("first",), ("dead",)]
        in_step(n, r)
        c.execute("insert into t(b) values('after')")
        in_step(n, r)
        n.check()
        c.close()
        n.check()


def die_before_sync(n):
    """The writer is killed when it enters the fdatasync of its commit: its frames are in the WAL, and litefs has not heard of
    them."""
    before = totals(n)["FSYNC"]
    p = run_python(DYING, n.path("t.db"), "1", stdin=subprocess.PIPE)
    p.stdout.readline()
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", os.path.join(n.root, "trace"), "-e", "trace=fdatasync",
                               "-e", "inject=fdatasync:signal=KILL", "-p", str(p.pid)])
    wait_until(lambda: is_traced(p.pid), "strace")
    p.stdin.write("\n")
    p.stdin.flush()
    assert p.wait(60) == -signal.SIGKILL
    end(p, tracer)
    assert totals(n)["FSYNC"] == before


def test_commit_that_litefs_never_heard_of():
    """Nobody has been told of it. Whoever has the wal-index writes over it, and it never was; with nobody left SQLite finds it in
    the WAL, as it does on a disk."""
    for is_kept in (True, False):
        with Node() as n, replica_of(n) as r:
            c = prepare_dead(n)
            position = n.pos()
            if not is_kept:
                c.execute("pragma wal_checkpoint(truncate)")  # what follows is one FSYNC more: the new header's
                c.execute("insert into t(b) values('second')")
                wait_until(lambda: n.replay()[0] == n.pos(), "the commit to be shown")
                position = n.pos()
            hold = None if is_kept else run_python(READER, n.path("t.db"), stdin=subprocess.PIPE)
            if hold:
                hold.stdout.readline()
                c.close()
            die_before_sync(n)
            assert n.pos() == position
            if hold:
                hold.kill()  # so that nobody takes the WAL away in good order
                hold.wait(30)
                hold.stdin.close()
                hold.stdout.close()
                c = n.connect()
            rows = [b for b, in c.execute("select b from t order by a")]
            assert rows == (["first"] if is_kept else ["first", "second", "dead"]), rows
            c.execute("insert into t(b) values('after')")
            wait_until(lambda: n.replay()[0] == n.pos(), "the commits to be shown")
            in_step(n, r)
            n.check()
            assert [b for b, in c.execute("select b from t order by a")] == rows + ["after"]
            c.close()
            n.restart()
            n.check()


def test_commit_whose_frames_are_written_over():
    """The dangerous case: the connection that lives takes the lock before anybody looks, and does not know of the commit."""
    for size in (1, 5000):
        with Node() as n, replica_of(n) as r:
            c = prepare_dead(n)
            p, tracer = die_after_sync(n, size)
            # Waits for the dead one's lock, and has it before a visitor.
            d = run_python("import sqlite3,sys\nc=sqlite3.connect(sys.argv[1],isolation_level=None,timeout=60)\n"
                           "c.execute('pragma synchronous=full')\nc.execute('select * from t').fetchall()\nprint('ready',flush=True)\n"
                           "while True:\n"
                           " try:\n  c.execute(\"insert into t(b) values('alive')\")\n  break\n"
                           " except sqlite3.OperationalError as e:\n  print(e, file=sys.stderr)\n", n.path("t.db"))
            d.stdout.readline()
            end(p, tracer)
            assert d.wait(60) == 0
            d.stdout.close()
            rows = [b[:5] for b, in c.execute("select b from t order by a")]
            assert rows in (["first", "alive"], ["first", "deadd", "alive"], ["first", "dead", "alive"]), rows
            wait_until(lambda: n.replay()[0] == n.pos(), "the commits to be shown")
            in_step(n, r)
            n.check()
            c.close()
            n.check()
            n.restart()
            n.check()


WRITER = r"""
import random, sqlite3, sys
rng = random.Random(sys.argv[2])
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
c.execute("pragma synchronous=" + rng.choice(["full", "full", "full", "normal"]))
c.execute("pragma wal_autocheckpoint=%d" % rng.choice([5, 50, 1000]))
c.execute("pragma cache_size=10")
while True:
    try:
        c.execute("begin immediate")
        for _ in range(rng.choice([1, 1, 1, 3, 40])):
            c.execute("insert into t(b) values(randomblob(?))", (rng.choice([10, 300, 3000]),))
        c.execute("delete from t where a % 11 = ?", (rng.randrange(11),))
        c.execute("commit")
    except sqlite3.OperationalError as e:
        if c.in_transaction:
            c.execute("rollback")
"""


def test_killed_writers_at_random():
    """Some that write, of whom one after the other is killed, at once or after it stood still for a moment."""
    print("SEED=%d" % SEED, flush=True)
    rng = random.Random(SEED)
    with Node() as n, replica_of(n) as r:
        keeper = prepare_dead(n)
        start = lambda: run_python(WRITER, n.path("t.db"), str(rng.random()))  # noqa: E731
        writers = [start() for _ in range(3)]
        for i in range(ROUNDS):
            time.sleep(rng.random() * 0.1)
            p = writers.pop(rng.randrange(len(writers)))
            if rng.random() < 0.3:
                p.send_signal(signal.SIGSTOP)
                time.sleep(rng.random() * 0.05)
            p.kill()
            p.wait(30)
            p.stdout.close()
            writers.append(start())
            if i % 10 == 9:
                for p in writers:
                    p.kill()
                    p.wait(30)
                    p.stdout.close()
                keeper.execute("insert into t(b) values('alive')")  # settles what the last one has left
                wait_until(lambda: n.replay()[0] == n.pos(), "the commits to be shown")
                in_step(n, r)
                n.check()
                assert keeper.execute("pragma integrity_check").fetchone() == ("ok",)
                writers = [start() for _ in range(3)]
        for p in writers:
            p.kill()
            p.wait(30)
            p.stdout.close()
        keeper.close()
        assert "writing is stopped" not in n.log()
        n.restart()
        n.check()


def test_nobody_reads_or_writes_on_in_a_mount_that_has_ended():
    for is_killed in (False, True):
        for synchronous in ("full", "normal"):
            n = Node()
            with n:
                c = prepare_dead(n)
                c.execute("pragma synchronous=" + synchronous)
                if is_killed:
                    n.kill()
                else:
                    n.stop()

                def fails():
                    try:
                        c.execute("insert into t(b) values('lost')")
                        return False
                    except sqlite3.OperationalError:
                        return True
                wait_until(fails, "a connection to hear that litefs is gone")
                if synchronous == "full":
                    try:
                        c.execute("select count(*) from t").fetchone()
                        raise AssertionError("it reads on")
                    except sqlite3.OperationalError:
                        pass
                c.close()
                n.start()
                n.check()
                d = n.connect()
                assert ("first",) in d.execute("select b from t").fetchall()
                d.close()


COUNTING = r"""
import itertools, sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
c.execute("pragma synchronous=normal")
c.execute("pragma wal_autocheckpoint=0")
for i in itertools.count(1):
    c.execute("insert into n values(?)", (i,))
    print(i, flush=True)
"""


def fails_to_hand_over(n):
    """The state cannot be gathered; the tracer, for who has to end it."""
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=memfd_create", "-e",
                               "inject=memfd_create:error=ENOMEM", "-p", str(n.process.pid)])
    wait_until(lambda: is_traced(n.process.pid), "strace")
    with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{n.port()}/upgrade", method="POST"), timeout=60):
        pass
    return tracer


def test_an_ending_node_loses_nothing_that_it_cannot_refuse():
    """A writer that nobody is asked by commits on while the mount waits for its files to be closed."""
    for has_failed in (False, True):
        if has_failed and shutil.which("strace") is None:
            return
        with Node() as n:
            c = n.connect()
            c.execute("pragma journal_mode=wal")
            c.execute("create table n(a integer primary key)")
            writer, tracer = run_python(COUNTING, n.path("t.db")), None
            try:
                writer.stdout.readline()
                if has_failed:
                    tracer = fails_to_hand_over(n)
                else:
                    n.process.send_signal(signal.SIGTERM)
                wait_until(lambda: "files are still open" in n.log(), "the mount to end")
                before = c.execute("select max(a) from n").fetchone()[0]
                told = 0
                while told < before + 20:
                    line = writer.stdout.readline()
                    assert line, "the writer was ended before it had committed anything"
                    told = int(line)
            finally:
                writer.kill()
                writer.wait(30)
                writer.stdout.close()
                if tracer is not None:
                    tracer.send_signal(signal.SIGTERM)
                    tracer.wait(30)
            c.close()
            assert n.process.wait(60) == has_failed
            n.process = None
            assert ("could not be handed over" in n.log()) == has_failed
            n.start()
            c = n.connect()
            count, last = c.execute("select count(*), max(a) from n").fetchone()
            assert count == last >= told, (has_failed, count, last, told)
            c.close()
            n.check()


@contextlib.contextmanager
def passing(mode, *databases):
    """Nodes that are made within have fuse.wal-passthrough so."""
    litefs_fixture.WAL_PASSTHROUGH = mode
    if databases:
        litefs_fixture.WAL_PASSTHROUGH += "\n  wal-passthrough-databases: " + json.dumps(databases)
    try:
        yield
    finally:
        litefs_fixture.WAL_PASSTHROUGH = "full"


def litefs(n, command, *args):
    p = subprocess.run([litefs_fixture.LITEFS, command, *args, "-config", n.config, "-url", f"http://127.0.0.1:{n.port()}"],
                       capture_output=True, text=True, timeout=60, check=False)
    assert p.returncode == 0 and p.stderr == "", (p.stdout, p.stderr)
    return p.stdout


def findings(n):
    return [(f["level"], f["text"]) for f in json.loads(litefs(n, "doctor", "-json")) if f["check"] == "wal"]


def test_patterns_decide_for_each_database():
    with passing("full", "logs/*=off"), Node() as n:
        os.mkdir(n.path("logs"))
        passed, other = n.connect(), n.connect("logs/b.db")
        for c in (passed, other):
            c.execute("pragma journal_mode=wal")
            c.execute("pragma synchronous=full")
            c.execute("create table t(a integer primary key, b)")
            c.execute("insert into t values(1, 'x')")
        made = cost(n, update(passed))  # an OPEN is a visitor's, who looks whether a writer that stands still is dead
        assert made.get("WRITE", 0) == 0 and made["FSYNC"] == 20, made
        assert cost(n, update(other)).get("WRITE", 0) > 0
        passed.close()
        other.close()
        n.check()
        n.check("logs/b.db")


def test_advice_where_each_commit_is_synced():
    with passing("auto"), Node() as n:
        c, d = n.connect(), n.connect("normal.db")
        for x, synchronous in ((c, "full"), (d, "normal")):
            x.execute("pragma journal_mode=wal")
            x.execute("pragma synchronous=" + synchronous)
            x.execute("create table t(a integer primary key, b)")
        assert findings(n) == []
        for _ in range(1100):
            c.execute("insert into t(b) values('x')")
            d.execute("insert into t(b) values('x')")
        said = "commits in WAL mode, all synced (synchronous=FULL)"
        (level, text), = findings(n)
        assert level == "OK" and text.startswith("t.db: ") and said in text, text
        assert '["t.db=full"]' in text
        assert text in litefs(n, "status")
        wait_until(lambda: n.log().count(said) == 1, "the line in the log")
        c.close()
        d.close()


def test_advice_where_commits_are_not_synced():
    with Node() as n:
        c = open_table(n, "wal", "full")
        c.execute("insert into t(b) values('x')")
        assert findings(n) == []
        c.execute("pragma synchronous=normal")
        c.execute("insert into t(b) values('x')")
        wait_until(lambda: findings(n) != [], "the commit to be counted")
        (level, text), = findings(n)
        assert level == "WARN" and '["t.db=off"]' in text and " commits were not synced" in text, text
        c.close()


def test_fast():
    """Static leases only: commits with NORMAL cost nothing, are nothing to be warned of, and survive a kill of litefs."""
    with passing("off", "t.db=fast"), Node() as n:
        c = open_table(n, "wal", "normal")
        assert_cost(n, update(c), {})
        for i in range(200):
            c.execute("insert into t(b) values(?)", (i,))
        n.kill()
        c.close()
        n.start()
        assert "commits without syncing" not in n.log()
        n.check()
        d = n.connect()
        assert d.execute("select count(*) from t").fetchone() == (210,)
        d.close()


def test_off_where_it_is_not_to_be_had():
    """The kernel refuses the files, as it does without CAP_SYS_ADMIN: as without it, with a line."""
    n = Node()
    try:
        n.start(wrapper=("strace", "-D", "-f", "-qq", "-o", "/dev/null", "-P", "/dev/fuse", "-e", "trace=ioctl",
                         "-e", "inject=ioctl:error=EPERM"))
        assert "it needs CAP_SYS_ADMIN" in n.log() and ON not in n.log(), n.log()
        c = open_table(n, "wal", "full")
        assert cost(n, update(c)).get("WRITE", 0) > 0
        c.close()
        n.check()
    finally:
        n.__exit__(*sys.exc_info())


if __name__ == "__main__":
    litefs_fixture.run(sys.modules[__name__])
