"""Each mistake that people make is answered by what is wrong, why, and what to do next, and by a status that says whether
trying again can help: 2 for the command line and the configuration, 1 for the rest.

Rows are (words of the command, or text of litefs.yml; status; the three parts)."""
import contextlib
import http.server
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, d) for d in ("", "http", "tls", "cluster", "lease")]
from certificates import Authority
from http_fixture import Node, in_step, replica_of
from litefs_fixture import LITEFS, is_mounted, run
from tls_fixture import tls_node

STATIC = "lease: {type: static}\n"


def litefs(*words, cwd="/", **kw):
    return subprocess.run([LITEFS, *words], capture_output=True, text=True, timeout=60, check=False, cwd=cwd,
                          stdin=subprocess.DEVNULL, **kw)


def errors_of(stderr):
    return [line for line in stderr.splitlines() if line.startswith("ERROR: ")]


def check(who, p, code, *parts):
    lines = errors_of(p.stderr)
    assert p.returncode == code and len(lines) == 1, (who, p.returncode, p.stderr)
    line, at = lines[0], 0
    assert len(parts) == 3 and all(parts), who
    for part in parts:
        found = line.find(part, at)
        assert found >= 0, f"{who}:\n{line}\nlacks, behind column {at}: {part}"
        at = found + len(part)
    assert len(line) < 480, ("cut off", line)


def check_commands(rows):
    for words, code, what, why, following in rows:
        check("litefs " + " ".join(words), litefs(*words), code, what, why, following)


