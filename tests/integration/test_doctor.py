"""litefs doctor: each finding with the thing really broken, on a node that runs and on one that does not."""
import http.client
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "http")]
from http_fixture import Node, get, in_step, replica_of
import litefs_fixture
from litefs_fixture import LITEFS, free_ports, run, stop_process, wait_until

NOBODY = "http://127.0.0.1:1"


def doctor(node, *before, code=None):
    """The findings: {check: [(level, text, next)]}. `before` runs it, in a name space for example."""
    url = f"http://127.0.0.1:{node.port()}" if node.process is not None else NOBODY
    p = subprocess.run([*before, LITEFS, "doctor", "-json", "-config", node.config, "-url", url], capture_output=True,
                       text=True, timeout=60, check=False)
    assert p.stderr == "", p.stderr
    found = {}
    for f in json.loads(p.stdout):
        assert f["level"] == "OK" or f.get("next") or f["check"] in ("address", "database"), f
        found.setdefault(f["check"], []).append((f["level"], f["text"], f.get("next", "")))
    failed = any(level == "FAIL" for fs in found.values() for level, _, _ in fs)
    assert p.returncode == (1 if failed else 0), (p.returncode, found)
    assert code is None or p.returncode == code, found
    return found


def expect(found, check, level, text="", next_command=""):
    assert any(f[0] == level and text in f[1] and next_command in f[2] for f in found.get(check, [])), \
        f"no {level} of {check} with {text!r} and {next_command!r} in {json.dumps(found, indent=1)}"


def failures(found):
    return sorted(check for check, fs in found.items() for f in fs if f[0] == "FAIL")


def write(node, sql="create table if not exists t(a); insert into t values (1)", name="t.db"):
    c = node.connect(name)
    c.executescript(sql)
    c.close()


def edit(path, old, new):
    with open(path, encoding="utf-8") as f:
        text = f.read()
    assert old in text
    with open(path, "w", encoding="utf-8") as f:
        f.write(text.replace(old, new))


def has_mount_spaces():
    """Not in a chroot whose root is no mount point, nor without root."""
    has = subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode == 0
    if not has:
        print("     a mount name space is not to be had: not tried")
    return has


