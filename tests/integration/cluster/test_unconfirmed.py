"""The lease ends while a commit waits for the disk: the application hears of an error, and the mount goes on answering."""
import shutil
import sqlite3
import subprocess
import sys
import threading
import time

from cluster_fixture import Cluster, need, run, wait_until
from litefs_fixture import is_traced

need("etcd")
if shutil.which("strace") is None:
    print("strace is not installed (scripts/setup installs it)")
    sys.exit(77)

TTL_SECONDS = 2


class SlowDisk:
    """Each fdatasync of the daemon takes longer than the lease lasts."""

    def __init__(self, node):
        self.node = node

    def __enter__(self):
        pid = self.node.process.pid
        self.tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync",
                                        "-e", f"inject=fdatasync:delay_enter={2 * TTL_SECONDS * 1000000}", "-p", str(pid)])
        wait_until(lambda: is_traced(pid), "strace to be there")

    def __exit__(self, *_):
        self.tracer.kill()  # by any other signal it would wait for the end of the delays
        self.tracer.wait(30)


def answers(node):
    """Asked by a process that may be left waiting."""
    p = subprocess.Popen(["ls", node.mnt], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return p.wait(30) == 0
    except subprocess.TimeoutExpired:
        return False


def commit(node, mode, outcome):
    c = node.connect(f"{mode}.db")
    try:
        c.execute("pragma synchronous=full")
        c.execute(f"pragma journal_mode={mode}")
        c.execute("insert into t values(1)")
        outcome.append("committed")
    except sqlite3.OperationalError as e:
        outcome.append(str(e))


def refused_while_it_syncs(mode):
    with Cluster(1, "etcd", ttl=f"{TTL_SECONDS}s") as cl:
        node = cl.wait_primary()
        c = node.connect(f"{mode}.db")
        c.execute(f"pragma journal_mode={mode}")
        c.execute("create table t(a)")
        outcome = []
        writer = threading.Thread(target=commit, args=(node, mode, outcome), daemon=True)
        with SlowDisk(node):
            node.lease_link.cut()
            writer.start()
            time.sleep(TTL_SECONDS)  # the commit is under way, or will be refused at once: both are errors
            answered = answers(node)
            if not answered:
                node.kill(may_hang=True)
            assert answered, "the mount does not answer"
            writer.join(60)
        assert answers(node), "the mount does not answer"
        assert outcome and outcome[0] != "committed", outcome
        node.lease_link.heal()
        wait_until(node.is_primary, "the node to be the primary again")
        c.close()
        c = node.connect(f"{mode}.db")
        c.execute("insert into t values(2)")
        assert c.execute("pragma integrity_check").fetchone()[0] == "ok"
        c.close()
        cl.check_equal(f"{mode}.db")
        node.check_log()


def test_by_the_removal_of_the_journal():
    refused_while_it_syncs("delete")


def test_by_the_truncation_of_the_journal():
    refused_while_it_syncs("truncate")


def test_by_a_header_of_zeros():
    refused_while_it_syncs("persist")


def test_by_a_frame():
    refused_while_it_syncs("wal")


if __name__ == "__main__":
    run(sys.modules[__name__])
