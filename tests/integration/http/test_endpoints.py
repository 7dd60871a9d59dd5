"""Each endpoint's methods, parameters, codes and members; who may use it; metrics that Prometheus takes."""
import json
import os
import re
import shutil
import socket
import subprocess
import sys

from http_fixture import Node, get, in_step, metrics, port_of, post, replica_of, request, run, wait_until
from litefs_fixture import LITEFS

# What contract section 11 names and can be true here. Its names came before Prometheus' naming rules.
LITEFS_NAMES = """litefs_db_count litefs_is_primary litefs_subscriber_count litefs_lag_seconds litefs_db_txid
litefs_db_database_write_count litefs_db_journal_write_count litefs_db_wal_write_count litefs_db_commit_count
litefs_db_ltx_count litefs_db_ltx_bytes litefs_db_ltx_reap_count litefs_db_shm_write_count litefs_db_lag_seconds
litefs_http_stream_count litefs_http_frame_send_count litefs_tx_count litefs_db_size_bytes""".split()


def fill(node, rows=20, mode="wal", name="t.db"):
    c = node.connect(name)
    c.execute(f"pragma journal_mode={mode}")
    c.execute("create table t(a integer primary key, b)")
    for i in range(rows):
        c.execute("insert into t(b) values(randomblob(300))")
    return c


def test_info():
    with Node() as n:
        a = get(n, "/info")
        assert a.status == 200 and a.headers["content-type"] == "application/json"
        lines = a.text.splitlines()
        assert a.text.endswith("}\n") and lines[0] == "{"
        assert re.fullmatch(r'  "clusterID": "LFSC[0-9A-F]{16}",', lines[1]), lines[1]
        assert lines[2] == '  "isPrimary": true,'
        assert list(a.json)[:5] == ["clusterID", "isPrimary", "candidate", "path", "primary"]
        assert a.json["candidate"] is True and a.json["path"] == n.data
        assert a.json["primary"]["hostname"] == "localhost"
        with replica_of(n) as r:
            wait_until(lambda: get(r, "/readyz").status == 200, "the replica to be ready")
            info = get(r, "/info").json
            assert info["isPrimary"] is False and info["candidate"] is False
            assert info["primary"] == {"hostname": "localhost", "url": f"http://127.0.0.1:{n.port()}"}
            assert info["role"] == "replica"
            assert [p["nodeID"] for p in get(n, "/info").json["replicas"]] == [info["nodeID"]]


def test_methods_and_paths():
    gets = ["/", "/info", "/healthz", "/readyz", "/db", "/cluster", "/recent", "/findings", "/metrics", "/events", "/debug/vars", "/export"]
    posts = ["/import", "/handoff", "/promote", "/demote", "/tx", "/halt"]
    with Node() as n:
        for path in gets:
            for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
                a = request(n, method, path)
                assert (a.status, a.text) == (405, "method not allowed\n"), (method, path, a.status, a.text)
                assert a.headers["allow"] == "GET, HEAD"
        for path in posts:
            for method in ("GET", "PUT", "PATCH"):
                a = request(n, method, path)
                assert (a.status, a.text) == (405, "method not allowed\n"), (method, path, a.status)
        for path in ("/nope", "/info/", "/export/x", "//info", "/debug/pprof/heap", "/debug/rand", "/%00info"):
            a = get(n, path)
            assert (a.status, a.text) == (404, "404 page not found\n"), (path, a.status, a.text)
            assert a.headers["content-type"] == "text/plain; charset=utf-8"
        assert request(n, "HEAD", "/info").status == 200
        assert post(n, "/stream").status == 426
        assert get(n, "/stream?x=1").status == 426
        assert get(n, "/stream").status == 426


