"""Runs clusters with clients and troubles, and checks the histories.

    check_histories.py [--seed S] [--rounds N | --minutes M] [--seconds T] [--backend etcd|consul] [--nemeses A,B | gentle | all]
                       [--double] [--outlive] [--large] [--without-groups]
                       [--keep DIR] [--go-on]
    check_histories.py --history FILE...      checks what a run has kept

A seed makes the databases, what each client tries in which order, and the troubles; when each thing happens is the
machine's. Round n has the seed S + n. A round that fails leaves its histories, the logs of the nodes and what was found
in a directory, whose name is printed."""
import argparse
import faulthandler
import json
import os
import random
import re
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

import anomalies
import history
import nemeses
import transactions
from client import Slots
from cluster_fixture import Cluster, Member, free_ports, need, pos_or_none, shorten, wait_until
from nemeses import request
from stacks import stacks

HANG_SECONDS = 60
N_NODES = 3
THREADS = {"mount": 3, "pos": 2, "proxy": 3}
class Hang(Exception):
    pass


class CheckedCluster(Cluster):
    """Node n and its proxy are at 127.0.0.n, with an application behind it."""

    def __init__(self, backend, directory):
        super().__init__(N_NODES, backend=backend, ttl="2s" if backend == "etcd" else "3s")
        self.directory = directory
        self.proxy_port = free_ports(1)[0]
        self.began = time.monotonic()
        self.clients, self.apps = [], []
        self.kill_client = lambda rng: None

    def add(self):
        host = f"127.0.0.{len(self.nodes) + 1}"
        target = free_ports(1)[0]
        self.data_options = (f"proxy:\n  addr: \"{host}:{self.proxy_port}\"\n  target: \"127.0.0.1:{target}\"\n"
                             "  primary-redirect-timeout: 10s\n")
        node = Member(self, f"node{len(self.nodes) + 1}", host=host)
        node.host, node.target = host, target
        self.nodes.append(node)
        return node

    def note(self, text):
        line = f"{time.monotonic():10.3f} {time.monotonic() - self.began:7.2f} {text}"
        with open(os.path.join(self.directory, "troubles"), "a", encoding="utf-8") as f:
            f.write(line + "\n")

    def called(self, node):
        return node.name + (" (primary)" if node.is_primary() else "")

    def close(self, is_failure):
        for node in self.nodes:
            if os.path.exists(node.log_path):
                shutil.copy(node.log_path, os.path.join(self.directory, f"{node.name}.log"))
        super().close(False)


class ClientProcess:
    n_made = 0

    def __init__(self, round_, kind, nodes, first_slot):
        ClientProcess.n_made += 1
        self.round, self.kind, self.nodes, self.first_slot = round_, kind, nodes, first_slot
        self.name = f"{nodes[0].name if kind == 'mount' else kind}-{ClientProcess.n_made}"
        cl, path = round_.cl, os.path.join(round_.directory, self.name)
        spec = {"seed": round_.seed, "name": self.name, "kind": kind, "proxy_port": cl.proxy_port,
                "nodes": [{"name": n.name, "mnt": n.mnt, "host": n.host} for n in nodes], "threads": THREADS[kind],
                "history": path + ".jsonl", "slots": round_.slots_path, "first_slot": first_slot, "start": cl.began,
                "databases": round_.database_specs(), "outlive": round_.args.outlive, "has_groups": not round_.args.without_groups,
                "large": 18 if round_.args.large else 3}
        with open(path + ".spec", "w", encoding="utf-8") as f:
            json.dump(spec, f)
        with open(path + ".err", "w", encoding="utf-8") as err:
            self.process = subprocess.Popen([sys.executable, os.path.join(HERE, "client.py"), path + ".spec"], stderr=err)

    def kill(self):
        """And one like it in its place."""
        self.process.kill()
        self.process.wait(60)
        for n in range(THREADS[self.kind]):
            self.round.slots.set(self.first_slot + n, 0)
        return ClientProcess(self.round, self.kind, self.nodes, self.first_slot)