def test_command_line():
    check_commands([
        ([], 2, "no command", "is given", "choose one of those above"),
        (["stauts"], 2, "litefs has no command stauts", "did you mean `litefs status`?", "litefs help"),
        (["stat"], 2, "litefs has no command stat", "did you mean `litefs status`?", "litefs help"),
        (["frobnicate"], 2, "litefs has", "no command frobnicate", "run `litefs help` for a list"),
        (["-json"], 2, "litefs has no flag -json", "flags follow a command", "run `litefs help`"),
        (["help", "epxort"], 2, "no command epxort", "did you mean `litefs export`?", "litefs help"),
        (["help", "a", "b"], 2, "litefs help", "too many arguments", "run `litefs help -h`"),
        (["version", "x"], 2, "litefs version", "too many arguments", "run `litefs version -h`"),
        (["mount", "-data", "/x"], 2, "litefs mount: -data", "goes with the directory to mount at", "`litefs mount -data ... DIR`"),
        (["mount", "-config", "x", "d"], 2, "d and -config", "contradict each other", "leave one of them out"),
        (["mount", "/etc/passwd"], 2, "/etc/passwd", "is a file", "a command to run goes behind `--`"),
        (["mount", "-lease", "redis://a", "/x"], 2, "-lease", "is not the URL of a lease", "want etcd://HOST:2379/KEY"),
        (["mount", "-lease", "etcd://a/b", "/x"], 2, "-addr: :20202", "is open to the network", "Give -token-file"),
        (["init", "a", "b"], 2, "litefs init", "too many arguments", "a command to run goes behind `--`"),
        (["init", "-systemd", "-o", "x"], 2, "-systemd and -o", "the service reads /etc/litefs.yml", "leave one of them out"),
        (["init", "-o", "/none/x", "-lease", "etcd://a/b"], 2, "/none/x", "No such file or directory", "name a file elsewhere"),
        (["check", "a", "b"], 2, "litefs check", "too many arguments", "run `litefs check -h`"),
        (["check", "/none.yml"], 2, "cannot read config file at /none.yml", "No such file", "-config PATH"),
        (["mount", "-cofnig", "x"], 2, "litefs mount", "unknown flag -cofnig (did you mean -config?)", "run `litefs mount -h`"),
        (["mount", "-config"], 2, "litefs mount", "flag -config needs a value: PATH", "run `litefs mount -h`"),
        (["mount", "-debug=perhaps"], 2, "litefs mount", "flag -debug takes true or false, not perhaps", "run `litefs mount -h`"),
        (["mount", "./app", "-port"], 2, "litefs mount", "unknown flag -port", "run `litefs mount -h`"),
        (["status", "-jsno"], 2, "litefs status", "unknown flag -jsno (did you mean -json?)", "run `litefs status -h`"),
        (["status", "node2"], 2, "litefs status", "too many arguments", "run `litefs status -h`"),
        (["list", "a.db"], 2, "litefs list", "too many arguments", "run `litefs list -h`"),
        (["doctor", "a"], 2, "litefs doctor", "too many arguments", "run `litefs doctor -h`"),
        (["export"], 2, "litefs export", "no database is named", "run `litefs export -h`"),
        (["export", "a", "b", "c"], 2, "litefs export", "too many arguments", "run `litefs export -h`"),
        (["export", "-name", "a", "b", "c"], 2, "litefs export", "too many arguments: -name names the database already", "-h"),
        (["export", "-json", "a"], 2, "litefs export: -json", "in the middle of the database", "name a file"),
        (["import", ""], 2, "litefs import", "no database is named", "run `litefs import -h`"),
        (["handoff", "a", "b"], 2, "litefs handoff", "too many arguments", "run `litefs handoff -h`"),
        (["promote", "a"], 2, "litefs promote", "too many arguments", "run `litefs promote -h`"),
        (["demote", "a"], 2, "litefs demote", "too many arguments", "run `litefs demote -h`"),
        (["run"], 2, "litefs run", "no command to run is given behind `--`", "litefs run -promote -- ./migrate"),
        (["run", "./migrate"], 2, "litefs run", "too many arguments, specify a '--'", "run `litefs run -h`"),
        (["run", "-promote", "-with-halt-lock-on", "a", "--", "b"], 2, "both -promote & -with-halt-lock-on",
         "a primary needs no lock", "leave one of them out"),
        (["run", "-with-halt-lock-on", "/none.db", "--", "b"], 1, "cannot lock /none.db", "no such database", "such as /litefs/app.db"),
        (["run", "-with-halt-lock-on", "/etc/passwd", "--", "b"], 1, "cannot lock /etc/passwd", "not the mount of a litefs",
         "name the database by its path in the mount"),
        (["run", "--", "/none"], 1, "cannot run /none", "No such file or directory", "name a program that is there"),
        (["ltx"], 2, "litefs ltx", "the action comes first", "list|dump|verify|extract"),
        (["ltx", "lits", "a"], 2, "litefs ltx", "unknown action lits", "want list, dump, verify or extract"),
        (["ltx", "list"], 2, "litefs ltx", "the database is missing", "run `litefs ltx -h`"),
        (["ltx", "list", "-txid", "7", "a"], 2, "-txid", "wants 16 hex digits, not 7", "run `litefs ltx -h`"),
        (["ltx", "list", "-data-dir", "/none", "a"], 1, "no log of database a", "in the data directory /none", "with -data-dir DIR"),
        (["restore"], 2, "litefs restore", "the URL of a backup is missing", "run `litefs restore -h`"),
        (["restore", "/none"], 2, "litefs restore", "-o FILE is missing", "run `litefs restore -h`"),
        (["restore", "-o", "x", "-txid", "1", "-timestamp", "2", "/b"], 2, "-txid or -timestamp", "not both", "run `litefs restore -h`"),
        (["restore", "-o", "x", "-txid", "1", "/b"], 2, "-txid", "wants 16 hex digits, not 1", "run `litefs restore -h`"),
        (["restore", "-o", "x", "-timestamp", "noon", "/b"], 2, "-timestamp", "such as 2026-01-02T03:04:05Z", "not noon"),
        (["restore", "-o", "/none/x", "/none"], 1, "no matching backup files", "available", "litefs backup list URL"),
        (["restore", "-o", "/none/x", "ftp://b"], 1, "ftp://b", "want file:///PATH", "or s3://BUCKET/PREFIX"),
        (["backup"], 2, "litefs backup", "the action comes first", "status|sync|list|verify"),
        (["backup", "lits"], 2, "litefs backup", "unknown action lits", "want status, sync, list or verify"),
        (["backup", "verify"], 2, "litefs backup", "the URL or the database is missing", "run `litefs backup -h`"),
        (["mount", "-config", "/none.yml"], 2, "cannot read config file at /none.yml", "No such file", "-config PATH"),
        (["status", "-config", "/none.yml"], 1, "cannot read config file at /none.yml", "No such file", "-config PATH"),
    ])


