"""`litefs upgrade` on the primary of a cluster that elects it: the lease is handed on to the next program, or was lost meanwhile."""
import base64
import json
import os
import shutil
import subprocess
import sys

import cluster_fixture
from cluster_fixture import BECAME, CEASED, Cluster, have_same, is_readonly, need, wait_until
from lease_fixture import http
from litefs_fixture import GIVES_BACK, LITEFS, is_traced


def info(node):
    return json.loads(http("GET", f"http://127.0.0.1:{node.listen_port}/info")[1])


def try_upgrade(node):
    return subprocess.run([LITEFS, "upgrade", "-url", f"http://127.0.0.1:{node.listen_port}"], capture_output=True,
                          text=True, timeout=120)


def holder(c):
    """What the service has of the lease: who by which session in which term, and how often it was renewed."""
    url = c.server.url if c.backend in ("consul", "etcd") else None
    if c.backend == "consul":
        (key,) = json.loads(http("GET", f"{url}/v1/kv/litefs/test", headers={"X-Consul-Token": "master"})[1])
        value, session = json.loads(base64.b64decode(key["Value"])), key["Session"]
    elif c.backend == "etcd":
        name = base64.b64encode(b"litefs/test").decode()
        (key,) = json.loads(http("POST", f"{url}/v3/kv/range", json.dumps({"key": name}))[1])["kvs"]
        value, session = json.loads(base64.b64decode(key["value"])), key["lease"]
    else:
        state = json.loads(c.server.read("lease"))
        value, session = state["holder"], state["session"]
    return (value["hostname"], session, value["term"]), value.get("renewals", 0)


TTL = "30s"  # that no slow machine lets run out


def stays_primary(backend, ttl=TTL, server=None):
    """Twice, with a transaction open: the same term by the same session, for all nodes, and it is renewed."""
    with Cluster(2, backend, ttl, server=server) as c:
        p, (r,) = c.wait_primary(), c.replicas()
        connections = {mode: p.connect(mode + ".db") for mode in ("wal", "delete")}
        for mode, w in connections.items():
            w.execute(f"pragma journal_mode={mode}")
            w.execute("create table t(a)")
        before, _ = holder(c)
        assert before[0] == p.name
        for i in range(1, 3):
            for w in connections.values():
                w.execute("begin immediate")
                w.execute("insert into t values(1)")
            boot, renewals = info(p)["nodeID"], holder(c)[1]
            result = try_upgrade(p)
            assert result.returncode == 0, result.stderr
            now = info(p)
            assert now["nodeID"] != boot and now["isPrimary"] and now["primary"]["hostname"] == p.name, now
            for mode, w in connections.items():
                w.execute("commit")
                assert w.execute("select count(*) from t").fetchone()[0] == i, mode
                wait_until(lambda: have_same(p, r, mode + ".db"), f"{mode}.db to be in step")
            wait_until(lambda: holder(c)[1] > renewals + 1, "a renewal by each of the two programs")
            assert holder(c)[0] == before
        for w in connections.values():
            w.close()
        assert CEASED not in p.recent_log() and BECAME not in r.recent_log()
        with open(r.path(".primary"), encoding="utf-8") as f:
            assert p.name in f.read()
        for mode in connections:
            c.check_equal(mode + ".db")


def test_etcd():
    need("etcd")
    stays_primary("etcd")


def test_consul():
    need("consul")
    stays_primary("consul")


def test_file():
    stays_primary("file")


def test_object():
    """In a bucket like Ceph's, of which the new program has not found out how it wants an ETag."""
    server = cluster_fixture.bucket()
    server.quotes = False
    stays_primary("object", "10s", server)  # the first primary waits for a TTL


IS_LATE = """
import os, sys, time
if sys.argv[1] != "takeover-check":
    while not os.path.exists({done!r}):
        time.sleep(0.01)
os.execv({litefs!r}, [{litefs!r}] + sys.argv[1:])
"""


def put_script(node, text):
    """In place of its program, which is a copy."""
    with open(node.program + ".new", "w", encoding="utf-8") as f:
        f.write(f"#!{sys.executable}\n{text}")
    os.chmod(node.program + ".new", 0o755)
    os.rename(node.program + ".new", node.program)


