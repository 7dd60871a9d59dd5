"""A node without a configuration file, `litefs mount DIR`; the file that says the same, `litefs init`; and `litefs check`."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "cluster"), os.path.join(HERE, "lease")]
import litefs_fixture
from litefs_fixture import LITEFS, Node, free_ports, is_mounted, run, wait_until


class DirNode(Node):
    """`litefs mount NAME` in the directory `root`, which others share."""

    def __init__(self, root, name="db", *flags, command=()):
        self.root, self.mnt, self.data = root, os.path.join(root, name), os.path.join(root, name + ".litefs")
        self.words = ["mount", *flags, name, *command]
        self.log_path = os.path.join(root, name + ".log")
        self.process = None

    def start(self, prefix=()):
        with open(self.log_path, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen([*prefix, os.path.abspath(LITEFS), *self.words], cwd=self.root, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        self.log_file = log
        wait_until(lambda: is_mounted(self.mnt) or self.process.poll() is not None, "mount")
        assert self.process.poll() is None, self.log()
        wait_until(lambda: os.path.exists(self.path(".lag")), "mount to answer")
        return self

    def __exit__(self, kind, value, tb):
        if kind is not None:
            sys.stderr.write("--- litefs log ---\n" + self.log() + "---\n")
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
        subprocess.run(["fusermount3", "-uzq", self.mnt], check=False)


class Place:
    """A directory that goes at the end."""

    def __enter__(self):
        self.root = os.path.realpath(tempfile.mkdtemp(prefix="litefs-it-"))
        return self.root

    def __exit__(self, *_):
        shutil.rmtree(self.root, ignore_errors=True)


def litefs(*words, cwd="/", code=0, prefix=()):
    p = subprocess.run([*prefix, os.path.abspath(LITEFS), *words], capture_output=True, text=True, timeout=60, check=False, cwd=cwd,
                       stdin=subprocess.DEVNULL)
    assert p.returncode == code, (words, p.returncode, p.stdout, p.stderr)
    return p


def fill(node, name="a.db", value="kept"):
    c = node.connect(name)
    c.execute("pragma journal_mode=wal")
    c.execute("create table t(x)")
    c.execute("insert into t values(?)", (value,))
    c.close()


def rows(node, name="a.db"):
    c = node.connect(name)
    try:
        return c.execute("select x from t").fetchall()
    finally:
        c.close()


def rows_or_none(node):
    try:
        return rows(node)
    except litefs_fixture.sqlite3.Error:
        return None


def local(port):
    return f"127.0.0.1:{port}"


def test_a_node_by_itself():
    port = free_ports(1)[0]
    with Place() as root, DirNode(root, "db", "-addr", local(port)) as n:
        fill(n)
        n.check("a.db")
        assert f"no config file is read; databases are kept in {n.data}\n" in n.log()
        assert litefs("list", "-q", "-url", f"http://{local(port)}").stdout == "a.db\n"
        pos = n.pos("a.db")
        n.process.kill()
        n.process.wait()
        n.start()  # over the mount that is left
        assert rows(n) == [("kept",)] and n.pos("a.db") == pos
        assert n.stop() == 0, n.log()
        assert sorted(os.listdir(root)) == ["db", "db.litefs", "db.log", "replayed"]
        assert os.stat(n.data).st_mode & 0o077 == 0


def test_the_database_is_beside_a_mount_that_is_named_as_one_stands_in_it():
    port = free_ports(1)[0]
    with Place() as root:
        os.mkdir(os.path.join(root, "here"))
        n = DirNode(root, "here", "-addr", local(port))
        n.words[-1] = "here/."
        with n:
            fill(n)
            assert os.path.exists(os.path.join(n.data, "dbs", "a.db")) and n.stop() == 0


def test_a_replica_of_this_machine():
    port = free_ports(1)[0]
    with Place() as root, DirNode(root, "db", "-addr", local(port)) as n, \
            DirNode(root, "db2", "-follow", f"http://{local(port)}") as replica:
        fill(n)
        wait_until(lambda: rows_or_none(replica) == [("kept",)], "the row on the replica")
        assert open(replica.path(".primary"), encoding="utf-8").read().strip() == "127.0.0.1"
        assert replica.stop() == 0 and n.stop() == 0


def test_a_cluster_of_this_machine():
    if shutil.which("etcd") is None:
        print("     no etcd here: not tried")
        return
    from test_etcd import Etcd
    server, ports = Etcd(), free_ports(2)
    lease = f"etcd://{server.url.split('//')[1]}/app"
    try:
        with Place() as root, DirNode(root, "db1", "-lease", lease, "-addr", local(ports[0])) as first:
            wait_until(lambda: "primary lease acquired" in first.log(), "a primary")
            with DirNode(root, "db2", "-lease", lease, "-addr", local(ports[1])) as second:
                fill(first)
                wait_until(lambda: rows_or_none(second) == [("kept",)], "the row on the replica")
                first.stop()
                wait_until(lambda: "primary lease acquired" in second.log(), "a new primary")
                assert rows(second) == [("kept",)] and second.stop() == 0
    finally:
        server.kill()
        shutil.rmtree(server.root, ignore_errors=True)


def test_an_application_beside_it():
    with Place() as root:
        n = DirNode(root, "db", "-addr", local(free_ports(1)[0]), command=["--", "sqlite3", "db/a.db", "create table t(x)"])
        p = litefs(*n.words, cwd=root)
        assert "Table" not in p.stderr and not is_mounted(n.mnt)
        assert os.path.exists(os.path.join(n.data, "dbs", "a.db"))


def test_as_an_ordinary_user():
    """With no more than fusermount3, and in a directory of its own."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        print("     needs root and setpriv: not tried")
        return
    from test_limits import NobodysNode
    n = NobodysNode()
    shutil.rmtree(n.data)
    os.rmdir(n.mnt)
    wrapper = os.path.join(n.root, "wrapper")
    with open(wrapper, "w", encoding="utf-8") as f:
        f.write(f"#!/bin/sh\nexec {n.binary} mount -addr {local(free_ports(1)[0])} mnt\n")
    os.chmod(wrapper, 0o755)
    n.binary, n.data = wrapper, os.path.join(n.root, "mnt.litefs")
    with n:
        n.run("sqlite3", n.path("a.db"), "create table t(x)")
        assert os.path.exists(os.path.join(n.data, "dbs", "a.db"))
        assert n.stop() == 0, n.log()


