"""What a replica has applied gets to its disk: about a second later, and before it leads. Counted in its system calls."""
import os
import re
import shutil
import subprocess
import sys
import time

from cluster_fixture import Cluster, need, run, wait_until
from litefs_fixture import LITEFS

need("etcd")
if shutil.which("strace") is None:
    print("strace is not installed (scripts/setup installs it)")
    sys.exit(77)

N = 60


def add_traced(cl, trace):
    """A node under strace: from the start, and as the parent of nobody."""
    node = cl.add()
    node.start(wrapper=["strace", "-D", "-f", "-y", "-s", "80", "-e", "trace=fdatasync,pwrite64,write", "-o", trace])
    return node


class Trace:
    """The calls in the order in which they ended: (name, path of the log or None, text)."""

    def __init__(self, path):
        self.path = path

    def calls(self):
        with open(self.path, errors="replace") as f:
            return f.read().splitlines()

    def log_calls(self, name, db="t.db"):
        """Numbers of the lines that end such a call on the log of @db. One that is cut in two counts from its end."""
        found, open_calls = [], {}
        for i, line in enumerate(self.calls()):
            m = re.match(r"(\d+) +(?:<\.\.\. )?(\w+)", line)
            if m is None or m.group(2) != name:
                continue
            if "<unfinished" in line:
                open_calls[m.group(1)] = line
                continue
            text = open_calls.pop(m.group(1), "") if "resumed>" in line else line
            if f"/dbs/{db}/log/" in text:
                found.append(i)
        return found

    def line_of(self, text):
        return next((i for i, line in enumerate(self.calls()) if text in line), None)


def make_table(p, name="t.db"):
    c = p.connect(name)
    c.execute("pragma journal_mode=wal")
    c.execute("pragma synchronous=full")
    c.execute("create table t(a)")
    return c


def commit(c, n=N):
    for i in range(n):
        c.execute("insert into t values(?)", (i,))


def synced_before_it_leads(node, trace, name="t.db"):
    """Whether nothing was written to the log of @name after its last sync, when the node said that it leads."""
    node.wait_log("primary lease acquired")
    led = wait_until(lambda: trace.line_of("primary lease acquired"), "the line in the trace")
    written = [i for i in trace.log_calls("pwrite64", name) if i < led]
    synced = [i for i in trace.log_calls("fdatasync", name) if i < led]
    assert written, "the replica has written nothing"
    return bool(synced) and synced[-1] > written[-1]


def two_nodes(cl):
    p = cl.wait_primary()
    path = os.path.join(p.root, "trace")
    r = add_traced(cl, path)
    cl.wait_followers()
    return p, r, Trace(path)


def test_a_replica_syncs_what_it_has_applied():
    with Cluster(1, backend="etcd") as cl:
        p, r, trace = two_nodes(cl)
        c = make_table(p)
        cl.in_step()
        before = len(trace.log_calls("fdatasync"))
        commit(c)
        cl.in_step()

        def is_synced():
            synced, written = trace.log_calls("fdatasync"), trace.log_calls("pwrite64")
            return len(synced) > before and synced[-1] > written[-1]
        wait_until(is_synced, "the replica to sync its log")
        assert len(trace.log_calls("fdatasync")) - before < N, "it syncs for each transaction"
        c.close()


def test_the_lease_goes_to_who_has_it_on_disk():
    with Cluster(1, backend="etcd") as cl:
        p, r, trace = two_nodes(cl)
        c = make_table(p)
        commit(c)
        out = subprocess.run([LITEFS, "handoff", "-config", p.config], capture_output=True, text=True, check=False)
        assert out.returncode == 0, out.stderr + out.stdout
        assert synced_before_it_leads(r, trace)
        p.wait_log("handing the lease over")
        with open(r.log_path, encoding="utf-8") as f:
            assert "internal error" not in f.read()
        c.close()


def test_who_takes_over_after_a_crash_syncs_first():
    with Cluster(1, backend="etcd", ttl="2s") as cl:
        p, r, trace = two_nodes(cl)
        c = make_table(p)
        commit(c)
        cl.in_step()
        p.kill()
        assert synced_before_it_leads(r, trace)


def test_many_databases_are_synced_in_a_moment():
    """How long it takes is printed."""
    with Cluster(1, backend="etcd") as cl:
        p, r, trace = two_nodes(cl)
        connections = [p.connect(f"d{k}.db") for k in range(100)]
        for sql in ("create table t(a)", "insert into t values(1)"):
            for c in connections:
                c.execute(sql)
        begin = time.monotonic()
        out = subprocess.run([LITEFS, "handoff", "-config", p.config], capture_output=True, text=True, check=False)
        assert out.returncode == 0, out.stderr + out.stdout
        print(f"     handoff with {len(connections)} databases: {(time.monotonic() - begin) * 1000:.0f} ms, traced")
        for k in range(0, 100, 10):
            assert synced_before_it_leads(r, trace, f"d{k}.db"), k
        for c in connections:
            c.close()


if __name__ == "__main__":
    run(sys.modules[__name__])
