"""A process of several threads on a replica beside a primary that writes: one reads, one is refused writes, one checkpoints.
What each of them has open they close and open again at any time, and the node is restarted below them. ROUNDS: of those."""
import json
import os
import random
import subprocess
import sys

from litefs_fixture import Node, in_step, replica_of, run

ROUNDS = int(os.environ.get("ROUNDS", "3"))
ACCOUNTS = 40
TRANSFERS = 100

# Reports what no reader may ever see; that it cannot read for a while is none of that.
PROCESS = """
import itertools, json, sqlite3, sys, threading, time
path, is_over, wrong, counts = sys.argv[1], threading.Event(), [], {"reads": 0, "refused": 0, "checkpoints": 0}

def read(c, n):
    c.execute("begin")
    first = c.execute("select count(*), total(v) from accounts").fetchone(), c.execute("select n from done").fetchone()[0]
    if first[0] != (int(sys.argv[2]), 0.0):
        wrong.append(f"the sum is {first}")
    if n % 20 == 0:
        said = c.execute("pragma integrity_check").fetchall()
        if said != [("ok",)]:
            wrong.append(f"integrity_check: {said[:3]}")
    again = c.execute("select count(*), total(v) from accounts").fetchone(), c.execute("select n from done").fetchone()[0]
    if again != first:
        wrong.append(f"{first}, then {again} in one transaction")
    c.execute("commit")
    counts["reads"] += 1
    return first[1]

def write(c, n):
    try:
        c.execute("update accounts set v = v + 1 where id = ?", (n % 5,))
    except sqlite3.OperationalError:
        counts["refused"] += 1
    else:
        wrong.append("a write on a replica")

def checkpoint(c, n):
    c.execute(f"pragma wal_checkpoint({('passive', 'restart', 'truncate')[n % 3]})").fetchone()
    counts["checkpoints"] += 1

def go(act, last=None):
    c = None
    for n in itertools.count():
        if is_over.is_set() and last is None:
            break
        try:
            if c is None:
                c = sqlite3.connect(f"file:{path}?mode=rw", uri=True, isolation_level=None, timeout=1)
                c.execute("pragma cache_size=4")
            got = act(c, n)
            if is_over.is_set() and last is not None and last() == got:
                break
            if n % 50 < 49:
                continue
        except sqlite3.OperationalError:
            time.sleep(0.002)
            if n % 3:
                continue
        except sqlite3.DatabaseError as e:  # malformed, or no database
            wrong.append(f"{act.__name__}: {e}")
        if c is not None:
            c.close()
            c = None
    if c is not None:
        c.close()

threading.excepthook = lambda failure: wrong.append(f"{failure.exc_type.__name__}: {failure.exc_value}")
final = []
threads = [threading.Thread(target=go, args=(read, lambda: final[0]))]
threads += [threading.Thread(target=go, args=(act,)) for act in (write, checkpoint)]
for t in threads:
    t.start()
print("begun", flush=True)
final.append(int(sys.stdin.readline()))
is_over.set()
for t in threads:
    t.join()
print(json.dumps({"wrong": wrong[:5], **counts}), flush=True)
"""


def make(p):
    c = p.connect()
    c.execute("pragma page_size=512")
    c.execute("pragma journal_mode=wal")
    c.execute("create table accounts(id integer primary key, v, pad)")
    c.execute("create index by_pad on accounts(pad)")
    c.execute("create table done(n)")
    c.execute("insert into done values(0)")
    c.executemany("insert into accounts values(?, 0, randomblob(300))", ((i,) for i in range(ACCOUNTS)))
    return c


def transfer(c, rng, done):
    a, b = rng.sample(range(ACCOUNTS), 2)
    c.execute("begin immediate")
    c.execute("update accounts set v = v + ?, pad = randomblob(?) where id = ?", (done, rng.randrange(10, 2000), a))
    c.execute("update accounts set v = v - ?, pad = randomblob(?) where id = ?", (done, rng.randrange(10, 2000), b))
    c.execute("update done set n = ?", (done,))
    c.execute("commit")


def test_threads_beside_a_writer():
    rng = random.Random(17)
    done = 0
    with Node() as p, replica_of(p) as r:
        c = make(p)
        in_step(p, r)
        for i in range(ROUNDS):
            process = subprocess.Popen([sys.executable, "-c", PROCESS, r.path("t.db"), str(ACCOUNTS)], text=True,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            try:
                assert process.stdout.readline() == "begun\n"
                for k in range(TRANSFERS):
                    done += 1
                    transfer(c, rng, done)
                    if i % 3 == 1 and k == TRANSFERS // 2:
                        r.restart()
                in_step(p, r)
                said, _ = process.communicate(f"{done}\n", timeout=120)
            finally:
                process.kill()
                process.wait()
            said = json.loads(said)
            print(said, flush=True)
            assert said["wrong"] == [], said
            assert said["refused"] > 0, said
            r.check()
            if i % 3 == 2:
                r.restart()
                in_step(p, r)
        c.close()


if __name__ == "__main__":
    run(sys.modules[__name__])
