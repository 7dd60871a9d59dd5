"""What the daemon does on its own mount must not make it wait for itself."""
import os
import shutil
import subprocess
import sys
import time

import litefs_fixture
from litefs_fixture import Node, wait_until


def test_daemon_maps_no_file_of_its_mount():
    """munmap() of a file of FUSE waits until dirty pages of it are written back and holds the process's map meanwhile;
    the thread that has to receive the write may need the map: the node hangs, with every process that uses it. The
    daemon looks into the wal-index half a second after commits, and when a writer has closed."""
    if shutil.which("strace") is None:
        print("strace is not installed (scripts/setup installs it)")
        sys.exit(77)
    n = Node()
    trace = os.path.join(n.root, "trace")
    # From the start, and as the parent of nobody: attached later it would stop a thread that answers another one.
    n.start(wrapper=["strace", "-D", "-f", "-y", "-e", "trace=openat,mmap", "-o", trace])

    def calls():
        with open(trace) as f:
            return [line for line in f if n.mnt + "/" in line]
    try:
        open_ones = []
        for k in range(5):
            c = n.connect(f"{k}.db")
            c.execute("pragma journal_mode=wal")
            c.execute("create table t(a)")
            c.execute("insert into t values(1)")
            open_ones.append(c)
        wait_until(lambda: any("openat(" in c and "-shm" in c for c in calls()), "a look into a wal-index")
        for c in open_ones:
            c.close()
        n.stop()
        mapped = [c for c in calls() if "mmap(" in c]
        assert not mapped, mapped[:3]
    finally:
        n.__exit__(None, None, None)


WRITER = """
import sqlite3, sys, time
path, mode, pages, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
end = time.monotonic() + seconds
while time.monotonic() < end:
    c = sqlite3.connect(path, timeout=60)
    c.execute("pragma journal_mode=" + mode)
    c.execute("create table if not exists t(a)")
    with c:
        c.execute("delete from t")
        c.executemany("insert into t values(zeroblob(4000))", [()] * pages)
    c.close()
"""


def test_no_request_waits_for_a_thread_that_waits_in_the_mount():
    """The kernel holds the directory while an unlink of a journal waits for the capture of a large transaction, and whoever
    looks a name up there waits for it. The daemon looks NAME-shm up whenever a writer in WAL mode has closed: done by the
    threads that capture, that was the end of the mount, for good, once they all did."""
    seconds = 3
    with Node() as n:
        def write(name, mode, pages):
            return subprocess.Popen([sys.executable, "-c", WRITER, n.path(name), mode, str(pages), str(seconds)])
        writers = [write(f"large{k}.db", "delete", 520) for k in range(3)]
        writers += [write(f"small{k}.db", "wal", 1) for k in range(10)]
        end = time.monotonic() + seconds + 60
        try:
            assert [w.wait(max(1, end - time.monotonic())) for w in writers] == [0] * len(writers)
        except subprocess.TimeoutExpired:
            n.kill()  # or nobody of them ever ends
            raise AssertionError("the mount hangs") from None
        finally:
            for w in writers:
                w.kill()
                w.wait()
        for k in range(3):
            n.check(f"large{k}.db")


def count_mounts(node):
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        return sum(line.split()[4] == node.mnt for line in f)


def test_a_dead_mount_is_cleared_whatever_the_kernel_remembers_of_it():
    with Node() as n:
        for _ in range(2):
            os.stat(n.mnt)  # so that the kernel knows the root's attributes
            n.process.kill()
            n.process.wait()
            n.start()
            assert count_mounts(n) == 1, "the new mount lies on the dead one"
        assert n.stop() == 0


if __name__ == "__main__":
    litefs_fixture.run(sys.modules[__name__])
