"""The status page in a headless Chromium: what it shows, that it lives, and that names stay text."""
import json
import os
import re
import signal
import sys

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
    c.resize(420, 900)
    assert c.evaluate("document.documentElement.scrollWidth") <= 420
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
        for _ in range(20000):
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
