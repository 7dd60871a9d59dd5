"""Who may write changes hands: in order, by a crash, by a node that stands still. How long writers wait is printed."""
import sqlite3
import sys
import threading
import time

from cluster_fixture import Cluster, is_readonly, need, run, wait_until

need("consul", "etcd")


class Client(threading.Thread):
    """An application on one node: appends numbered rows as long as it may, by one connection that it keeps."""

    def __init__(self, node, who, mode="wal", pause=0.002):
        super().__init__(daemon=True)
        self.node, self.who, self.mode, self.pause = node, who, mode, pause
        self.stop = threading.Event()
        self.acked = []  # (number, begin, end)
        self.errors = []  # (time, text)

    def run(self):
        c = None
        n = 0
        while not self.stop.is_set():
            begin = time.monotonic()
            try:
                if c is None:
                    c = sqlite3.connect(self.node.path("t.db"), isolation_level=None, timeout=1)
                c.execute("insert into log(who, n) values(?, ?)", (self.who, n))
                self.acked.append((n, begin, time.monotonic()))
                n += 1
            except sqlite3.Error as e:
                self.errors.append((time.monotonic(), str(e)))
                n += 1  # it may have been committed: the number is not used again
            time.sleep(self.pause)
        if c is not None:
            try:
                c.close()
            except sqlite3.Error:
                pass

    def end(self):
        self.stop.set()
        self.join(60)
        assert not self.is_alive(), f"the client on {self.node.name} hangs"

    def first_after(self, t):
        return next((end for _, begin, end in self.acked if begin > t), None)


def make_table(node, mode="wal"):
    c = node.connect()
    c.execute(f"pragma journal_mode={mode}")
    c.execute("pragma synchronous=normal")
    c.execute("create table log(id integer primary key, who, n)")
    c.close()


def rows(node, who):
    c = node.connect()
    got = [n for n, in c.execute("select n from log where who = ? order by id", (who,))]
    c.close()
    return got


def check_present(node, client, first=None):
    """The (first) rows that `client` was told are committed are there, once each, in their order."""
    want = [n for n, _, _ in client.acked[:first]]
    got = rows(node, client.who)
    missing = sorted(set(want) - set(got))
    assert not missing, f"{len(missing)} of {len(want)} acknowledged rows of {client.who} are missing: {missing[:10]}"
    assert got == sorted(set(got)), f"rows of {client.who} are out of order or there twice"


def start_clients(cl):
    clients = {n: Client(n, n.name) for n in cl.nodes}
    for c in clients.values():
        c.start()
    return clients


def fail_over(cl, how):
    """`how(primary)` at a moment when it writes; its clients, when that was, how many of its client's rows all nodes had
    before, and seconds until another node has accepted a write."""
    p = cl.wait_followers()
    make_table(p)
    cl.in_step()
    clients = start_clients(cl)
    wait_until(lambda: len(clients[p].acked) > 100, "the primary's client to write")
    everywhere, at = len(clients[p].acked), p.pos()
    wait_until(lambda: all(r.pos() >= at for r in cl.replicas()), "the replicas")
    begin = time.monotonic()
    how(p)
    others = [clients[n] for n in cl.nodes if n is not p]
    wait_until(lambda: any(c.first_after(begin) for c in others), "another node to accept writes")
    took = min(t for t in (c.first_after(begin) for c in others) if t) - begin
    return p, clients, begin, everywhere, took


def finish(cl, clients):
    for c in clients.values():
        c.end()
    for c in clients.values():
        other = [e for _, e in c.errors if not is_readonly(e)]
        if other:
            print(f"     other errors of {c.who}: {len(other)}, {sorted(set(other))}")


def test_terminated_primary_consul():
    with Cluster(ttl="10s") as cl:
        p, clients, *_, took = fail_over(cl, lambda p: p.stop())
        print(f"     SIGTERM, Consul: {took * 1000:.0f} ms", flush=True)
        finish(cl, clients)
        new = cl.wait_primary()
        check_present(new, clients[p])
        for n in cl.replicas():
            check_present(new, clients[n])
        cl.check_equal()
        assert took < 5, f"{took} s: it waited for the lease to run out"


