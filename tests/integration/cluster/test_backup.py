"""One backup of a cluster whose primary changes: in order, by a kill, and with transactions that the next one lacks."""
import json
import os
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import urllib.request

from cluster_fixture import SEED, Cluster, need, run, wait_until
from litefs_fixture import LITEFS

need("etcd")


def restore(backup, out):
    p = subprocess.run([LITEFS, "restore", "-json", "-if-replica-exists", "-force", "-integrity-check", "quick", "-o", out,
                        os.path.join(backup, "t.db")], capture_output=True, text=True)
    assert p.returncode == 0, p.stderr
    if not p.stdout:
        return None
    said = json.loads(p.stdout)
    assert said["proved"]
    return said["txid"] + "/" + said["checksum"]


def rows(path):
    c = sqlite3.connect(path)
    found = [r[0] for r in c.execute("select n from t order by n")]
    c.close()
    return found


def write(node, n, count):
    """Commits rows n to n + count - 1; the next number."""
    c = node.connect()
    c.execute("create table if not exists t(n integer primary key, x)")
    for i in range(n, n + count):
        c.execute("insert into t values(?, randomblob(?))", (i, random.Random(SEED + i).randrange(5000)))
    c.close()
    return n + count


def test_primary_changes():
    with tempfile.TemporaryDirectory(prefix="litefs-it-") as d:
        backup, out = os.path.join(d, "backup"), os.path.join(d, "out.db")
        with Cluster(3, backend="etcd", ttl="2s",
                     lease_options=f"backup:\n  url: file://{backup}\n  sync-interval: 20ms\n") as cluster:
            p = cluster.wait_primary()
            n = write(p, 0, 20)
            for how in ("stop", "kill", "stop"):
                cluster.in_step()
                if how == "stop":
                    assert p.stop() == 0
                else:
                    p.kill()
                p2 = cluster.wait_primary(other_than=(p,))
                n = write(p2, n, 15)
                wait_until(lambda: restore(backup, out) == p2.pos("t.db"), "the backup to follow the new primary")
                assert rows(out) == list(range(n))
                p.start()
                cluster.wait_followers()
                p = cluster.wait_primary()
            assert not any("another node writes" in m.log() for m in cluster.nodes)
            check_what_a_former_primary_says(cluster, p, backup)


def said_of(node):
    """What it says of its only destination, and the metrics that are of databases there."""
    with urllib.request.urlopen(f"http://127.0.0.1:{node.listen_port}/backup", timeout=20) as f:
        destination = json.load(f)["destinations"][0]
    with urllib.request.urlopen(f"http://127.0.0.1:{node.listen_port}/metrics", timeout=20) as f:
        return destination, re.findall(r"^litefs_backup_\w+\{.*db=.*", f.read().decode(), re.M)


def check_what_a_former_primary_says(cluster, p, backup):
    """Neither its failures nor a lag that grows for ever: the backup is another node's now."""
    wait_until(lambda: len(said_of(p)[1]) == 4, "the primary to tell of its database")
    os.rename(backup, backup + "-away")
    open(backup, "w", encoding="utf-8").close()
    n = write(p, 1000, 1)
    wait_until(lambda: said_of(p)[0]["failures"] > 0, "the backup to fail")
    handed = subprocess.run([LITEFS, "handoff", "-config", p.config], capture_output=True, text=True, check=False)
    assert handed.returncode == 0, handed.stderr
    os.remove(backup)
    os.rename(backup + "-away", backup)
    p2 = cluster.wait_primary(other_than=(p,))
    write(p2, n, 1)
    wait_until(lambda: said_of(p2)[0]["databases"] and said_of(p2)[0]["databases"][0]["lagTransactions"] == 0, "the next one's backup")
    cluster.in_step()
    wait_until(lambda: not said_of(p)[0]["active"], "the former primary to know")
    destination, families = said_of(p)
    assert (destination["failures"], destination["error"], destination["databases"], families) == (0, "", [], []), (destination, families)


def test_transactions_that_the_next_primary_lacks():
    """They went to the backup, but to no replica: the cluster goes on without them, and so does the backup."""
    with tempfile.TemporaryDirectory(prefix="litefs-it-") as d:
        backup, out = os.path.join(d, "backup"), os.path.join(d, "out.db")
        with Cluster(2, backend="etcd", ttl="2s",
                     lease_options=f"backup:\n  url: file://{backup}\n  sync-interval: 20ms\n") as cluster:
            p = cluster.wait_primary()
            n = write(p, 0, 10)
            cluster.in_step()
            other = cluster.replicas()[0]
            p.link.cut()
            lost = write(p, n, 10)
            wait_until(lambda: restore(backup, out) == p.pos("t.db"), "the backup to have what the replica lacks")
            assert rows(out) == list(range(lost))
            p.kill()
            cluster.wait_primary(other_than=(p,))
            wait_until(lambda: restore(backup, out) == other.pos("t.db"), "the backup to go on with the new primary")
            assert rows(out) == list(range(n))
            n = write(other, n, 5)
            wait_until(lambda: restore(backup, out) == other.pos("t.db"), "the backup to follow the new primary")
            assert rows(out) == list(range(n))
            assert "which is not in this node's history" in other.log()
            p.link.heal()


if __name__ == "__main__":
    print("SEED", SEED)
    run(sys.modules[__name__])
