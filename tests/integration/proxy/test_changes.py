"""Planned changes of the primary, while clients write through every node's proxy: none of their requests fails, and none
waits for long. Clients are what a load balancer makes of them: a node that takes no connection is left out.

LONG=1: many rounds, and the time that a request may take is held to."""
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time

import proxy_fixture as f
from proxy_fixture import Client, cluster_fixture, free_ports, wait_until
from cluster_fixture import SEED, Cluster, Member, need
from litefs_fixture import LITEFS

IS_LONG = bool(os.environ.get("LONG"))
ROUNDS = 8 if IS_LONG else 1
PAUSE = 0.08
# Longer than it takes by far, and less than what a request waits for a primary in vain.
LIMIT = 1.5 if IS_LONG else 4.5
APP = os.path.join(f.HERE, "app.py")


class ChangingCluster(Cluster):
    """Three candidates, and a node that may not lead. Each runs its application by `exec`, and so restarts with it."""

    def __init__(self, seconds_to_end=0, ttl="10s", options=""):
        super().__init__(4, backend="etcd", ttl=ttl)
        self.proxy_port = free_ports(1)[0]
        self.seconds_to_end, self.proxy_options = seconds_to_end, options

    def add(self):
        host = f"127.0.0.{len(self.nodes) + 1}"
        target = free_ports(1)[0]
        self.data_options = (f"proxy:\n  addr: \"{host}:{self.proxy_port}\"\n  target: \"127.0.0.1:{target}\"\n"
                             f"{self.proxy_options}")
        node = Member(self, f"node{len(self.nodes) + 1}", candidate=len(self.nodes) != 1, host=host)
        node.host, node.target = host, target
        with open(node.config, "a", encoding="utf-8") as config:
            config.write(f"exec: \"{sys.executable} {APP} {target} {node.mnt} {node.name} {self.seconds_to_end}\"\n")
        self.nodes.append(node)
        return node

    def candidates(self):
        return [n for n in self.nodes if n is not self.nodes[1]]

    def wait_applications(self):
        for n in self.nodes:
            wait_until(lambda n=n: ask_health(self, n) == 200, f"the application of {n.name}")

    def terminate(self, node):
        node.process.send_signal(signal.SIGTERM)

    def restart(self, node):
        """SIGTERM, and again as soon as it has ended."""
        assert node.process.wait(60) == 0
        node.process = None
        node.log_file.close()
        node.start()


def ask_health(c, node):
    """Of the application, through its proxy."""
    try:
        return f.exchange(c.proxy_port, "GET", "/echo", host=node.host).status
    except OSError:
        return None


class Writer(threading.Thread):
    def __init__(self, cluster, number):
        super().__init__()
        self.cluster, self.number = cluster, number
        self.random = random.Random(f"{SEED} {number}")
        self.kept = {}  # connections that stay open, as a balancer has them
        self.written, self.failed, self.longest = [], [], 0
        self.problem = None
        self.is_over = False

    def run(self):
        try:
            n = 0
            while not self.is_over:
                self.write(f"{self.number}-{n}")
                n += 1
                time.sleep(PAUSE)
        except BaseException as e:
            self.problem = e

    def connect(self, node):
        """None: it takes no connection."""
        kept = self.kept.pop(node.name, None)
        if kept is not None and not select.select([kept.sock], [], [], 0)[0]:
            return kept
        if kept is not None:
            kept.close()  # it has ended since
        try:
            return Client(self.cluster.proxy_port, node.host)
        except ConnectionRefusedError:
            return None

    def write(self, text):
        began = time.monotonic()
        nodes = self.random.sample(self.cluster.nodes, len(self.cluster.nodes))
        node, c = next(((n, c) for n in nodes if (c := self.connect(n)) is not None), (None, None))
        if c is None:
            self.failed.append((text, "no node takes a connection"))
            return
        try:
            r = c.request("POST", "/notes/a.db", text)
        except (OSError, f.http.client.HTTPException) as e:
            self.failed.append((text, node.name, repr(e)))
            c.close()
            return
        took = time.monotonic() - began
        self.longest = max(self.longest, took)
        if r.status == 201:
            self.written.append(text)
        else:
            self.failed.append((text, node.name, r.status, r.text, f"{took:.2f} s"))
        if r.is_last or self.number % 2 == 0:
            c.close()
        else:
            self.kept[node.name] = c