def demotes_at_once(backend):
    """The next program is so late that another node leads: a transaction that is open is refused, and none is lost."""
    with Cluster(0, backend, "2s") as c:
        p = with_own_program(c)
        r, done = c.add(), os.path.join(p.root, "done")
        r.start()
        c.wait_followers()
        w = p.connect()
        w.execute("create table t(a)")
        w.execute("insert into t values(1)")
        c.in_step()
        w.execute("begin immediate")
        w.execute("insert into t values(2)")
        put_script(p, IS_LATE.format(done=done, litefs=LITEFS))
        upgrade = subprocess.Popen([LITEFS, "upgrade", "-url", f"http://127.0.0.1:{p.listen_port}"], stderr=subprocess.PIPE)
        r.wait_log(BECAME)
        other = r.connect()
        other.execute("insert into t values(3)")
        with open(done, "w", encoding="utf-8"):
            pass
        assert upgrade.wait(120) == 0, upgrade.stderr.read()
        upgrade.stderr.close()
        try:
            w.execute("commit")
            raise AssertionError("a commit of a primary that had been replaced")
        except cluster_fixture.litefs_fixture.sqlite3.OperationalError as e:
            assert is_readonly(e), e
        w.close()
        wait_until(lambda: have_same(r, p, "t.db"), "the old primary to follow")
        assert [a for a, in other.execute("select a from t order by a")] == [1, 3]
        other.close()
        p.check()
        r.check()


def test_lost_meanwhile_etcd():
    need("etcd")
    demotes_at_once("etcd")


def test_lost_meanwhile_file():
    demotes_at_once("file")


OPENS_SLOWLY = """
import os, sys
slowly = ["strace", "-D", "-qq", "-o", "/dev/null", "-e", "trace=flock", "-e", "inject=flock:delay_enter=9000000"]
words = ([] if sys.argv[1] == "takeover-check" else slowly) + [{litefs!r}] + sys.argv[1:]
os.execvp(words[0], words)
"""


def test_renewed_while_the_databases_are_opened():
    """Which takes longer than the lease lasts: the thread that opens them waits for the lock of the data directory."""
    if shutil.which("strace") is None:
        return
    with Cluster(0, "file", "8s") as c:
        p = with_own_program(c)
        w = p.connect()
        w.execute("create table t(a)")
        before, _ = holder(c)
        put_script(p, OPENS_SLOWLY.format(litefs=os.path.abspath(LITEFS)))
        w.execute("begin immediate")
        w.execute("insert into t values(1)")
        result = try_upgrade(p)
        assert result.returncode == 0, result.stderr
        w.execute("commit")
        assert holder(c)[0] == before and CEASED not in p.recent_log()
        w.close()
        p.check()


def with_own_program(c):
    p = c.add()
    p.program = os.path.join(p.root, "litefs")
    shutil.copy(LITEFS, p.program)
    p.start()
    c.wait_primary()
    return p


def test_the_old_program_has_it_back():
    with Cluster(0, "file", TTL) as c:
        p = with_own_program(c)
        w = p.connect()
        w.execute("create table t(a)")
        before, renewals = holder(c)
        put_script(p, GIVES_BACK)
        w.execute("begin immediate")
        w.execute("insert into t values(1)")
        result = try_upgrade(p)
        assert result.returncode == 1 and "does not like it" in result.stderr, result.stderr
        w.execute("commit")
        wait_until(lambda: holder(c)[1] > renewals + 1, "renewals")
        assert holder(c)[0] == before
        w.close()
        p.check()


def test_released_when_the_node_cannot_go_on():
    """It ends, and has given the lease up: the others need not wait for it to run out."""
    if shutil.which("strace") is None:
        return
    with Cluster(0, "file", "60s") as c:
        p = with_own_program(c)
        _, _, term = holder(c)[0]
        tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=memfd_create", "-e",
                                   "inject=memfd_create:error=ENOMEM", "-p", str(p.process.pid)])
        try:
            wait_until(lambda: is_traced(p.process.pid), "strace")
            assert http("POST", f"http://127.0.0.1:{p.listen_port}/upgrade")[0] == 200
            assert p.process.wait(60) == 1
        finally:
            tracer.kill()
            tracer.wait(30)
        p.process = None
        assert "could not be handed over" in p.log()
        with open(c.server.path, encoding="utf-8") as f:
            state = json.load(f)
        assert "holder" not in state and state["released"] == term, state


def test_another_lease_is_refused():
    """What the new configuration names is not what this node holds."""
    with Cluster(1, "file", TTL) as c:
        (p,) = c.nodes
        with open(p.config, encoding="utf-8") as f:
            config = f.read()
        for wrong in (config.replace(f"ttl: {TTL}", "ttl: 6s"), config.replace("hostname: node1", "hostname: other")):
            with open(p.config, "w", encoding="utf-8") as f:
                f.write(wrong)
            result = try_upgrade(p)
            assert result.returncode == 1 and "litefs handoff" in result.stderr, result.stderr
        with open(p.config, "w", encoding="utf-8") as f:
            f.write(config)
        w = p.connect()
        w.execute("create table t(a)")
        w.close()
        assert try_upgrade(p).returncode == 0
        w = p.connect()
        w.execute("insert into t values(1)")
        w.close()


if __name__ == "__main__":
    cluster_fixture.run(sys.modules[__name__])