class Operator(threading.Thread):
    """Imports, one after the other, and exports."""

    def __init__(self, round_):
        super().__init__(daemon=True)
        self.round, self.rng = round_, random.Random(f"{round_.seed} operator")
        self.recorder = history.Recorder(os.path.join(round_.directory, "operator.jsonl"))
        self.stop = threading.Event()
        self.n = 0
        self.problem = None

    def run(self):
        try:
            while not self.stop.wait(self.rng.uniform(0.2, 2)):
                if self.rng.random() < 0.5:
                    self.import_one()
                else:
                    self.export_one()
        except Exception as e:  # it is told at the end
            self.problem = e

    def import_one(self):
        p = nemeses.primary(self.round.cl)
        if p is None:
            return
        self.n += 1
        path = os.path.join(self.round.directory, "import.tmp")
        page_size = next(db.page_size for db in self.round.dbs if db.is_import)
        c = sqlite3.connect(path)
        c.executescript(f"pragma page_size={page_size}; create table generation (n integer, pad blob);")
        c.executemany("insert into generation values (?, randomblob(700))",
                      [(self.n,)] * self.rng.choice((1, 100, 5000)))
        c.commit()
        c.close()
        with open(path, "rb") as f:
            data = f.read()
        os.unlink(path)
        i = self.recorder.invoke("operator", p.name, "import", [["import", "import.db", self.n]])
        status, text = request(p, "POST", "/import?name=import.db", data, 60)
        self.recorder.complete("operator", i, "ok" if status == 200 else "info", error=f"{status} {text[:200]}")

    def export_one(self):
        node = nemeses.any_up(self.round.cl, self.rng)
        if node is None:
            return
        db = self.rng.choice(self.round.dbs)
        i = self.recorder.invoke("operator", node.name, "export", [])
        status, data = request(node, "GET", f"/export?name={db.name}", None, 60)
        if status != 200:
            self.recorder.complete("operator", i, "fail", error=f"{status} {data[:200]}")
            return
        self.recorder.complete("operator", i, "ok", ops=list(self.what_is_in(db, data)))

    def what_is_in(self, db, data):
        path = os.path.join(self.round.directory, "export.tmp")
        with open(path, "wb") as f:
            f.write(data)
        c = sqlite3.connect(path)
        try:
            yield ["integrity", db.name, c.execute("pragma integrity_check(3)").fetchone()[0]]
            got = transactions.contents(c, db.is_import)
        finally:
            c.close()
            for end in ("", "-wal", "-shm", "-journal"):
                if os.path.exists(path + end):
                    os.unlink(path + end)
        for k, values in got["lists"].items():
            yield ["read", db.name, k, values]
        for what in ("bank", "generation"):
            if what in got:
                yield [what, db.name, got[what]]


