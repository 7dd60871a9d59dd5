"""The lease service ends the lease before its time, while an application writes: nobody acknowledges a write after another
node has acknowledged one of a later term, and what was acknowledged stays where the old primary reaches the others; where
it does not, all that is lost was set aside on it (DATA/orphans).

ROUNDS and SEED: how many of each service's, and which. How long writers wait is printed."""
import glob
import json
import os
import random
import re
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
import urllib.request

from cluster_fixture import SEED, Cluster, need, run, wait_until
from test_etcd import b64

need("consul", "etcd")

ROUNDS = int(os.environ.get("ROUNDS", 4))
TTL = 2
TERM = re.compile(r"^time=(\S+) .*primary lease acquired.*term=(\d+)", re.M)


class Writer(threading.Thread):
    """Appends numbered rows on one node as long as that takes them."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node = node
        self.stop = threading.Event()
        self.acked = []  # (number, begin, end), by the wall clock as in the logs

    def run(self):
        c, n = None, 0
        while not self.stop.is_set():
            begin = time.time()
            try:
                if c is None:
                    c = sqlite3.connect(self.node.path("t.db"), isolation_level=None, timeout=1)
                    c.execute("pragma synchronous=full")
                c.execute("insert into log(who, n) values(?, ?)", (self.node.name, n))
                self.acked.append((n, begin, time.time()))
            except sqlite3.Error:
                time.sleep(0.01)
            n += 1  # it may have been committed: the number is not used again
            time.sleep(0.002)
        if c is not None:
            c.close()

    def end(self):
        self.stop.set()
        self.join(60)
        assert not self.is_alive(), f"the writer on {self.node.name} hangs"


class Consul:
    name = "consul"

    def __init__(self, cl):
        self.server = cl.server

    def request(self, method, path, body=None):
        q = urllib.request.Request(self.server.url + "/v1" + path, method=method,
                                   data=json.dumps(body).encode() if body is not None else None)
        with urllib.request.urlopen(q, timeout=10) as answer:
            return json.load(answer)

    def end_session(self):
        self.request("PUT", "/session/destroy/" + self.request("GET", "/kv/litefs/test")[0]["Session"])

    def delete_key(self):
        self.request("DELETE", "/kv/litefs/test")

    def delete_tree(self):
        self.request("DELETE", "/kv/litefs/test?recurse")

    def lose_agent(self):
        """As when the agent of the primary's machine ends in order: its node leaves, and its sessions with it."""
        session = self.request("GET", "/kv/litefs/test")[0]["Session"]
        node = self.request("GET", f"/session/info/{session}")[0]["Node"]
        self.request("PUT", "/catalog/deregister", {"Node": node})
        self.request("PUT", "/catalog/register", {"Node": node, "Address": "127.0.0.1"})  # it is back

    sorts = (end_session, delete_key, delete_tree, lose_agent)


class Etcd:
    name = "etcd"

    def __init__(self, cl):
        self.server = cl.server

    def end_session(self):
        kv = self.server.post("kv/range", key=b64("litefs/test"))["kvs"][0]
        self.server.post("lease/revoke", ID=kv["lease"])

    def delete_key(self):
        self.server.post("kv/deleterange", key=b64("litefs/test"))

    def delete_tree(self):
        self.server.post("kv/deleterange", key=b64("litefs/test"), range_end=b64("litefs/tesu"))

    sorts = (end_session, delete_key, delete_tree)


def terms_of(node):
    """(since when, term), in order."""
    got = []
    for when, term in TERM.findall(node.log()):
        stamp = time.strptime(when[:19], "%Y-%m-%dT%H:%M:%S")
        fraction = re.match(r"\.\d+", when[19:])
        got.append(((time.mktime(stamp) if not when.endswith("Z") else __import__("calendar").timegm(stamp))
                    + (float(fraction[0]) if fraction else 0.0), int(term)))
    return got


def term_at(terms, when):
    return max((term for since, term in terms if since <= when + 0.001), default=0)


def check_no_late_acknowledgement(cl, writers):
    """Acknowledged by a node after the first of another's of a later term."""
    acked = []  # (end, begin, term, who, n)
    for n in cl.nodes:
        terms = terms_of(n)
        acked += [(end, begin, term_at(terms, end), n.name, i) for i, begin, end in writers[n].acked]
    acked.sort()
    first = {}  # of each term: when
    for end, _, term, who, _ in acked:
        first.setdefault(term, (end, who))
    late = [(who, n, term, later) for end, begin, term, who, n in acked
            for later, (when, other) in first.items() if later > term and other != who and begin > when]
    assert not late, f"{len(late)} acknowledged after another node's first of a later term: {late[:5]}"
    return acked


