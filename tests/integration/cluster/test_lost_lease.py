"""The lease service goes away, and comes back without what it knew; and nodes that wait for others say so."""
import json
import os
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request

from cluster_fixture import HERE, Cluster, need, run, wait_until

sys.path.insert(0, os.path.join(HERE, "..", "lease"))
from litefs_fixture import LITEFS, free_ports
from test_consul import Consul

need("consul")

class ForgetfulConsul(Consul):
    """With the same address when it is started again; -dev keeps nothing."""
    ports = None

    def start(self):
        self.ports = self.ports or free_ports(3)
        web, server, serf = self.ports
        self.url = f"http://127.0.0.1:{web}"
        self.spawn("consul", "agent", "-dev", "-bind", "127.0.0.1", "-client", "127.0.0.1", "-http-port", str(web),
                   "-server-port", str(server), "-serf-lan-port", str(serf), "-serf-wan-port", "-1", "-dns-port", "-1",
                   "-grpc-port", "-1", "-hcl", 'session_ttl_min = "1s"')


def is_refused(node):
    c = node.connect()
    try:
        c.execute("insert into t values('refused')")
        return False
    except sqlite3.OperationalError:
        return True
    finally:
        c.close()


def term_of(node):
    with open(os.path.join(node.data, "term"), encoding="utf-8") as f:
        return f.read()


def waits_of(node):
    with urllib.request.urlopen(f"http://127.0.0.1:{node.listen_port}/info", timeout=10) as answer:
        return json.load(answer).get("waits", {"for": None})


def readiness(node):
    """Why it is not ready."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{node.listen_port}/readyz", timeout=10)
        return "it is"
    except urllib.error.HTTPError as e:
        assert e.code == 503
        return e.read().decode()


def litefs(node, *args):
    return subprocess.run([LITEFS, *args, "-config", node.config], capture_output=True, text=True, check=False).stdout


def raise_term(cl, server):
    """Each write to Consul raises the number that terms are made of."""
    for i in range(50):
        server.put("/kv/other", str(i))
    old = cl.wait_followers()
    old.restart()
    cl.wait_followers()


def test_lost_and_empty():
    server = ForgetfulConsul()
    with Cluster(2, ttl="2s", server=server) as cl:
        raise_term(cl, server)
        p = cl.wait_followers()
        c = p.connect()
        c.execute("create table t(x)")
        c.close()
        cl.in_step()
        before = int(term_of(p))
        server.kill()
        wait_until(lambda: not p.is_primary(), "the primary to fence itself")
        assert is_refused(p)
        for n in cl.nodes:
            c = n.connect()
            assert c.execute("select count(*) from t").fetchone() == (0,)
            c.close()
        doctor = subprocess.run([LITEFS, "doctor", "-config", p.config], capture_output=True, text=True, check=False)
        assert doctor.returncode == 1 and "FAIL  lease" in doctor.stdout, doctor.stdout
        server.start()
        assert server.wait_ready()
        # It goes on by itself, in a term that is later than all before, though the service counts from the beginning.
        p = cl.wait_followers()
        assert int(term_of(p)) > before, (term_of(p), before)
        c = p.connect()
        c.execute("insert into t values('again')")
        c.close()
        cl.check_equal()


def test_a_node_that_waits_says_why():
    """It was down in the last term: /info, status, doctor and /readyz say what it waits for and what helps; that helps."""
    with Cluster(1, ttl="2s") as cl:
        p = cl.wait_primary()
        late, reader = cl.add(), cl.add(candidate=False)
        late.start()
        cl.wait_followers()
        assert late.stop() == 0
        p.restart()  # a term that it is not in
        cl.wait_primary()
        c = p.connect()
        c.execute("create table t(x)")
        c.close()
        assert waits_of(p) == {"for": None}
        assert p.stop() == 0
        for n in (late, reader):
            n.start()
        wait_until(lambda: waits_of(reader)["for"] == "candidate", "the reason")
        waits = {}
        # On a busy machine a request for the lease may fail in between, and that is the reason then.
        wait_until(lambda: waits.update(waits_of(late)) or waits["for"] == "node-of-last-term", "the reason")
        assert "was not there in the cluster's last term" in waits["reason"], waits
        remedy = "consul kv delete litefs/test/term"
        assert waits["next"].endswith(remedy), waits
        said = f"this node waits: {waits['reason']}\n  next: {waits['next']}\n"
        wait_until(lambda: said in litefs(late, "status"), "the reason in the status")
        finding = {"level": "FAIL", "check": "node", "text": "waits: " + waits["reason"], "next": waits["next"]}
        wait_until(lambda: finding in json.loads(litefs(late, "doctor", "-json")), "the finding")
        wait_until(lambda: waits["reason"] in readiness(late), "the reason why it is not ready")
        subprocess.run(remedy.split(), check=True, env={**os.environ, "CONSUL_HTTP_ADDR": cl.server.url})
        assert cl.wait_followers() is late
        wait_until(lambda: {waits_of(n)["for"] for n in (late, reader)} == {None}, "both to go on")
        p.start()
        wait_until(lambda: p.log().count("following primary=node2") == 1, "the first to follow")


if __name__ == "__main__":
    run(sys.modules[__name__])