def test_names_that_leave_the_directory():
    bad = ["..", ".", "../x", "a/../../x", "/etc/passwd", "a//b", "a/", "x-journal", "x-wal", "x-shm", "x" * 300, "a/./b"]
    with Node() as n:
        before = sorted(os.listdir(os.path.join(n.data, "dbs")))
        for name in bad:
            for method, path in (("GET", "/export"), ("GET", "/db"), ("POST", "/import"), ("POST", "/tx"),
                                 ("POST", "/halt"), ("DELETE", "/halt")):
                a = request(n, method, path, body=b"x" if method == "POST" else None, name=name, id=1)
                assert a.status == 400 and a.text == "invalid database name\n", (method, path, name, a.status, a.text)
        for name in (".primary", ".lag"):  # the mount's own
            assert request(n, "POST", "/import", body=b"x", name=name).text == "invalid database name\n"
        for path in ("/export", "/import", "/tx", "/halt"):
            a = request(n, "GET" if path == "/export" else "POST", path)
            assert (a.status, a.text) == (400, "name required\n"), (path, a.text)
        a = get(n, "/export?name=a%00b")
        assert a.status == 400, a.status
        assert sorted(os.listdir(os.path.join(n.data, "dbs"))) == before
        assert not os.path.exists(os.path.join(n.data, "x"))


def test_databases():
    with Node() as n:
        assert get(n, "/db").json == {"databases": []}
        c = fill(n)
        db = get(n, "/db").json["databases"][0]
        assert f"{db['txid']}/{db['postApplyChecksum']}" == n.pos()
        assert db["name"] == "t.db" and db["journal"] == "wal" and db["isFailed"] is False
        assert db["pageCount"] * db["pageSize"] == db["sizeBytes"] == len(n.visible())
        assert db["log"]["segments"] >= 1 and db["log"]["lastTXID"] == db["txid"]
        assert get(n, "/db", name="other.db").status == 404
        with replica_of(n) as r:
            in_step(n, r)
            wait_until(lambda: [p["txid"] for p in get(n, "/db", name="t.db").json["databases"][0]["replicas"]]
                       == [db["txid"]], "the replica's acknowledgement")
            rp = get(n, "/db", name="t.db").json["databases"][0]["replicas"][0]
            assert rp["lagTransactions"] == 0 and rp["postApplyChecksum"] == db["postApplyChecksum"]
            assert rp["nodeID"] == get(r, "/info").json["nodeID"]
        v = get(n, "/debug/vars").json["store"]
        assert v["isPrimary"] is True and v["dbs"]["t.db"]["txid"] == db["txid"]
        c.close()


def test_health():
    with Node() as n:
        for path in ("/healthz", "/readyz"):
            a = get(n, path)
            assert (a.status, a.text) == (200, "OK\n"), (path, a.text)
        with replica_of(n) as r:
            wait_until(lambda: get(r, "/readyz").status == 200, "readiness")
        nobody = replica_of(n)
        n.stop()
        with nobody as r:
            assert get(r, "/healthz").status == 200
            a = get(r, "/readyz")
            assert a.status == 503 and a.text.startswith("not ready"), a.text


def test_lag_makes_unready():
    with Node() as n, replica_of(n, "proxy:\n  max-lag: 1500ms\n") as r:
        wait_until(lambda: get(r, "/readyz").status == 200, "readiness")
        n.kill()
        wait_until(lambda: get(r, "/readyz").status == 503, "the replica to say that it lags")
        assert "Replication lag exceeded" in get(r, "/readyz").text
        assert metrics(r)["litefs_lag_seconds"] > 1.5
        wait_until(lambda: any(f["about"] == "role" for f in get(r, "/findings").json["findings"]), "the finding")


def events_of(node):
    return [e["text"] for e in get(node, "/recent").json["events"]]


