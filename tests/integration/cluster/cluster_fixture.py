"""A cluster of the test's own: a lease server, nodes that find each other by it, and links that can be cut."""
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE), os.path.join(os.path.dirname(HERE), "lease")]

import litefs_fixture
from litefs_fixture import free_ports, have_same, pos_or_none, stop_process, wait_until
from tcp_link import Link

SEED = int(os.environ.get("SEED", random.randrange(1 << 30)))

# Where a sync takes no time: a busy disk is not what costs a test its lease.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

BECAME = "primary lease acquired"
CEASED = "this node is no longer the primary"


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            print(f"skipped: there is no {program} (scripts/setup --cluster-tests installs it)")
            sys.exit(77)


def consul():
    from test_consul import Consul
    return Consul()


def etcd():
    from test_etcd import Etcd
    return Etcd()


def bucket():
    """Not a real one: it verifies no signature."""
    from s3_server import Bucket
    return Bucket()


class LeaseFile:
    """A lease in a file: there is no server, and no way to it that could be cut."""

    def __init__(self):
        self.root = tempfile.mkdtemp(prefix="litefs-lease-", dir=MEMORY)
        self.path = os.path.join(self.root, "lease")

    def read(self, _):
        with open(self.path, encoding="utf-8") as f:
            return f.read()

    def close(self):
        shutil.rmtree(self.root, ignore_errors=True)


def lease_section(backend, url, ttl, lock_delay):
    if backend == "consul":
        return (f"  consul:\n    url: {url}\n    key: litefs/test\n    ttl: {ttl}\n    lock-delay: {lock_delay}\n")
    return f"  etcd:\n    endpoints: [\"{url}\"]\n    key: litefs/test\n    ttl: {ttl}\n"


def where_it_waits(pid):
    """The kernel stacks of the threads that are left; needs root."""
    text = ""
    for task in sorted(os.listdir(f"/proc/{pid}/task")):
        try:
            with open(f"/proc/{pid}/task/{task}/stack", encoding="utf-8") as f:
                stack = f.read()
        except OSError:
            continue
        if stack:
            text += f"thread {task}:\n{stack}"
    return text


class Member(litefs_fixture.Node):
    """A node of a cluster. `link` is the way of others to it, `lease_link` its way to the lease server."""

    def __init__(self, cluster, name, candidate=True, options="", data_parent=None, host="127.0.0.1"):
        super().__init__(data_parent)
        self.data_parent = data_parent
        self.name = name
        self.listen_port = free_ports(1)[0]
        self.link = Link(self.listen_port, host)
        self.lease_link = None if cluster.backend == "file" else Link(int(cluster.server.url.rsplit(":", 1)[1]))
        self.log_begin = 0
        self.is_paused = False
        with open(self.config, "w") as f:
            f.write(f"fuse:\n  dir: {self.mnt}\n{self.passthrough()}data:\n  dir: {self.data}\n{cluster.data_options}"
                    f"http:\n  addr: \"127.0.0.1:{self.listen_port}\"\n{cluster.http_options}"
                    f"log:\n  debug: true\n  timestamp: true\n"
                    f"lease:\n  type: {cluster.backend}\n  hostname: {name}\n"
                    f"  advertise-url: {cluster.scheme}://{host}:{self.link.port}\n"
                    f"  candidate: {str(candidate).lower()}\n  reconnect-delay: 100ms\n{options}"
                    + self.lease_section(cluster) + cluster.lease_options)

    def lease_section(self, cluster):
        if cluster.backend == "file":
            return f"  file:\n    path: {cluster.server.path}\n    ttl: {cluster.ttl}\n"
        if cluster.backend == "object":
            s = cluster.server
            return (f"  object:\n    url: s3://{s.bucket}/lease\n    endpoint: http://127.0.0.1:{self.lease_link.port}\n"
                    f"    access-key-id: {s.access_key}\n    secret-access-key: {s.secret_key}\n    ttl: {cluster.ttl}\n")
        return lease_section(cluster.backend, f"{cluster.server.scheme}://127.0.0.1:{self.lease_link.port}", cluster.ttl,
                             cluster.lock_delay)

    def start(self, **kw):
        if os.path.exists(self.log_path):
            self.log_begin = os.path.getsize(self.log_path)
        self.is_paused = False
        return super().start(**kw)

    def recent_log(self):
        """Of this run of the process."""
        with open(self.log_path, errors="replace") as f:
            f.seek(self.log_begin)
            return f.read()

    def is_up(self):
        return self.process is not None and not self.is_paused

    def is_primary(self):
        log = self.recent_log() if self.is_up() else ""
        return log.rfind(BECAME) > log.rfind(CEASED)

    def wait_log(self, text):
        wait_until(lambda: text in self.recent_log(), f"'{text}' in the log of {self.name}")

    def kill(self, may_hang=False):
        """SIGKILL. The process must go by itself: one that waits for an answer of its own mount never does, nor do the
        applications that use it, until the connection to the kernel is aborted."""
        self.process.kill()
        try:
            self.process.wait(5 if may_hang else 60)
        except subprocess.TimeoutExpired:
            sys.stderr.write(where_it_waits(self.process.pid))
            subprocess.run(["umount", "-f", self.mnt], check=False, capture_output=True)
            self.process.wait(60)
            if not may_hang:
                raise AssertionError(f"{self.name} did not end by SIGKILL: it waited for itself") from None
        finally:
            super().kill()

    def pause(self):
        self.is_paused = True
        stop_process(self.process)

    def resume(self):
        self.is_paused = False
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        if self.process is not None:
            if self.is_paused:
                self.resume()
            try:
                self.stop()
            except Exception:
                if self.process is not None:
                    self.kill()
                raise
            finally:
                self.forget()
        else:
            self.forget()

    def forget(self):
        subprocess.run(["fusermount3", "-uzq", self.mnt], check=False)
        self.link.close()
        if self.lease_link is not None:
            self.lease_link.close()
        for directory in filter(None, (self.root, self.data_parent)):
            shutil.rmtree(directory, ignore_errors=True)