def test_nobody_answers():
    nobody = "http://127.0.0.1:1"
    rows = [([command, "-url", nobody], 1, f"cannot talk to the node at {nobody}", "Connection refused", "litefs mount")
            for command in ("status", "list", "promote", "demote", "handoff")]
    check_commands(rows + [
        (["export", "-url", nobody, "a.db"], 1, f"the node at {nobody}", "Connection refused", "litefs mount"),
        (["status", "-url", "127.0.0.1:1"], 1, f"the node at {nobody}", "Connection refused", "correct -url"),
        (["status", "-url", "ftp://a"], 1, "-url ftp://a", "is not the address of a node", "-url http://localhost:20202"),
        (["status", "-url", ""], 1, "-url", "is not the address of a node", "-url http://localhost:20202"),
        (["status", "-url", "http://none.invalid:1"], 1, "the node at http://none.invalid:1", "resolve host", "check the name in the URL"),
        (["status", "-url", nobody, "-token-file", "/none"], 1, "cannot read http.token-file /none", "No such file",
         "a file with the token"),
        (["status", "-url", nobody, "-ca", "/none.pem"], 1, "cannot use /none.pem", "No such file", "correct -ca, -cert or -key"),
    ])


def serve(answer):
    """The URL of another program's HTTP server."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(answer[0])
            self.end_headers()
            self.wfile.write(answer[1])

        def log_message(self, *_):
            pass
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def test_another_program_answers():
    check_commands([
        (["status", "-url", serve((200, b"<html>"))], 1, "the answer of http", "is not JSON: another program listens there",
         "name the node with -url"),
        (["status", "-url", serve((404, b"404 page not found\n"))], 1, "404 page", "not found", "http://HOST:PORT of a litefs node"),
        (["status", "-url", serve((500, b""))], 1, "the server at http", "status 500 and gave no reason", "its log may have one"),
    ])


def plain(answer):
    """The URL of a server without TLS that answers a handshake so and, when it has said something, waits for the other to go.
    One that closes right after its answer may be met either way: the alert that is sent to it may fail first."""
    def handle():
        while True:
            connection = listener.accept()[0]
            with contextlib.suppress(OSError), connection:
                connection.recv(65536)
                connection.sendall(answer)
                while answer and connection.recv(65536):
                    pass
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=handle, daemon=True).start()
    return f"https://127.0.0.1:{listener.getsockname()[1]}"


def test_tls_to_a_plain_port():
    check_commands([
        (["status", "-url", plain(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")], 1, "cannot talk to the node at https",
         "wrong version number", "does not speak TLS: use http://"),
        (["status", "-url", plain(b"")], 1, "cannot talk to the node at https", "SSL",
         "does not speak TLS, use http://"),
    ])
    with Node() as n:
        for _ in range(10):
            p = litefs("status", "-url", f"https://127.0.0.1:{n.port()}")
            check("a node", p, 1, "cannot talk to the node at https", "does not speak TLS", "use http://")


def test_a_node_refuses():
    with Node() as n, replica_of(n) as r, tempfile.TemporaryDirectory() as d:
        u, replica = f"http://127.0.0.1:{n.port()}", f"http://127.0.0.1:{r.port()}"

        def path(name, content=b""):
            with open(os.path.join(d, name), "wb") as f:
                f.write(content)
            return os.path.join(d, name)
        check_commands([
            (["export", "-url", u, "app.db", d + "/x"], 1, "no database app.db", "it has none", "`litefs import app.db FILE`"),
        ])
        for name in ("app.db", "users.db"):
            n.connect(name).execute("create table t(a)").connection.close()
        in_step(n, r, "users.db")
        wal = sqlite3.connect(path("wal.db"), isolation_level=None)
        wal.execute("pragma journal_mode=wal")
        wal.execute("create table t(a)")
        good = n.path("app.db")
        check_commands([
            (["export", "-url", u, "appdb", d + "/x"], 1, "no database appdb", "did you mean app.db?", "`litefs list`"),
            (["export", "-url", u, "zork", d + "/x"], 1, "no database zork", "it has app.db, users.db", "`litefs list`"),
            (["export", "-url", u, "../x", d + "/x"], 1, "cannot export: ../x", "want its path in the mount", "such as app.db"),
            (["export", "-url", u, "n" * 3000, d + "/x"], 1, "cannot export", "is too long", "at most 255 bytes"),
            (["export", "-url", u, "app.db", d], 1, f"cannot export to {d}", "is not a file", "name one that may be replaced"),
            (["export", "-url", u, "app.db", "/dev/full"], 1, "cannot export to /dev/full", "is not a file", "`-` for standard output"),
            (["export", "-url", u, "app.db", d + "/none/x"], 1, "cannot create", "No such file", "a directory where you may write"),
            (["import", "-url", u, "a/", good], 1, "cannot import: a/", "want its path in the mount", "such as app.db"),
            (["import", "-url", u, "a.db", d + "/none"], 1, f"cannot open {d}/none", "No such file", "name a database file"),
            (["import", "-url", u, "a.db", path("empty")], 1, "cannot import", "is empty", "create it in the mount"),
            (["import", "-url", u, "a.db"], 1, "cannot import standard input", "is empty", "create it in the mount"),
            (["import", "-url", u, "a.db", path("sql", b"create table t(a);")], 1, "cannot import", "is not a SQLite database",
             "`sqlite3 new.db < dump.sql`"),
            (["import", "-url", u, "a.db", path("cut", b"SQLite format 3\0")], 1, "cannot import", "is not a SQLite database", "`sqlite3 new.db < dump.sql`"),
            (["import", "-url", u, "a.db", d], 1, f"cannot import {d}", "is not a file", "name a database file"),
            (["import", "-url", u, "a.db", d + "/wal.db"], 1, "wal.db-wal exists", "in use, or was not closed", "wal_checkpoint(TRUNCATE)"),
            (["import", "-url", replica, "a.db", good], 1, "cannot import a.db", "this node is a replica", f"on the primary, localhost at {u}"),
            (["handoff", "-url", u], 1, "cannot handoff", "a static lease stays", "change lease.candidate"),
            (["handoff", "-url", replica], 1, "cannot handoff", "not currently primary", "ask the primary"),
            (["demote", "-url", u], 1, "a static lease", "stays where the configuration puts it", "change lease.candidate"),
            (["demote", "-url", replica], 1, "this node", "is not the primary", "ask the primary"),
            (["promote", "-url", replica], 1, "not eligible", "to become primary", "lease.candidate: true"),
            (["backup", "sync", "-url", u, "-timeout", "soon"], 1, "-timeout", "wants a duration such as 10s", "not soon"),
        ])
        wal.close()


def with_token(node, token):
    with open(node.config, encoding="utf-8") as f:
        text = f.read()
    with open(node.config, "w", encoding="utf-8") as f:
        f.write(text.replace("http:\n", f"http:\n  token: {token}\n", 1))
    return node


def test_tokens():
    with with_token(Node(), "abcd1234") as n, tempfile.TemporaryDirectory() as d:
        u, wrong = f"http://127.0.0.1:{n.port()}", os.path.join(d, "token")
        n.connect("a.db").execute("create table t(a)").connection.close()
        with open(wrong, "w", encoding="utf-8") as f:
            f.write("other\n")
        check_commands([
            (["export", "-url", u, "a.db", d + "/x"], 1, "authentication failed", "asks for a token, and none was given",
             "-token-file PATH"),
            (["demote", "-url", u], 1, "authentication failed", "asks for a token, and none was given", "-token-file PATH"),
            (["demote", "-url", u, "-token-file", wrong], 1, "authentication failed", f"the token of {wrong} is not that of the node",
             "http.token"),
        ])


# Of each: text of litefs.yml, the key with its line, why, and what to write.
WRONG = [
    ("", "litefs.yml", "the file is empty", "`man litefs.yml`"),
    ("# nothing\n", "litefs.yml", "the file is empty", "`man litefs.yml`"),
    ("a: [\n", "litefs.yml:2", "not YAML", "correct that line"),
    ("data: {dir: /a}\ndata: {dir: /b}\n", "litefs.yml:2", "not YAML: duplicate key", "correct that line"),
    ("%FOO\na: b\n", "litefs.yml:1", "directives are not supported", "leave the line out"),
    ("- x\n", "litefs.yml:1", "want keys and values", "such as"),
    ("http:\n  adrr: ':1'\n", "litefs.yml:2: http.adrr", "unknown key", "did you mean addr?"),
    ("laese: {}\n", "litefs.yml:1: laese", "unknown key", "did you mean lease?"),
    ("retention: 1m\n", "litefs.yml:1: retention", "unknown key", "did you mean data.retention?"),
    ("zork: 1\n", "litefs.yml:1: zork", "unknown key", "`man litefs.yml` lists the keys"),
    ("data.dir: /x\n", "litefs.yml:1: data.dir", "sections are nested, not written with dots", 'write "data:" and below it, indented, "dir:"'),
    ("fuse: {debug: perhaps}\n", "litefs.yml:1: fuse.debug", "want true or false", 'not "perhaps"'),
    ("data: {retention: soon}\n", "litefs.yml:1: data.retention", "want a duration such as 10s", 'not "soon"'),
    ("data: {retention: 600}\n", "litefs.yml:1: data.retention", "want a duration such as 10s", 'not "600"'),
    ("tracing: {max-size: big}\n", "litefs.yml:1: tracing.max-size", "want a size such as 64MB", 'not "big"'),
    ("tracing: {max-count: -1}\n", "litefs.yml:1: tracing.max-count", "want a whole number", 'not "-1"'),
    ("proxy: {passthrough: x}\n", "litefs.yml:1: proxy.passthrough", "want a list of strings", 'not "x"'),
    ("data: {dir: [a]}\n", "litefs.yml:1: data.dir", "want a string", "not a list"),
    ("data: {dir: {a: b}}\n", "litefs.yml:1: data.dir", "want a string", "not keys and values"),
    ("data: 5\n", "litefs.yml:1: data", "want a section", "`man litefs.yml`"),
    ("data: {dir: &a /x}\nfuse: {dir: *a}\n", "litefs.yml:2: fuse.dir", "aliases are not supported", "write the value itself"),
    ("exec: [1]\n", "litefs.yml:1: exec", "want a command, or one or more", "{cmd, if-candidate, user}"),
    ("exec: [{}]\n", "litefs.yml:1: exec.cmd", "not set: want a command", "such as"),
    ("exec: [{cmdd: x}]\n", "litefs.yml:1: exec.cmdd", "unknown key", "want cmd, user or if-candidate"),
    ("fuse: {dir: ''}\n", "litefs.yml:1: fuse.dir", "not set", "such as /litefs"),
    ("data: {dir: ''}\n", "litefs.yml:1: data.dir", "not set", "such as /var/lib/litefs"),
    ("fuse: {dir: /a}\ndata: {dir: /a}\n", "litefs.yml:1: fuse.dir", "the mount would hide the data", "give one of them another directory"),
    ("fuse: {dir: /a}\ndata: {dir: /a/b}\n", "litefs.yml:2: data.dir", "is inside fuse.dir (/a)", "move one of them"),
    ("fuse: {dir: /a/dbs}\ndata: {dir: /a}\n", "litefs.yml:1: fuse.dir", "is inside data.dir (/a)", "move one of them"),
    ("skip-sync: true\n", "litefs.yml: lease.type", "not set", "want etcd, consul, object"),
    ("\nlease:\n  type: etdc\n", "litefs.yml:3: lease.type", 'not "etdc"', "did you mean etcd?"),
    ("lease: {type: consul}\n", "litefs.yml: lease.consul.url", "not set", "such as http://localhost:8500"),
    ("lease: {type: consul, consul: {url: 'http://c'}}\n", "litefs.yml: lease.consul.key", "not set", "such as litefs/app"),
    ("lease: {type: etcd}\n", "litefs.yml: lease.etcd.endpoints", "not set", "http://localhost:2379"),
    ("lease: {type: etcd, etcd: {endpoints: ['http://e']}}\n", "litefs.yml: lease.etcd.key", "not set", "such as litefs/app"),
    ("lease: {type: static, candidate: false}\n", "litefs.yml: lease.primary-url", "a node that is not the primary finds it there",
     "such as http://node1:20202"),
    ("lease: {type: static, advertise-url: 'node1'}\n", "litefs.yml:1: lease.advertise-url", "is not of the form http://HOST:PORT",
     "for example http://node1:20202"),
    ("lease: {type: static, databases: [a]}\n", "litefs.yml:1: lease.databases", "needs all databases", "leave it out"),
    (STATIC + "http: {addr: banana}\n", "litefs.yml:2: http.addr", '"banana" is not an address', "such as 127.0.0.1:20202"),
    (STATIC + "http: {addr: 1.2.3.4}\n", "litefs.yml:2: http.addr", '"1.2.3.4" is not an address', "want HOST:PORT"),
    (STATIC + "http: {addr: ':99999'}\n", "litefs.yml:2: http.addr", '":99999" is not an address', "want HOST:PORT"),
    (STATIC + "http: {addr: ':20202'}\n", "litefs.yml:2: http.addr", "is open to the network", "Set http.token-file"),
    (STATIC + "http: {tls: {cert: /a}}\n", "litefs.yml:2: http.tls.cert", "http.tls.key is not set", "set both, or neither"),
    (STATIC + "http: {tls: {client-ca: /a}}\n", "litefs.yml:2: http.tls.client-ca", "nobody shows a certificate", "set http.tls.cert"),
    (STATIC + "http: {token: a, token-file: /b}\n", "litefs.yml:2: http.token", "http.token-file is set, too", "leave one of them out"),
    ("lease: {type: static, advertise-url: 'http://a:1'}\nhttp: {tls: {cert: /a, key: /b}}\n", "litefs.yml:1: lease.advertise-url",
     "other nodes reach this one by TLS", "make it https://"),
    (STATIC + "proxy: {target: 'localhost:1'}\n", "litefs.yml:2: proxy.target", "proxy.addr, the address to listen on, is not set", "set it"),
    (STATIC + "proxy: {addr: banana, target: ':1'}\n", "litefs.yml:2: proxy.addr", '"banana" is not an address', "want HOST:PORT"),
    (STATIC + "proxy: {addr: ':1', target: banana}\n", "litefs.yml:2: proxy.target", '"banana" is not an address', "want HOST:PORT"),
    (STATIC + "proxy: {mode: x}\n", "litefs.yml:2: proxy.mode", "want forward or fly-replay", 'not "x"'),
    (STATIC + "log: {format: jsno}\n", "litefs.yml:2: log.format", "want text or json", "did you mean json?"),
    (STATIC + "backup: {type: s3}\n", "litefs.yml:2: backup.type", 'not "s3"', "backup.url: s3://BUCKET/PREFIX"),
    (STATIC + "backup: {type: file}\n", "litefs.yml: backup.path", "want a directory, from the root on", "such as /backup"),
    (STATIC + "backup: {url: 'ftp://x'}\n", "litefs.yml:2: backup.url", "want s3://BUCKET/PREFIX or file:///PATH", 'not "ftp://x"'),
    (STATIC + "exec: [{cmd: x, user: nobody-here}]\n", "litefs.yml:2: exec", "there is no user called nobody-here", "create it"),
]


def test_configuration():
    with tempfile.TemporaryDirectory() as d:
        d = os.path.realpath(d)
        for text, what, why, following in WRONG:
            with open(d + "/litefs.yml", "w", encoding="utf-8") as f:
                f.write(text)
            check(text, litefs("mount", cwd=d), 2, what, why, following)


def mount(d, text):
    """Starts with that configuration, which cannot last; what it prints."""
    with open(d + "/litefs.yml", "w", encoding="utf-8") as f:
        f.write(text)
    p = litefs("mount", cwd=d)
    assert not is_mounted(d + "/mnt")
    return p


def test_start():
    with tempfile.TemporaryDirectory() as d, socket.create_server(("127.0.0.1", 0)) as taken, Node() as n:
        d, port = os.path.realpath(d), taken.getsockname()[1]
        dirs = f"fuse: {{dir: {d}/mnt}}\ndata: {{dir: {d}/data}}\n" + STATIC
        local = "http: {addr: '127.0.0.1:0'}\n"
        with open(d + "/file", "w", encoding="utf-8") as f:
            f.write("x")
        open(d + "/empty", "w", encoding="utf-8").close()
        who = f"port {port} is in use by {open('/proc/self/comm', encoding='utf-8').read().strip()} (pid {os.getpid()})"
        for text, what, why, following in [
                (dirs + f"http: {{addr: '127.0.0.1:{port}'}}\n", f"http.addr: cannot listen at 127.0.0.1:{port}", who, "set http.addr to another port"),
                (dirs + local + f"proxy: {{addr: '127.0.0.1:{port}', target: ':1'}}\n", f"proxy.addr: cannot listen at 127.0.0.1:{port}", who,
                 "set proxy.addr to another port"),
                (dirs + "http: {addr: '192.0.2.1:0', token: a}\n", "http.addr: cannot listen at 192.0.2.1:0", "no such address", "set http.addr"),
                (dirs + f"http: {{addr: '127.0.0.1:0', token-file: {d}/none}}\n", "cannot read http.token-file", "No such file", "a file with the token"),
                (dirs + f"http: {{addr: '127.0.0.1:0', token-file: {d}/empty}}\n", "http.token-file", "is empty", "write the token there"),
                (dirs + "http: {addr: '127.0.0.1:0', token: 'a b'}\n", "the token (http.token)", "other than printable ASCII", "make another one"),
                (dirs.replace("/mnt", "/file") + local, f"fuse.dir {d}/file", "is not a directory", "choose another one"),
                (dirs.replace("/mnt", "/file/mnt") + local, f"fuse.dir {d}/file/mnt", "cannot be used", "Not a directory"),
                (dirs.replace("/data", "/file/data") + local, f"cannot use data.dir {d}/file/data", "Not a directory", "choose a directory"),
                (dirs.replace(d + "/data", n.data) + local, f"data directory {n.data}", "in use by another litefs", "choose another data.dir"),
                (dirs.replace(d + "/mnt", n.mnt) + local, "a litefs that runs", f"is mounted at {n.mnt} already", "choose another fuse.dir")]:
            check(text, mount(d, text), 1, what, why, following)
        os.mkdir(d + "/mnt") if not os.path.isdir(d + "/mnt") else None
        sqlite3.connect(d + "/mnt/app.db").execute("create table t(a)").connection.close()
        check("not empty", mount(d, dirs + local), 1, f"fuse.dir {d}/mnt holds app.db", "would hide it", "Move it aside")


# The last: without openssl it skips what is left.
def test_tls():
    with Authority() as ca, Authority() as other:
        ca.make("node")
        with tls_node(ca) as n:
            u, plain = f"https://127.0.0.1:{n.port()}", f"http://127.0.0.1:{n.port()}"
            mine = ["-cert", ca.path("node.pem"), "-key", ca.path("node.key")]
            check_commands([
                (["status", "-url", plain], 1, "this port", "speaks TLS", "with -ca PATH"),
                (["status", "-url", u, *mine], 1, f"cannot talk to the node at {u}", "certificate", "check -ca, -cert and -key"),
                (["status", "-url", u, "-ca", other.path("ca.pem"), *mine], 1, f"cannot talk to the node at {u}", "certificate",
                 "check -ca, -cert and -key"),
            ])


if __name__ == "__main__":
    run(sys.modules[__name__])
