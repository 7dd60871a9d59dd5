"""litefs export, import, status, handoff, promote and demote: messages, exit codes, and what they do."""
import concurrent.futures
import json
import os
import re
import shlex
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time

from http_fixture import Node, get, in_step, make_file, post, replica_of, run, wait_until
from litefs_fixture import LITEFS

COMMANDS = ("export", "import", "status", "handoff", "promote", "demote")


def litefs(*args, cwd="/", code=None, env=None):
    p = subprocess.run([LITEFS, *args], capture_output=True, text=True, timeout=60, cwd=cwd, env=env)
    if code is not None:
        assert p.returncode == code, (args, p.returncode, p.stdout, p.stderr)
    return p


def url(node):
    return f"http://127.0.0.1:{node.port()}"


def test_help_and_usage():
    for command in COMMANDS:
        for flag in ("-h", "--help"):
            p = litefs(command, flag, code=2)
            assert "Usage:" in p.stdout and f"litefs {command}" in p.stdout and "-url" in p.stdout, p.stdout
            assert p.stderr == ""
        p = litefs(command, "-nonsense", code=1)
        assert p.stderr.startswith("ERROR: ") and "nonsense" in p.stderr, p.stderr
        p = litefs(command, "a", "b", "c", code=1)
        assert p.stderr == "ERROR: too many arguments\n", p.stderr
        assert command in litefs("help", code=2).stdout
    for command in ("export", "import"):
        assert "Usage:" in litefs(command, code=2).stdout
        assert litefs(command, "x.db", code=1).stderr == "ERROR: database name required\n"


def test_nobody_answers():
    for command, words in (("export", ["-name", "a", "/tmp/does-not-matter.db"]), ("status", []), ("handoff", []), ("promote", []),
                           ("demote", [])):
        p = litefs(command, "-url", "http://127.0.0.1:1", *words, code=1)
        assert p.stderr.startswith("ERROR: ") and "Connection refused" in p.stderr, p.stderr
    p = litefs("status", "-config", "/does/not/exist.yml", code=1)
    assert "/does/not/exist.yml" in p.stderr


def test_export_and_import():
    with Node() as n:
        src, out = os.path.join(n.root, "src.db"), os.path.join(n.root, "out.db")
        make_file(src, "create table t(a); insert into t values('x')")
        p = litefs("import", "-url", url(n), "-name", "sub dir+ü.db", src, code=0)
        assert re.fullmatch(r'Import of database "sub dir\+ü\.db" in [\d.]+m?s\n', p.stdout), p.stdout
        assert p.stderr == ""
        c = n.connect("sub dir+ü.db")
        assert c.execute("select a from t").fetchall() == [("x",)]
        c.close()
        for suffix in ("", "-wal", "-journal", "-shm"):  # of another database
            with open(out + suffix, "wb") as f:
                f.write(b"old")
        p = litefs("export", "--url=" + url(n) + "/", "--name", "sub dir+ü.db", out, code=0)
        assert re.fullmatch(r'Export of database "sub dir\+ü\.db" in [\d.]+m?s\n', p.stdout), p.stdout
        c = sqlite3.connect(out)
        assert c.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert c.execute("select a from t").fetchall() == [("x",)]
        c.close()
        assert sorted(f for f in os.listdir(n.root) if f.startswith("out.db")) == ["out.db"]
        with open(out, "rb") as f:
            before = f.read()
        p = litefs("export", "-url", url(n), "-name", "none.db", out, code=1)
        assert p.stderr == "ERROR: database not found\n", p.stderr
        p = litefs("export", "-url", url(n), "-name", "../x", out, code=1)
        assert p.stderr == "ERROR: invalid response: code=400: invalid database name\n", p.stderr
        with open(out, "rb") as f:
            assert f.read() == before, "a failed export touched what was there"
        assert not os.path.exists(out + ".tmp")
        pipe = os.path.join(n.root, "pipe")
        os.mkfifo(pipe)
        os.symlink(pipe, pipe + ".link")
        for path in (pipe, pipe + ".link", n.root):
            p = litefs("export", "-url", url(n), "-name", "sub dir+ü.db", path, code=1)
            assert f"{path} is not a file" in p.stderr, p.stderr
        assert stat.S_ISFIFO(os.stat(pipe + ".link").st_mode), "a pipe was replaced by the copy"


