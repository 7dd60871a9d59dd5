"""A cluster of two versions of litefs: this one, and the one before the protocol had anything to negotiate. Each is the
primary and the replica in turn, and ends by SIGTERM and by SIGKILL.

The earlier one is built from the repository's history (LITEFS_OLD_BIN names one that is there); without that it is skipped."""
import os
import subprocess
import sys
import tempfile

from cluster_fixture import HERE, Cluster, free_ports, need, run
from litefs_fixture import LITEFS, Node, in_step, replica_of

OLD_COMMIT = "65f59e0"
SOURCE = os.path.join(HERE, "..", "..", "..")
MODES = ("wal", "delete")
# What a node says of a peer that sends it what it does not know.
PROTOCOL_ERRORS = ("protocol", "unknown type", "frame type")


def build_old(directory):
    """The program of then: nothing else of it is built, and without optimisation, which takes long."""
    source, build = os.path.join(directory, "source"), os.path.join(directory, "build")
    if subprocess.run(["git", "-C", SOURCE, "cat-file", "-e", OLD_COMMIT + "^{commit}"], capture_output=True, check=False).returncode:
        print(f"skipped: the repository's history does not reach back to {OLD_COMMIT}")
        sys.exit(77)
    os.mkdir(source)
    archive = subprocess.run(["git", "-C", SOURCE, "archive", OLD_COMMIT], capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
    for command in (["cmake", "-S", source, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug", "-DLITEFS_COMMIT=" + OLD_COMMIT],
                    ["cmake", "--build", build, "--target", "litefs"]):
        p = subprocess.run(command, capture_output=True, text=True, check=False)
        assert p.returncode == 0, p.stdout[-4000:] + p.stderr[-4000:]
    return os.path.join(build, "cmd", "litefs", "litefs")


class Versions:
    """`old` and `new`, by the name of the node."""
    old = os.environ.get("LITEFS_OLD_BIN")
    new = LITEFS


def name_of(mode):
    return f"{mode}.db"


def write(node, text, expected):
    """In each mode; waits for the node to be able to."""
    for mode in MODES:
        c = node.connect(name_of(mode))
        c.execute(f"pragma journal_mode={mode}")
        c.execute("create table if not exists t (x, pad)")
        c.execute("insert into t values (?, randomblob(200000))", (text,))
        c.close()
    expected.append(text)


def check(p, replicas, expected):
    for mode in MODES:
        for r in replicas:
            in_step(p, r, name_of(mode))
        for n in (p, *replicas):
            c = n.connect(name_of(mode))
            assert [x for (x,) in c.execute("select x from t order by rowid")] == expected, (n.root, mode)
            assert c.execute("pragma integrity_check").fetchone()[0] == "ok"
            c.close()
        images = {bytes(n.visible(name_of(mode))) for n in (p, *replicas)}
        assert len(images) == 1, f"{name_of(mode)} differs"


def understood(nodes):
    for n in nodes:
        odd = [line for line in n.log().splitlines() if any(e in line for e in PROTOCOL_ERRORS)]
        assert not odd, odd[:5]


class MixedCluster(Cluster):
    """Its first node is of the first version, and so on."""

    def __init__(self, backend, *versions):
        super().__init__(0, backend=backend, ttl="3s", lock_delay="1s")
        self.versions = versions

    def start(self):
        for version in self.versions:
            node = self.add()
            node.program = version
            node.start()
            self.wait_followers()  # so that the first one is the primary


def turn(cl, how, expected):
    """The primary ends, another one takes over; it comes back and follows."""
    old = cl.wait_followers()
    write(old, f"{len(expected)} by {old.name}", expected)
    for mode in MODES:
        cl.in_step(name_of(mode))
    if how == "SIGTERM":
        assert old.stop() == 0
    else:
        old.kill()
    new = cl.wait_primary(other_than=(old,))
    write(new, f"{len(expected)} by {new.name}", expected)
    old.start()
    p = cl.wait_followers()
    check(p, cl.replicas(), expected)


def mixed(backend, *versions):
    need(backend)
    with MixedCluster(backend, *versions) as cl:
        cl.start()
        expected = []
        for how in ("SIGTERM", "SIGTERM", "SIGKILL", "SIGKILL"):  # twice: it is the other one's turn
            turn(cl, how, expected)
        for _ in range(20):  # of three nodes chance says who is next
            if {n.name for n in cl.nodes} != set(leaders(cl)):
                turn(cl, "SIGTERM", expected)
        assert {n.name for n in cl.nodes} == set(leaders(cl)), "not every node has been the primary"
        understood(cl.nodes)


def leaders(cl):
    return [n.name for n in cl.nodes if "primary lease acquired" in n.log()]


def static(primary, replica):
    p = Node()
    p.program = primary
    with open(p.config, encoding="utf-8") as f:
        text = f.read()
    with open(p.config, "w", encoding="utf-8") as f:
        f.write(text.replace("127.0.0.1:0", f"127.0.0.1:{free_ports(1)[0]}"))
    with p:
        r = replica_of(p)
        r.program = replica
        with r:
            expected = []
            for end in (None, "SIGTERM", "SIGKILL"):
                for n in (p, r):
                    if end == "SIGTERM":
                        n.restart()
                    elif end == "SIGKILL":
                        n.kill()
                        n.start()
                    write(p, f"{len(expected)}", expected)
                    check(p, [r], expected)
            understood((p, r))


def test_etcd():
    mixed("etcd", Versions.old, Versions.new)


def test_consul():
    mixed("consul", Versions.new, Versions.old)


def test_static():
    static(Versions.old, Versions.new)
    static(Versions.new, Versions.old)


def test_three_etcd():
    mixed("etcd", Versions.new, Versions.old, Versions.new)


def test_three_consul():
    mixed("consul", Versions.old, Versions.new, Versions.old)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="litefs-old-") as made:
        Versions.old = Versions.old or build_old(made)
        run(sys.modules[__name__])
