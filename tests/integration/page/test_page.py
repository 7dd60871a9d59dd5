"""The status page in a headless Chromium: what it shows, that it lives, and that names stay text."""
import json
import os
import re
import signal
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(os.path.dirname(HERE), d) for d in ("http", "lease")]

from chromium import Chromium, need_chromium
from http_fixture import Node, get, in_step, port_of, replica_of, request, run, wait_until
from litefs_fixture import stop_process

SHOTS = os.environ.get("LITEFS_SCREENSHOTS", "build/release/screenshots")
EVIL = "<img src=x onerror='document.title=1'>.db"


def page(node):
    return f"http://127.0.0.1:{port_of(node)}/"


def policy_of(answer):
    return dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))


def test_policy():
    with Node() as n:
        a, b = get(n, "/"), get(n, "/")
        assert a.status == 200 and a.headers["content-type"] == "text/html; charset=utf-8"
        assert request(n, "HEAD", "/").status == 200 and request(n, "POST", "/").status == 405
        p = policy_of(a)
        assert p["default-src"] == p["base-uri"] == p["form-action"] == p["frame-ancestors"] == "'none'"
        assert p["connect-src"] == "'self'" and p["require-trusted-types-for"] == "'script'"
        nonce = re.fullmatch(r"'nonce-([0-9a-f]{32})'", p["script-src"]).group(1)
        assert p["style-src"] == p["script-src"] != policy_of(b)["script-src"]
        assert a.text.count(f'nonce="{nonce}"') == 2 and "@NONCE@" not in a.text
        assert a.headers["cache-control"] == "no-store" and a.headers["x-content-type-options"] == "nosniff"
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "src=", "@import", "url("):
            assert word not in a.text, word
        outside = set(re.findall(r"https?://[^\s'\"]+", a.text)) - {"http://www.w3.org/2000/svg"}
        assert all("[" in u for u in outside), outside  # but for a pattern, it names no other place


def test_cluster_comes_to_life():
    with Node() as n, replica_of(n) as r, Chromium() as c:
        c.open(page(n))
        c.wait("document.querySelectorAll('.node').length === 2", "both nodes")
        c.wait("document.body.innerText.includes('There is no database yet')", "no database")
        c.wait("document.getElementById('live').innerText === 'live'", "the stream of events")
        db = n.connect("app.db")
        db.execute("pragma journal_mode=wal")
        db.execute("create table t(a integer primary key, b)")
        c.wait("/app.db: .*transaction/.test(document.getElementById('events').innerText)", "the event of a transaction")
        c.wait("document.querySelector('td strong')?.innerText === 'app.db'", "the database")
        e = n.connect(EVIL)
        e.execute("create table t(a)")
        e.close()
        c.wait(f"[...document.querySelectorAll('td strong')].some((x) => x.innerText === {json.dumps(EVIL)})", "the name as text")
        assert c.evaluate("document.images.length") == 0 and c.evaluate("document.title") == "litefs · localhost"
        text = c.text()
        assert get(n, "/info").json["clusterID"] in text and "this node" in text
        roles = c.evaluate("[...document.querySelectorAll('.node h3 + .pill')].map((x) => x.innerText).sort()")
        assert roles == ["primary", "replica"], roles
        c.wait("document.getElementById('tiles').innerText.includes('2 of 2')", "both nodes in sync")
        check_lag(c, n, r, db)
        shoot(c, db)
        check_reload(c, n)
        assert c.complaints == [], c.complaints
        assert all(u.startswith((page(n), "data:")) for u in c.requests), c.requests
        db.close()


def check_lag(c, n, r, db):
    """A replica that stands still shows as one, in words and in its graph."""
    stop_process(r.process)
    try:
        for _ in range(3):
            db.execute("insert into t(b) values(randomblob(100))")
        c.wait("document.getElementById('nodes').innerText.includes('3 tx behind')", "the replica to be behind")
        c.wait("document.getElementById('databases').innerText.includes('localhost −3')", "and where")
    finally:
        os.kill(r.process.pid, signal.SIGCONT)
    in_step(n, r, "app.db")
    c.wait("!/behind|catching up/.test(document.getElementById('nodes').innerText)", "the replica to be in step")
    heights = c.evaluate("""[...document.querySelectorAll('.node')].find((x) => x.innerText.includes('replica'))
        .querySelector('.line').getAttribute('d').match(/ [0-9.]+/g).map(Number)""")
    assert len(heights) > 2 and min(heights) < 30 < max(heights), heights


