"""Kills, stops and cuts at random while clients write through every node; then everything heals and must agree.

CHAOS_SECONDS, CHAOS_BACKEND, SEED from the environment."""
import os
import random
import re
import sqlite3
import sys
import threading
import time

from cluster_fixture import BECAME, SEED, Cluster, need, run, wait_until

SECONDS = int(os.environ.get("CHAOS_SECONDS", "60"))
BACKEND = os.environ.get("CHAOS_BACKEND", "etcd")
if BACKEND != "object":
    need(BACKEND)
FILES = ("wal.db", "delete.db")


class Acked:
    """A row that a client was told is committed."""

    def __init__(self, file, who, n, begin, end):
        self.file, self.who, self.n, self.begin, self.end = file, who, n, begin, end


class Client(threading.Thread):
    def __init__(self, node, stop):
        super().__init__(daemon=True)
        self.node, self.stop = node, stop
        self.acked = []
        self.n = 0
        self.broken = []  # what no application may ever see

    def attempt(self, file, connections):
        begin = time.monotonic()
        c = connections.get(file)
        try:
            if c is None:
                if not os.path.exists(self.node.path(file)):
                    return
                c = connections[file] = sqlite3.connect(self.node.path(file), isolation_level=None, timeout=0.5)
            self.n += 1
            c.execute("insert into log(who, n) values(?, ?)", (self.node.name, self.n))
            self.acked.append(Acked(file, self.node.name, self.n, begin, time.monotonic()))
        except (sqlite3.Error, OSError) as e:
            if "malformed" in str(e) or "not a database" in str(e):
                self.broken.append((file, str(e)))
            # The node may have been killed: what its mount had is gone.
            if self.node.process is None or "no such table" in str(e) or time.monotonic() - begin > 0.4:
                connections.pop(file, None)

    def run(self):
        connections = {}
        generation = None
        while not self.stop.is_set():
            if self.node.process is None or self.node.is_paused:
                connections.clear()
                time.sleep(0.05)
                continue
            if generation is not self.node.process:
                connections.clear()
                generation = self.node.process
            self.attempt(FILES[self.n % 2], connections)
            time.sleep(0.003)
        for c in connections.values():
            try:
                c.close()
            except sqlite3.Error:
                pass


class Chaos:
    def __init__(self, cl, rng):
        self.cl, self.rng = cl, rng
        self.begin = time.monotonic()
        self.n = {}

    def say(self, what, node):
        self.n[what] = self.n.get(what, 0) + 1
        print(f"     {time.monotonic() - self.begin:6.2f} {what} {node.name}{' (primary)' if node.is_primary() else ''}",
              flush=True)

    def kill(self, node):
        node.kill(may_hang=True)  # test_kill.py is about that
        time.sleep(self.rng.uniform(0, 3))
        node.start()

    def terminate(self, node):
        node.stop()
        time.sleep(self.rng.uniform(0, 2))
        node.start()

    def pause(self, node):
        node.pause()
        time.sleep(self.rng.uniform(0.1, 4))
        node.resume()

    def cut_lease(self, node):
        node.lease_link.cut()
        time.sleep(self.rng.uniform(0.1, 4))
        node.lease_link.heal()

    def stall_lease(self, node):
        node.lease_link.stall(self.rng.choice(("there", "back")))
        time.sleep(self.rng.uniform(0.1, 4))
        node.lease_link.heal()

    def cut(self, node):
        node.link.cut()
        time.sleep(self.rng.uniform(0.1, 2))
        node.link.heal()

    def stall(self, node):
        node.link.stall(self.rng.choice(("there", "back")))
        time.sleep(self.rng.uniform(0.1, 5))
        node.link.heal()

    def slow(self, node):
        node.link.slow(self.rng.uniform(0.01, 0.3))
        time.sleep(self.rng.uniform(0.5, 3))
        node.link.heal()

    def step(self):
        node = self.rng.choice(self.cl.nodes + self.cl.primaries() * 2)
        name = self.rng.choice(["kill", "terminate", "pause", "cut_lease", "stall_lease", "cut", "stall", "slow"])
        self.say(name, node)
        getattr(self, name)(node)
        time.sleep(self.rng.uniform(0, 1.5))


def terms(cl):
    """Who was the primary of each term."""
    found = {}
    for n in cl.nodes:
        for term in re.findall(re.escape(BECAME) + r".*term=(\d+)", n.log()):
            found.setdefault(int(term), set()).add(n.name)
    return found