def write_meanwhile(c, change):
    """Runs change() under writers; they have to go on after it."""
    writers = [Writer(c, i) for i in range(4)]
    for w in writers:
        w.start()

    def all_wrote(more):
        wanted = [len(w.written) + len(w.failed) + more for w in writers]
        wait_until(lambda: all(w.problem or len(w.written) + len(w.failed) >= n for w, n in zip(writers, wanted)),
                   f"{more} writes of each")
    try:
        all_wrote(5)
        change(all_wrote)
        all_wrote(5)
    finally:
        for w in writers:
            w.is_over = True
        for w in writers:
            w.join()
    for w in writers:
        if w.problem is not None:
            raise w.problem
    failed = [x for w in writers for x in w.failed]
    written = [x for w in writers for x in w.written]
    longest = max(w.longest for w in writers)
    print(f"{len(written)} writes, {len(failed)} failed, {longest:.3f} s at most", flush=True)
    assert not failed, failed
    assert longest < LIMIT, f"a request took {longest:.2f} s"
    c.in_step("a.db")
    for n in c.nodes:
        db = n.connect("a.db")
        found = [x for (x,) in db.execute("select text from note")]
        db.close()
        assert len(found) == len(set(found)), f"on {n.name} one was written twice"
        assert set(written) <= set(found), f"{n.name} lacks {sorted(set(written) - set(found))[:9]}"


def command(node, *words):
    done = subprocess.run([LITEFS, words[0], "-config", node.config, *words[1:]], capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 0, (words, done.stderr)


def test_handing_over():
    """handoff, promote and demote."""
    with ChangingCluster() as c:
        c.wait_applications()

        def change(all_wrote):
            for _ in range(ROUNDS):
                for what in ("handoff", "promote", "demote"):
                    old = c.wait_primary()
                    command(next(n for n in c.candidates() if n is not old) if what == "promote" else old, what)
                    c.wait_primary(other_than=(old,))
                    all_wrote(3)
        write_meanwhile(c, change)


def test_rolling_restart():
    with ChangingCluster() as c:
        c.wait_applications()

        def change(all_wrote):
            for _ in range(ROUNDS):
                first = c.wait_primary()  # which is back at once
                for n in sorted(c.nodes, key=lambda n: n is not first):
                    c.terminate(n)
                    c.restart(n)
                    wait_until(lambda n=n: ask_health(c, n) == 200, f"{n.name} again")
                    c.wait_followers()
                    all_wrote(3)
        write_meanwhile(c, change)


def test_an_application_that_is_slow_to_end():
    """The cluster writes while it takes its time; its node sends on what still comes."""
    with ChangingCluster(seconds_to_end=3) as c:
        c.wait_applications()

        def change(all_wrote):
            old = c.wait_primary()
            with Client(c.proxy_port, old.host) as upload:
                upload.send("POST /notes/a.db HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nuplo")
                all_wrote(1)
                c.terminate(old)
                wait_until(lambda: f.exchange(c.proxy_port, "GET", "/litefs/health", host=old.host).status == 503,
                           "it to stop")
                upload.send("aded")
                assert upload.response().status == 201, "what was under way was cut"
            c.wait_primary(other_than=(old,))
            all_wrote(10)
            assert old.process.poll() is None, "its application ended at once"
            r = f.exchange(c.proxy_port, "GET", "/notes/a.db", host=old.host)
            assert r.status == 200 and r.headers["X-Node"] != old.name, (r.status, r.text)
            c.restart(old)
            wait_until(lambda: ask_health(c, old) == 200, f"{old.name} again")
        write_meanwhile(c, change)


if __name__ == "__main__":
    need("etcd")
    cluster_fixture.run(sys.modules[__name__])
