"""SIGTERM ends a node in its time, whatever is under way: a disk or a mount that hangs, a start, a large transaction."""
import os
import re
import signal
import subprocess
import sys
import time

from litefs_fixture import HungMount, Node, in_step, is_mounted, is_traced, replica_of, run, stop_process, wait_until
from test_exec import App

COMMIT = ("import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
          "c.execute('insert into t values(zeroblob(20000))')")
IMPATIENT = "shutdown-timeout: 2s\n"
# Where the mount hangs; before it is waited for at the end, write transactions are, for a second or two.
LESS_IMPATIENT = "shutdown-timeout: 6s\n"


def forced_ends(node):
    return [line for line in node.log().splitlines() if "ended by force" in line]


def tracer_of(process):
    with open(f"/proc/{process.pid}/status", encoding="utf-8") as f:
        return int(re.search(r"^TracerPid:\t(\d+)$", f.read(), re.M)[1])


def wait_for_force(node):
    """SIGTERM, and the one line that says what hung. The exit status."""
    node.process.send_signal(signal.SIGTERM)
    wait_until(lambda: forced_ends(node) or node.process.poll() is not None, "the end by force")
    tracer = tracer_of(node.process)
    if tracer != 0:
        os.kill(tracer, signal.SIGKILL)  # the dead threads are its until it has looked at them
    code = node.process.wait(60)
    node.process = None
    node.log_file.close()
    lines = forced_ends(node)
    assert len(lines) == 1 and lines[0].startswith("level=ERROR"), node.log()
    return code, lines[0]


def prepare(node, mode="wal"):
    c = node.connect()
    c.execute(f"pragma journal_mode={mode}")
    c.execute("create table t(a)")
    c.close()


def test_a_disk_that_hangs_does_not_keep_the_node():
    with Node(extra=IMPATIENT) as n:
        prepare(n, "delete")
        with HungMount(n, "fdatasync", [sys.executable, "-c", COMMIT, n.path("t.db")]):
            pid = n.process.pid
            wait_until(lambda: "fdatasync" in called(pid), "the disk to be asked")
            code, line = wait_for_force(n)
            assert code == 1, code
            assert f"a thread waits in fdatasync of {n.data}/" in line, line
        n.start()  # nobody holds the data directory
        assert n.connect().execute("pragma integrity_check").fetchone() == ("ok",)


def called(pid):
    """The system calls that its threads are in, by name where this test needs it."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/syscall", encoding="utf-8") as f:
                found.append(f.read().split()[0])
        except OSError:
            continue  # it has ended
    return ["fdatasync" for number in found if number == str(FDATASYNC)]


FDATASYNC = {"x86_64": 75, "aarch64": 83}[os.uname().machine]


def test_a_mount_that_hangs_does_not_keep_the_node():
    with Node(extra=LESS_IMPATIENT) as n:
        prepare(n)
        with HungMount(n):
            wait_until(lambda: is_under_way(n), "the request to hang")
            code, line = wait_for_force(n)
            assert code == 1 and "requests to the mount" in line and "mkdir" in line, line
        n.start()


def is_under_way(node):
    """One more cannot be made: the mount answers nobody. Of a name that is not there the kernel would know by the second time."""
    p = subprocess.Popen(["stat", node.path(f"no-such-name-{time.monotonic_ns()}")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        p.wait(1)
        return False
    except subprocess.TimeoutExpired:
        return True


def start_held(node, how):
    """Starts `node`, whose reads of a database are held up as strace's injection `how` says; back when one is."""
    held = os.path.join(node.root, "held")
    database = os.path.join(node.data, "dbs", "t.db", "database")
    node.log_file = open(node.log_path, "a", encoding="utf-8")
    node.process = subprocess.Popen(
        ["strace", "-D", "-f", "-qq", "-o", held, "-e", "trace=pread64", "-P", database, "-e", "inject=pread64:" + how,
         node.program, "mount", "-config", node.config], stdout=node.log_file, stderr=node.log_file)
    wait_until(lambda: os.path.exists(held) and os.path.getsize(held) > 0, "the disk to be asked")


def test_a_disk_that_hangs_at_the_start_does_not_keep_the_node():
    """Recovery, before there is a mount."""
    with Node(extra=IMPATIENT) as n:
        prepare(n)
        assert n.stop() == 0, n.log()
        start_held(n, "delay_enter=600000000")
        code, line = wait_for_force(n)
        assert code == 1 and "its own start" in line and "pread64 of " + n.data in line, line
        n.start()