def test_import_looks_at_the_journal():
    """One of PERSIST mode is no reason to refuse; a hot one is, and what is said helps."""
    with Node() as n:
        src = os.path.join(n.root, "src.db")
        c = sqlite3.connect(src, isolation_level=None)
        c.execute("pragma journal_mode=persist")
        c.execute("create table t(a)")
        assert os.path.getsize(src + "-journal") > 0
        litefs("import", "-url", url(n), "-name", "a.db", src, code=0)
        c.execute("pragma cache_size=1")
        c.execute("begin")
        c.execute("with recursive r(i) as (select 1 union all select i+1 from r where i<500) "
                  "insert into t select randomblob(1000) from r")  # more than the cache holds
        hot = os.path.join(n.root, "hot.db")
        for suffix in ("", "-journal"):
            shutil.copy(src + suffix, hot + suffix)
        c.close()
        p = litefs("import", "-url", url(n), "-name", "a.db", hot, code=1)
        assert "hot.db-journal exists" in p.stderr, p.stderr
        subprocess.run(shlex.split(p.stderr.split("`")[1]), check=True, capture_output=True)
        litefs("import", "-url", url(n), "-name", "a.db", hot, code=0)
        c = n.connect("a.db")
        assert c.execute("select count(*) from t").fetchall() == [(0,)]
        c.close()


def test_import_refuses():
    with Node() as n, replica_of(n) as r:
        src = os.path.join(n.root, "src.db")
        c = sqlite3.connect(src, isolation_level=None)
        c.execute("pragma journal_mode=wal")
        c.execute("create table t(a)")
        p = litefs("import", "-url", url(n), "-name", "a.db", src, code=1)
        assert "src.db-wal exists" in p.stderr and "wal_checkpoint" in p.stderr, p.stderr
        c.close()
        litefs("import", "-url", url(n), "-name", "a.db", src, code=0)
        p = litefs("import", "-url", url(r), "-name", "a.db", src, code=1)
        assert p.stderr == "ERROR: invalid response: code=503: lease expired\n", p.stderr
        p = litefs("import", "-url", url(n), "-name", "b.db", n.root, code=1)
        assert p.stderr.endswith("is not a file\n"), p.stderr
        p = litefs("import", "-url", url(n), "-name", "b.db", src + ".none", code=1)
        assert "No such file" in p.stderr
        text = os.path.join(n.root, "text")
        with open(text, "w") as f:
            f.write("no database\n" * 1000)
        p = litefs("import", "-url", url(n), "-name", "b.db", text, code=1)
        assert p.stderr == "ERROR: invalid response: code=400: read database header: this is not a SQLite database\n", p.stderr


def test_export_that_breaks_off():
    """The node dies in the middle: what was at PATH stays, and nothing half is left."""
    with Node() as n:
        out = os.path.join(n.root, "out.db")
        body = make_file(os.path.join(n.root, "n.db"),
                         "create table t(a); with recursive r(i) as (select 1 union all select i+1 from r where i<100) "
                         "insert into t select randomblob(1000000) from r")
        assert post(n, "/import", name="t.db", body=body).status == 200
        with open(out, "wb") as f:
            f.write(b"precious")
        p = subprocess.Popen([LITEFS, "export", "-url", url(n), "-name", "t.db", out], stderr=subprocess.PIPE, text=True)
        wait_until(lambda: os.path.exists(out + ".tmp") and os.path.getsize(out + ".tmp") > 0 or p.poll() is not None, "bytes")
        n.kill()
        stderr = p.communicate(timeout=60)[1]
        if p.returncode == 0:
            print("     the export was quicker than the kill")
        else:
            assert stderr.startswith("ERROR: "), stderr
            with open(out, "rb") as f:
                assert f.read() == b"precious"
        assert not os.path.exists(out + ".tmp")