def test_recent_and_findings():
    """What a node keeps for who looks later, and what it says that somebody should look at."""
    with Node() as n:
        assert get(n, "/findings").json == {"findings": []}
        # An address of its own, by which it is known when it has gone; nobody goes there.
        with Node(extra=f"  candidate: false\n  primary-url: http://127.0.0.1:{n.port()}\n  advertise-url: http://127.0.0.1:1\n") as r:
            fill(n).close()
            in_step(n, r)
            wait_until(lambda: len(get(r, "/recent").json["nodes"]) == 2, "a point of both nodes, its primary's from there")
            wait_until(lambda: len(get(n, "/recent").json["nodes"]) == 2, "the primary's")
            own, other = sorted(get(r, "/recent").json["nodes"], key=lambda x: x["nodeID"] != get(r, "/info").json["nodeID"])
            assert other["nodeID"] == get(n, "/info").json["nodeID"]
            for node in own, other:
                assert len(node["ageMS"]) == len(node["lagMS"]) == len(node["transactionsPerSecond"]) >= 1
            assert [x["nodeID"] for x in get(r, "/recent", forward="no").json["nodes"]] == [own["nodeID"]]
            assert "transactionsPerSecond" not in [x for x in get(n, "/recent").json["nodes"] if x["nodeID"] == own["nodeID"]][0]
            assert events_of(r)[-1] == "The primary is 127.0.0.1."
            wait_until(lambda: get(r, "/findings").json == {"findings": []}, "nothing to be wrong")
        wait_until(lambda: events_of(n)[-1] == "localhost has left.", "the event")
        assert events_of(n)[1:] == ["This node is the primary.", "localhost follows.", "localhost has left."], events_of(n)
        assert events_of(n)[0].startswith("litefs ") and events_of(n)[0].endswith(" has started.")
        os.makedirs(os.path.join(n.data, "orphans", "t.db-1"))
        found = get(n, "/findings").json["findings"]
        assert [(f["level"], f["about"], f["next"]) for f in found] == [
            ("warning", "orphans", "litefs doctor"), ("warning", "localhost", "")], found
        assert found[0]["text"].startswith("1 databases ")
        assert re.fullmatch(r"It follows no more\. It was seen last at \S+Z, as http://127\.0\.0\.1:1\.", found[1]["text"]), found


def test_halt_and_tx_of_no_database():
    with Node() as n:
        for method in ("POST", "DELETE"):
            for bad in ("", "0", "x", "1x"):
                a = request(n, method, "/halt", name="t.db", id=bad)
                assert (a.status, a.text) == (400, f'invalid id: "{bad}"\n'), a.text
            a = request(n, method, "/halt", name="t.db", id=7)
            assert (a.status, a.text) == (404, 'database not found: "t.db"\n'), a.text
        a = post(n, "/tx", name="t.db", lockID=7, body=b"LTX1" + bytes(200))
        assert (a.status, a.text) == (404, 'database not found: "t.db"\n'), a.text
        assert get(n, "/db").json == {"databases": []}


def test_static_lease_stays():
    with Node() as n, replica_of(n) as r:
        wait_until(lambda: get(r, "/readyz").status == 200, "readiness")
        assert post(n, "/promote").status == 200
        a = post(r, "/promote")
        assert (a.status, a.text) == (409, "not eligible to become primary\n")
        a = post(r, "/handoff")
        assert (a.status, a.text) == (500, "cannot handoff: node is not currently primary\n")
        for bad in ("xyz", "0", "", "12345678901234567"):
            a = post(n, "/handoff", nodeID=bad)
            assert (a.status, a.text) == (400, "invalid node id\n"), (bad, a.text)
        a = post(n, "/handoff", nodeID="00000000DEADBEEF")
        assert a.status == 500 and "static lease" in a.text, a.text
        assert post(n, "/handoff").status == 500
        assert post(n, "/demote").status == 501
        assert post(r, "/demote").status == 409
        c = n.connect()
        c.execute("create table t(a)")  # it still writes
        c.close()


# --- access ---

TOKEN = "s3cret-Token"
GUARDED = [("POST", "/import?name=x.db"), ("POST", "/handoff"), ("POST", "/promote"), ("POST", "/demote"),
           ("GET", "/export?name=x.db"), ("POST", "/halt?name=x.db&id=1"), ("DELETE", "/halt?name=x.db&id=1"),
           ("POST", "/tx?name=x.db")]


