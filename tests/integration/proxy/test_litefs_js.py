"""An application in JavaScript that uses LiteFS's own library for it, litefs-js, before a primary and a replica. The
library comes from npm's registry: where that, or Node, cannot be had, the test is skipped."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

import proxy_fixture as f
from test_roles import Pair

VERSION = "2.0.2"
HERE = os.path.dirname(os.path.abspath(__file__))
PLACE = None


def install():
    """A directory with the library and the application; None: it cannot be had."""
    if not all(map(shutil.which, ("node", "npm", "sqlite3"))):
        return None
    place = tempfile.mkdtemp(prefix="litefs-it-js-")
    with open(os.path.join(place, "package.json"), "w") as out:
        json.dump({"name": "test", "private": True, "type": "module"}, out)
    r = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", f"litefs-js@{VERSION}"],
                       cwd=place, capture_output=True, text=True, timeout=120, check=False)
    if r.returncode != 0:
        shutil.rmtree(place)
        print(r.stderr)
        return None
    shutil.copy(os.path.join(HERE, "litefs_js_app.mjs"), place)
    return place


class JsApp(f.App):
    def command(self, port, directory, name):
        return ["node", os.path.join(PLACE, "litefs_js_app.mjs"), str(port)]

    def environment(self, directory):
        return dict(os.environ, LITEFS_DIR=directory, DATABASE_FILENAME="t.db")


def cookies(r):
    pairs = [c.partition(";")[0] for c in r.headers.get_all("Set-Cookie")]
    return {"Cookie": "; ".join(pairs)}, dict(p.split("=") for p in pairs)


def test_library_and_proxy_agree():
    with Pair("  db: t.db\n", app=JsApp) as x:
        for i in range(1, 4):
            r = x.r.post("/", "x")
            assert r.status == 200 and r.text == "written", r.text
            headers, found = cookies(r)
            txid = int(x.p.node.pos().partition("/")[0], 16)
            assert int(found["txnum"]) == txid and int(found["__txid"], 16) == txid, found
            # The proxy has waited, so the library has nothing to send elsewhere.
            r = x.r.get("/", headers=headers)
            assert r.status == 200 and json.loads(r.text) == {"currentIsPrimary": False, "n": i}, r.text


def test_its_own_replays_are_passed_on():
    """An application that handles everything itself has the proxy let everything through."""
    with Pair("  db: t.db\n  passthrough: [\"*\"]\n", app=JsApp) as x:
        assert x.p.post("/", "x").status == 200
        x.in_step("t.db")
        r = x.r.post("/", "x")
        assert r.status == 409 and r.headers["fly-replay"] == "instance=localhost"
        r = x.r.get("/", headers={"Cookie": "txnum=1000"})
        assert r.status == 409 and r.headers["fly-replay"] == "instance=localhost"
        assert json.loads(x.r.get("/", headers={"Cookie": "txnum=1"}).text)["n"] == 1


if __name__ == "__main__":
    PLACE = install()
    if PLACE is None:
        print("skipped: there is no Node, or no litefs-js to be had from npm")
        sys.exit(77)
    try:
        f.run(sys.modules[__name__])
    finally:
        shutil.rmtree(PLACE)
