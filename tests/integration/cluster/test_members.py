"""Nodes once seen stay listed, with when that was; and two nodes with one address are told."""
import http.client
import json
import subprocess
import sys
import threading

from cluster_fixture import Cluster, need, run, wait_until
from litefs_fixture import LITEFS, Node, free_ports, in_step

need("etcd")


def get(node, path):
    c = http.client.HTTPConnection("127.0.0.1", node.port(), timeout=30)
    c.request("GET", path)
    answer = c.getresponse()
    text = answer.read()
    assert answer.status == 200, (path, answer.status, text)
    c.close()
    return json.loads(text)


def listed(node, hostname):
    """As /cluster of `node` has it, or None."""
    found = [n for n in get(node, "/cluster")["nodes"] if n["hostname"] == hostname]
    assert len(found) <= 1, found
    return found[0] if found else None


def role_of(node, hostname):
    n = listed(node, hostname)
    return n and n["role"]


def status(node):
    r = subprocess.run([LITEFS, "status", "-url", f"http://127.0.0.1:{node.port()}"], capture_output=True, text=True,
                       check=False)
    assert r.returncode == 0, r.stderr
    return r.stdout


class Listener:
    """What /events?nodes=1 says of nodes."""

    def __init__(self, node):
        self.connection = http.client.HTTPConnection("127.0.0.1", node.port())
        self.connection.request("GET", "/events?nodes=1")
        self.answer = self.connection.getresponse()
        self.events = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            for line in self.answer:
                self.events.append(json.loads(line))
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            pass

    def has(self, kind, hostname):
        return any(e["type"] == kind and e["data"]["hostname"] == hostname for e in self.events)


def test_a_replica_that_dies_stays_listed():
    with Cluster(3, backend="etcd", ttl="5s") as cl:
        p = cl.wait_followers()
        dead, alive = cl.replicas()
        listener = Listener(p)
        wait_until(lambda: listener.events, "the first event")
        dead.kill()
        for node in (p, alive):
            wait_until(lambda node=node: role_of(node, dead.name) == "gone", f"{dead.name} to be gone for {node.name}")
            n = listed(node, dead.name)
            assert n["lastSeen"].startswith("20") and not n["isReady"] and n["url"].endswith(str(dead.link.port)), n
            assert len(get(node, "/cluster")["nodes"]) == 3
        assert "gone" in status(p) and f"seen {listed(p, dead.name)['lastSeen']}" in status(p), status(p)
        wait_until(lambda: listener.has("nodeLeft", dead.name), "the event")
        dead.start()
        wait_until(lambda: role_of(p, dead.name) == "replica", "it to be back")
        wait_until(lambda: listener.has("nodeJoined", dead.name), "the event")
        wait_until(lambda: role_of(alive, dead.name) == "replica", "it to be back everywhere")
        assert len(get(p, "/cluster")["nodes"]) == 3


def test_a_primary_that_dies_stays_listed():
    with Cluster(2, backend="etcd", ttl="2s") as cl:
        p = cl.wait_followers()
        p.kill()
        new = cl.wait_primary(other_than=(p,))
        wait_until(lambda: role_of(new, p.name) == "gone", f"{p.name} to be gone")
        p.start()
        wait_until(lambda: role_of(new, p.name) == "replica", f"{p.name} to follow")


def test_nobody_is_missed_after_a_planned_change():
    with Cluster(3, backend="etcd", ttl="5s") as cl:
        old = cl.wait_followers()
        r = subprocess.run([LITEFS, "handoff", "-config", old.config], capture_output=True, text=True, check=False)
        assert r.returncode == 0, r.stderr
        new = cl.wait_primary(other_than=(old,))
        wait_until(lambda: [role_of(new, n.name) for n in cl.nodes].count("replica") == 2, "the others to follow")
        roles = [n["role"] for n in get(new, "/cluster")["nodes"]]
        assert sorted(roles) == ["primary", "replica", "replica"], roles


def static_replica(p, hostname):
    n = Node(extra=f"  candidate: false\n  primary-url: http://127.0.0.1:{p.port()}\n"
                   f"  advertise-url: http://127.0.0.1:{free_ports(1)[0]}\n  reconnect-delay: 100ms\n")
    with open(n.config) as f:
        text = f.read()
    with open(n.config, "w") as f:
        f.write(text.replace("hostname: localhost", f"hostname: {hostname}"))
    return n


def test_static_replicas_have_names_and_addresses_of_their_own():
    port = free_ports(1)[0]
    p = Node()
    with open(p.config) as f:
        text = f.read()
    with open(p.config, "w") as f:
        f.write(text.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    with p, static_replica(p, "r1") as r1:
        with static_replica(p, "r2") as r2:
            c = p.connect()
            c.execute("create table t(a)")
            for r in (r1, r2):
                in_step(p, r)
            nodes = {n["hostname"]: n for n in get(p, "/cluster")["nodes"]}
            assert set(nodes) == {"localhost", "r1", "r2"}, nodes
            assert len({n["url"] for n in nodes.values() if n["role"] == "replica"}) == 2, nodes
            assert "error" not in get(r1, "/cluster"), get(r1, "/cluster")
            with open(r1.path(".primary")) as f:
                assert f.read() == "127.0.0.1\n"
        wait_until(lambda: role_of(p, "r2") == "gone", "r2 to be missed")
        c.close()
        p.restart()
        wait_until(lambda: role_of(p, "r2") == "gone", "r2 to be missed after a restart")
        wait_until(lambda: role_of(p, "r1") == "replica", "r1 to follow")


def test_a_node_with_the_primarys_name_and_address_is_told():
    with Cluster(1, backend="etcd", ttl="2s") as cl:
        p = cl.wait_primary()
        twin = cl.add()
        with open(p.config) as f, open(twin.config) as g:
            address = [line for line in f if "advertise-url" in line][0]
            text = g.read()
        own = [line for line in text.splitlines(True) if "advertise-url" in line][0]
        with open(twin.config, "w") as f:
            f.write(text.replace(own, address).replace(f"hostname: {twin.name}", f"hostname: {p.name}"))
        twin.start()
        twin.wait_log("but is another node: each node needs an address of its own")
        assert "but is another node" in status(twin), status(twin)
        assert get(twin, "/cluster")["nodes"][0]["waits"]["for"] == "own-address"
        r = subprocess.run([LITEFS, "doctor", "-config", twin.config], capture_output=True, text=True, check=False)
        assert "is another node" in r.stdout or "another node answers" in r.stdout, r.stdout


def test_two_replicas_with_one_address_are_told():
    with Cluster(2, backend="etcd", ttl="5s") as cl:
        p = cl.wait_followers()
        (first,) = cl.replicas()
        second = cl.add()
        with open(first.config) as f, open(second.config) as g:
            address = [line for line in f if "advertise-url" in line][0]
            text = g.read()
        own = [line for line in text.splitlines(True) if "advertise-url" in line][0]
        with open(second.config, "w") as f:
            f.write(text.replace(own, address))
        second.start()
        p.wait_log("have the same advertise-url")
        for node in (p, second):
            wait_until(lambda node=node: "have the same advertise-url" in status(node), f"{node.name} to say so")


if __name__ == "__main__":
    run(sys.modules[__name__])