def with_http(extra):
    n = Node()
    with open(n.config) as f:
        text = f.read()
    with open(n.config, "w") as f:
        f.write(text.replace('  addr: "127.0.0.1:0"\n', extra))
    return n


def open_stream(n, authorization):
    """The status of the answer."""
    with socket.create_connection(("127.0.0.1", n.port()), 10) as s:
        s.sendall(b"GET /stream HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: litefs-stream/1\r\n"
                  + (f"authorization:  {authorization}\r\n" if authorization else "").encode() + b"\r\n")
        return int(s.makefile("rb").readline().split()[1])


def check_token(n):
    assert open_stream(n, f"Bearer {TOKEN}") == 101
    for header in (None, "Bearer ", "Bearer x", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}"):
        assert open_stream(n, header) == 401, header
    for method, path in GUARDED:
        for header in (None, "Bearer", "Bearer ", "Bearer x", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}",
                       f"Bearer {TOKEN}{TOKEN}"):
            a = request(n, method, path, headers={"Authorization": header} if header else {})
            assert a.status == 401 and a.headers["www-authenticate"].startswith("Bearer"), (path, header, a.status)
        a = request(n, method, path, headers={"Authorization": f"Bearer {TOKEN}"})
        assert a.status != 401, (path, a.status)
    for path in ("/info", "/db", "/metrics", "/healthz"):
        assert get(n, path).status == 200
    assert TOKEN not in n.log()


def test_token():
    with with_http(f'  addr: "127.0.0.1:0"\n  token: {TOKEN}\n') as n:
        check_token(n)


def test_token_file():
    n = Node()
    path = os.path.join(n.root, "token")
    with open(path, "w") as f:
        f.write(TOKEN + "\n")
    with open(n.config) as f:
        text = f.read()
    with open(n.config, "w") as f:
        f.write(text.replace('127.0.0.1:0"\n', f'127.0.0.1:0"\n  token-file: {path}\n'))
    with n:
        check_token(n)
        before = {"Authorization": f"Bearer {TOKEN}"}
        after = {"Authorization": f"Bearer {TOKEN}2"}
        with socket.create_connection(("127.0.0.1", n.port()), 10) as s:
            s.sendall(b"GET /stream HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: litefs-stream/1\r\n"
                      + f"Authorization: Bearer {TOKEN}\r\n\r\n".encode())
            assert s.recv(12) == b"HTTP/1.1 101"
            with open(path + ".new", "w") as f:
                f.write(TOKEN + "2\n")
            os.rename(path + ".new", path)
            assert post(n, "/promote", headers=before).status == 401
            assert post(n, "/promote", headers=after).status == 200
            assert open_stream(n, before["Authorization"]) == 401
            assert open_stream(n, after["Authorization"]) == 101
            s.setblocking(False)
            while True:  # what was open stays
                try:
                    assert s.recv(4096) != b""
                except BlockingIOError:
                    break
        os.unlink(path)
        assert post(n, "/promote", headers=after).status == 200
        assert n.log().count("the token read before stays in use") == 1


def test_replica_follows_a_new_token():
    nodes = [with_http('  addr: "127.0.0.1:0"\n')]
    path = os.path.join(nodes[0].root, "token")

    def put(text):
        with open(path + ".new", "w") as f:
            f.write(text)
        os.rename(path + ".new", path)

    def use_file(node):
        with open(node.config) as f:
            text = f.read()
        with open(node.config, "w") as f:
            f.write(text.replace("http:\n", f"http:\n  token-file: {path}\n"))

    put(TOKEN)
    use_file(nodes[0])
    with nodes[0] as n:
        r = replica_of(n)
        use_file(r)
        with r:
            c = fill(n, rows=2)
            in_step(n, r)
            put(TOKEN + "2")
            r.stop()
            r.start()
            c.execute("insert into t(b) values(1)")
            in_step(n, r)
            c.close()