def rows(node, file):
    c = node.connect(file)
    got = c.execute("select who, n from log order by id").fetchall()
    c.close()
    return got


def kept(cl, file):
    """Rows of histories that were set aside."""
    found = set()
    for node in cl.nodes:
        directory = os.path.join(node.data, "orphans")
        for entry in os.listdir(directory) if os.path.isdir(directory) else []:
            if entry.startswith(file):
                c = sqlite3.connect(os.path.join(directory, entry, "database"))
                found |= set(c.execute("select who, n from log").fetchall())
                c.close()
    return found


def last_term(node):
    return int(re.findall(re.escape(BECAME) + r".*term=(\d+)", node.recent_log())[-1])


def note_agreement(cl, history):
    """When all nodes had the same position: what was committed before in that term, no fail-over may lose."""
    p = cl.primaries()
    if len(p) != 1 or not all(n.is_up() for n in cl.nodes):
        return
    term = last_term(p[0])
    for file in FILES:
        try:
            pos = {n.pos(file) for n in cl.nodes}
        except OSError:
            continue
        if len(pos) == 1:
            history.append((time.monotonic(), file, p[0].name, term))


def test_chaos():
    rng = random.Random(SEED)
    ttl = "2s" if BACKEND == "etcd" else "3s"
    with Cluster(3, backend=BACKEND, ttl=ttl) as cl:
        p = cl.wait_followers()
        for file in FILES:
            c = p.connect(file)
            c.execute(f"pragma journal_mode={file[:-3]}")
            c.execute("create table log(id integer primary key, who, n)")
            c.close()
            cl.in_step(file)
        stop = threading.Event()
        clients = [Client(n, stop) for n in cl.nodes]
        for c in clients:
            c.start()
        chaos = Chaos(cl, rng)
        agreements = []
        while time.monotonic() - chaos.begin < SECONDS:
            chaos.step()
            end = time.monotonic() + rng.uniform(0, 1)
            while time.monotonic() < end:
                note_agreement(cl, agreements)
                time.sleep(0.02)
        stop.set()
        for c in clients:
            c.join(60)
            assert not c.is_alive(), f"the client on {c.node.name} hangs"
            assert not c.broken, c.broken[:3]
        for n in cl.nodes:
            n.link.heal()
            n.lease_link.heal()
        check(cl, clients, agreements)


def was_everywhere(a, agreements):
    """The node that acknowledged it was the primary before and after, of the same term, and then all had the same."""
    before = [x for x in agreements if x[1] == a.file and x[0] < a.begin]
    after = [x for x in agreements if x[1] == a.file and x[0] > a.end]
    return bool(before and after) and before[-1][2:] == after[0][2:] and before[-1][2] == a.who


def check(cl, clients, agreements):
    cl.wait_followers()
    shared = {t: w for t, w in terms(cl).items() if len(w) > 1}
    assert not shared, f"terms with several primaries: {shared}"
    for file in FILES:
        cl.check_equal(file, has_whole_log=False)
        got = rows(cl.wait_primary(), file)
        assert len(got) == len(set(got)), f"{file}: rows that are there twice"
        for client in clients:
            mine = [n for who, n in got if who == client.node.name]
            assert mine == sorted(mine), f"{file}: rows of {client.node.name} are out of order"
        acked = [a for c in clients for a in c.acked if a.file == file]
        present, aside = set(got), kept(cl, file)
        missing = [a for a in acked if (a.who, a.n) not in present]
        lost = [(a.who, a.n) for a in missing if was_everywhere(a, agreements)]
        print(f"     {file}: {len(got)} rows, {len(acked)} acknowledged, of which "
              f"{sum(was_everywhere(a, agreements) for a in acked)} surely everywhere; {len(missing)} not there, "
              f"{sum((a.who, a.n) in aside for a in missing)} of them set aside; {len(terms(cl))} terms", flush=True)
        assert len(acked) > 50, "the clients could hardly write"
        assert not lost, f"{file}: {len(lost)} rows that all nodes had are missing: {lost[:5]}"
        gone = [(a.who, a.n) for a in missing if (a.who, a.n) not in aside]
        assert not gone, f"{file}: {len(gone)} acknowledged rows are neither there nor set aside: {gone[:5]}"


if __name__ == "__main__":
    run(sys.modules[__name__])