def test_terminated_primary_etcd():
    with Cluster(backend="etcd", ttl="10s") as cl:
        p, clients, *_, took = fail_over(cl, lambda p: p.stop())
        print(f"     SIGTERM, etcd: {took * 1000:.0f} ms", flush=True)
        finish(cl, clients)
        check_present(cl.wait_primary(), clients[p])
        cl.check_equal()
        assert took < 5, f"{took} s: it waited for the lease to run out"


def test_killed_primary_consul():
    with Cluster(ttl="10s", lock_delay="1s") as cl:
        p, clients, _, everywhere, took = fail_over(cl, lambda p: p.kill())
        print(f"     SIGKILL, Consul, TTL 10 s, lock-delay 1 s: {took:.1f} s", flush=True)
        finish(cl, clients)
        p.start()
        cl.check_equal(has_whole_log=False)  # one that had more was set aside
        check_present(cl.wait_primary(), clients[p], everywhere)
        assert took < 30, took


def test_killed_primary_etcd():
    with Cluster(backend="etcd", ttl="2s") as cl:
        p, clients, _, everywhere, took = fail_over(cl, lambda p: p.kill())
        print(f"     SIGKILL, etcd, TTL 2 s: {took:.1f} s", flush=True)
        finish(cl, clients)
        p.start()
        cl.check_equal(has_whole_log=False)  # one that had more was set aside
        check_present(cl.wait_primary(), clients[p], everywhere)
        assert took < 20, took


def stopped_primary(backend, ttl):
    """A primary that stands still for longer than its lease acknowledges nothing when it goes on."""
    with Cluster(backend=backend, ttl=f"{ttl}s") as cl:
        p, clients, begin, _, took = fail_over(cl, lambda p: p.pause())
        time.sleep(max(0, ttl * 1.5 - (time.monotonic() - begin)))
        resumed = time.monotonic()
        p.resume()
        cl.wait_followers()
        wait_until(lambda: any(t > resumed for t, _ in clients[p].errors), "the old primary's client to be refused")
        finish(cl, clients)
        print(f"     SIGSTOP, {backend}, TTL {ttl} s: {took:.1f} s; first refusal on the old primary "
              f"{min(t for t, _ in clients[p].errors if t > resumed) - resumed:.3f} s after SIGCONT: "
              f"{[e for t, e in clients[p].errors if t > resumed][0]}", flush=True)
        # The lease was another's from `begin + took` at the latest.
        late = [n for n, _, end in clients[p].acked if end > begin + took]
        new = cl.wait_primary()
        got = set(rows(new, p.name))
        assert all(n in got for n in late), f"acknowledged after the lease was lost, and gone: {late}"
        assert new is p or not late, f"acknowledged after the lease was lost: {late}"
        cl.check_equal(has_whole_log=False)  # one that had more was set aside


def test_stopped_primary_consul():
    stopped_primary("consul", 3)


def test_stopped_primary_etcd():
    stopped_primary("etcd", 2)


class Committer(threading.Thread):
    """Large rows that are made durable one after the other, so that whoever stops the node stops a commit. One row is
    one transaction; a number is used once."""

    def __init__(self, node, mode):
        super().__init__(daemon=True)
        self.node, self.mode = node, mode
        self.stop = threading.Event()
        self.acked = []  # (number, end)
        self.refused = []  # (number, end, text)

    def run(self):
        c = sqlite3.connect(self.node.path(f"{self.mode}.db"), isolation_level=None, timeout=1)
        c.execute("pragma synchronous=full")
        n = 0
        while not self.stop.is_set():
            n += 1
            try:
                c.execute("insert into log values(?, randomblob(200000))", (n,))
                self.acked.append((n, time.monotonic()))
            except sqlite3.Error as e:
                self.refused.append((n, time.monotonic(), str(e)))
                time.sleep(0.01)
        c.execute("select max(n) from log").fetchone()  # rolls back what was refused
        c.close()


