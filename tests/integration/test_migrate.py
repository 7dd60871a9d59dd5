"""A cluster of LiteFS 0.5 becomes one of litefs, as docs/migrating-from-litefs.md says: the data directories and
litefs.yml stay as they are. LITEFS_GO=PATH makes the data with that LiteFS, instead of tests/data/litefs-0.5.14."""
import http.client
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, d) for d in ("http", "cluster", "lease")]
from cluster_fixture import consul, need, pos_or_none
from http_fixture import get, metrics
from lease_fixture import Script, http as http_url
from litefs_fixture import LITEFS, Node, free_ports, is_mounted, run, wait_until

need("consul")

GIVEN = os.path.join(HERE, "..", "data", "litefs-0.5.14")
LITEFS_GO = os.environ.get("LITEFS_GO")
APP = f"{sys.executable} {os.path.join(HERE, 'proxy', 'app.py')}"
KEY = "/v1/kv/litefs/primary"
# All that LiteFS 0.5.14 shows of itself after such a start; promhttp_* and go_* are not LiteFS's own.
METRICS = """litefs_db_commit_count litefs_db_count litefs_db_database_write_count litefs_db_journal_write_count
    litefs_db_lag_seconds litefs_db_ltx_bytes litefs_db_ltx_count litefs_db_shm_write_count litefs_db_txid
    litefs_db_wal_write_count litefs_http_stream_count litefs_is_primary litefs_lag_seconds
    litefs_subscriber_count""".split()
NOTES = {"app.db": 21, "users.db": 5}


class Migrant(Node):
    """A machine with LiteFS's litefs.yml, which the environment fills in."""

    def __init__(self, name, server):
        super().__init__()
        self.name = name
        self.listen_port, self.proxy_port, self.app_port = free_ports(3)
        self.config = os.path.join(GIVEN, "litefs.yml")
        self.env = {**os.environ, "TEST_ROOT": self.root, "TEST_APP": APP, "TEST_APP_PORT": str(self.app_port),
                    "TEST_PORT": str(self.listen_port), "TEST_PROXY_PORT": str(self.proxy_port), "TEST_NODE": name,
                    "TEST_CONSUL": server.url}

    def start(self, **kw):
        return super().start(env=self.env, **kw)

    def start_litefs_go(self):
        os.mkdir(self.mnt)
        self.log_file = open(self.log_path, "a")
        self.process = subprocess.Popen([LITEFS_GO, "mount", "-config", self.config], stdout=self.log_file,
                                        stderr=self.log_file, env=self.env)
        wait_until(lambda: is_mounted(self.mnt), "the mount of LiteFS")
        self.wait_app()

    def wait_app(self):
        def answers():
            try:
                return self.ask("GET", "/notes/app.db")[0] == 200
            except OSError:
                return False
        wait_until(answers, f"the application of {self.name}")

    def ask(self, method, path, body=None, headers=None):
        """(status, header fields, body) of the proxy"""
        c = http.client.HTTPConnection("127.0.0.1", self.proxy_port, timeout=30)
        try:
            c.request(method, path, body, headers or {})
            r = c.getresponse()
            return r.status, r.headers, r.read().decode()
        finally:
            c.close()

    def command(self, *args, program=LITEFS):
        p = subprocess.run([program, *args], capture_output=True, text=True, timeout=60, env=self.env, check=False)
        assert p.returncode == 0, (args, p.stdout, p.stderr)
        return p.stdout

    def url(self):
        return f"http://127.0.0.1:{self.listen_port}"

    def notes(self, name):
        c = self.connect(name)
        try:
            assert c.execute("pragma integrity_check").fetchone()[0] == "ok"
            return c.execute("select count(*) from note").fetchone()[0]
        finally:
            c.close()


def data_of_litefs(server):
    """(data directory, {name: position}) of a primary of LiteFS 0.5 that was killed."""
    root = tempfile.mkdtemp(prefix="litefs-0.5-")
    if LITEFS_GO is None:
        subprocess.run(["tar", "xJf", os.path.join(GIVEN, "killed-primary.tar.xz"), "-C", root], check=True)
        with open(os.path.join(root, "data", "clusterid"), encoding="utf-8") as f:
            assert http_url("PUT", server.url + KEY + "/clusterid", f.read().strip())[0] == 200
        return root, {"app.db": "0000000000000017/fd698d3a6a1166c0", "users.db": "0000000000000006/c59b7f3f84415c5b"}
    n = Migrant("old", server)
    n.start_litefs_go()
    connections = []
    for name, mode in (("app.db", "wal"), ("users.db", "delete")):
        c = n.connect(name)
        connections.append(c)
        c.execute(f"pragma journal_mode={mode}")
        c.execute("create table note (id integer primary key, text text)")
        c.executemany("insert into note(text) values(?)", [(f"{name} {i}",) for i in range(NOTES[name])])
    positions = {name: n.pos(name) for name in NOTES}
    n.kill()
    shutil.move(n.data, root)
    n.__exit__(None, None, None)
    assert http_url("DELETE", server.url + KEY)[0] == 200
    return root, positions