def test_a_signal_during_the_start_ends_it_in_order():
    with Node() as n:
        prepare(n)
        assert n.stop() == 0, n.log()
        start_held(n, "delay_enter=1000000:when=1")
        assert not is_mounted(n.mnt)
        assert n.stop() == 0, n.log()
        assert n.log().count("litefs mounted to") == 1 and n.log().count("shut down complete") == 2, n.log()


def test_the_application_goes_with_a_node_that_is_ended_by_force():
    with App(extra=IMPATIENT + "exec-grace: 1s\n") as n:
        n.exec_yaml = "exec: sleep 12345\n"
        n.launch()
        n.wait_log("starting background subprocess")
        children = wait_until(lambda: sleepers(n), "the application")
        c = n.connect()
        c.execute("create table t(a)")
        c.close()
        with HungMount(n, "fdatasync", [sys.executable, "-c", COMMIT, n.path("t.db")]):
            wait_until(lambda: called(n.process.pid), "the disk to be asked")
            wait_for_force(n)
        wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in children), "the application to end")


def sleepers(node):
    out = subprocess.run(["pgrep", "-P", str(node.process.pid), "-x", "sleep"], capture_output=True, text=True, check=False)
    return out.stdout.split()


def runs(pid):
    """Whether a thread of it does. One that waits for the other litefs to let go may be any, also the first: the last to end
    closes the files."""
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/stat", encoding="utf-8") as f:
                state = f.read().rsplit(")", 1)[1].split()[0]
            with open(f"/proc/{pid}/task/{task}/wchan", encoding="utf-8") as f:
                if state not in "ZX" and f.read() != "request_wait_answer":
                    return True
        except OSError:
            continue  # it has ended
    return False


def test_a_disk_that_the_kernel_does_not_let_go():
    """The data directory is in a file system that stands still (another litefs, stopped), so that the waiting thread cannot
    even be killed. The mount is gone, nothing runs any more, and the process is gone with the last call."""
    with Node() as disk:
        with Node(data_parent=disk.mnt, extra=LESS_IMPATIENT) as n:
            pid = n.process.pid
            wait_until(lambda: "primary lease acquired" in n.log(), "the start to be over")
            stop_process(disk.process)
            try:
                p = subprocess.Popen(["mkdir", n.path("d")], stderr=subprocess.DEVNULL)
                wait_until(lambda: is_under_way(n), "the request to hang")
                n.process.send_signal(signal.SIGTERM)
                wait_until(lambda: forced_ends(n), "the end by force")
                line = forced_ends(n)[0]
                # The look that litefs takes at its own mount may have come first.
                assert "requests to the mount" in line and re.search(r" of (d|no-such-name-\d+);", line), line
                assert not is_mounted(n.mnt)
                wait_until(lambda: not runs(pid), "all but the waiting threads to end")
            finally:
                disk.process.send_signal(signal.SIGCONT)
            p.wait(60)
            assert n.process.wait(60) == 1
            n.process = None
            n.start()


def test_a_large_transaction_under_way_is_given_up():
    """On a replica whose disk takes 50 ms for each write: some 20 minutes, and it ends in order within its time."""
    with Node() as p, replica_of(p, extra="shutdown-timeout: 30s\n") as r:
        prepare(p, "delete")
        in_step(p, r)
        before = r.pos()
        tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", os.path.join(r.root, "held"), "-e", "trace=pwrite64",
                                   "-e", "inject=pwrite64:delay_enter=50000", "-p", str(r.process.pid)])
        try:
            wait_until(lambda: is_traced(r.process.pid), "strace")
            c = p.connect()
            c.execute("begin")
            for _ in range(50):
                c.execute("insert into t values(randomblob(2000000))")
            c.execute("commit")
            c.close()
            wait_until(lambda: os.path.getsize(os.path.join(r.root, "held")) > 3000, "the replica to be at work")
            assert r.pos() == before
            code = r.stop(120)
            assert code == 0 and not forced_ends(r), r.log()
        finally:
            tracer.kill()
            tracer.wait(30)
        r.start()
        in_step(p, r)
        r.check()


if __name__ == "__main__":
    run(sys.modules[__name__])
