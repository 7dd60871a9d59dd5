"""Nodes whose lease is an object in a bucket: killed, stopped, cut from the bucket and handed over, and no commit is lost or forked."""
import json
import subprocess
import sys
import urllib.request

from cluster_fixture import Cluster, run
from litefs_fixture import LITEFS, wait_until
from test_lease_file import kill_primary, wait_rows, write_soon


def state(c):
    return json.loads(c.server.read("lease"))


def test_a_primary_that_dies_is_succeeded_after_its_ttl():
    with Cluster(2, backend="object", ttl="3s") as c:
        kill_primary(c)
        # By SIGTERM it hands over; the object stays.
        p = c.wait_primary()
        p.stop()
        write_soon(c, 2)
        p.start()
        c.wait_followers()
        wait_rows(c, 3)
        c.check_equal()
        assert state(c)["holder"]["hostname"] == c.wait_primary().name and state(c)["term"] >= 3, state(c)
        # One by one they end, and the last leaves a release behind.
        for node in c.nodes:
            node.stop()
        assert "holder" not in state(c) and state(c)["released"] == state(c)["term"], state(c)


def info(node):
    with urllib.request.urlopen(f"http://127.0.0.1:{node.listen_port}/info", timeout=10) as f:
        return json.load(f)


def doctor(node):
    return subprocess.run([LITEFS, "doctor", "-config", node.config], capture_output=True, text=True, timeout=60,
                          check=False).stdout


def test_an_object_that_is_gone_is_waited_for():
    """It may be the wrong bucket. With the object that the command of the message puts there, the cluster goes on."""
    with Cluster(1, backend="object", ttl="2s") as c:
        write_soon(c, 0)
        node = c.wait_primary()
        assert "object: held by node1, term " in doctor(node), doctor(node)
        node.stop()
        c.server.write("lease", None)
        node.start()
        node.wait_log("s3://b/lease is not there, and this node was in a term already")
        assert c.server.read("lease") is None
        wait_until(lambda: info(node).get("waits", {}).get("for") == "lease-in-its-place", "the node to say for what it waits")
        assert "echo {} | aws s3 cp - s3://b/lease" in info(node)["waits"]["next"], info(node)
        assert "next: echo {} | aws s3 cp - s3://b/lease" in doctor(node), doctor(node)
        assert "echo {} | aws s3 cp - s3://b/lease" in node.recent_log()
        c.server.write("lease", b"{}\n")
        write_soon(c, 1)
        wait_rows(c, 2)
        assert state(c)["term"] >= 2


def test_a_new_node_does_not_lead_beside_a_primary_whose_object_was_removed():
    with Cluster(1, backend="object", ttl="3s") as c:
        old = c.wait_primary()
        old.lease_link.cut()  # it leads on until its deadline, and does not hear of it
        c.server.write("lease", None)
        new = c.add()
        new.start()
        wait_until(new.is_primary, "the new node to lead")
        assert info(old).get("leaseRemainingMS", 0) <= 0, (info(old), info(new))


def test_a_primary_without_its_bucket_commits_no_more():
    with Cluster(2, backend="object", ttl="3s") as c:
        write_soon(c, 0)
        wait_rows(c, 1)
        first = c.wait_primary()
        first.lease_link.cut()
        c.wait_primary(other_than=(first,))
        write_soon(c, 1)
        first.lease_link.heal()
        c.wait_followers()
        wait_rows(c, 2)
        c.check_equal()


if __name__ == "__main__":
    run(sys.modules[__name__])