def in_mounts(script):
    """Runs what follows in a mount name space of its own, after `script`."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script + ' && exec "$@"', "sh"]


def test_all_is_well():
    with Node() as n:
        write(n)
        found = doctor(n, code=0)
        assert all(level == "OK" for fs in found.values() for level, _, _ in fs), found
        expect(found, "node", "OK", "primary")
        p = subprocess.run([LITEFS, "doctor", "-config", n.config, "-url", f"http://127.0.0.1:{n.port()}"],
                           capture_output=True, text=True, timeout=60, check=False)
        assert p.returncode == 0 and p.stderr == ""
        assert len(p.stdout.splitlines()) == sum(map(len, found.values())), p.stdout
        assert all(line.startswith("OK    ") for line in p.stdout.splitlines()), p.stdout
        n.stop()
        found = doctor(n, code=0)
        expect(found, "node", "WARN", "litefs does not run", "systemctl start litefs")
        expect(found, "mount", "OK", "nothing is mounted")
        n.start()


def test_configuration():
    with Node() as n:
        n.stop()
        edit(n.config, "data:", "dta:")
        found = doctor(n, code=1)
        expect(found, "config", "FAIL", "unknown key")
        assert list(found) == ["config"]
        os.unlink(n.config)
        expect(doctor(n, code=1), "config", "FAIL", n.config, "man litefs.yml")


def test_fuse():
    if not has_mount_spaces():
        return
    with Node() as n:
        n.stop()
        expect(doctor(n, *in_mounts("mount -t tmpfs none /dev"), code=1), "fuse", "FAIL", "No such file", "modprobe fuse")
        expect(doctor(n, "setpriv", "--bounding-set=-sys_admin", code=1), "fuse", "FAIL", "SYS_ADMIN", "--cap-add")
        os.chmod(n.root, 0o755)
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        with_device = in_mounts("mount -t tmpfs none /dev && mknod -m 666 /dev/fuse c 10 229 && mknod -m 666 /dev/null c 1 3")
        expect(doctor(n, *with_device, *user, "env", "PATH=/nonexistent", code=1), "fuse", "FAIL", "fusermount3",
               "apt-get install fuse3")
        edit(n.config, "fuse:\n", "fuse:\n  allow-other: true\n")
        found = doctor(n, *with_device, *user)
        with open("/etc/fuse.conf", encoding="utf-8") as f:
            allowed = any(line.startswith("user_allow_other") for line in f)
        expect(found, "fuse", "OK" if allowed else "FAIL", "fusermount3" if allowed else "user_allow_other")
        no_device = in_mounts("mount -t tmpfs none /dev && mknod -m 600 /dev/fuse c 10 229 && mknod -m 666 /dev/null c 1 3")
        expect(doctor(n, *no_device, *user, code=1), "fuse", "FAIL", "Permission denied", "ls -l /dev/fuse")


def test_a_service_that_lets_nobody_in():
    """The unit runs it as root: an application that is another user finds a mount that it may not enter."""
    if os.geteuid() != 0:
        return
    for more, is_told in (("", True), ("  allow-other: true\n", False)):
        n = Node()
        edit(n.config, "fuse:\n", "fuse:\n" + more)
        try:
            n.start(env={**os.environ, "INVOCATION_ID": "0123456789abcdef"})
            found = doctor(n)
            assert ("users" in found) == is_told, found
            if is_told:
                expect(found, "users", "WARN", "nobody but root", "allow-other: true")
        finally:
            n.__exit__(*sys.exc_info())
    with Node() as n:  # started by hand
        assert "users" not in doctor(n)


def test_mount():
    if not has_mount_spaces():
        return
    with Node() as n:
        n.process.kill()
        n.process.wait()
        n.process = None
        found = doctor(n, code=1)
        expect(found, "mount", "FAIL", "left over", "fusermount3 -uz " + n.mnt)
        n.start()
        with open(n.path("kept"), "w", encoding="utf-8") as f:
            subprocess.run(["umount", "-l", n.mnt], check=True)
            expect(doctor(n, code=1), "mount", "FAIL", "nothing is mounted", "systemctl restart")
            f.write("")
        wait_until(lambda: n.process.poll() is not None, "the end of a node that nobody can reach")
        n.process = None
        cover = in_mounts(f"mount -t tmpfs none {n.mnt}")
        expect(doctor(n, *cover), "mount", "WARN", "tmpfs", "findmnt")
        os.rmdir(n.mnt)
        with open(n.mnt, "w", encoding="utf-8") as f:
            f.write("in the way")
        expect(doctor(n, code=1), "mount", "FAIL", "not a directory")
        os.unlink(n.mnt)


def test_node_that_hangs():
    with Node() as n:
        stop_process(n.process)
        try:
            found = doctor(n, code=1)
        finally:
            n.process.send_signal(signal.SIGCONT)
        expect(found, "mount", "FAIL", "does not answer", "systemctl restart")
        expect(found, "node", "FAIL", "does not answer", "systemctl restart")


def test_mount_of_another_node():
    with Node() as n, Node() as other:
        other.stop()
        edit(other.config, other.mnt, n.mnt)
        expect(doctor(other, code=1), "mount", "FAIL", "another data directory")
        edit(other.config, n.mnt, other.mnt)
        other.start()


def test_data_directory():
    if not has_mount_spaces():
        return
    with Node() as n:
        n.stop()
        expect(doctor(n, *in_mounts(f"mount --bind {n.data} {n.data} && mount -o remount,bind,ro {n.data}"), code=1), "data",
               "FAIL", "ead-only")
        os.chmod(n.root, 0o755)
        os.chmod(n.data, 0o700)
        found = doctor(n, *in_mounts(f"mount --bind {n.data} {n.data} && mount -o remount,bind,ro {n.data}"), "setpriv",
                       "--reuid=65534", "--regid=65534", "--clear-groups", code=1)
        expect(found, "data", "FAIL", "read-only", "remount,rw")  # no owner helps against that
        expect(doctor(n, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", code=1), "data", "FAIL",
               "Permission denied", "chown")
        os.rename(n.data, n.data + ".away")
        expect(doctor(n, code=0), "data", "WARN", "not there")
        with open(n.data, "w", encoding="utf-8") as f:
            f.write("in the way")
        expect(doctor(n, code=1), "data", "FAIL", "not a directory")
        os.unlink(n.data)
        os.rename(n.data + ".away", n.data)
        with open(n.data + "/dbs/stray", "w", encoding="utf-8") as f:
            f.write("x")
        os.mkdir(n.data + "/dbs/bad%name")
        os.makedirs(n.data + "/orphans/t.db.1")
        found = doctor(n, code=0)
        expect(found, "data", "WARN", "dbs/stray is not a database")
        expect(found, "data", "WARN", "dbs/bad%name is not a database")
        expect(found, "data", "WARN", "1 states", "litefs ltx list")


def segment(node, name="t.db"):
    log = f"{node.data}/dbs/{name}/log"
    return os.path.join(log, sorted(os.listdir(log))[-1])


def flip(path, offset):
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)[0]
        f.seek(offset)
        f.write(bytes([byte ^ 0x55]))


def test_log_of_a_database():
    with Node() as n:
        write(n)
        n.stop()
        found = doctor(n, code=0)
        assert "database" not in found, found
        path = segment(n)
        shutil.copy(path, n.root + "/kept")
        end = max(i for i, b in enumerate(open(path, "rb").read()) if b)
        with open(path, "r+b") as f:
            f.seek((end + 16) & ~7)
            f.write(b"half a record")
        expect(doctor(n, code=0), "database", "WARN", "t.db", "litefs ltx verify")
        flip(path, 20)
        expect(doctor(n, code=1), "database", "FAIL", "damaged", "litefs ltx verify")
        shutil.copy(n.root + "/kept", path)
        os.rename(os.path.dirname(path), n.root + "/log.away")
        expect(doctor(n, code=1), "database", "FAIL", "t.db has no log")


def test_left_by_litefs():
    with Node() as n:
        n.stop()
        os.makedirs(n.data + "/dbs/old.db/ltx")
        expect(doctor(n, code=0), "data", "OK", "1 of 1 databases are as LiteFS left them")


def test_database_that_did_not_recover():
    with Node() as n:
        write(n)
        write(n, name="good.db")
        n.stop()
        flip(segment(n), 20)
        n.start()
        found = doctor(n, code=1)
        expect(found, "database", "FAIL", "t.db did not recover", "litefs ltx verify")
        assert not any("good.db" in f[1] for f in found["database"]), found


def test_database_that_has_stopped():
    with Node() as n:
        write(n, "create table t(a); insert into t values (zeroblob(100000))")
        n.stop()
        flip(f"{n.data}/dbs/t.db/database", 50000)
        n.start()
        wait_until(lambda: get(n, "/db").json["databases"][0]["isFailed"], "the background reading to find the byte")
        expect(doctor(n, code=1), "database", "FAIL", "t.db has stopped", "litefs ltx verify t.db")


def test_space():
    if not has_mount_spaces():
        return
    with Node() as n:
        n.stop()
        small = in_mounts(f"mount --bind {n.data} {n.data} && cp -a {n.data} {n.root}/copy && "
                          f"mount -t tmpfs -o size=80m none {n.data} && cp -a {n.root}/copy/. {n.data}")
        expect(doctor(n, *small, code=0), "space", "WARN", "MiB", "du ")
        shutil.rmtree(n.root + "/copy")
        tiny = in_mounts(f"mount --bind {n.data} {n.data} && cp -a {n.data} {n.root}/copy && "
                         f"mount -t tmpfs -o size=10m none {n.data} && cp -a {n.root}/copy/. {n.data}")
        expect(doctor(n, *tiny, code=1), "space", "FAIL", "MiB", "du ")


def test_address():
    with Node() as n:
        n.stop()
        edit(n.config, 'addr: "127.0.0.1:0"', 'addr: ":20202"')
        expect(doctor(n, code=1), "config", "FAIL", "http.insecure")
        edit(n.config, 'addr: ":20202"', 'addr: ":20202"\n  insecure: true')
        expect(doctor(n), "address", "WARN", "open to the network", "openssl rand")
        edit(n.config, 'addr: ":20202"', 'addr: ":20202"\n  token: "secret"')
        expect(doctor(n), "address", "OK", "token")
        edit(n.config, 'addr: ":20202"', 'addr: ""')
        expect(doctor(n), "address", "WARN", "empty")
        edit(n.config, '  token: "secret"', '  token-file: /does/not/exist')
        expect(doctor(n, code=1), "http", "FAIL", "/does/not/exist")


def test_advertised_address():
    """Asked as the others ask: who answers there."""
    port = free_ports(1)[0]
    with Node(extra=f"  advertise-url: http://127.0.0.1:{port}\n") as n, Node() as other:
        expect(doctor(n, code=1), "address", "FAIL", "nobody answers at http://127.0.0.1:", "advertise-url")
        edit(n.config, f"127.0.0.1:{port}", f"localhost:{n.port()}")
        expect(doctor(n, code=0), "address", "OK", f"this node answers at http://localhost:{n.port()}")
        edit(n.config, f"http://localhost:{n.port()}", "http://no-such-host.invalid:1")
        expect(doctor(n, code=1), "address", "FAIL", "nobody answers at http://no-such-host.invalid:1")
        edit(n.config, "http://no-such-host.invalid:1", f"http://127.0.0.1:{other.port()}")
        expect(doctor(n, code=1), "address", "FAIL", "two primaries")
        edit(n.config, f"  advertise-url: http://127.0.0.1:{other.port()}\n", "  advertise-url: ftp://x\n")
        expect(doctor(n, code=1), "config", "FAIL", "lease.advertise-url: \"ftp://x\" is not of the form http://HOST:PORT")
        edit(n.config, "  advertise-url: ftp://x\n", "  candidate: false\n")
        expect(doctor(n, code=1), "config", "FAIL", "lease.primary-url: not set")


def test_lease_service_that_refuses():
    """What to do next is not to ask litefs again."""
    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = b"Permission denied: token with AccessorID lacks permission 'key:read'"
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        do_PUT = do_GET

        def log_message(self, *words):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with Node() as n:
        n.stop()
        edit(n.config, "type: static", "type: consul\n  advertise-url: http://127.0.0.1:1\n  consul: {url: \"http://127.0.0.1:%d\", key: k}" % server.server_port)
        litefs_fixture.Node.start(n)
        wait_until(lambda: "waits" in get(n, "/info").json, "the reason")
        found = doctor(n, code=1)
        expect(found, "lease", "FAIL", "403", "lease.consul.token")
        expect(found, "node", "FAIL", "waits", "lease.consul.token")
    server.shutdown()


def test_who_may_use_the_databases():
    with Node() as n:
        write(n)
        write(n, name="shared.db")
        os.chmod(n.path("t.db"), 0o600)
        os.chmod(n.path("shared.db"), 0o666)
        with open(n.path("secret.db"), "wb") as f:
            f.write(os.urandom(8192))
        with open(n.path("notes.txt"), "wb") as f:
            f.write(bytes(8192))
        with open(n.path("t.db"), "rb") as f, open(n.path("old-wal"), "wb") as to:
            to.write(f.read())
        with open(n.path("other-wal"), "wb") as f:
            f.write(bytes(8192))
        with open(n.path("linked"), "wb") as f:
            pass
        os.link(n.path("linked"), n.path("second"))
        with open(n.path("t.db"), "rb") as f, open(n.path("linked"), "wb") as to:
            to.write(f.read())
        found = doctor(n, code=0)
        expect(found, "database", "WARN", "everybody may write shared.db (mode 666)", "chmod o-w")
        expect(found, "database", "WARN", "secret.db is not a database that litefs can read", "file ")
        expect(found, "database", "WARN", "old-wal is a database, but its name is that of a companion", "mv ")
        expect(found, "database", "WARN", "linked is a database, but its file has another name", "find ")
        assert not any("other-wal" in text for _, text, _ in found["database"]), found
        assert not any("t.db (" in text or "notes" in text for _, text, _ in found["database"]), found
        os.chown(n.path("t.db"), 65534, 65534)
        expect(doctor(n, code=0), "database", "WARN", "t.db belongs to user 65534, but the mount is for root alone", "man")
        with open(n.config, "a", encoding="utf-8") as f:
            f.write("exec: {cmd: sleep 1000, user: nobody}\n")
        expect(doctor(n, code=1), "fuse", "FAIL", "exec.user is nobody, but the mount is for the user of litefs alone")


def test_replica_and_its_primary():
    with Node() as n, replica_of(n) as r:
        write(n)
        in_step(n, r)
        wait_until(lambda: get(r, "/readyz").status == 200, "readiness")
        found = doctor(r, code=0)
        expect(found, "primary", "OK", "answers")
        expect(found, "clock", "OK", "agrees")
        expect(found, "position", "OK", "1 databases are as the primary's")
        expect(doctor(n, code=0), "position", "OK", "1 databases and 1 replicas")
        stop_process(r.process)
        c = n.connect()
        c.execute("pragma synchronous=off")
        for _ in range(1002):
            c.execute("insert into t values (2)")
        c.close()
        found = doctor(n, code=0)
        r.process.send_signal(signal.SIGCONT)
        expect(found, "position", "WARN", "t.db is 100", "ssh localhost litefs doctor")
        in_step(n, r)
        r.stop()
        write(n)
        write(n)
        expect(doctor(r, code=0), "position", "OK", "lack 2 transactions")
        r.start()
        in_step(n, r)
        n.stop()
        found = doctor(r)
        expect(found, "primary", "FAIL", "Connection refused", "curl -sS http")
        r.stop()
        r.start()
        found = doctor(r, code=1)
        expect(found, "node", "FAIL", "waits: connect to", "curl -sS http")
        n.start()


def test_primary_that_is_none():
    with Node() as n, replica_of(n) as r, replica_of(r) as wrong:
        found = doctor(wrong, code=1)
        expect(found, "primary", "FAIL", "is not the primary, but should be")


def as_primary(replica, fn):
    """Lets a stopped replica write by itself, as one does that is configured wrongly."""
    edit(replica.config, "candidate: false", "candidate: true")
    replica.start()
    wait_until(lambda: get(replica, "/readyz").status == 200, "the part of the primary")
    fn(replica)
    replica.stop()
    edit(replica.config, "candidate: true", "candidate: false")


def test_positions_that_diverged():
    with Node() as n, replica_of(n) as r:
        write(n)
        in_step(n, r)
        r.stop()
        as_primary(r, lambda one: write(one, "insert into t values (2)"))
        found = doctor(r, code=1)
        expect(found, "position", "FAIL", "t.db has transactions that the primary lacks", "litefs ltx list t.db")
        write(n, "insert into t values (3)")
        expect(doctor(r, code=1), "position", "FAIL", "t.db differs from the primary's", "litefs ltx list t.db")
        as_primary(r, lambda one: write(one, "insert into t values (4)"))
        expect(doctor(r, code=1), "position", "FAIL", "t.db has another history", "litefs ltx list t.db")
        as_primary(r, lambda one: write(one, name="only.db"))
        expect(doctor(r, code=1), "position", "FAIL", "only.db is not known to the primary")


def test_cluster_id():
    with Node() as n, replica_of(n) as r:
        write(n)
        in_step(n, r)
        r.stop()
        path = r.data + "/clusterid"
        with open(path, encoding="utf-8") as f:
            right = f.read()
        expect(doctor(r), "cluster", "OK", right.strip())
        with open(path, "w", encoding="utf-8") as f:
            f.write("LFSC0123456789ABCDEF\n")
        expect(doctor(r, code=1), "cluster", "FAIL", right.strip(), f"mv {r.data}")
        with open(path, "w", encoding="utf-8") as f:
            f.write("nonsense\n")
        expect(doctor(r, code=1), "cluster", "FAIL", "cluster", "clusterid")
        os.unlink(path)
        expect(doctor(r), "cluster", "OK", "new to cluster")


class Crooked(http.server.BaseHTTPRequestHandler):
    """Passes requests on to the node at server.port, with a Date that is off."""
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        c = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        c.request("GET", self.path)
        a = c.getresponse()
        body = a.read()
        c.close()
        self.send_response_only(a.status)
        self.send_header("Date", self.date_time_string(time.time() + self.server.ahead))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def test_clock():
    with Node() as n:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Crooked)
        server.port = n.port()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        r = Node(extra=f"  candidate: false\n  advertise-url: http://127.0.0.1:{server.server_address[1]}\n")
        try:
            for ahead, level, words in ((0, "OK", "agrees"), (10, "WARN", "s behind"), (-10, "WARN", "s ahead of"),
                                        (3600, "FAIL", "s behind"), (-86400, "FAIL", "s ahead of")):
                server.ahead = ahead
                found = doctor(r)
                expect(found, "clock", level, words, "" if level == "OK" else "timedatectl")
                if ahead != 0:  # Date is in whole seconds
                    assert abs(int(found["clock"][0][1].split()[1]) - abs(ahead)) <= 1, found["clock"]
        finally:
            server.shutdown()
            server.server_close()
            shutil.rmtree(r.root)


def leased(node, section):
    edit(node.config, "type: static\n", section)


def test_lease_service_that_is_not_there():
    with Node() as n:
        n.stop()
        leased(n, f"type: consul\n  consul:\n    url: {NOBODY}\n    key: k\n  advertise-url: {NOBODY}\n")
        expect(doctor(n, code=1), "lease", "FAIL", "Connection refused", "curl -sS http://127.0.0.1:1/v1/status/leader")
    with Node() as n:
        n.stop()
        leased(n, f"type: etcd\n  etcd:\n    endpoints: [\"{NOBODY}\"]\n    key: k\n  advertise-url: {NOBODY}\n")
        expect(doctor(n, code=1), "lease", "FAIL", "Connection refused", "curl -sS http://127.0.0.1:1/health")


def test_lease_in_etcd():
    if shutil.which("etcd") is None:
        print("     no etcd here: not tried")
        return
    from test_etcd import Etcd
    server = Etcd()
    try:
        with Node() as n:
            port = free_ports(1)[0]
            n.stop()
            edit(n.config, "127.0.0.1:0", f"127.0.0.1:{port}")
            leased(n, f"type: etcd\n  etcd:\n    endpoints: [\"{server.url}\"]\n    key: k\n    ttl: 5s\n"
                      f"  advertise-url: http://127.0.0.1:{port}\n")
            found = doctor(n, code=0)
            expect(found, "lease", "WARN", "nobody holds the lease", "litefs status")
            expect(found, "clock", "OK", "agrees with that of etcd")
            n.start()
            found = doctor(n, code=0)
            expect(found, "lease", "OK", "held by localhost")
            n.stop()
            with open(n.data + "/clusterid", "w", encoding="utf-8") as f:
                f.write("LFSC0123456789ABCDEF\n")
            expect(doctor(n, code=1), "cluster", "FAIL", "etcd says LFSC")
    finally:
        server.close()


def test_backups():
    with Node() as n:
        backup = os.path.join(n.root, "backup")
        with open(n.config, "a", encoding="utf-8") as f:
            f.write(f"backup:\n  url: file://{backup}\n  sync-interval: 20ms\n")
        write(n)
        n.restart()
        place = os.path.join(backup, "t.db", "litefs.json")
        wait_until(lambda: os.path.exists(place), "the backup to begin")
        expect(doctor(n, code=0), "backup", "OK", "this node writes there")
        os.rename(backup, backup + ".away")
        with open(backup, "w", encoding="utf-8"):
            pass
        write(n)
        wait_until(lambda: "level=WARN msg=\"backup to" in n.log(), "the destination to fail")
        expect(doctor(n, code=1), "backup", "FAIL", "attempts in a row failed", "litefs backup status")
        assert n.stop() == 0
        expect(doctor(n, code=1), "backup", "FAIL", "Not a directory", "litefs backup list t.db")
        os.remove(backup)
        expect(doctor(n), "backup", "WARN", "has no backup of t.db yet")
        os.rename(backup + ".away", backup)
        expect(doctor(n), "backup", "OK", "has a backup of t.db")
        with open(place, encoding="utf-8") as f:
            lineage = json.load(f)["lineage"]
        edit(place, lineage, "LFSC0123456789ABCDEF")
        expect(doctor(n, code=1), "backup", "FAIL", "the backup of another cluster", "litefs backup list t.db")
        n.start()


if __name__ == "__main__":
    run(sys.modules[__name__])