def test_warning_when_open_to_the_network():
    warning = "is open to the network"
    for address, token, is_warned in (('":0"', "", True), ('"0.0.0.0:0"', "", True), ('"0.0.0.0:0"', "x", False),
                                      ('"localhost:0"', "", False), ('"127.0.0.1:0"', "", False)):
        given = f"  addr: {address}\n" + (f"  token: {token}\n" if token else "")
        if is_warned:
            p = refused(given)
            assert p.returncode == 2 and "http.insecure: true leaves it open" in p.stderr, p.stderr
            given += "  insecure: true\n"
        with with_http(given) as n:
            assert (warning in n.log()) == is_warned, (address, n.log())


def test_replica_with_another_token():
    with with_http(f'  addr: "127.0.0.1:0"\n  token: {TOKEN}\n') as n:
        r = replica_of(n)
        with r:
            wait_until(lambda: "the tokens differ; http.token" in r.log(), "the reason in the replica's log")
        r = replica_of(n)
        with open(r.config) as f:
            text = f.read()
        with open(r.config, "w") as f:
            f.write(text.replace("http:\n", f"http:\n  token: {TOKEN}\n"))
        with r:
            fill(n, rows=5).close()
            in_step(n, r)


def test_pages_of_other_sites():
    """What changes something or gives the data away is not for pages that a browser shows; all else is."""
    foreign = [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
               {"Host": "evil.example:20202", "Origin": "http://evil.example:20202", "Sec-Fetch-Site": "same-origin"},
               {"Host": "evil.example:20202"}]
    with Node() as n:
        fill(n, rows=1, name="x.db").close()
        own = f"localhost:{n.port()}"
        for headers in foreign:
            for method, path in GUARDED:
                a = request(n, method, path, headers=headers)
                assert a.status == 403 and "another site" in a.text, (path, headers, a.status, a.text)
            assert get(n, "/info", headers=headers).json["isPrimary"]
        for headers in ({}, {"Host": own}, {"Host": own, "Origin": f"http://{own}", "Sec-Fetch-Site": "same-origin"},
                        {"Host": "localhost"}, {"Origin": f"http://127.0.0.1:{n.port()}"}):
            assert get(n, "/export?name=x.db", headers=headers).status == 200, headers
            assert post(n, "/promote", headers=headers).status == 200, headers
    with with_http('  addr: "0.0.0.0:0"\n  insecure: true\n') as n:
        fill(n, rows=1, name="x.db").close()
        assert get(n, "/export?name=x.db", headers={"Host": "litefs.default.svc:20202"}).status == 200
        assert post(n, "/promote", headers={"Host": "evil.example", "Origin": "http://evil.example"}).status == 403


def refused(extra):
    n = with_http(extra)
    p = subprocess.run([LITEFS, "mount", "-config", n.config], capture_output=True, text=True, timeout=60)
    shutil.rmtree(n.root)
    return p


def test_refuses_to_start():
    p = refused('  addr: "127.0.0.1:0"\n  tls:\n    cert: /does/not/exist\n    key: /b\n')
    assert p.returncode == 1 and "http.tls: /does/not/exist: " in p.stderr and "No such file" in p.stderr, p.stderr
    p = refused('  addr: "127.0.0.1:0"\n  token-file: /does/not/exist\n')
    assert p.returncode == 1 and "token-file" in p.stderr, p.stderr
    p = refused('  addr: "127.0.0.1:0"\n  token: "a b"\n')
    assert p.returncode == 1 and "http.token" in p.stderr, p.stderr


# --- metrics ---