class Round:
    def __init__(self, args, seed):
        self.args, self.seed, self.rng = args, seed, random.Random(seed)
        self.directory = tempfile.mkdtemp(prefix=f"litefs-history-{seed}-", dir=args.keep)
        self.dbs = transactions.databases(self.rng)
        self.backend = args.backend or self.rng.choice(("etcd", "consul"))
        self.nemeses = chosen_nemeses(args)
        self.may_lose = args.double or any(name in nemeses.LOSSY for name in self.nemeses)
        self.slots_path = os.path.join(self.directory, "slots")
        self.slots = Slots(self.slots_path, 64)
        self.is_over, self.hung = threading.Event(), None
        self.replaced = set()  # databases in WAL mode of which a state was set aside

    def database_specs(self):
        return [[db.name, db.mode, db.page_size] for db in self.dbs]

    def carry_out(self):
        """(anomalies, counts)"""
        with CheckedCluster(self.backend, self.directory) as self.cl:
            self.cl.kill_client = self.kill_client
            self.prepare()
            self.start_clients()
            try:
                self.trouble()
            except Exception as e:
                raise Hang(f"{self.hung}, and {e}; see {self.directory}/stacks") if self.hung else e
            finally:
                self.stop_clients()
            try:
                self.settle()
                self.record_the_end()
            except Exception:
                write_stacks(os.path.join(self.directory, "stacks"), self.cl, [])
                raise
        h = history.load(os.path.join(self.directory, n) for n in sorted(os.listdir(self.directory)) if n.endswith(".jsonl"))
        return anomalies.check(h)

    def prepare(self):
        p = self.cl.wait_followers()
        for db in self.dbs:
            transactions.create(db, p.path(db.name))
        for db in self.dbs:
            self.cl.in_step(db.name)

    def start_clients(self):
        cl = self.cl
        cl.apps = [subprocess.Popen([sys.executable, os.path.join(HERE, "app.py"), str(n.target), n.mnt, n.name,
                                     json.dumps(self.database_specs()), str(self.seed),
                                     *(["outlive"] if self.args.outlive else [])],
                                    stderr=subprocess.DEVNULL) for n in cl.nodes]
        slot = 0
        for kind, nodes in [*(("mount", [n]) for n in cl.nodes), ("pos", cl.nodes), ("proxy", cl.nodes)]:
            cl.clients.append(ClientProcess(self, kind, nodes, slot))
            slot += THREADS[kind]
        self.operator = Operator(self)
        self.operator.start()
        threading.Thread(target=self.watch, daemon=True).start()

    def kill_client(self, rng):
        n = rng.randrange(len(self.cl.clients))
        self.cl.note(f"SIGKILL of the client {self.cl.clients[n].name}")
        self.cl.clients[n] = self.cl.clients[n].kill()

    def trouble(self):
        end = time.monotonic() + self.args.seconds
        while time.monotonic() < end:
            names = [self.rng.choice(self.nemeses)]
            if self.args.double and self.rng.random() < 0.6:
                names.append(self.rng.choice(self.nemeses))
            under_way = [(time.monotonic() + next(g), g) for g in
                         [nemeses.ALL[name](self.cl, self.rng) for name in names]]
            for when, generator in sorted(under_way, key=lambda w: w[0]):
                self.rest(when - time.monotonic())
                next(generator, None)
            self.rest(self.rng.uniform(0, 2.5))

    def watch(self):
        """On a thread of its own: while it hangs, the main one may wait for a node to stop."""
        while not self.is_over.wait(1):
            oldest = self.slots.oldest()
            if oldest is not None and time.monotonic() - oldest[1] > HANG_SECONDS:
                self.hung = f"thread {oldest[0]} of the clients waits for {time.monotonic() - oldest[1]:.0f} s"
                write_stacks(os.path.join(self.directory, "stacks"), self.cl, [c.process.pid for c in self.cl.clients])
                return

    def rest(self, seconds):
        end = time.monotonic() + seconds
        while True:
            self.look_at_clients()
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.5))

    def look_at_clients(self):
        if self.hung:
            raise Hang(f"{self.hung}; see {self.directory}/stacks")
        for n in self.cl.nodes:
            if n.process is not None and n.process.poll() is not None:
                raise AssertionError(f"{n.name} ended by itself with {n.process.returncode}")
        for c in self.cl.clients:
            if c.process.poll() is not None:
                raise AssertionError(f"the client {c.name} ended by itself with {c.process.returncode}: see {self.directory}/{c.name}.err")

    def stop_clients(self):
        self.is_over.set()
        self.operator.stop.set()
        for c in self.cl.clients:
            c.process.send_signal(signal.SIGTERM)
        for n in self.cl.nodes:
            if n.is_paused:
                n.resume()
            n.link.heal()
            n.lease_link.heal()
        failure = sys.exc_info()[0] is not None
        for c in self.cl.clients:
            try:
                c.process.wait(1 if failure else 2 * HANG_SECONDS)
            except subprocess.TimeoutExpired:
                if not failure:
                    write_stacks(os.path.join(self.directory, "stacks"), self.cl, [c.process.pid])
                c.process.kill()
                if not failure:
                    raise Hang(f"the client {c.name} does not end; see {self.directory}/stacks") from None
        for a in self.cl.apps:
            a.kill()
            a.wait()
        self.operator.join(70)
        if self.operator.problem is not None and not failure:
            raise self.operator.problem

    # --- the end ---

    def settle(self):
        self.cl.server.resume()
        for n in self.cl.nodes:
            if n.process is None:
                n.start()
        self.cl.note("all is well again")
        self.cl.wait_followers()
        for db in self.dbs:
            self.cl.in_step(db.name)

    def record_the_end(self):
        recorder = history.Recorder(os.path.join(self.directory, "end.jsonl"))
        recorder.write(type="run", seed=self.seed, may_lose=self.may_lose, accounts=transactions.ACCOUNTS,
                       balance=transactions.BALANCE, backend=self.backend, nemeses=self.nemeses)
        for db in self.dbs:
            self.cl.check_equal(db.name, has_whole_log=False)
            for n in self.cl.nodes:
                self.check_log(n, db.name)
                c = n.connect(db.name)
                recorder.write(type="final", node=n.name, db=db.name, **transactions.contents(c, db.is_import))
                c.close()
        for n in self.cl.nodes:
            for name, c in orphans_of(n):
                self.replaced |= {db.name for db in self.dbs if db.name == name and db.mode in ("wal", "switch")}
                try:
                    recorder.write(type="aside", db=name, **transactions.contents(c, name == "import.db"))
                except sqlite3.Error as e:
                    self.cl.note(f"{name} that {n.name} has set aside cannot be read: {e}")
                c.close()

    def check_log(self, node, name):
        """Where the log has all from the first transaction on, it makes the image."""
        status, body = request(node, "GET", f"/db?name={name}")
        if status == 200 and json.loads(body)["databases"][0]["log"]["firstTXID"] == "0000000000000001":
            node.check(name)


def chosen_nemeses(args):
    sets = {"gentle": nemeses.GENTLE, "lossy": nemeses.LOSSY, "all": nemeses.ALL}
    names = []
    for name in args.nemeses.split(","):
        names += list(sets.get(name, [name]))
    unknown = [name for name in names if name not in nemeses.ALL]
    if unknown:
        sys.exit(f"no such nemesis: {unknown}; there are {', '.join(nemeses.ALL)}")
    return names