def check_stopped_commits(committers, paused, taken, new):
    """What was answered after another node had taken the lease is what that node has."""
    for c in committers:
        db = new.connect(f"{c.mode}.db")
        got = [n for n, in db.execute("select n from log order by n")]
        db.close()
        late = [n for n, end in c.acked if end > taken]
        lost = sorted({n for n, end in c.acked} - set(got))
        print(f"     {c.mode}: {len(c.acked)} acknowledged, {len(lost)} of them not on the new primary, {len(late)} "
              f"answered late; {len([1 for _, end, _ in c.refused if end > paused])} refused", flush=True)
        assert not set(late) - set(got), f"{c.mode}: acknowledged after the lease was lost, and gone: {late}"
        assert got == list(range(1, len(got) + 1)), f"{c.mode}: a row before an acknowledged one is missing"


def test_stopped_while_it_commits():
    """A commit that was captured when the lease held, but not acknowledged, is not acknowledged later."""
    with Cluster(2, backend="etcd", ttl="2s") as cl:
        p = cl.wait_followers()
        new, = cl.replicas()
        for mode in ("wal", "delete"):
            c = p.connect(f"{mode}.db")
            c.execute(f"pragma journal_mode={mode}")
            c.execute("create table log(n integer primary key, x)")
            c.close()
        committers = [Committer(p, mode) for mode in ("wal", "delete")]
        for c in committers:
            c.start()
        wait_until(lambda: all(len(c.acked) > 5 for c in committers), "commits")
        p.pause()
        paused = time.monotonic()
        wait_until(new.is_primary, "the other to take over")
        taken = time.monotonic()
        p.resume()
        wait_until(lambda: all(any(end > taken for _, end, _ in c.refused) for c in committers), "commits to be refused")
        for c in committers:
            c.stop.set()
            c.join(60)
            assert not c.is_alive(), f"the client of {c.mode}.db hangs"
        cl.wait_followers()
        for mode in ("wal", "delete"):
            cl.in_step(f"{mode}.db")
            cl.check_equal(f"{mode}.db", has_whole_log=False)
        check_stopped_commits(committers, paused, taken, new)


def test_connections_outlive_the_role():
    """Nobody opens a database anew because its node became the primary or ceased to be it."""
    for mode in ("wal", "delete"):
        with Cluster(2, backend="etcd", ttl="2s") as cl:
            p = cl.wait_followers()
            r, = cl.replicas()
            make_table(p, mode)
            cl.in_step()
            on = {n: n.connect(timeout=5) for n in (p, r)}
            on[p].execute("insert into log(who, n) values('p', 1)")
            cl.in_step()
            assert on[r].execute("select count(*) from log").fetchone() == (1,)
            refuse(on[r])
            # The primary stands still: the other takes over, and the connections stay.
            p.lease_link.stall()
            wait_until(lambda: r.is_primary(), "the replica to be promoted")
            p.lease_link.heal()
            on[r].execute("insert into log(who, n) values('r', 2)")
            wait_until(lambda: not p.is_primary(), "the old primary to step down")
            refuse(on[p])
            cl.in_step()
            assert on[p].execute("select n from log order by id").fetchall() == [(1,), (2,)]
            on[r].execute("insert into log(who, n) values('r', 3)")
            cl.in_step()
            assert on[p].execute("select count(*) from log").fetchone() == (3,)
            # And back.
            r.lease_link.stall()
            wait_until(lambda: p.is_primary(), "the first primary to be promoted again")
            r.lease_link.heal()
            on[p].execute("insert into log(who, n) values('p', 4)")
            wait_until(lambda: not r.is_primary(), "the second to step down")
            refuse(on[r])
            cl.in_step()
            for c in on.values():
                assert [n for n, in c.execute("select n from log order by id")] == [1, 2, 3, 4]
                c.close()
            cl.check_equal()


def refuse(c):
    try:
        c.execute("insert into log(who, n) values('x', 0)")
    except sqlite3.OperationalError as e:
        assert is_readonly(e), f"not an error that says readonly: {e}"
    else:
        raise AssertionError("a node that is not the primary accepted a write")


if __name__ == "__main__":
    run(sys.modules[__name__])