def test_metrics_are_true():
    with Node() as n, replica_of(n) as r:
        c = fill(n, rows=20)
        in_step(n, r)
        m = metrics(n)
        db = '{db="t.db"}'
        assert m["litefs_is_primary"] == 1 and m["litefs_db_count"] == 1
        assert m["litefs_db_txid" + db] == int(n.pos()[:16], 16) == m["litefs_db_commit_count" + db]
        assert m["litefs_db_size_bytes" + db] == len(n.visible())
        assert m["litefs_subscriber_count"] == m["litefs_http_stream_count"] == 1
        assert m["litefs_stream_sent_bytes_total"] > 20 * 300
        assert m["litefs_lag_seconds"] == 0
        assert m["litefs_fuse_requests_total{type=\"write\"}"] > 20
        before = m["litefs_db_wal_write_count" + db]
        c.execute("insert into t(b) values(1)")
        m = metrics(n)
        assert m["litefs_db_wal_write_count" + db] > before
        in_step(n, r)
        wait_until(lambda: metrics(n).get('litefs_replica_lag_transactions{db="t.db",replica="localhost"}') == 0, "ack")
        m = metrics(r)
        assert m["litefs_is_primary"] == 0 and m["litefs_db_txid" + db] == int(n.pos()[:16], 16)
        assert m["litefs_db_applied_total" + db] + 0 >= 1 and m["litefs_db_commit_count" + db] == 0
        assert m["litefs_stream_received_bytes_total"] > 20 * 300
        wait_until(lambda: 0 <= metrics(r)["litefs_lag_seconds"] < 5, "the replica to know its lag")
        assert 0 <= m["litefs_db_lag_seconds" + db] < 5
        assert rss_is_plausible(m["process_resident_memory_bytes"])
        c.close()


def rss_is_plausible(n):
    return 1 << 20 < n < 1 << 30


def test_metrics_names_with_quotes():
    name = 'a "b\\c.db'
    with Node() as n:
        fill(n, name=name).close()
        assert metrics(n)['litefs_db_count'] == 1
        assert '{db="a \\"b\\\\c.db"}' in get(n, "/metrics").text
        promtool(get(n, "/metrics").text)


def promtool(text):
    """Errors are fatal; of the style only LiteFS's own names may be complained about."""
    if shutil.which("promtool") is None:
        print("     promtool is not there (package prometheus): its checks are left out")
        return
    p = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    complaints = [line for line in (p.stdout + p.stderr).splitlines() if line.split()[0] not in LITEFS_NAMES]
    assert p.returncode in (0, 3) and not complaints, "\n".join(complaints) or p.stderr


def test_names_that_are_not_utf8():
    """One way to show them, everywhere."""
    shown = r"caf\xe9 \u00fc.db".replace(r"\u00fc", "\u00fc")
    with Node() as n, socket.create_connection(("127.0.0.1", n.port()), 60) as s:
        s.sendall(b"GET /events HTTP/1.0\r\n\r\n")
        f = s.makefile("rb")
        while b'"init"' not in f.readline():
            pass
        subprocess.run([sys.executable, "-c", "import os, sqlite3, sys; os.chdir(sys.argv[1]); "
                        r"sqlite3.connect(b'caf\xe9 \xc3\xbc.db').execute('create table t(a)')", n.mnt], check=True)
        assert json.loads(f.readline())["db"] == shown
        assert [d["name"] for d in get(n, "/db").json["databases"]] == [shown]
        assert [d["name"] for d in get(n, "/cluster").json["nodes"][0]["databases"]] == [shown]
        assert list(get(n, "/debug/vars").json["store"]["dbs"]) == [shown]
        series = 'litefs_db_txid{db="%s"}' % shown.replace("\\", "\\\\")
        assert metrics(n)[series] == 1
        r = subprocess.run([LITEFS, "status", "-url", f"http://127.0.0.1:{n.port()}"], capture_output=True, check=False)
        assert shown in r.stdout.decode(), r.stdout
        assert get(n, "/db", name=b"caf\xe9 \xc3\xbc.db").json["databases"][0]["name"] == shown


def test_metrics_pass_promtool():
    with Node() as n, replica_of(n) as r:
        c = fill(n)
        in_step(n, r)
        for node in (n, r):
            a = get(node, "/metrics")
            assert a.headers["content-type"].startswith("text/plain; version=0.0.4")
            for name in LITEFS_NAMES:
                assert f"\n{name}{{" in a.text or f"\n{name} " in a.text, name
            promtool(a.text)
        c.close()


if __name__ == "__main__":
    run(sys.modules[__name__])
