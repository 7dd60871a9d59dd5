"""A deploy as LiteFS's documentation has it: lease.promote, and a migration in exec with if-candidate."""
import os
import signal
import subprocess
import sys

from cluster_fixture import Cluster, need, run, wait_until
from litefs_fixture import LITEFS, is_mounted

MIGRATE = """import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
c.execute("create table if not exists done(version)")
c.execute("insert into done values(?)", (sys.argv[2],))
"""


def deploy(node, version):
    """The node's next start runs the migration first, and then an application."""
    script = node.config + ".py"
    with open(script, "w", encoding="utf-8") as f:
        f.write(MIGRATE)
    with open(node.config, encoding="utf-8") as f:
        text = f.read().split("# exec\n")[0]
    with open(node.config, "w", encoding="utf-8") as f:
        f.write(text + f"# exec\nexec:\n  - cmd: {sys.executable} {script} {node.path('t.db')} {version}\n"
                       f"    if-candidate: true\n  - cmd: sh -c 'echo the application of {version} runs; exec sleep 1000'\n")


def versions(node):
    c = node.connect()
    found = [v for v, in c.execute("select version from done order by rowid")]
    c.close()
    return found


def test_each_candidate_migrates_in_its_turn():
    with Cluster(0, "etcd") as c:
        first = c.add(options="  promote: true\n")
        deploy(first, "v1")
        first.start()
        first.wait_log("the application of v1 runs")
        second = c.add(options="  promote: true\n")
        reader = c.add(candidate=False, options="  promote: true\n")
        for node in (second, reader):
            deploy(node, "v1-" + node.name)
            node.start()
            node.wait_log(f"the application of v1-{node.name} runs")
        assert second.is_primary() and not first.is_primary() and not reader.is_primary()
        assert "node is not a candidate, skipping command execution" in reader.recent_log()
        assert versions(second) == ["v1", "v1-node2"]
        # A rolling deploy: one after the other stops, and comes back with the next version.
        for node in (first, second, reader):
            assert node.stop() == 0, node.log()
            deploy(node, "v2-" + node.name)
            node.start()
            node.wait_log(f"the application of v2-{node.name} runs")
        assert second.is_primary()
        c.in_step()
        assert versions(second) == ["v1", "v1-node2", "v2-node1", "v2-node2"]
        assert versions(reader) == versions(second)


def launch(node):
    """As start(), for a node that is to end by itself."""
    node.log_begin = os.path.getsize(node.log_path) if os.path.exists(node.log_path) else 0
    node.log_file = open(node.log_path, "a", encoding="utf-8")
    node.process = subprocess.Popen([LITEFS, "mount", "-config", node.config], stdout=node.log_file, stderr=node.log_file)


def ended(node):
    code = node.process.wait(60)
    node.process = None
    node.log_file.close()
    return code


def test_nothing_runs_before_the_data_is_there():
    with Cluster(1, "etcd") as c:
        late = c.add(options="  promote: true\n")
        deploy(late, "v1")
        c.nodes[0].link.cut()
        launch(late)
        late.wait_log("waiting, as lease.promote is set")
        assert "executing command" not in late.recent_log()
        c.nodes[0].link.heal()
        late.wait_log("the application of v1 runs")
        assert late.is_primary() and versions(late) == ["v1"]
        c.in_step()
        # It stops while it waits, too.
        assert late.stop() == 0
        c.wait_primary(other_than=(late,))
        c.nodes[0].link.cut()
        launch(late)
        wait_until(lambda: is_mounted(late.mnt), "the mount")
        late.process.send_signal(signal.SIGTERM)
        assert ended(late) == 0, late.recent_log()
        assert "executing command" not in late.recent_log() and "stopped -> " not in late.recent_log(), late.recent_log()


if __name__ == "__main__":
    need("etcd")
    run(sys.modules[__name__])
