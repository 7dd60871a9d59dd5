"""litefs export, import, status, handoff, promote and demote: messages, exit codes, and what they do."""
import concurrent.futures
import json
import os
import pty
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

COMMANDS = ("export", "import", "status", "list", "handoff", "promote", "demote")


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
            p = litefs(command, flag, code=0)
            assert "Usage:" in p.stdout and f"litefs {command}" in p.stdout and "-url" in p.stdout, p.stdout
            assert p.stderr == ""
        for words, said in ((["-nonsense"], "unknown flag -nonsense"), (["a", "b", "c"], "too many arguments")):
            p = litefs(command, *words, code=2)
            assert p.stderr == f"ERROR: litefs {command}: {said}; run `litefs {command} -h` for help\n", p.stderr
        assert command in litefs("help", code=0).stdout
    for command in ("export", "import"):
        assert "no database is named" in litefs(command, code=2).stderr


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
        assert p.stdout == p.stderr == "", "cron would mail this"
        c = n.connect("sub dir+ü.db")
        assert c.execute("select a from t").fetchall() == [("x",)]
        c.close()
        for suffix in ("", "-wal", "-journal", "-shm"):  # of another database
            with open(out + suffix, "wb") as f:
                f.write(b"old")
        p = litefs("export", "--url=" + url(n) + "/", "--name", "sub dir+ü.db", out, code=0)
        assert p.stdout == p.stderr == "", "cron would mail this"
        c = sqlite3.connect(out)
        assert c.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert c.execute("select a from t").fetchall() == [("x",)]
        c.close()
        assert sorted(f for f in os.listdir(n.root) if f.startswith("out.db")) == ["out.db"]
        with open(out, "rb") as f:
            before = f.read()
        p = litefs("export", "-url", url(n), "-name", "none.db", out, code=1)
        assert p.stderr == ("ERROR: the node has no database none.db; it has sub dir+ü.db: `litefs list` shows them\n"), p.stderr
        p = litefs("export", "-url", url(n), "-name", "../x", out, code=1)
        assert p.stderr.startswith("ERROR: cannot export: ../x is not a database name"), p.stderr
        with open(out, "rb") as f:
            assert f.read() == before, "a failed export touched what was there"
        assert litter(n.root, "out.db") == []
        pipe = os.path.join(n.root, "pipe")
        os.mkfifo(pipe)
        os.symlink(pipe, pipe + ".link")
        for path in (pipe, pipe + ".link", n.root):
            p = litefs("export", "-url", url(n), "-name", "sub dir+ü.db", path, code=1)
            assert f"cannot export to {path}: it is not a file" in p.stderr, p.stderr
        assert stat.S_ISFIFO(os.stat(pipe + ".link").st_mode), "a pipe was replaced by the copy"


