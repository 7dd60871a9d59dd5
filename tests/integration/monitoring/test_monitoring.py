"""examples/monitoring is what a real Prometheus takes, and names no metric that a node does not have."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(os.path.dirname(HERE), "http")]

from http_fixture import Node, get, in_step, port_of, replica_of, run, wait_until
from litefs_fixture import free_ports, stop_process

EXAMPLES = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(HERE))), "examples", "monitoring")
# A family that only some nodes have: those with a lease that runs out.
SOMETIMES = {"litefs_lease_remaining_seconds"}


def example(name):
    with open(os.path.join(EXAMPLES, name), encoding="utf-8") as f:
        return f.read()


def promtool(*args):
    p = subprocess.run(["promtool", *args], cwd=EXAMPLES, capture_output=True, text=True)
    assert p.returncode == 0, p.stdout + p.stderr
    return p.stdout


def test_configuration_and_rules():
    promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", "--lint=all", "--lint-fatal", "alerts.yml")
    promtool("test", "rules", "alerts_test.yml")
    rules, tested = (re.findall(pattern, example(name)) for pattern, name in
                     ((r"- alert: (\w+)", "alerts.yml"), (r"alertname: (\w+)\n +exp_alerts", "alerts_test.yml")))
    assert sorted(rules) == sorted(set(tested)), set(rules) ^ set(tested)


def expressions(dashboard):
    """Of the panels, as Grafana would ask them."""
    found = [(p["title"], t["expr"]) for p in dashboard["panels"] for t in p.get("targets", [])]
    found += [(a["name"], a["expr"]) for a in dashboard["annotations"]["list"]]
    names = {"$__rate_interval": "30s", "$cluster": ".*", "$instance": ".*", "$db": ".*"}
    for name, value in names.items():
        found = [(title, e.replace(name, value)) for title, e in found]
    assert not any("$" in e for _, e in found), "a variable that the dashboard does not have"
    return found


def families_of(node):
    return set(re.findall(r"^# TYPE (\w+)", get(node, "/metrics").text, re.M))


def named_in(text):
    """Metrics, without the suffixes of a histogram's parts."""
    return {re.sub(r"_(bucket|sum|count)$", "", n) if "duration" in n else n
            for n in re.findall(r"\b(?:litefs|process)_[a-z_]+", text)}


class Prometheus:
    def __init__(self, nodes):
        self.dir = tempfile.mkdtemp(prefix="litefs-prometheus-")
        self.nodes = nodes
        text = example("prometheus.yml")
        targets = json.dumps([f"127.0.0.1:{port_of(n)}" for n in nodes])
        text = re.sub(r"^( +- targets:) .*", rf"\1 {targets}", text, flags=re.M)
        text = text.replace("15s", "200ms")
        assert "node1" not in text and "200ms" in text
        with open(os.path.join(self.dir, "prometheus.yml"), "w", encoding="utf-8") as f:
            f.write(text)
        shutil.copy(os.path.join(EXAMPLES, "alerts.yml"), self.dir)

    def __enter__(self):
        for _ in range(3):
            self.port = free_ports(1)[0]
            self.log = open(os.path.join(self.dir, "log"), "w", encoding="utf-8")
            self.process = subprocess.Popen(
                ["prometheus", "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{self.port}",
                 f"--storage.tsdb.path={self.dir}/data"], cwd=self.dir, stdout=self.log, stderr=self.log)
            wait_until(lambda: self.is_ready() or self.process.poll() is not None, "prometheus")
            if self.process.poll() is None:
                return self
        with open(os.path.join(self.dir, "log"), encoding="utf-8") as f:
            raise AssertionError(f.read())

    def is_ready(self):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5).status == 200
        except OSError:
            return False

    def ask(self, path, **query):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=20) as f:
            o = json.load(f)
        assert o["status"] == "success", o
        return o["data"]

    def values(self, query):
        """{port: value} of a vector that has one sample for each node."""
        return {int(s["metric"]["instance"].rsplit(":", 1)[1]): float(s["value"][1]) for s in self.ask("query", query=query)["result"]}

    def __exit__(self, kind, value, tb):
        self.process.terminate()
        self.process.wait(60)
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def test_prometheus_sees_the_cluster():
    with tempfile.TemporaryDirectory(dir="/var/tmp") as d, Node(
            extra=f"backup: [{{url: 'file://{d}/backup', sync-interval: 100ms, drill: 1h}}]\n") as n, replica_of(n) as r:
        c = n.connect()
        c.execute("create table t(a)")
        in_step(n, r)
        check_names(n, r)
        with Prometheus([n, r]) as p:
            ports = {port_of(n), port_of(r)}
            wait_until(lambda: set(p.values("litefs_lag_seconds")) == ports, "both nodes to be scraped")
            assert p.values("up") == dict.fromkeys(ports, 1)
            assert p.values("litefs_is_primary") == {port_of(n): 1, port_of(r): 0}
            check_lag(p, n, r, c)
            check_expressions(p)
            health = {rule["health"] for g in p.ask("rules")["groups"] for rule in g["rules"]}
            assert health == {"ok"}, p.ask("rules")
            r.kill()
            wait_until(lambda: p.values("up").get(port_of(r)) == 0, "the node to be missed")
            wait_until(lambda: any(a["labels"]["alertname"] == "LitefsNodeDown" for a in p.ask("alerts")["alerts"]), "its alert")
        c.close()