def rows(node):
    c = node.connect()
    got = set(c.execute("select who, n from log"))
    c.close()
    return got


def orphans(node):
    """What was set aside there: directories."""
    return set(glob.glob(os.path.join(node.data, "orphans", "*")))


def rows_of_orphans(directories):
    got = set()
    for directory in directories:
        with tempfile.TemporaryDirectory() as tmp:
            copy = shutil.copy(os.path.join(directory, "database"), os.path.join(tmp, "t.db"))
            c = sqlite3.connect(copy)
            got |= set(c.execute("select who, n from log"))
            c.close()
    return got


class Tally:
    def __init__(self):
        self.rounds = self.lost_reached = self.lost_cut = self.n_acked = 0
        self.waits, self.cut_waits = [], []

    def tell(self, name):
        def worst(waits):
            return f"at most {max(waits):.2f} s, {sorted(waits)[len(waits) // 2]:.2f} s in the middle" if waits else "-"
        print(f"     {name}: {self.rounds} early ends, {self.n_acked} acknowledged; lost {self.lost_reached} where the old "
              f"primary reached the others and {self.lost_cut} where it was cut off, all of them set aside; to the next write: {worst(self.waits)}; "
              f"cut off: {worst(self.cut_waits)}", flush=True)


def one_round(cl, service, rng, tally, number):
    p = cl.in_step()
    before = {n: orphans(n) for n in cl.nodes}
    writers = {n: Writer(n) for n in cl.nodes}
    for w in writers.values():
        w.start()
    wait_until(lambda: len(writers[p].acked) > 20, "the primary's application to write")
    cut = rng.choice(["", "", "service", "all"])
    sort = service.sorts[number % len(service.sorts)]
    times = rng.choice([1, 1, 2, 3])
    if cut:
        p.lease_link.stall()
    if cut == "all":
        p.link.stall()
    begin = time.time()
    for i in range(times):
        try:
            sort(service)
        except (KeyError, IndexError, OSError):
            pass  # nobody holds it
        time.sleep(rng.choice([0, 0.05, 0.5]) if i + 1 < times else 0)
    ended = time.time()
    terms = {n: term_at(terms_of(n), begin) for n in cl.nodes}
    wait_until(lambda: any(term_at(terms_of(n), end) > max(terms.values())
                           for n in cl.nodes for _, b, end in writers[n].acked[-3:] if b > begin),
               f"a write after {sort.__name__}, cut off: {cut or 'no'}")
    time.sleep(0.3)
    p.lease_link.heal()
    p.link.heal()
    cl.wait_followers()
    time.sleep(0.3)
    for w in writers.values():
        w.end()
    cl.in_step()
    acked = check_no_late_acknowledgement(cl, writers)
    took = min(e for e, b, term, *_ in acked if b > begin and term > max(terms.values())) - ended
    got = rows(cl.wait_primary())
    lost = [(who, n) for _, _, _, who, n in acked if (who, n) not in got]
    tally.rounds += 1
    tally.n_acked += len(acked)
    (tally.cut_waits if cut else tally.waits).append(max(took, 0))
    if cut == "all":
        tally.lost_cut += len(lost)
        aside = rows_of_orphans(d for n in cl.nodes for d in orphans(n) - before[n])
        missing = [row for row in lost if row not in aside]
        assert not missing, f"{len(missing)} of {len(lost)} acknowledged rows that are lost were not set aside: {missing[:5]}"
    else:
        tally.lost_reached += len(lost)
        assert not lost, f"{len(lost)} acknowledged rows are lost after {times} x {sort.__name__}, cut off: {cut or 'no'}"
    c = cl.wait_primary().connect()
    c.execute("delete from log")
    c.close()


def end_early(make, backend):
    rng, tally = random.Random(SEED), Tally()
    with Cluster(3, backend=backend, ttl=f"{TTL}s", lock_delay="100ms") as cl:
        p = cl.wait_followers()
        c = p.connect()
        c.execute("create table log(id integer primary key, who, n)")
        c.close()
        cl.in_step()
        service = make(cl)
        for i in range(ROUNDS):
            one_round(cl, service, rng, tally, i)
        cl.check_equal(has_whole_log=False)
    tally.tell(backend)


def test_consul():
    end_early(Consul, "consul")


def test_etcd():
    end_early(Etcd, "etcd")


if __name__ == "__main__":
    run(sys.modules[__name__])
