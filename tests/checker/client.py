"""A process of clients: threads that make transactions on one node's mount, on all of them by positions, or through the
proxies. usage: client.py SPEC

SPEC is a JSON object: seed, name, kind (mount, pos, proxy), nodes (name, mnt, host), proxy_port, threads, history, slots,
first_slot, start, databases ([name, mode, page size]), outlive (connections are kept when their mount has ended), has_groups
(commits over several databases), large (weight of transactions of megabytes). Ends at SIGTERM, when the transactions under way
are over."""
import http.client
import json
import mmap
import os
import random
import signal
import sqlite3
import struct
import sys
import threading
import time

import transactions
from history import Recorder
from transactions import Database, Planner, carry_out, connect, writes

REQUEST_SECONDS = 40


class Slots:
    """When each thread of all processes began what it does now; 0: nothing. In a file that they share."""

    def __init__(self, path, n=0):
        if n:
            with open(path, "wb") as f:
                f.write(bytes(8 * n))
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 0)

    def set(self, n, value):
        struct.pack_into("d", self.map, 8 * n, value)

    def oldest(self):
        """(its number, when), or None."""
        begun = [(t, n) for n, (t,) in enumerate(struct.iter_unpack("d", self.map[:])) if t]
        return (min(begun)[1], min(begun)[0]) if begun else None


class Session(threading.Thread):
    def __init__(self, spec, n, stop, recorder):
        super().__init__(name=f"{spec['name']}.{n}")
        self.spec, self.stop, self.recorder = spec, stop, recorder
        self.rng = random.Random(f"{spec['seed']} {self.name}")
        dbs = [Database(*d) for d in spec["databases"]]
        self.planner = Planner(self.rng, self.name, dbs, spec["start"], spec["has_groups"], spec["large"])
        self.slots, self.slot = Slots(spec["slots"]), spec["first_slot"] + n
        self.nodes = spec["nodes"]
        self.connections, self.devices = {}, {}

    def run(self):
        while not self.stop.is_set():
            self.slots.set(self.slot, time.monotonic())
            self.turn()
            self.slots.set(self.slot, 0)
            time.sleep(self.rng.choice((0.001, 0.005, 0.02)))
        for c in self.connections.values():
            try:
                c.close()
            except sqlite3.Error:
                pass

    def turn(self):
        self.on_mount(self.nodes[0], *self.planner.make())

    def connection(self, node, names):
        if not self.spec["outlive"]:
            self.leave_old_mount(node)
        c = self.connections.get((node["name"], names))
        if c is None:
            c = self.connections[node["name"], names] = connect(names, self.planner.by_name, node["mnt"], self.rng)
        return c

    def leave_old_mount(self, node):
        device = transactions.device(node["mnt"])
        if self.devices.setdefault(node["name"], device) != device:
            self.devices[node["name"]] = device
            for name, names in list(self.connections):
                if name == node["name"]:
                    self.drop(node, names)

    def drop(self, node, names):
        c = self.connections.pop((node["name"], names), None)
        if c is not None:
            try:
                c.close()
            except sqlite3.Error:
                pass

    def on_mount(self, node, names, begin, ops, via="mount"):
        """The outcome of one transaction."""
        try:
            c = self.connection(node, names)
        except sqlite3.Error as e:
            if "malformed" in str(e) or "not a database" in str(e):
                self.record(node, via, ops, "fail", str(e))
            time.sleep(0.1)
            return "fail"
        i = self.recorder.invoke(self.name, node["name"], via, [transactions.without_size(o) for o in ops])
        outcome, done, error = carry_out(c, names, begin, ops)
        self.recorder.complete(self.name, i, outcome, ops=done, error=error)
        # Connections that go on after an error, and over the end of a mount, are part of what is tried.
        if self.rng.random() < (0.03 if error is None or "BUSY" in error else 0.5):
            self.drop(node, names)
        if outcome != "ok":
            time.sleep(self.rng.choice((0.005, 0.05)))
        return outcome

    def record(self, node, via, ops, outcome, error):
        ops = [transactions.without_size(o) for o in ops]
        i = self.recorder.invoke(self.name, node["name"], via, ops)
        self.recorder.complete(self.name, i, outcome, ops=ops, error=error)


