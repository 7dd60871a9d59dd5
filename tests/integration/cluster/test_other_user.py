"""An application that is another user than litefs, over a change of the primary."""
import os
import signal
import sqlite3
import sys
import traceback

from cluster_fixture import Cluster, need, run, wait_until

need("etcd")
STRANGER = 65534


def add_open_node(cluster):
    n = cluster.add()
    with open(n.config) as f:
        text = f.read()
    with open(n.config, "w") as f:
        f.write(text.replace("fuse:\n", "fuse:\n  allow-other: true\n", 1))
    os.chmod(n.root, 0o755)
    return n.start()


class Stranger:
    """A process of another user with one connection, which reads at once and inserts when it is told to."""

    def __init__(self, path):
        self.told, tell = os.pipe()
        hear, self.tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.setgroups([])
                os.setgid(STRANGER)
                os.setuid(STRANGER)
                c = sqlite3.connect(path, isolation_level=None, timeout=10)
                os.write(tell, b"%d" % c.execute("select count(*) from t").fetchone()[0])
                while os.read(hear, 1):
                    try:
                        c.execute("insert into t values(2)")
                        os.write(tell, b"y")
                    except sqlite3.Error:
                        os.write(tell, b"n")
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(tell)
        os.close(hear)
        self.first = os.read(self.told, 10)

    def insert(self):
        os.write(self.tell, b"i")
        return os.read(self.told, 1) == b"y"

    def end(self):
        os.close(self.tell)
        os.close(self.told)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def test_a_connection_on_a_replica_writes_after_the_promotion():
    for mode in ("wal", "delete"):
        with Cluster(0, "etcd", ttl="5s") as cluster:
            add_open_node(cluster)
            cluster.wait_primary()
            add_open_node(cluster)
            p = cluster.wait_followers()
            r = cluster.replicas()[0]
            os.chown(p.mnt, STRANGER, STRANGER)
            c = p.connect()
            c.execute("pragma journal_mode=" + mode)
            c.execute("create table t(x)")
            c.execute("insert into t values(1)")
            os.chown(p.path("t.db"), STRANGER, STRANGER)
            os.chmod(p.path("t.db"), 0o600)
            c.close()
            cluster.in_step()
            wait_until(lambda: os.stat(r.path("t.db")).st_uid == STRANGER == os.stat(r.mnt).st_uid, "the owner to be known")
            s = Stranger(r.path("t.db"))
            try:
                assert s.first == b"1"
                assert not s.insert()
                p.stop()
                cluster.wait_primary(other_than=(p,))
                wait_until(s.insert, "the connection that was there before to write", 20)
            finally:
                s.end()


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root, for a second user")
        sys.exit(77)
    run(sys.modules[__name__])