def check_reload(c, n):
    """What has happened, and how it was, comes from the node."""
    wait_until(lambda: len(get(n, "/recent").json["nodes"]) == 2, "a point of each node")
    c.open(page(n))
    c.wait("document.getElementById('log').innerText.includes('This node is the primary.')", "what has happened")
    assert "localhost follows." in c.evaluate("document.getElementById('log').innerText")
    assert "app.db" not in c.evaluate("document.getElementById('log').innerText")
    c.wait("[...histories.values()].filter((h) => h.past.length > 0).length === 2", "how it was")
    c.evaluate("document.getElementById('hour').click()")
    c.wait("[...document.querySelectorAll('.node')].every((x) => x.innerText.includes('1 h, peak'))", "an hour's width")


def shoot(c, db):
    """For people to look at; and a narrow page has nothing beside it."""
    for scheme in ("light", "dark"):
        c.prefer(scheme)
        db.execute("insert into t(b) values(randomblob(9000))")
        c.screenshot(os.path.join(SHOTS, f"status-{scheme}.png"))
    colors = []
    for scheme in ("light", "dark"):
        c.prefer(scheme)
        colors.append(c.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert colors[0] != colors[1], colors
    c.resize(390, 844)
    assert c.evaluate("document.documentElement.scrollWidth") <= 390
    c.resize(1180, 1000)
    print(f"     screenshots are in {SHOTS}")


def test_replica_shows_the_cluster_and_misses_its_primary():
    with Node() as n, replica_of(n) as r, Chromium() as c:
        n.connect("app.db").execute("create table t(a)")
        in_step(n, r, "app.db")
        c.open(page(r))
        c.wait("document.querySelectorAll('.node').length === 2", "both nodes")
        assert c.evaluate("document.querySelector('.node.self .pill').innerText") == "replica"
        assert c.evaluate("document.getElementById('alert').hidden")
        n.kill()
        c.wait("document.getElementById('alert').innerText.includes('could not be asked')", "the primary to be missed")
        c.wait("document.querySelectorAll('.node').length === 1", "the node that is left")
        r.kill()
        c.wait("document.getElementById('live').innerText === 'no connection'", "the node to be missed")
        c.wait("document.getElementById('alert').innerText.includes('does not answer')", "words about it")


def test_backups_and_what_is_wrong_with_them():
    # The node last: in its first seconds it looks each second for what has happened.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as d, Chromium() as c, \
            Node(extra=f"backup: [{{url: 'file://{d}/there', sync-interval: 100ms}}]\n") as n:
        db = n.connect("app.db")
        db.execute("create table t(a)")
        c.open(page(n))
        c.wait("document.querySelectorAll('.node').length === 1", "the node")
        c.evaluate("void repeat(lookAtPast, 200); void repeat(lookAtFindings, 200)")  # as often as a test wants to look
        c.wait("/up to date.*1 of 1 up to date/s.test(document.getElementById('backups').innerText)", "the backup")
        assert c.evaluate("document.getElementById('attention').hidden")
        c.evaluate("document.querySelector('button.name').click()")
        c.wait("/following, at 0{15}1, up to date/.test(document.querySelector('.detail').innerText)", "its position")
        c.screenshot(os.path.join(SHOTS, "status-backup.png"))
        os.rename(d + "/there", d + "/away")
        open(d + "/there", "w", encoding="utf-8").close()
        db.execute("insert into t values(1)")
        c.wait("/^backup.Backups fail: file:.*Not a directory/s.test(document.getElementById('findings').innerText)", "the finding")
        c.wait("/fails.*0 of 1 up to date.*Not a directory/s.test(document.getElementById('backups').innerText)", "the failure")
        c.wait("/error.Backups fail: file:/s.test(document.getElementById('log').innerText)", "the event")
        c.screenshot(os.path.join(SHOTS, "status-trouble.png"))
        assert c.complaints == [], c.complaints
        db.close()


# A thousand databases, of which one has stopped, two lag and one is not dropped everywhere yet.
MANY = """
    const one = (i, more) => ({ name: `tenant-${String(i).padStart(4, "0")}.db`, txid: (1000 + i).toString(16).padStart(16, "0"),
      postApplyChecksum: "8b3a959baf33d962", lagTransactions: 0, ...more });
    const own = (i) => one(i, { sizeBytes: 4096 * (i + 1), logBytes: 70000, journal: "wal", isFailed: i === 700 });
    const all = [...Array(1000).keys()];
    const node = (nodeID, role, databases, lagMS) => ({ nodeID, hostname: nodeID, url: `http://${nodeID}:20202`, role, isReady: true, term: 3,
      lagMS, databases });
    const cluster = { clusterID: "LFSC0000000000000000", nodeID: "node1", term: 3, primary: "node1", nodes: [node("node1", "primary", all.map(own), 0),
      node("node2", "replica", [...all.map((i) => one(i, { lagTransactions: i === 500 || i === 501 ? i : 0 })), one(5000)], 5000)] };
    const known = window.fetch;
    window.fetch = (path, o) => path === "/cluster" ? Promise.resolve(new Response(JSON.stringify(cluster))) : known(path, o);
"""
NAMES = "[...document.querySelectorAll('td.name')].map((x) => x.innerText.slice(7, 11)).join(' ')"


def test_a_thousand_databases():
    with Node() as n, Chromium() as c:
        c.open(page(n))
        c.wait("document.querySelectorAll('.node').length === 1", "the node")
        c.evaluate("(() => {" + MANY + "})()")
        c.wait(f"{NAMES}.startsWith('0700 0500 0501 0000 0001 ')", "problems first")
        assert c.evaluate("document.querySelectorAll('td.name').length") == 50
        assert "1,000" in c.evaluate("document.getElementById('tiles').innerText")  # one that the primary has dropped is not there
        c.evaluate("document.querySelector('.more button').click()")
        assert c.evaluate("document.querySelectorAll('td.name').length") == 550
        choose = "(() => {{ const e = document.getElementById('{}'); e.value = '{}'; e.dispatchEvent(new Event('input')) }})()"
        c.evaluate(choose.format("order", "size"))
        assert c.evaluate(NAMES).startswith("0999 0998 0997 ")
        c.evaluate(choose.format("filter", "TENANT-04"))
        assert c.evaluate(NAMES).startswith("0499 0498 ") and c.evaluate("document.getElementById('matches').innerText") == "100 of 1,000"
        c.evaluate(choose.format("filter", "tenant-9"))
        assert "No database has that" in c.evaluate("document.getElementById('databases').innerText")
        c.evaluate(choose.format("filter", "05"))
        c.evaluate(choose.format("order", "problems"))
        c.evaluate("document.querySelector('button.name').click()")
        c.wait("/500 transactions behind/.test(document.querySelector('.detail').innerText)", "the details")
        c.screenshot(os.path.join(SHOTS, "status-many.png"))
        c.resize(390, 844)
        assert c.evaluate("document.documentElement.scrollWidth") <= 390
        wide = c.evaluate("[...document.querySelectorAll('main *')].filter((x) => x.getBoundingClientRect().right > 391 && !x.closest('svg')).length")
        assert wide == 0, wide
        assert c.evaluate("getComputedStyle(document.querySelector('thead')).display") == "none"
        c.evaluate("document.getElementById('databases').scrollIntoView()")
        c.screenshot(os.path.join(SHOTS, "status-narrow.png"))
        assert c.complaints == [], c.complaints


def test_page_runs_no_foreign_code():
    """Even if a script wanted to: the policy holds, and says so."""
    with Node() as n, Chromium() as c:
        c.open(page(n))
        c.wait("document.querySelectorAll('.node').length === 1", "the node")
        assert c.evaluate("""(() => { try { document.body.innerHTML = "<b>x</b>"; return "done" }
                                      catch (e) { return e.constructor.name } })()""") == "TypeError"
        c.evaluate("""(() => { const s = document.createElement("style"); s.textContent = "body{display:none}";
                               document.head.append(s) })()""")
        assert c.evaluate("getComputedStyle(document.body).display") == "block"
        assert any("Content Security Policy" in x or "Trusted" in x for x in c.complaints), c.complaints


def test_stream_that_is_too_busy_is_left_alone():
    """A page must not make a busy primary tell it of every transaction."""
    with Node() as n, Chromium() as c:
        db = n.connect("app.db")
        db.execute("pragma journal_mode=wal")
        db.execute("pragma synchronous=off")
        db.execute("create table t(a)")
        c.open(page(n))
        c.wait("document.getElementById('live').innerText === 'live'", "the stream")
        for _ in range(50):
            for _ in range(500):  # as fast as it goes, on a busy machine too
                db.execute("insert into t values(1)")
            if n_subscribers(n) == 0:
                break
        c.wait("document.getElementById('live').innerText === 'once a second'", "the stream to be left")
        wait_until(lambda: n_subscribers(n) == 0, "the node to know")
        c.wait("document.querySelector('td strong')?.innerText === 'app.db'", "the page to go on")
        assert c.complaints == [], c.complaints
        db.close()


def n_subscribers(node):
    return int(re.search(r"^litefs_http_event_subscribers (\d+)$", get(node, "/metrics").text, re.M).group(1))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        need_chromium()
    run(sys.modules[__name__])
