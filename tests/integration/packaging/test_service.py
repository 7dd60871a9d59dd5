"""What litefs tells the service manager, and the unit that it is started by."""
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import litefs_fixture
from litefs_fixture import HungMount, Node, run, wait_until

SOURCE = os.environ["SOURCE_DIR"]


class Manager:
    """The service manager's side: a datagram socket."""

    def __init__(self, **env):
        self.root = tempfile.mkdtemp(prefix="litefs-notify-")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.root + "/s")
        self.socket.setblocking(False)
        self.env = {**os.environ, "NOTIFY_SOCKET": self.root + "/s", **env}
        self.told = []

    def read(self):
        while True:
            try:
                self.told += self.socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self.told

    def wait(self, text, seconds=60):
        wait_until(lambda: text in self.read(), f"{text}; told so far: {self.told}", seconds)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        shutil.rmtree(self.root)


def test_ready_status_stopping():
    with Manager() as m:
        n = Node()
        n.start(env=m.env)
        with_node(n, lambda: m.wait("READY=1"))
        told = m.read()
        assert told.count("READY=1") == 1 and "STOPPING=1" not in told, told
        assert any(re.match(r"STATUS=primary, term \d+", one) for one in told), told
        assert n.stop() == 0
        m.wait("STOPPING=1")
        told = m.read()
        assert told.count("READY=1") == 1 and "WATCHDOG=1" not in told, told
        shutil.rmtree(n.root)


def with_node(node, fn):
    try:
        fn()
    except BaseException:
        sys.stderr.write(node.log())
        node.kill()
        raise


def test_replica_is_not_ready_before_it_has_what_the_primary_has():
    with Manager() as m, Node() as primary:
        r = Node()
        with open(r.config, encoding="utf-8") as f:
            text = f.read()
        port = primary.port()
        with open(r.config, "w", encoding="utf-8") as f:
            f.write(text.replace("hostname: localhost", f"hostname: first\n  advertise-url: http://127.0.0.1:{port}\n"
                                 "  reconnect-delay: 50ms\n  candidate: false"))
        primary.stop()
        r.start(env=m.env)
        try:
            m.wait("STATUS=replica of first, catching up")
            time.sleep(0.5)  # that something does not happen can only be seen by waiting
            assert "READY=1" not in m.read(), m.told
            with open(primary.config, encoding="utf-8") as f:
                text = f.read()
            with open(primary.config, "w", encoding="utf-8") as f:
                f.write(text.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
            primary.start()
            m.wait("READY=1")
            m.wait("STATUS=replica of first")
        finally:
            r.stop()
            shutil.rmtree(r.root)


def test_skip_sync_is_ready_at_once():
    with Manager() as m:
        n = Node(extra="  candidate: false\n  advertise-url: http://127.0.0.1:1\nskip-sync: true\n")
        n.start(env=m.env)
        with_node(n, lambda: m.wait("READY=1"))
        assert n.stop() == 0
        shutil.rmtree(n.root)


def test_watchdog():
    """It comes by itself, and not from a process whose loop hangs: stopped as a whole, as a stand-in."""
    with Manager(WATCHDOG_USEC="300000") as m, Node() as idle:
        idle.stop()
        idle.start(env=m.env)
        wait_until(lambda: m.read().count("WATCHDOG=1") >= 5, "the watchdog")
        idle.process.send_signal(19)
        wait_until(lambda: open(f"/proc/{idle.process.pid}/stat").read().split()[2] == "T", "a stop")
        before = len(m.read())
        time.sleep(0.5)
        assert len(m.read()) == before
        idle.process.send_signal(18)
        wait_until(lambda: len(m.read()) > before, "the watchdog again")


def test_watchdog_is_not_told_while_the_mount_does_not_answer():
    if shutil.which("strace") is None:
        print("not run: strace is not installed (scripts/setup installs it)")
        return
    with Manager(WATCHDOG_USEC="300000") as m, Node() as idle:
        idle.stop()
        idle.start(env=m.env)
        wait_until(lambda: "WATCHDOG=1" in m.read(), "the watchdog")
        with HungMount(idle):
            wait_until(lambda: "has not answered for" in idle.log(), "the mount to be found silent")
            before = len(m.read())
            time.sleep(0.5)  # that something does not happen can only be seen by waiting
            assert len(m.read()) <= before + 1
        before = len(m.read())
        wait_until(lambda: len(m.read()) > before + 1, "the watchdog again")


def test_application_does_not_inherit_the_socket():
    with Manager() as m:
        n = Node()
        out = os.path.join(n.root, "env")
        with open(n.config, "a", encoding="utf-8") as f:
            f.write(f"exec:\n  - cmd: sh -c 'env >{out}'\n  - cmd: sleep 1000\n")
        n.start(env={**m.env, "SEEN": "yes"})
        with_node(n, lambda: wait_until(lambda: os.path.exists(out) and os.path.getsize(out) > 0, "the application"))
        with open(out, encoding="utf-8") as f:
            text = f.read()
        assert "SEEN=yes" in text and "NOTIFY_SOCKET" not in text, text
        assert n.stop() == 0
        shutil.rmtree(n.root)


def test_unit_is_valid():
    unit = os.path.join(SOURCE, "packaging", "litefs.service")
    with open(unit, encoding="utf-8") as f:
        text = f.read()
    if shutil.which("systemd-analyze") is None:
        print("     no systemd-analyze here: not verified")
        return
    with tempfile.TemporaryDirectory() as root:
        copy = os.path.join(root, "litefs.service")
        with open(copy, "w", encoding="utf-8") as f:  # the program is not installed here; nor are its pages
            text = re.sub(r"^(Exec\w+=)\S+", r"\1" + os.path.abspath(litefs_fixture.LITEFS), text, flags=re.M)
            f.write(re.sub(r"^Documentation=.*\n", "", text, flags=re.M))
        p = subprocess.run(["systemd-analyze", "verify", "--recursive-errors=no", copy], capture_output=True, text=True,
                           timeout=60, check=False)
        assert p.returncode == 0 and "litefs.service" not in p.stderr, p.stderr


if __name__ == "__main__":
    run(sys.modules[__name__])