def test_exports_to_one_path():
    """The second one, of a timer say that comes round too early, must not spoil the first one's copy."""
    with tempfile.TemporaryDirectory() as d:
        out, halves, go_on = os.path.join(d, "out.db"), (b"a" * 100000, b"b" * 100000), threading.Event()
        listener = socket.create_server(("127.0.0.1", 0))

        def answer(s):
            with s:
                s.recv(65536)
                s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + halves[0])
                go_on.wait(30)
                try:
                    s.sendall(halves[1])
                except OSError:
                    pass  # to the one that was stopped

        def serve():
            while True:
                try:
                    s, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(s,), daemon=True).start()
        threading.Thread(target=serve, daemon=True).start()
        command = ("export", "-url", f"http://127.0.0.1:{listener.getsockname()[1]}", "-name", "t.db", out)
        first = subprocess.Popen([LITEFS, *command], stdout=subprocess.PIPE)
        wait_until(lambda: os.path.exists(out + ".tmp") and os.path.getsize(out + ".tmp") == 100000, "half of it")
        p = litefs(*command, code=1)
        assert f"{out}.tmp is being written by another export" in p.stderr, p.stderr
        for sig in (signal.SIGINT, signal.SIGTERM):
            stopped = subprocess.Popen([LITEFS, *command[:-1], out + "2"])
            wait_until(lambda: os.path.exists(out + "2.tmp") and os.path.getsize(out + "2.tmp") == 100000, "half of it")
            stopped.send_signal(sig)
            assert stopped.wait(30) == -sig
            assert os.listdir(d) == ["out.db.tmp"], os.listdir(d)
        go_on.set()
        first.communicate(timeout=60)
        with open(out, "rb") as f:
            assert first.returncode == 0 and f.read() == b"".join(halves), "the copy is not what was sent"
        litefs(*command, code=0)
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_address_and_token_of_the_configuration():
    with Node() as n:
        pass
    n = Node()
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    token = os.path.join(n.root, "token")
    with open(token, "w") as f:
        f.write("abc\n")
    with open(n.config) as f:
        text = f.read()
    with open(n.config, "w") as f:
        f.write(text.replace('127.0.0.1:0"\n', f'127.0.0.1:{port}"\n  token-file: {token}\n'))
    with n:
        src = os.path.join(n.root, "src.db")
        make_file(src, "create table t(a)")
        p = litefs("import", "-url", url(n), "-name", "a.db", src, code=1)
        assert "code=401" in p.stderr, p.stderr
        litefs("import", "-config", n.config, "-name", "a.db", src, code=0)
        litefs("import", "-url", url(n), "-token-file", token, "-name", "b.db", src, code=0)
        litefs("import", "-name", "c.db", src, code=0, cwd=n.root)  # ./litefs.yml
        p = litefs("status", "-config", n.config, code=0)
        assert all(name in p.stdout for name in ("a.db", "b.db", "c.db")), p.stdout
        assert "abc" not in p.stdout


def rows_of(text):
    """The lines of `litefs status` by their first word."""
    return {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}


def test_status():
    with Node() as n, replica_of(n) as r:
        c = n.connect()
        c.execute("create table t(a)")
        in_step(n, r)
        c.close()
        ids = [get(x, "/info").json["nodeID"] for x in (n, r)]

        def acknowledged():
            nodes = get(n, "/cluster").json["nodes"]
            return len(nodes) == 2 and [d["txid"] for d in nodes[1]["databases"]] == [n.pos()[:16]]
        wait_until(acknowledged, "the replica's acknowledgement")
        for node in (n, r):
            wait_until(lambda node=node: len(get(node, "/cluster").json["nodes"]) == 2, "both nodes")
            p = litefs("status", "-url", url(node), code=0)
            rows = rows_of(p.stdout)
            assert rows["NODE"] == ["NODE", "HOSTNAME", "ROLE", "TERM", "LAG", "URL"]
            assert rows[ids[0]][2] == "primary" and rows[ids[1]][2] == "replica", p.stdout
            assert rows[ids[0]][3] == rows[ids[1]][3] == "1", p.stdout
            assert rows["t.db"][2:4] == n.pos().split("/"), p.stdout
            assert rows["localhost"][1:3] == n.pos().split("/"), p.stdout  # the other node's line
            o = json.loads(litefs("status", "-json", "-url", url(node), code=0).stdout)
            assert o["nodeID"] == o["nodes"][0]["nodeID"] == ids[node is r] and o["primary"] == ids[0]
            assert sorted(x["nodeID"] for x in o["nodes"]) == sorted(ids)
            assert [[d["name"] for d in x["databases"]] for x in o["nodes"]] == [["t.db"], ["t.db"]]
        n.kill()
        wait_until(lambda: "could not be asked" in litefs("status", "-url", url(r), code=0).stdout, "the primary to be missed")


