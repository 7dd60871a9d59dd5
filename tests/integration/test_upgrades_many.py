"""Planned upgrades one after the other under load, in all journal modes: ROUNDS of them (20), or as many as MAX_SECONDS
(600) allow, beside DATABASES (10) that are open and idle. No application may see an error, and none of what it was told is
committed may be lost. Prints how long the longest statement took that each upgrade came upon."""
import os
import subprocess
import sys
import time

import litefs_fixture
from litefs_fixture import wait_until
from test_upgrade import MODES, Upgradable

ROUNDS, DATABASES = int(os.environ.get("ROUNDS", "20")), int(os.environ.get("DATABASES", "10"))
SLOW_MS = 5  # what is shorter is no stall

APPLICATION = """
import sqlite3, sys, threading, time
path, mode, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
end = threading.Event()
slow, changes = [], [0]  # of the second an odd number: all rows are about to go
def connect():
    return sqlite3.connect(path, isolation_level=None, timeout=300, check_same_thread=False)
def timed(c, sql):
    begin = time.monotonic()
    rows = c.execute(sql).fetchall()
    took = time.monotonic() - begin
    if took > {slow}:
        slow.append((begin, took, sql))
    return rows
writer, reader = connect(), connect()
writer.execute("pragma journal_mode=" + mode)
writer.execute("pragma cache_size=10")
writer.execute("create table t(id integer primary key, a)")
print("ready", flush=True)
def read():
    last, seen = 0, 0
    while not end.is_set():
        before = changes[0]
        ((n, top),) = timed(reader, "select count(*), coalesce(max(id), 0) from t")
        assert n == top and n % 2 == 0 and (n >= last or changes[0] != seen), (n, top, last)
        last, seen = (n if before == changes[0] and before % 2 == 0 else 0), before
        time.sleep(pause)
failed = []
threading.excepthook = lambda a: (failed.append(a.exc_value), end.set())
thread = threading.Thread(target=read)
thread.start()
threading.Thread(target=lambda: (sys.stdin.read(), end.set()), daemon=True).start()
n = round = 0
while not end.is_set():
    round += 1
    timed(writer, "begin immediate")
    timed(writer, "insert into t(a) values(randomblob(700))")
    time.sleep(pause / 2)
    timed(writer, "insert into t(a) values(randomblob(9000))")
    if mode != "off" and round % 10 == 0:
        timed(writer, "rollback")
    else:
        timed(writer, "commit")
        n += 2
    if n >= 2000:
        changes[0] += 1
        timed(writer, "delete from t")
        changes[0] += 1
        n = 0
    time.sleep(pause)
thread.join()
assert not failed, failed
assert writer.execute("select count(*) from t").fetchone()[0] == n
assert writer.execute("pragma integrity_check").fetchone()[0] == "ok"
for begin, took, sql in slow:
    print(begin, took, sql.split()[0])
print("end", flush=True)
"""


def start(n, mode):
    a = subprocess.Popen([sys.executable, "-c", APPLICATION.replace("{slow}", str(SLOW_MS / 1000)), n.path(mode + ".db"), mode,
                          "0.003"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert a.stdout.readline() == "ready\n", a.communicate()[1]
    return a


def end(mode, a):
    """The stalls: when, for how long, and in what."""
    out, error = a.communicate(timeout=600)
    assert a.returncode == 0 and out.endswith("end\n"), (mode, error)
    words = [line.split() for line in out.splitlines()[:-1]]
    return [(float(at), float(took), f"{verb} in {mode}") for at, took, verb in words]


def tell(upgrades, stalls):
    """The longest of those that were under way during an upgrade; and of the others, for what the machine has to do with it."""
    met = [[s for s in stalls if s[0] < done and s[0] + s[1] > begun] for begun, done in upgrades]
    others = set(stalls).difference(*met)
    took = sorted(max([t for _, t, _ in one], default=0.0) * 1000 for one in met)
    print(f"{len(took)} upgrades, {DATABASES} idle databases: the longest statement of each took "
          f"{took[len(took) // 2]:.0f} ms at the median, {took[len(took) * 99 // 100]:.0f} ms at the 99th percentile, "
          f"{took[-1]:.0f} ms at the most; beside upgrades the longest took {max([t for _, t, _ in others], default=0) * 1000:.0f} ms",
          flush=True)
    for name, some in (("beside an upgrade", {s for one in met for s in one}), ("otherwise", others)):
        print(f"{name}:", ", ".join(f"{what} {t * 1000:.0f} ms" for _, t, what in sorted(some, key=lambda s: -s[1])[:8]), flush=True)


def test_many():
    with Upgradable() as n:
        idle = [n.connect(f"idle{i}.db") for i in range(DATABASES)]
        for i, c in enumerate(idle):
            c.execute(f"pragma journal_mode={MODES[i % 4]}")
            c.execute("create table t(a)")
            c.execute("insert into t values(zeroblob(100000))")
        applications = [(mode, start(n, mode)) for mode in MODES]
        upgrades = []
        try:
            end_at = time.monotonic() + float(os.environ.get("MAX_SECONDS", "600"))
            while len(upgrades) < ROUNDS and time.monotonic() < end_at:
                positions = {mode: n.pos(mode + ".db") for mode in MODES}
                begun = time.monotonic()
                n.upgrade()
                upgrades.append((begun, time.monotonic()))
                for mode, a in applications:
                    wait_until(lambda: a.poll() is not None or n.pos(mode + ".db") != positions[mode], f"{mode} to go on")
                    assert a.poll() is None, (mode, a.communicate()[1])
            tell(upgrades, [s for mode, a in applications for s in end(mode, a)])
        finally:
            for _, a in applications:
                a.kill()
                a.wait()
        for c in idle:
            c.execute("insert into t values(1)")
            assert c.execute("select count(*) from t").fetchone()[0] == 2
            c.close()
        assert litefs_fixture.is_mounted(n.mnt)
        for mode in MODES:
            n.check(mode + ".db")


if __name__ == "__main__":
    litefs_fixture.run(sys.modules[__name__])
