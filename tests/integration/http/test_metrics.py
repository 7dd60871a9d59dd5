"""What /metrics measures moves when the thing that it measures happens."""
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys

from http_fixture import Node, get, in_step, metrics, post, replica_of, run, wait_until
from litefs_fixture import is_traced, stop_process
from test_endpoints import fill, promtool

DB = '{db="t.db"}'


def grown(node, before):
    """What has changed since @before, and by how much."""
    now = metrics(node)
    return {k: v - before.get(k, 0) for k, v in now.items() if v != before.get(k, 0)}


def count(m, name):
    """Of a histogram, whose parts must agree."""
    total = m.get(f"{name}_count", 0)
    assert m.get(f'{name}_bucket{{le="+Inf"}}', 0) == total
    return total


def test_times_of_commits_and_syncs():
    with Node() as n:
        c = fill(n, rows=0)
        c.execute("pragma synchronous=normal")
        before = metrics(n)
        for _ in range(30):
            c.execute("insert into t(b) values(randomblob(100))")
        m = grown(n, before)
        assert count(m, "litefs_commit_duration_seconds") == 30
        assert 30e-6 < m["litefs_commit_duration_seconds_sum"] < 30
        assert count(m, "litefs_sync_wait_duration_seconds") == 0
        c.execute("begin")
        c.execute("insert into t(b) values(1)")
        c.execute("rollback")
        assert count(grown(n, before), "litefs_commit_duration_seconds") == 30, "a rollback counts as a commit"
        c.execute("pragma synchronous=full")
        before = metrics(n)
        for _ in range(10):
            c.execute("insert into t(b) values(1)")
        m = grown(n, before)
        assert count(m, "litefs_commit_duration_seconds") == 10
        assert count(m, "litefs_fsync_duration_seconds") >= 10
        assert m["litefs_fsync_duration_seconds_sum"] > 0
        c.close()
        d = n.connect("delete.db")
        d.execute("create table t(a)")
        before = metrics(n)
        d.execute("insert into t values(1)")
        m = grown(n, before)
        assert count(m, "litefs_commit_duration_seconds") == count(m, "litefs_sync_wait_duration_seconds") == 1, m
        d.close()


def test_buckets_rise():
    with Node() as n:
        fill(n, rows=5).close()
        text = get(n, "/metrics").text
        for name in ("commit", "fsync", "sync_wait"):
            rows = re.findall(rf'^litefs_{name}_duration_seconds_bucket{{le="([^"]+)"}} (\d+)$', text, re.M)
            bounds, counts = [float(b) for b, _ in rows], [int(c) for _, c in rows]
            assert len(rows) == 25 and bounds == sorted(bounds) and counts == sorted(counts), rows


def test_errors_by_kind():
    def errors(m, kind):
        return m.get(f'litefs_errors_total{{kind="{kind}"}}', 0)

    with Node() as n, replica_of(n) as r:
        fill(n).close()
        in_step(n, r)
        for node in (n, r):
            m = metrics(node)
            assert not any(v for k, v in m.items() if k.startswith("litefs_errors_total")), m
        before = metrics(r)
        c = r.connect()
        try:
            c.execute("insert into t(b) values(1)")
            raise AssertionError("a replica took a write")
        except sqlite3.OperationalError:
            pass
        c.close()
        assert grown(r, before)['litefs_fuse_errors_total{errno="EROFS"}'] >= 1
        before = metrics(n)
        assert post(n, "/handoff").status == 500
        m = grown(n, before)
        assert m['litefs_http_responses_total{class="5xx"}'] == 1
        before = metrics(r)
        n.kill()
        wait_until(lambda: errors(grown(r, before), "stream") > 0, "the end of the stream to count")
        wait_until(lambda: metrics(r)["litefs_is_connected"] == 0, "the replica to be alone")


def test_failed_sync_stops_a_database():
    """strace makes the log's fdatasync fail."""
    with Node() as n:
        c = fill(n, rows=1)
        c.execute("pragma synchronous=full")
        tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e",
                                   "inject=fdatasync:error=EIO", "-p", str(n.process.pid)])
        try:
            wait_until(lambda: is_traced(n.process.pid), "strace to be there")
            try:
                for _ in range(3):
                    c.execute("insert into t(b) values(1)")
                raise AssertionError("a commit that is not durable was acknowledged")
            except sqlite3.OperationalError:
                pass
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(60)
        m = metrics(n)
        assert m['litefs_errors_total{kind="sync"}'] >= 1 and m['litefs_errors_total{kind="database_stopped"}'] == 1
        assert m["litefs_db_failed" + DB] == 1
        assert m['litefs_fuse_errors_total{errno="EIO"}'] >= 1
        c.close()


def test_divergence_is_counted():
    with Node() as n, replica_of(n) as r:
        fill(n, rows=9).close()
        in_step(n, r)
        assert metrics(r)["litefs_orphans"] == 0
        r.stop()
        # Another history, a shorter one: the primary's data is made anew.
        n.stop()
        shutil.rmtree(os.path.join(n.data, "dbs"))
        port = n.port()
        with open(n.config) as f:
            text = f.read()
        with open(n.config, "w") as f:
            f.write(text.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
        n.start()
        fill(n, rows=2).close()
        r.start()
        in_step(n, r)
        m = metrics(r)
        assert m["litefs_db_divergences_total" + DB] == 1 and m["litefs_orphans"] == 1
        assert m["litefs_db_snapshots_received_total" + DB] == 1


def test_lag_of_a_replica_on_the_primary():
    lag, behind = ('litefs_replica_%s{db="t.db",replica="localhost"}' % s for s in ("lag_seconds", "lag_transactions"))
    with Node() as n, replica_of(n) as r:
        c = fill(n, rows=1)
        in_step(n, r)
        wait_until(lambda: metrics(n).get(behind) == 0, "the acknowledgement")
        assert metrics(n)[lag] == 0
        stop_process(r.process)
        try:
            c.execute("insert into t(b) values(1)")
            c.execute("insert into t(b) values(2)")
            wait_until(lambda: metrics(n).get(lag, 1) > 0.3, "the lag to grow")
            assert metrics(n).get(behind, 2) == 2
        finally:
            os.kill(r.process.pid, signal.SIGCONT)
        wait_until(lambda: metrics(n).get(lag) == 0, "the replica to catch up")
        c.close()


def test_namesakes_are_told_apart():
    with Node() as n, replica_of(n) as a, replica_of(n) as b:
        fill(n).close()
        in_step(n, a)
        in_step(n, b)
        wait_until(lambda: sum(k.startswith("litefs_replica_txid") for k in metrics(n)) == 2, "both replicas")
        promtool(get(n, "/metrics").text)
        ids = {get(r, "/info").json["nodeID"] for r in (a, b)}
        found = {re.search(r"\(([0-9A-F]{16})\)", k).group(1) for k in metrics(n) if k.startswith("litefs_replica_txid")}
        assert found == ids


def test_process():
    with Node() as n:
        m = metrics(n)
        pid = n.process.pid
        started = os.stat(f"/proc/{pid}").st_ctime
        assert abs(m["process_start_time_seconds"] - started) < 30
        assert m["process_virtual_memory_bytes"] > m["process_resident_memory_bytes"] > 1 << 20
        assert 3 < m["process_open_fds"] < m["process_max_fds"]
        st = os.statvfs(n.data)
        assert 0.5 < m["litefs_data_free_bytes"] / (st.f_bavail * st.f_frsize) < 2


if __name__ == "__main__":
    run(sys.modules[__name__])
