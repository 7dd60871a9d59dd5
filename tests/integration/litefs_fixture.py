"""A litefs node of the test's own: directories, configuration, process, mount, and the oracle for what it holds."""
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request

LITEFS = os.environ.get("LITEFS_BIN", "build/release/cmd/litefs/litefs")
REPLAY = os.environ.get("REPLAY_BIN", "build/release/tests/integration/integration_replay")
# Of all nodes: what fuse.wal-passthrough is; nothing: not set.
WAL_PASSTHROUGH = os.environ.get("WAL_PASSTHROUGH", "")


# The child of a vfork closes the files that it inherits, of the mount, too, while its parent stands still with Python's lock:
# litefs's answer may then wait for a thread of this process, for ever. With fork the parent goes on.
subprocess._USE_VFORK = False


def wait_until(condition, what, seconds=60):
    """What the condition came to. The time is what a loaded machine may take, not what one should."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError("timed out: " + what)
        time.sleep(0.005)
    return value


reservations = []  # sockets that are bound and do not listen


def free_ports(n):
    """Ports that are this process's until it ends: nobody is given one who asks for any, or connects from any, while a
    server that names one (with SO_REUSEADDR, as all do) can listen there, end, and come back."""
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", 0))
    reservations.extend(sockets)
    return [s.getsockname()[1] for s in sockets]


def stop_process(process):
    """SIGSTOP; returns when its last thread stands still, before which it may still answer. One that waits for an answer of
    the process's own mount stays in the kernel ("D") until that goes on."""
    tasks = f"/proc/{process.pid}/task"
    begin = time.monotonic()

    def stands_still(task):
        with open(f"{tasks}/{task}/stat", encoding="utf-8") as f:
            state = f.read().rsplit(")", 1)[1].split()[0]
        return state == "T" or (state == "D" and time.monotonic() - begin > 1)

    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: all(stands_still(task) for task in os.listdir(tasks)), "the process to stop")


def is_mounted(path):
    with open("/proc/self/mountinfo") as f:
        return any(line.split()[4] == path for line in f)


# A program that takes a node over and gives it back.
GIVES_BACK = """
import os, sys
if sys.argv[1] == "takeover-check":
    sys.exit(0)
parcel, program = os.environ["LITEFS_TAKEOVER"].split(":")
os.environ["LITEFS_TAKEOVER"] = parcel + ":-1"
os.environ["LITEFS_TAKEOVER_ERROR"] = "it does not like it here"
os.execve(int(program), sys.argv, os.environ)
"""


class HungMount:
    """While it lasts, the mount of a node answers nobody: the thread that does is held in a system call of its own that an
    application has caused. Needs strace."""
    NAME = "hangs"

    def __init__(self, node, call="mkdirat", command=None, file=None):
        self.node, self.call, self.filter = node, call, ["-P", file] if file else []
        self.command = command or ["mkdir", node.path(self.NAME)]

    def __enter__(self):
        pid = self.node.process.pid
        self.tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", os.path.join(self.node.root, "held"), "-e", f"trace={self.call}", *self.filter,
                                        "-e", f"inject={self.call}:delay_enter=600000000", "-p", str(pid)])
        wait_until(lambda: is_traced(pid), "strace to be there")
        self.application = subprocess.Popen(self.command)
        return self

    def __exit__(self, *_):
        self.tracer.kill()  # by any other signal it would wait for the end of the delay
        self.tracer.wait(30)
        self.application.wait(30)