def orphans_of(node):
    """(database's name, connection to a copy) of each."""
    directory = os.path.join(node.data, "orphans")
    for entry in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
        match = re.fullmatch(r"(.*)-[0-9a-f]{16}-[0-9a-f]{16}(?:\.\d+)?", entry)
        path = os.path.join(directory, entry, "database")
        if match and os.path.exists(path):
            copy = os.path.join(node.root, "aside")
            for end in ("", "-wal", "-shm"):
                if os.path.exists(copy + end):
                    os.unlink(copy + end)
            shutil.copy(path, copy)
            yield match.group(1), sqlite3.connect(copy)


def write_stacks(path, cl, pids):
    """Of clients and nodes; appended."""
    with open(path, "a", encoding="utf-8") as f:
        for name, pid in [*(("client", pid) for pid in pids), *((n.name, n.process.pid) for n in cl.nodes if n.process)]:
            try:
                f.write(f"--- {name} {pid}\n{stacks(pid)}")
            except OSError as e:  # it has ended
                f.write(f"--- {name} {pid}: {e}\n")


def is_known(anomaly, round_):
    """What docs/status.md says is not so yet: a commit over several databases may be halved where its primary was lost; and
    connections in WAL mode keep the old state of a database that was replaced."""
    if anomaly.kind == "halved":
        return round_.may_lose
    return anomaly.kind in ("backwards", "unread") and any(f"'{name}'" in anomaly.text for name in round_.replaced)


def judge(round_, found, counts):
    """Prints the result; whether it is good."""
    bad = [a for a in found if not is_known(a, round_)]
    known = len(found) - len(bad)
    print(f"seed {round_.seed}: {round_.backend}, {counts['ok']} ok, {counts['fail']} failed, {counts['info']} unknown, "
          f"{counts['set aside']} acknowledged and set aside, {known} known anomalies, {len(bad)} anomalies", flush=True)
    if bad:
        with open(os.path.join(round_.directory, "anomalies"), "w", encoding="utf-8") as f:
            f.writelines(f"{a.kind}: {a.text}\n" for a in found)
        for a in bad[:8]:
            print(f"  {a.kind}: {a.text[:600]}")
        print(f"  histories, logs and all {len(bad)} anomalies: {round_.directory}", flush=True)
    return not bad


def run_round(args, seed):
    r = Round(args, seed)
    is_good = False
    try:
        found, counts = r.carry_out()
        is_good = judge(r, found, counts)
        if is_good and counts["ok"] < args.seconds:
            is_good = False
            print(f"  the clients could hardly do anything; see {r.directory}")
    except Exception as e:
        print(f"seed {seed}: {type(e).__name__}: {shorten(str(e))}\n  histories and logs: {r.directory}", flush=True)
        with open(os.path.join(r.directory, "anomalies"), "a", encoding="utf-8") as f:
            import traceback
            traceback.print_exc(file=f)
    if is_good:
        shutil.rmtree(r.directory)
    return is_good


def recheck(paths):
    found, counts = anomalies.check(history.load(paths))
    for a in found:
        print(f"{a.kind}: {a.text}")
    print(f"{dict(counts)}, {len(found)} anomalies")
    return 1 if found else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--seconds", type=float, default=60, help="of troubles in a round")
    parser.add_argument("--backend", choices=("etcd", "consul"))
    parser.add_argument("--nemeses", default="all")
    parser.add_argument("--double", action="store_true")
    parser.add_argument("--outlive", action="store_true", help="connections are kept when their mount has ended")
    parser.add_argument("--large", action="store_true", help="one transaction in six is of megabytes")
    parser.add_argument("--without-groups", action="store_true", help="no commits over several databases")
    parser.add_argument("--keep", default=None, help="where histories of rounds that fail are left")
    parser.add_argument("--go-on", action="store_true", help="after a round that fails")
    parser.add_argument("--history", nargs="+")
    args = parser.parse_args()
    if args.history:
        sys.exit(recheck(args.history))
    need(*([args.backend] if args.backend else ["etcd", "consul"]))
    faulthandler.register(signal.SIGUSR1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 30)
    print(f"SEED={seed}", flush=True)
    end = time.monotonic() + args.minutes * 60 if args.minutes else None
    n = n_bad = 0
    while (time.monotonic() < end) if end else (n < args.rounds):
        n_bad += not run_round(args, seed + n)
        n += 1
        if n_bad and not args.go_on:
            break
    print(f"{n} rounds, {n_bad} with anomalies", flush=True)
    sys.exit(1 if n_bad else 0)


if __name__ == "__main__":
    main()