def check_lag(p, n, r, c):
    """A replica that stands still, as its primary tells; and the node's own word on it when it goes on."""
    query = 'litefs_replica_lag_seconds{db="t.db",replica="localhost"}'
    wait_until(lambda: p.values(query) == {port_of(n): 0}, "the lag of a replica that has everything")
    stop_process(r.process)
    try:
        c.execute("insert into t values(1)")
        wait_until(lambda: p.values(query).get(port_of(n), 0) > 0.5, "the lag to grow")
        assert p.values('litefs_replica_lag_transactions{db="t.db"}') == {port_of(n): 1}
    finally:
        r.process.send_signal(signal.SIGCONT)
    wait_until(lambda: p.values(query) == {port_of(n): 0}, "the lag to go")
    assert p.values("max_over_time(litefs_lag_seconds[1m])")[port_of(n)] == 0
    wait_until(lambda: 0 <= p.values("litefs_lag_seconds").get(port_of(r), 9) < 3, "the replica's own lag")


def check_names(n, r):
    there = families_of(n) | families_of(r) | SOMETIMES
    for name in ("dashboard.json", "alerts.yml", "alerts_test.yml"):
        missing = named_in(example(name)) - there
        assert not missing, f"{name} names what no node has: {missing}"


def check_expressions(p):
    for title, e in expressions(json.loads(example("dashboard.json"))):
        try:
            has_samples = bool(p.ask("query", query=e)["result"])
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{title}: {e}: {error.read().decode()}") from None
        # What shows only trouble, or only a lease that runs out, has nothing to show here.
        assert has_samples or "> 0" in e or named_in(e) & SOMETIMES, f"{title}: {e} gives nothing"


def test_dashboard_is_whole():
    d = json.loads(example("dashboard.json"))
    ids = [p["id"] for p in d["panels"]]
    assert len(set(ids)) == len(ids)
    variables = {v["name"] for v in d["templating"]["list"]}
    assert variables == {"datasource", "cluster", "instance", "db"}
    taken = set()
    for p in d["panels"]:
        g = p["gridPos"]
        assert g["x"] + g["w"] <= 24, p["title"]
        cells = {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
        assert not cells & taken, f"{p['title']} lies over another panel"
        taken |= cells
        assert p["type"] == "row" or p["targets"], p["title"]
    assert len(expressions(d)) > 25


if __name__ == "__main__":
    for tool in ("prometheus", "promtool"):
        if shutil.which(tool) is None:
            print(f"skipped: there is no {tool} (scripts/setup --cluster-tests installs it)")
            sys.exit(77)
    run(sys.modules[__name__])