def is_traced(pid):
    """Every thread of it."""
    try:
        return not any("TracerPid:\t0\n" in open(f"/proc/{pid}/task/{t}/status", encoding="utf-8").read() for t in os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return False  # one has ended meanwhile


class Node:
    """`with Node() as n:` runs a node on n.mnt; its log is printed when the block raises."""

    def __init__(self, data_parent=None, extra=""):
        self.root = tempfile.mkdtemp(prefix="litefs-it-")
        self.mnt = os.path.join(self.root, "mnt")
        self.data = os.path.join(data_parent or self.root, "data")
        self.config = os.path.join(self.root, "litefs.yml")
        self.log_path = os.path.join(self.root, "log")
        self.extra = extra
        self.process = None
        self.program = LITEFS
        with open(self.config, "w") as f:
            f.write(f"fuse:\n  dir: {self.mnt}\n{self.passthrough()}data:\n  dir: {self.data}\n"
                    f"http:\n  addr: \"127.0.0.1:0\"\n"
                    f"lease:\n  type: static\n  hostname: localhost\n{extra}")

    @staticmethod
    def passthrough():
        return f"  wal-passthrough: {WAL_PASSTHROUGH}\n" if WAL_PASSTHROUGH else ""

    def start(self, wrapper=(), env=None):
        self.log_file = open(self.log_path, "a")
        self.process = subprocess.Popen([*wrapper, self.program, "mount", "-config", self.config],
                                        stdout=self.log_file, stderr=self.log_file, env=env)
        wait_until(lambda: is_mounted(self.mnt) or self.process.poll() is not None, "mount")
        if self.process.poll() is not None:
            raise AssertionError(f"litefs exited with {self.process.returncode}:\n{self.log()}")
        wait_until(lambda: os.path.exists(self.path(".lag")), "mount to answer")
        return self

    def stop(self, seconds=60):
        """SIGTERM; the exit status."""
        if self.process is None:
            return None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(seconds)
        self.process = None
        self.log_file.close()
        assert not is_mounted(self.mnt), "still mounted after SIGTERM"
        return code

    def kill(self):
        """SIGKILL, and the dead mount cleared away."""
        self.process.kill()
        self.process.wait()
        self.process = None
        self.log_file.close()
        subprocess.run(["fusermount3", "-uzq", self.mnt], check=False)

    def restart(self):
        assert self.stop() == 0, self.log()
        return self.start()

    def port(self):
        """Of the HTTP listener."""
        return int(re.findall(r"http server listening on: .*\(port (\d+)\)", self.log())[-1])

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port()}{path}", timeout=20) as answer:
            return answer.read().decode()

    def path(self, name):
        return os.path.join(self.mnt, name)

    def connect(self, name="t.db", **kw):
        return sqlite3.connect(self.path(name), isolation_level=None, timeout=kw.pop("timeout", 20), **kw)

    def pos(self, name="t.db"):
        with open(self.path(name + "-pos")) as f:
            return f.read().rstrip("\n")

    def cpu_seconds(self):
        """Of processor time that the process has used."""
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def log(self):
        with open(self.log_path) as f:
            return f.read()

    def check_log(self):
        """No thread has tried what could make the daemon wait for itself (fuse/own_mount.h)."""
        wrong = [line for line in self.log().splitlines() if "internal error" in line]
        assert not wrong, wrong[:3]

    def replay(self, name="t.db"):
        """(position, image) that the log makes."""
        out = os.path.join(self.root, "replayed")
        r = subprocess.run([REPLAY, self.data, name, out], capture_output=True, text=True)
        assert r.returncode == 0, r.stderr
        with open(out, "rb") as f:
            return r.stdout.split()[0], f.read()

    def visible(self, name="t.db"):
        """The image as SQLite sees it: the file, with the committed frames of the WAL laid over it."""
        with open(self.path(name), "rb") as f:
            image = bytearray(f.read())
        try:
            with open(self.path(name + "-wal"), "rb") as f:
                wal = f.read()
        except FileNotFoundError:
            wal = b""
        return bytes(lay_wal_over(image, wal))

    def check(self, name="t.db", seen=None):
        """The invariant: image = replay of the log to the position, and the checksum holds. @seen: instead of visible()."""
        position, image = self.replay(name)
        assert position == self.pos(name), f"log is at {position}, -pos says {self.pos(name)}"
        seen = self.visible(name) if seen is None else seen
        if seen != image:
            size = 512
            bad = [i // size for i in range(0, max(len(seen), len(image)), size)
                   if seen[i:i + size] != image[i:i + size]]
            raise AssertionError(f"{name}: visible {len(seen)} bytes, replayed {len(image)}; "
                                 f"512-byte blocks that differ: {bad[:20]}")

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise

    def __exit__(self, kind, value, tb):
        try:
            if kind is not None:
                sys.stderr.write("--- litefs log ---\n" + self.log() + "---\n")
            if self.process is not None:
                try:
                    self.stop()
                except Exception:
                    self.kill()
                    if kind is None:
                        raise
            if kind is None:
                self.check_log()
        finally:
            subprocess.run(["fusermount3", "-uzq", self.mnt], check=False)
            shutil.rmtree(self.root, ignore_errors=True)