def test_pipes():
    with Node() as n:
        src, out = os.path.join(n.root, "src.db"), os.path.join(n.root, "out.db")
        body = make_file(src, "create table t(a); insert into t values(randomblob(300000))")
        litefs("import", "-url", url(n), "a.db", src, code=0)
        for name, source in (("b.db", "cat " + src), ("c.db", "cat < " + src)):
            p = subprocess.run(f"{source} | {LITEFS} import -url {url(n)} {name} && {LITEFS} export --url={url(n)} {name} - | cat > {out}",
                               shell=True, capture_output=True, text=True, timeout=60, check=False)
            assert (p.returncode, p.stdout, p.stderr) == (0, "", ""), p
            with open(out, "rb") as f:
                assert f.read()[4096:] == body[4096:] != b""  # the first page has another change counter
        with open(src, "rb") as f:
            p = subprocess.run([LITEFS, "import", "-url", url(n), "-json", "d.db", "-"], stdin=f, capture_output=True, timeout=60, check=True)
        said = json.loads(p.stdout)
        assert said.pop("durationMS") >= 0 and said == {"database": "d.db", "path": "-", "bytes": len(body)}, said
        p = subprocess.run([LITEFS, "export", "-url", url(n), "a.db"], stdout=subprocess.PIPE, timeout=60, check=True)
        assert p.stdout[4096:] == body[4096:]
        said = json.loads(litefs("export", "-url", url(n), "--json", "a.db", out, code=0).stdout)
        assert said.pop("durationMS") >= 0 and said == {"database": "a.db", "path": out, "bytes": len(body)}, said
        # Nothing half is taken for a database: the reader of a pipe that breaks hears of it by the status.
        with open("/dev/full", "wb") as full:
            p = subprocess.run([LITEFS, "export", "-url", url(n), "a.db"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        assert p.returncode == 1 and "cannot write standard output: No space left on device" in p.stderr, p


def test_list():
    with Node() as n, replica_of(n) as r:
        for name in ("a.db", "b c.db"):
            litefs("import", "-url", url(n), name, os.path.join(n.root, "none"), code=1)
            n.connect(name).execute("create table t(a)").connection.close()
        in_step(n, r, "b c.db")
        assert litefs("list", "-q", "-url", url(n), code=0).stdout.splitlines() == ["a.db", "b c.db"]
        lines = litefs("list", "-url", url(r), code=0).stdout.splitlines()
        assert [line.split(None, 2) for line in lines[1:]] == [["8192", n.pos(name)[:16], name] for name in ("a.db", "b c.db")], lines
        assert [d["name"] for d in json.loads(litefs("list", "-json", "-url", url(r), code=0).stdout)] == ["a.db", "b c.db"]
        wait_until(lambda: len(get(n, "/cluster").json["nodes"]) == 2, "both nodes")
        assert litefs("list", "-nodes", "-q", "-url", url(n), code=0).stdout == "localhost\n" * 2
        assert [x["role"] for x in json.loads(litefs("list", "-nodes", "-json", "-url", url(n), code=0).stdout)] == ["primary", "replica"]


def on_a_terminal(*words):
    """What it prints there, and its status."""
    terminal, end = pty.openpty()
    p = subprocess.Popen([LITEFS, *words], stdin=end, stdout=end, stderr=end)
    os.close(end)
    said = b""
    try:
        while part := os.read(terminal, 4096):
            said += part
    except OSError:
        pass  # nobody has it open any more
    os.close(terminal)
    return said.decode().replace("\r\n", "\n"), p.wait(60)


def test_a_terminal_is_told():
    with Node() as n:
        out = os.path.join(n.root, "out.db")
        n.connect("a.db").execute("create table t(a)").connection.close()
        said, code = on_a_terminal("export", "-url", url(n), "a.db", out)
        assert code == 0 and re.fullmatch(r'Export of database "a\.db" in [\d.]+m?s\n', said), said
        assert on_a_terminal("export", "-q", "-url", url(n), "a.db", out) == ("", 0)
        said, code = on_a_terminal("import", "-url", url(n), "b.db", out)
        assert code == 0 and re.fullmatch(r'Import of database "b\.db" in [\d.]+m?s\n', said), said
        assert on_a_terminal("promote", "-url", url(n)) == ("this node is the primary\n", 0)
        for command in ("export", "import"):
            said, code = on_a_terminal(command, "-url", url(n), "a.db")
            assert code == 2 and "a database is not for a terminal: name a file, as in `litefs " + command + " a.db " in said, said


def test_progress_on_a_terminal():
    """How much there is so far, once it takes longer than a second; nothing of that is left at the end."""
    with tempfile.TemporaryDirectory() as d, socket.create_server(("127.0.0.1", 0)) as listener:
        def answer():
            s, _ = listener.accept()
            with s:
                s.recv(65536)
                s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3145728\r\n\r\n")
                for _ in range(3):
                    time.sleep(0.7)
                    s.sendall(bytes(1 << 20))
        threading.Thread(target=answer, daemon=True).start()
        said, code = on_a_terminal("export", "-url", f"http://127.0.0.1:{listener.getsockname()[1]}", "a.db", d + "/out.db")
        assert code == 0 and re.search(r"\r[12] MiB\x1b\[K", said) and '\r\x1b[KExport of database "a.db"' in said, said


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
        want = f"this node is a replica: import on the primary, localhost at {url(n)}"
        assert p.stderr == f"ERROR: cannot import a.db: {want}\n", p.stderr
        p = litefs("import", "-url", url(n), "-name", "b.db", n.root, code=1)
        assert f"cannot import {n.root}: it is not a file" in p.stderr, p.stderr
        p = litefs("import", "-url", url(n), "-name", "b.db", src + ".none", code=1)
        assert "No such file" in p.stderr
        text = os.path.join(n.root, "text")
        with open(text, "w") as f:
            f.write("no database\n" * 1000)
        p = litefs("import", "-url", url(n), "-name", "b.db", text, code=1)
        assert f"cannot import {text}: it is not a SQLite database" in p.stderr, p.stderr
        a = post(n, "/import", name="b.db", body=b"no database\n" * 1000)  # another client need not have looked
        assert (a.status, a.text) == (400, "read database header: this is not a SQLite database\n"), a.text


def written_by(process, directory):
    """Bytes of the file that the process has open in the directory, which need not have a name."""
    fds = f"/proc/{process.pid}/fd"
    try:
        for fd in os.listdir(fds):
            if os.readlink(f"{fds}/{fd}").startswith(directory + "/"):
                return os.stat(f"{fds}/{fd}").st_size
    except FileNotFoundError:
        pass
    return 0


def litter(directory, name):
    """What is left beside the file `name`."""
    return [f for f in os.listdir(directory) if f.startswith(name) and f != name]


def test_planted_files():
    """Where another user may write, what he plants is neither followed nor written to, and a copy is nobody else's."""
    with Node() as n, tempfile.TemporaryDirectory() as d:
        c = n.connect()
        c.execute("create table t(a)")
        c.close()
        precious, out, ltx = os.path.join(n.root, "precious"), os.path.join(d, "out.db"), f"{1:016x}-{1:016x}.ltx"
        with open(precious, "w", encoding="utf-8") as f:
            f.write("precious")
        os.mkdir(n.path("copies"))
        copies = [(d, ltx), (n.path("copies"), ltx)]  # the mount has no files without a name (O_TMPFILE)
        for path in [out + ".tmp", *(os.path.join(directory, name) for directory, name in copies)]:
            os.symlink(precious, path)
        for suffix in ("-wal", "-journal", "-shm"):
            os.symlink(precious, out + suffix)
        old = os.umask(0)
        try:
            for _ in range(2):
                litefs("export", "-url", url(n), "-name", "t.db", out, code=0)
                check_copy(d, "out.db")
                os.unlink(out)
                os.symlink(precious, out)
            for directory, name in copies:
                litefs("ltx", "extract", "-data-dir", n.data, "-txid", f"{1:016x}", "-o", directory, "t.db", code=0)
                check_copy(directory, name)
        finally:
            os.umask(old)
        with open(precious, encoding="utf-8") as f:
            assert f.read() == "precious"
        assert sorted(os.listdir(d)) == sorted([ltx, "out.db", "out.db.tmp"])
        assert os.listdir(n.path("copies")) == [ltx]


def check_copy(directory, name):
    st = os.lstat(os.path.join(directory, name))
    assert stat.S_ISREG(st.st_mode) and st.st_mode & 0o777 == 0o600 and st.st_size > 100, (name, oct(st.st_mode), st.st_size)


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
        wait_until(lambda: written_by(p, n.root) > 0 or p.poll() is not None, "bytes")
        n.kill()
        stderr = p.communicate(timeout=60)[1]
        if p.returncode == 0:
            print("     the export was quicker than the kill")
        else:
            assert stderr.startswith("ERROR: "), stderr
            with open(out, "rb") as f:
                assert f.read() == b"precious"
        assert litter(n.root, "out.db") == []


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
        wait_until(lambda: written_by(first, d) == 100000, "half of it")
        second = subprocess.Popen([LITEFS, *command], stdout=subprocess.PIPE)
        wait_until(lambda: written_by(second, d) == 100000, "half of it")
        for sig in (signal.SIGINT, signal.SIGTERM):
            stopped = subprocess.Popen([LITEFS, *command[:-1], out + "2"])
            wait_until(lambda: written_by(stopped, d) == 100000, "half of it")
            stopped.send_signal(sig)
            assert stopped.wait(30) == -sig
            assert litter(d, "out.db2") == [], os.listdir(d)
        go_on.set()
        for p in (first, second):
            p.communicate(timeout=60)
            with open(out, "rb") as f:
                assert p.returncode == 0 and f.read() == b"".join(halves), "the copy is not what was sent"
        assert os.listdir(d) == ["out.db"]
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
        assert "authentication failed" in p.stderr and "-token-file PATH" in p.stderr, p.stderr
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


def test_every_command_is_quiet_or_json_when_asked():
    with Node() as n:
        n.connect("a.db").execute("create table t(x)").connection.close()
        path = os.path.join(n.root, "out")
        for words in (["status"], ["list"], ["doctor"], ["export", "a.db", path], ["import", "b.db", path], ["check"],
                      ["ltx", "list", "a.db"], ["ltx", "dump", "a.db"], ["ltx", "verify", "a.db"], ["ltx", "extract", "-o", n.root, "a.db"],
                      ["backup", "status"], ["version"]):
            asked = [*words, *(["-config", n.config] if words[0] != "version" else [])]
            if words[0] not in ("version", "check", "ltx", "doctor"):
                asked += ["-url", url(n)]
            code = {"doctor": None}.get(words[0], 0)  # what it finds on this machine is not the test's
            lines = litefs(*asked, "-json", code=code).stdout
            objects = [json.loads(line) for line in lines.splitlines()] if words[0] == "ltx" else [json.loads(lines)]
            assert objects, words
            if words[0] == "version":
                continue
            p = litefs(*asked, "-q", code=code)
            if words[0] == "list":
                assert p.stdout == "a.db\n", p.stdout  # b.db is imported later
            elif words[0] == "doctor":
                assert all(line[:4] in ("WARN", "FAIL") for line in p.stdout.splitlines()), p.stdout
            else:
                assert p.stdout == "", (words, p.stdout)
        records = [json.loads(line) for line in litefs("ltx", "list", "-config", n.config, "-json", "a.db", code=0).stdout.splitlines()]
        assert records[-1]["maxTXID"] + "/" + records[-1]["postApplyChecksum"] == n.pos("a.db"), records
        dumped = json.loads(litefs("ltx", "dump", "-config", n.config, "-json", "a.db", code=0).stdout.splitlines()[-1])
        assert dumped["pages"] == [1, 2] and dumped["postApplyChecksum"] == records[-1]["postApplyChecksum"], dumped


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
        both = [get(x, "/info").json["nodeID"] for x in (b, a)]
        wait_until(lambda: [x["nodeID"] for x in get(b, "/cluster").json["nodes"]] == both, "one to ask the other")
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
        assert json.loads(litefs("promote", "-json", "-url", url(n), code=0).stdout) == {"result": "primary"}
        assert "ERROR: not eligible to become primary; " in litefs("promote", "-url", url(r), code=1).stderr
        assert "ERROR: cannot handoff: node is not currently primary; " in litefs("handoff", "-url", url(r), code=1).stderr
        assert "static lease" in litefs("handoff", "-url", url(n), code=1).stderr
        assert "static lease" in litefs("demote", "-url", url(n), code=1).stderr


if __name__ == "__main__":
    run(sys.modules[__name__])
