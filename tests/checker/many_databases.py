"""A hundred databases in one directory, in four journal modes, which twenty processes open, insert into, commit and close
at random while the primary changes every few seconds: nobody may wait for ever, and no acknowledged row may be missing.

    many_databases.py [--seconds T] [--every T] [--seed S]       (client: many_databases.py client NAME MOUNT SEED SLOTS SLOT FILE)
"""
import argparse
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "integration", "cluster"), HERE]

import nemeses
from client import Slots

N_DATABASES, N_CLIENTS, N_NODES = 100, 20, 2
MODES = ("delete", "truncate", "persist", "wal")
HANG_SECONDS = 60


def mode_of(n):
    return MODES[n % len(MODES)]


def name_of(n):
    return f"dir/{n:03d}.db"


# --- a client ---

def insert(path, n, who, number, rng):
    c = sqlite3.connect(f"file:{path}?mode=rw", uri=True, isolation_level=None, timeout=1)
    try:
        if mode_of(n) != "wal":
            c.execute(f"pragma journal_mode={mode_of(n)}")
        c.execute("begin immediate")
        c.execute("insert into t values (?, ?, randomblob(?))", (who, number, rng.choice((10, 3000, 50000))))
        c.execute("commit")
    finally:
        c.close()


def client(who, mount, seed, slots_path, slot, acknowledged):
    rng, slots, stop = random.Random(f"{seed} {who}"), Slots(slots_path), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    number = 0
    with open(acknowledged, "w", encoding="ascii", buffering=1) as out:
        while not stop.is_set():
            n = rng.randrange(N_DATABASES)
            number += 1
            slots.set(slot, time.monotonic())
            try:
                insert(os.path.join(mount, name_of(n)), n, who, number, rng)
                out.write(f"{n} {number}\n")
            except sqlite3.Error:
                time.sleep(0.02)
            slots.set(slot, 0)


# --- the test ---

def create(node):
    os.mkdir(node.path("dir"))
    for n in range(N_DATABASES):
        c = sqlite3.connect(node.path(name_of(n)), isolation_level=None, timeout=20)
        c.execute(f"pragma journal_mode={mode_of(n)}")
        c.execute("create table t (who text, number integer, pad blob)")
        c.close()


def start_clients(nodes, directory, seed):
    slots_path = os.path.join(directory, "slots")
    slots = Slots(slots_path, N_CLIENTS)
    made = []
    for n in range(N_CLIENTS):
        node = nodes[n % len(nodes)]
        made.append(subprocess.Popen([sys.executable, os.path.abspath(__file__), "client", f"c{n}", node.mnt, str(seed), slots_path,
                                      str(n), os.path.join(directory, f"c{n}")]))
    return made, slots


def carry_out(cl, args, clients, slots, report):
    end = time.monotonic() + args.seconds
    n_handoffs, due = 0, time.monotonic() + args.every
    while time.monotonic() < end:
        oldest = slots.oldest()
        if oldest is not None and time.monotonic() - oldest[1] > HANG_SECONDS:
            report()
            raise AssertionError(f"the client c{oldest[0]} waits for {time.monotonic() - oldest[1]:.0f} s")
        assert all(c.poll() is None for c in clients), "a client ended by itself"
        if time.monotonic() > due:
            p = nemeses.primary(cl)
            n_handoffs += p is not None and nemeses.request(p, "POST", "/handoff")[0] == 200
            due = time.monotonic() + args.every
        time.sleep(0.1)
    return n_handoffs


def stop_clients(clients, report):
    for c in clients:
        c.send_signal(signal.SIGTERM)
    end = time.monotonic() + HANG_SECONDS
    for c in clients:
        try:
            c.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            report()
            raise AssertionError(f"the client {c.pid} does not end") from None


def rows_of(path):
    c = sqlite3.connect(path, timeout=20)
    try:
        return c.execute("select who, number from t").fetchall()
    finally:
        c.close()


def check(cl, directory):
    acknowledged = {n: set() for n in range(N_DATABASES)}
    for n in range(N_CLIENTS):
        with open(os.path.join(directory, f"c{n}"), encoding="ascii") as f:
            for line in f:
                db, number = line.split()
                acknowledged[int(db)].add((f"c{n}", int(number)))
    p = cl.wait_followers()
    lost = []
    for n in range(N_DATABASES):
        cl.in_step(name_of(n))
        rows = rows_of(p.path(name_of(n)))
        assert len(rows) == len(set(rows)), f"{name_of(n)}: rows that are there twice"
        lost += [(name_of(n), row) for row in acknowledged[n] - set(rows)]
        if n % 20 == 0:
            cl.check_equal(name_of(n), has_whole_log=False)
    n_rows = sum(len(rows) for rows in acknowledged.values())
    assert not lost, f"{len(lost)} of {n_rows} acknowledged rows are missing: {lost[:5]}"
    return n_rows


def test(args):
    from check_histories import write_stacks
    from cluster_fixture import Cluster
    directory = tempfile.mkdtemp(prefix="litefs-many-")
    with Cluster(N_NODES, backend="etcd", ttl="3s") as cl:
        p = cl.wait_followers()
        create(p)
        cl.in_step(name_of(N_DATABASES - 1))
        clients, slots = start_clients(cl.nodes, directory, args.seed)

        def report():
            write_stacks(os.path.join(directory, "stacks"), cl, [c.pid for c in clients])
            print(f"stacks: {directory}/stacks", flush=True)
        try:
            n_handoffs = carry_out(cl, args, clients, slots, report)
            stop_clients(clients, report)
        finally:
            for c in clients:
                c.kill()
        print(f"{n_handoffs} handoffs, {check(cl, directory)} rows acknowledged, none lost", flush=True)
        assert n_handoffs > 0
    shutil.rmtree(directory)


def main():
    if sys.argv[1:2] == ["client"]:
        who, mount, seed, slots, slot, out = sys.argv[2:]
        client(who, mount, seed, slots, int(slot), out)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--every", type=float, default=5, help="seconds from one handoff to the next")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    args = parser.parse_args()
    from cluster_fixture import need
    need("etcd")
    print(f"SEED={args.seed}", flush=True)
    test(args)


if __name__ == "__main__":
    main()