def replica_of(p, extra=""):
    """Of a primary under a static lease."""
    return Node(extra=f"  candidate: false\n  advertise-url: http://127.0.0.1:{p.port()}\n  reconnect-delay: 100ms\n"
                      + extra)


def pos_or_none(node, name="t.db"):
    try:
        return node.pos(name)
    except OSError:
        return None


def have_same(a, b, name="t.db"):
    return os.path.exists(a.path(name + "-pos")) and a.pos(name) == pos_or_none(b, name)


def in_step(p, r, name="t.db"):
    """Waits until the replica `r` has what the primary has."""
    try:
        wait_until(lambda: have_same(p, r, name), name)
    except AssertionError:
        raise AssertionError(f"{name} is at {pos_or_none(p, name)} on the primary, at {pos_or_none(r, name)} on the replica"
                             ) from None


def wal_checksum(data, order, s0, s1):
    words = memoryview(data).cast("I") if order == sys.byteorder else None
    if words is None:
        import array
        a = array.array("I", data)
        a.byteswap()
        words = a
    mask = 0xffffffff
    for i in range(0, len(words), 2):
        s0 = (s0 + words[i] + s1) & mask
        s1 = (s1 + words[i + 1] + s0) & mask
    return s0, s1


def lay_wal_over(image, wal):
    if len(wal) < 32:
        return image
    be = lambda off, n=4, b=wal: int.from_bytes(b[off:off + n], "big")
    order = "big" if be(0) == 0x377f0683 else "little"
    page_size, salts, sums = be(8), wal[16:24], (be(24), be(28))
    pending, at, commit = {}, 32, None
    done = {}
    while at + 24 + page_size <= len(wal):
        if be(at) != 0 and wal[at + 8:at + 24] == bytes(16):
            # SQLite before 3.42, after a savepoint was rolled back: a frame of its transaction without a checksum.
            sums = (0, 0)
        else:
            if wal[at + 8:at + 16] != salts:
                break
            sums = wal_checksum(wal[at:at + 8], order, *sums)
            sums = wal_checksum(wal[at + 24:at + 24 + page_size], order, *sums)
            if sums != (be(at + 16), be(at + 20)):
                break
        pending[be(at)] = at + 24
        if be(at + 4):
            done.update(pending)
            pending, commit = {}, be(at + 4)
        at += 24 + page_size
    if commit is None:
        return image
    need = commit * page_size
    image = image[:need] + bytes(max(0, need - len(image)))
    for pgno, off in done.items():
        if pgno <= commit:
            image[(pgno - 1) * page_size:pgno * page_size] = wal[off:off + page_size]
    return image


def run(module):
    """Runs every test_* function of the module, in the order they are written; exits 1 if one failed."""
    tests = [(n, f) for n, f in vars(module).items() if n.startswith("test_") and callable(f)]
    only = sys.argv[1:]
    failed = 0
    for name, fn in tests:
        if only and name not in only:
            continue
        begin = time.monotonic()
        try:
            fn()
            print(f"ok   {name} ({time.monotonic() - begin:.1f} s)", flush=True)
        except Exception:
            failed += 1
            print(f"FAIL {name}", flush=True)
            traceback.print_exc()
    sys.exit(1 if failed else 0)
