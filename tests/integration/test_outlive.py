"""A connection that outlives litefs gets an error or what is true: never, in silence, what was true when it was open."""
import signal
import sqlite3
import subprocess
import sys

import litefs_fixture
from litefs_fixture import Node, in_step, replica_of


def count(c):
    return c.execute("select count(*) from t").fetchone()[0]


def end(node, how):
    if how == signal.SIGTERM:
        node.stop()
    else:
        node.kill()


def check(mode, how, p, node, catch_up):
    """@node ends and comes back while two connections to it stay open; the database changes meanwhile."""
    c = p.connect()
    c.execute(f"pragma journal_mode={mode}")
    c.execute("create table t(a)")
    c.execute("insert into t values(1)")
    c.close()
    catch_up()
    keeper = node.connect()  # so that there is a wal-index
    old = node.connect()
    assert count(keeper) == count(old) == 1
    end(node, how)
    node.start()
    c = p.connect()
    c.execute("insert into t values(2)")
    c.close()
    catch_up()
    new = node.connect()
    assert count(new) == 2
    for connection in (old, keeper, old):
        try:
            got = count(connection)
        except sqlite3.Error:
            continue
        assert got == 2, f"{mode}, {how.name}: an old connection still counts {got} in silence"
    for connection in (old, keeper, new):
        connection.close()


KINDS = [(mode, how) for mode in ("delete", "wal") for how in (signal.SIGTERM, signal.SIGKILL)]


def test_readers_on_a_primary_that_ends():
    for mode, how in KINDS:
        with Node() as n:
            check(mode, how, n, n, lambda: None)


def test_readers_on_a_replica_that_ends():
    for mode, how in KINDS:
        with Node() as p, replica_of(p) as r:
            check(mode, how, p, r, lambda: in_step(p, r))


APPLICATION = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("pragma mmap_size=134217728")
def ask():
    try:
        return c.execute("select sum(length(a)) from t").fetchone()[0]
    except sqlite3.Error as e:
        return type(e).__name__
c.execute("begin")
for line in sys.stdin:
    print(ask(), flush=True)
    if line == "commit\\n":
        c.execute("rollback")
"""


def test_an_application_that_maps_its_database_lives_on():
    """As Rails does by default, and in the middle of a transaction, which goes on in its snapshot. In WAL mode; where there
    is no wal-index, nothing but the pages can tell."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with Node() as n:
            c = n.connect()
            c.execute("pragma journal_mode=wal")
            c.execute("create table t(a)")
            for _ in range(100):
                c.execute("insert into t values(zeroblob(20000))")
            c.execute("pragma wal_checkpoint")
            app = subprocess.Popen([sys.executable, "-c", APPLICATION, n.path("t.db")], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True)

            def ask(line="ask"):
                app.stdin.write(line + "\n")
                app.stdin.flush()
                return app.stdout.readline().strip()
            try:
                assert ask() == "2000000"
                c.close()
                end(n, how)
                n.start()
                c = n.connect()
                c.execute("delete from t")
                c.close()
                answer = ask("commit")
                assert answer == "2000000" or answer.endswith("Error"), f"{how.name}: {answer!r}, status {app.poll()}"
                for _ in range(2):
                    answer = ask()
                    assert answer.endswith("Error"), f"{how.name}: {answer!r}, status {app.poll()}"
            finally:
                app.kill()
                app.wait()


if __name__ == "__main__":
    litefs_fixture.run(sys.modules[__name__])