def test_output_that_cannot_be_written():
    with Node() as n, open("/dev/full", "w") as full:
        for command in (["status", "-url", url(n)], ["status", "-json", "-url", url(n)], ["version"]):
            p = subprocess.run([LITEFS, *command], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
            assert p.returncode == 1 and p.stderr == "ERROR: write the output: No space left on device\n", (command, p)


def test_status_again_and_again():
    with Node() as n:
        n.connect().execute("create table t(a)")
        p = subprocess.Popen([LITEFS, "status", "-watch", "-json", "-url", url(n)], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
        try:
            seen = [json.loads(p.stdout.readline()) for _ in range(2)]
            assert [o["nodes"][0]["databases"][0]["txid"] for o in seen] == [f"{1:016x}"] * 2
            port = n.port()
            n.kill()
            assert "ERROR: " in p.stderr.readline() and p.poll() is None
            with open(n.config) as f:
                text = f.read()
            with open(n.config, "w") as f:
                f.write(text.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
            n.start()
            assert json.loads(p.stdout.readline())["nodes"][0]["role"] in ("primary", "waiting", "candidate")
        finally:
            p.terminate()
            p.communicate(timeout=60)


def test_two_who_take_each_other_for_the_primary():
    """Neither asks the other to ask it again."""
    with Node() as n, replica_of(n) as a, replica_of(a) as b:
        wait_until(lambda: get(a, "/readyz").status == 200, "readiness")
        nodes = get(b, "/cluster").json["nodes"]
        assert [x["nodeID"] for x in nodes] == [get(b, "/info").json["nodeID"], get(a, "/info").json["nodeID"]]
        n.kill()
        with open(a.config) as f:
            text = f.read()
        port = a.port()
        assert a.stop() == 0
        with open(a.config, "w") as f:
            f.write(text.replace("127.0.0.1:0", f"127.0.0.1:{port}").replace(str(n.port()), str(b.port())))
        a.start()
        for x in (a, b):
            wait_until(lambda x=x: len(get(x, "/cluster").json["nodes"]) == 2, "the other")


def test_primary_that_does_not_answer():
    """Many ask a replica; the primary is asked once, and nobody waits for long."""
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        extra = f"  candidate: false\n  advertise-url: http://127.0.0.1:{port}\n  reconnect-delay: 60s\n"
        with Node(extra=extra) as r:
            asked = []

            def swallow():
                while True:
                    try:
                        conn = s.accept()[0]
                    except OSError:
                        return
                    asked.append((conn, conn.recv(4096).split(b" HTTP")[0]))
            threading.Thread(target=swallow, daemon=True).start()
            begin = time.monotonic()
            with concurrent.futures.ThreadPoolExecutor(12) as pool:
                answers = list(pool.map(lambda _: get(r, "/cluster"), range(12)))
            assert time.monotonic() - begin < 40, "they waited one after the other"
            assert all(a.status == 200 and len(a.json["nodes"]) == 1 and "asked" in a.json["error"] for a in answers)
            n = sum(line == b"GET /cluster?forward=no" for _, line in asked)
            assert 1 <= n <= 3, asked
            assert get(r, "/healthz").status == 200
        s.close()


def test_roles_of_a_static_lease():
    with Node() as n, replica_of(n) as r:
        wait_until(lambda: get(r, "/readyz").status == 200, "readiness")
        assert litefs("promote", "-url", url(n), code=0).stdout == "this node is the primary\n"
        assert litefs("promote", "-url", url(r), code=1).stderr == "ERROR: not eligible to become primary\n"
        assert litefs("handoff", "-url", url(r), code=1).stderr == "ERROR: cannot handoff: node is not currently primary\n"
        assert "static lease" in litefs("handoff", "-url", url(n), code=1).stderr
        assert "static lease" in litefs("demote", "-url", url(n), code=1).stderr


if __name__ == "__main__":
    run(sys.modules[__name__])