def take_notes(n):
    """What a client of the application sees of the proxy: writes with a cookie, reads, health."""
    status, headers, _ = n.ask("POST", "/notes/app.db", f"on {n.name}")
    cookie = re.fullmatch(r"__txid=([0-9a-f]{16}); Path=/; Expires=[^;]+; HttpOnly", headers["Set-Cookie"])
    assert status == 201 and cookie, headers.items()
    status, _, body = n.ask("GET", "/notes/app.db", headers={"Cookie": f"__txid={cookie[1]}"})
    assert (status, json.loads(body)["notes"][-1]) == (200, f"on {n.name}")
    assert n.ask("GET", "/litefs/health")[::2] == (200, "OK\n")


def check_api(n, cluster_id):
    info = get(n, "/info").json
    assert info["primary"]["hostname"] == "first", info
    assert {"clusterID": cluster_id, "isPrimary": True, "candidate": True, "path": n.data}.items() <= info.items(), info
    shown = {re.split(r"[{ ]", series)[0] for series in metrics(n)}
    assert set(METRICS) <= shown, set(METRICS) - shown
    c = http.client.HTTPConnection("127.0.0.1", n.listen_port, timeout=30)
    c.request("GET", "/events")
    assert json.loads(c.getresponse().readline()) == {"type": "init", "data": {"isPrimary": True}}
    c.close()


def check_commands(n):
    """With the flags that LiteFS has."""
    assert re.match(r"litefs \d+\.\d+\.\d+, commit=", n.command("version"))
    copy = os.path.join(n.root, "copy.db")
    n.command("export", "-url", n.url(), "-name", "app.db", copy)
    n.command("import", "-url", n.url(), "-name", "copy.db", copy)
    assert n.notes("copy.db") == n.notes("app.db")
    assert n.command("run", "-url", n.url(), "-promote", "-if-candidate", "--", "echo", "done") == "done\n"


def go_back(n, server):
    """By export, into LiteFS if there is one, otherwise to where SQLite reads it."""
    kept = {}
    for name in NOTES:
        kept[name] = os.path.join(n.root, "kept-" + name)
        n.command("export", "-url", n.url(), "-name", name, kept[name])
        with sqlite3.connect(kept[name]) as c:
            assert c.execute("pragma integrity_check").fetchone()[0] == "ok"
            assert c.execute("select count(*) from note").fetchone()[0] == n.notes(name)
    assert n.stop() == 0
    if LITEFS_GO is None:
        return
    shutil.rmtree(n.data)
    for key in ("clusterid", "term"):
        assert http_url("DELETE", f"{server.url}{KEY}/{key}")[0] == 200
    os.rmdir(n.mnt)
    n.start_litefs_go()
    for name, path in kept.items():
        n.command("import", "-url", n.url(), "-name", name, path, program=LITEFS_GO)
        assert n.notes(name) >= NOTES[name]
    n.kill()


def test_a_cluster_moves_over_with_its_data_and_configuration():
    server = consul()
    root, positions = data_of_litefs(server)
    nodes = [Migrant(name, server) for name in ("first", "second", "new")]
    first, second, new = nodes
    try:
        for n in (first, second):
            shutil.copytree(os.path.join(root, "data"), n.data)
        with open(os.path.join(first.data, "clusterid"), encoding="utf-8") as f:
            cluster_id = f.read().strip()
        # A node without the data does not lead, even if it comes first.
        new.start()
        wait_until(lambda: f"no data of cluster {cluster_id} yet: it waits" in new.log(), "the new node to wait")
        first.start()
        first.wait_app()
        assert not os.path.exists(first.path(".primary"))
        assert {name: first.pos(name) for name in NOTES} == positions
        assert {name: first.notes(name) for name in NOTES} == NOTES
        assert not any(os.path.exists(os.path.join(first.data, "dbs", name, "ltx")) for name in NOTES)
        second.start()
        second.wait_app()
        for n in (second, new):
            wait_until(lambda n=n: [pos_or_none(n, name) for name in NOTES] == list(positions.values()), "positions")
            with open(n.path(".primary"), encoding="utf-8") as f:
                assert f.read() == "first\n"
        assert not os.path.exists(os.path.join(second.data, "orphans")), "its data is the cluster's"
        take_notes(first)
        check_api(first, cluster_id)
        check_commands(first)
        assert http_url("GET", server.url + KEY + "/clusterid?raw") == (200, cluster_id)
        wait_until(lambda: second.pos("app.db") == first.pos("app.db"), "the second node to follow")
        assert second.notes("app.db") == NOTES["app.db"] + 1
        assert second.stop() == 0 and new.stop() == 0
        go_back(first, server)
    except BaseException:
        for n in nodes:
            sys.stderr.write(f"--- log of {n.name} ---\n{n.log() if os.path.exists(n.log_path) else ''}")
        raise
    finally:
        for n in nodes:
            n.__exit__(None, None, None)
        server.close()
        shutil.rmtree(root)


def test_a_replica_of_litefs_is_told_of_in_the_log():
    with Node() as n, socket.create_connection(("127.0.0.1", n.port()), 20) as s:
        s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
        wait_until(lambda: "speaks HTTP/2, by which LiteFS 0.5 follows its primary" in n.log(), "the warning")


def test_a_primary_of_litefs_is_told_of_in_the_log():
    primary = Script(lambda *_: (405, "method not allowed\n"))
    try:
        with Node(extra=f"  candidate: false\n  advertise-url: {primary.url}\n") as n:
            wait_until(lambda: "405 Method Not Allowed; if that is LiteFS 0.5: a cluster is all of LiteFS or all of "
                       "litefs" in n.log(), "the warning")
    finally:
        primary.close()


if __name__ == "__main__":
    run(sys.modules[__name__])