def test_init_says_what_the_flags_said():
    port = free_ports(1)[0]
    with Place() as root:
        p = litefs("init", "-addr", local(port), "db", cwd=root)
        assert (p.stdout, p.stderr) == ("", ""), "cron would mail this"
        assert litefs("check", cwd=root).stderr == ""
        with DirNode(root, "db") as n:
            n.stop()
            n.words = ["mount", "-config", "litefs.yml"]
            n.start()
            fill(n)
            assert litefs("list", "-q", cwd=root).stdout == "a.db\n"
            assert n.stop() == 0
        before = open(os.path.join(root, "litefs.yml"), encoding="utf-8").read()
        p = litefs("init", "db", cwd=root, code=1)
        assert "litefs.yml is there already, and is not replaced: move it away" in p.stderr, p.stderr
        assert open(os.path.join(root, "litefs.yml"), encoding="utf-8").read() == before
        for comment in ("Applications open", "are kept here", "Who may write"):
            assert comment in before, before


def test_init_makes_one_token_for_a_cluster():
    with Place() as root:
        result = json.loads(litefs("init", "-json", "-lease", "etcd://h:2379/app", "-o", "1.yml", cwd=root).stdout)
        token = os.path.join(root, "litefs.token")
        assert result["tokenFile"] == token and result["config"] == "1.yml", result
        with open(token, encoding="utf-8") as f:
            text = f.read()
        assert re.fullmatch(r"[0-9a-f]{48}\n", text) and os.stat(token).st_mode & 0o077 == 0
        litefs("init", "-lease", "etcd://h:2379/app", "-o", "2.yml", cwd=root)
        with open(token, encoding="utf-8") as f:
            assert f.read() == text
        checked = json.loads(litefs("check", "-json", "2.yml", cwd=root).stdout)
        assert checked["leaseType"] == "etcd" and checked["leaseURL"] == "etcd://h:2379/app" and checked["candidate"], checked
        os.truncate(token, 0)
        p = litefs("check", "1.yml", cwd=root, code=1)
        assert token in p.stderr and p.stdout == "", p.stderr
        p = litefs("init", "-lease", "etcd://h:2379/app", "-o", "-", cwd=root, code=2)
        assert "Give -token-file" in p.stderr and p.stdout == "", p.stderr
        p = litefs("init", "-token-file", "litefs.token", "-lease", "etcd://h:2379/app", "-o", "-", cwd=root)
        assert f'token-file: "{token}"' in p.stdout, p.stdout


def test_check_tells_wrong_from_unusable():
    with Place() as root:
        def check(text, code, *words):
            with open(os.path.join(root, "litefs.yml"), "w", encoding="utf-8") as f:
                f.write(text)
            return litefs("check", *words, cwd=root, code=code)
        assert "litefs.yml:1: laese: unknown key (did you mean lease?)" in check("laese: {}\n", 2).stderr
        assert "litefs.yml:1: lease.url" in check("lease: etcd\n", 2).stderr
        assert "cannot read config file at /none.yml" in check("", 2, "/none.yml").stderr
        assert "/none.pem" in check("lease: {type: static}\nhttp: {tls: {cert: /none.pem, key: /none.pem}}\n", 1).stderr
        p = check("lease: {type: static}\ntracing: {path: /x}\nhttp: {token: abcd1234}\n", 0)
        assert "tracing.path is set, but there is no trace file" in p.stderr and "it holds a token" in p.stderr, p.stderr
        assert p.stdout == ""


def test_init_for_the_service():
    """In a mount name space whose /etc is the test's own."""
    if os.geteuid() != 0:
        print("     needs root: not tried")
        return
    with Place() as root:
        os.makedirs(os.path.join(root, "systemd/system"))
        inside = ["unshare", "-m", "sh", "-c", f'mount --bind {root} /etc && exec "$@"', "sh"]
        result = json.loads(litefs("init", "-systemd", "-json", "-lease", "etcd://h/app", prefix=inside).stdout)
        assert result["config"] == "/etc/litefs.yml" and result["tokenFile"] == "/etc/litefs.token", result
        installed = [d for d in ("/lib", "/usr/lib", "/usr/local/lib") if os.path.exists(d + "/systemd/system/litefs.service")]
        if not installed:
            assert result["unit"] == "/etc/systemd/system/litefs.service", result
            with open(os.path.join(root, "systemd/system/litefs.service"), encoding="utf-8") as f:
                unit = f.read()
            assert f"\nExecStart={os.path.realpath(LITEFS)} mount -move-aside -config /etc/litefs.yml\n" in unit, unit
            assert unit.startswith("# litefs as a service") and unit.endswith("WantedBy=multi-user.target\n")
        litefs("check", "/etc/litefs.yml", prefix=inside)
        with open(os.path.join(root, "litefs.yml"), encoding="utf-8") as f:
            text = f.read()
        assert 'dir: "/litefs"' in text and 'dir: "/var/lib/litefs"' in text, text


if __name__ == "__main__":
    run(sys.modules[__name__])