class Cluster:
    """`with Cluster(3) as c:` runs three nodes and waits until one is the primary and the others follow."""

    def __init__(self, n=3, backend="consul", ttl="10s", lock_delay="1s", data_options="", options="",
                 http_options="", lease_options="", server=None):
        self.backend, self.ttl, self.lock_delay = backend, ttl, lock_delay
        self.data_options, self.options = data_options, options
        self.http_options, self.lease_options = http_options, lease_options
        self.scheme = "https" if "tls:" in http_options else "http"
        self.server = server or {"consul": consul, "etcd": etcd, "file": LeaseFile, "object": bucket}[backend]()
        self.n = n
        self.nodes = []

    def add(self, candidate=True, options="", data_parent=None):
        node = Member(self, f"node{len(self.nodes) + 1}", candidate, options or self.options, data_parent)
        self.nodes.append(node)
        return node

    def primaries(self):
        return [n for n in self.nodes if n.is_primary()]

    def wait_primary(self, other_than=()):
        """The node that is the primary: the only one."""
        def one():
            now = self.primaries()
            return now[0] if len(now) == 1 and now[0] not in other_than else None
        return wait_until(one, f"a primary among {[n.name for n in self.nodes]}")

    def replicas(self):
        return [n for n in self.nodes if n.is_up() and not n.is_primary()]

    def wait_for_all(self, is_well, what):
        """Waits until is_well(primary, replica) for each replica; the primary. On a machine that is so busy that a lease
        runs out it becomes another one meanwhile."""
        for _ in range(12):
            p, replicas = self.wait_primary(), self.replicas()
            try:
                wait_until(lambda: all(is_well(p, r) for r in replicas), what, 5)
                return p
            except AssertionError:
                pass
        raise AssertionError(f"timed out: {what}, with {p.name} as the primary")

    def wait_followers(self):
        return self.wait_for_all(lambda p, r: f"following primary={p.name}" in r.recent_log(), "replicas to follow")

    def in_step(self, name="t.db"):
        try:
            return self.wait_for_all(lambda p, r: have_same(p, r, name), f"{name} to be in step")
        except AssertionError as e:
            raise AssertionError(f"{e}; positions {[(n.name, pos_or_none(n, name)) for n in self.nodes]}") from None

    def check_equal(self, name="t.db", has_whole_log=True):
        """Every node that is up has the same position, bytes that its log makes, and a database that is sound."""
        p = self.in_step(name)
        want = None
        for n in [p, *self.replicas()]:
            if has_whole_log:
                n.check(name)
            image = n.visible(name)
            want = image if want is None else want
            assert image == want, f"{name}: {len(want)} bytes on {p.name}, {len(image)} on {n.name}, or others"
        for n in [p, *self.replicas()]:
            c = n.connect(name)
            assert c.execute("pragma integrity_check").fetchone()[0] == "ok", f"{name} on {n.name}"
            c.close()

    def names(self, node):
        """Of its databases: what has a position."""
        return sorted(n for n in os.listdir(node.mnt) if os.path.exists(node.path(n + "-pos")))

    def __enter__(self):
        try:
            for _ in range(self.n):
                self.add().start()
            if self.n > 0:
                self.wait_followers()
        except BaseException:
            self.close(is_failure=True)
            raise
        return self

    def __exit__(self, kind, value, tb):
        self.close(kind is not None)

    def close(self, is_failure):
        problem = None
        for node in self.nodes:
            if is_failure:
                sys.stderr.write(f"--- log of {node.name} ---\n{shorten(node.log())}---\n")
            try:
                node.close()
            except Exception as e:
                problem = problem or e
        self.server.close()
        if problem is not None and not is_failure:
            raise problem


def shorten(log):
    return log if len(log) < 20000 else log[:4000] + "\n[...]\n" + log[-16000:]


def is_readonly(error):
    """What SQLite says where it may not write: in WAL mode a write that fails is an I/O error to it."""
    return any(s in str(error) for s in ("readonly", "disk I/O error"))


def run(module):
    print(f"SEED={SEED}", flush=True)
    litefs_fixture.run(module)