class PositionSession(Session):
    """Writes where it can, notes NAME-pos there, and reads where NAME-pos has come as far."""

    def __init__(self, *args):
        super().__init__(*args)
        self.need = {}

    def position(self, node, name):
        try:
            with open(os.path.join(node["mnt"], name + "-pos"), encoding="ascii") as f:
                return int(f.read(16), 16)
        except (OSError, ValueError):
            return None

    def turn(self):
        nodes = self.rng.sample(self.nodes, len(self.nodes))
        if self.rng.random() < 0.4:
            names, begin, ops = self.planner.make_append()
            for node in nodes:
                if self.on_mount(node, names, begin, ops) == "ok":
                    self.note(node, names[0])
                    return
                # Values are written once.
                ops = [[*o[:3], self.planner.value(), *o[4:]] if o[0] == "append" else o for o in ops]
            return
        names, begin, ops = self.planner.make_read()
        if self.has_come(nodes[0], names[0]):
            self.on_mount(nodes[0], names, begin, ops, "pos")

    def note(self, node, name):
        txid, need = self.position(node, name), self.need.get(name, 0)
        # Where one thing that was written is not known by a position, nothing can be asked for any more.
        self.need[name] = None if txid is None or need is None else max(txid, need)

    def has_come(self, node, name):
        need = self.need.get(name, 0)
        end = time.monotonic() + 3
        while need is not None and time.monotonic() < end:
            txid = self.position(node, name)
            if txid is not None and txid >= need:
                return True
            time.sleep(0.02)
        return False


class ProxySession(Session):
    """Asks the proxy of any node, with the cookie as a browser keeps it."""

    def __init__(self, *args):
        super().__init__(*args)
        self.cookie = None

    def turn(self):
        node = self.rng.choice(self.nodes)
        if self.rng.random() < 0.4:
            names, begin, ops = self.planner.make_writing()
        else:
            names, begin, ops = self.planner.make_read(pause=False)
        i = self.recorder.invoke(self.name, node["name"], "proxy", [transactions.without_size(o) for o in ops])
        try:
            status, got, cookie = self.ask(node, {"names": names, "begin": begin, "ops": ops}, writes(ops))
        except (OSError, http.client.HTTPException, ValueError) as e:
            status, got, cookie = 0, {"error": repr(e)}, None
        if "outcome" in got:
            self.recorder.complete(self.name, i, got["outcome"], ops=got["ops"], node=got["node"], error=got["error"])
        else:
            self.recorder.complete(self.name, i, "info" if writes(ops) else "fail", error=f"{status} {got['error']}")
        if cookie:
            self.cookie = cookie.partition(";")[0]
        if status != 200:
            time.sleep(0.05)

    def ask(self, node, question, is_write):
        c = http.client.HTTPConnection(node["host"], self.spec["proxy_port"], timeout=REQUEST_SECONDS)
        try:
            headers = {"Cookie": self.cookie} if self.cookie else {}
            if is_write:
                c.request("POST", "/", json.dumps(question), headers)
            else:
                c.request("GET", "/" + json.dumps(question).encode().hex(), headers=headers)
            r = c.getresponse()
            body = r.read().decode()
            got = json.loads(body) if body.startswith("{") else {"error": body.strip()[:200]}
            return r.status, got, r.headers["Set-Cookie"]
        finally:
            c.close()


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        spec = json.load(f)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    recorder = Recorder(spec["history"])
    kind = {"mount": Session, "pos": PositionSession, "proxy": ProxySession}[spec["kind"]]
    sessions = [kind(spec, n, stop, recorder) for n in range(spec["threads"])]
    for s in sessions:
        s.start()
    while not stop.wait(0.2):
        if not all(s.is_alive() for s in sessions):
            os._exit(3)  # a fault of the checker: its traceback is in the log
    for s in sessions:
        s.join()


if __name__ == "__main__":
    main()
