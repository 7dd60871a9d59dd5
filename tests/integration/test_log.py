"""log.format and log.debug: one line an event, and with `json` nothing that is not JSON."""
import json
import os
import subprocess
import sys
import tempfile

from litefs_fixture import LITEFS, Node, run, wait_until

JSON = "log:\n  format: json\n"


def events(node):
    found = []
    for line in node.log().splitlines():
        one = json.loads(line)
        assert set(one) <= {"time", "level", "msg", "db"} and {"level", "msg"} <= set(one), line
        assert one["level"] in ("DEBUG", "INFO", "WARN", "ERROR"), line
        found.append(one)
    return found


def messages(node):
    return [one["msg"] for one in events(node)]


def use(node):
    c = node.connect()
    c.execute("create table t(a)")
    c.execute("insert into t values (1)")
    c.close()


def test_every_line_of_a_run_is_json():
    # The application lives until the mount was seen: a node that stops before is none that started.
    with tempfile.TemporaryDirectory(prefix="litefs-it-") as d, Node(
            extra=JSON + f"  debug: true\n  timestamp: true\nexec: sh -c 'until [ -e {d}/end ]; do sleep 0.01; done'\n") as n:
        open(d + "/end", "w").close()
        wait_until(lambda: n.process.poll() is not None, "the application's end to end the node")
        assert n.process.wait() == 0
        n.process = None
        told = messages(n)
        assert all("time" in one for one in events(n))
        for text in ("config file read from", "litefs mounted to: ", "waiting for signal or subprocess to exit",
                     "litefs shut down complete"):
            assert any(text in one for one in told), (text, told)


def test_a_kill_and_a_name_that_is_no_utf8():
    with Node(extra=JSON) as n:
        use(n)
        c = n.connect()
        c.execute("pragma journal_mode=wal")
        c.close()
        with open(os.path.join(n.mnt.encode(), b"na\xffme\n\"x\".db"), "wb") as f:
            f.write(b"SQLite format 3\0" + bytes(1000))
        n.kill()
        n.start()
        use_again = n.connect()
        use_again.execute("insert into t values (2)")
        use_again.close()
        n.process.send_signal(10)  # SIGUSR1: request counts
        wait_until(lambda: any("fuse requests" in one for one in messages(n)), "request counts")
        assert any(one.get("db") == "t.db" for one in events(n)), n.log()


def test_what_cannot_start_is_told_as_json_too():
    with Node(extra=JSON) as n:
        p = subprocess.run([LITEFS, "mount", "-config", n.config], capture_output=True, text=True, timeout=60, check=False)
        assert p.returncode == 1 and p.stdout == "", p
        last = json.loads(p.stderr.splitlines()[-1])
        assert last["level"] == "ERROR" and [json.loads(line) for line in p.stderr.splitlines()], p.stderr


def test_debug_messages_come_only_when_asked_for():
    for extra, wanted in (("", False), ("log:\n  debug: true\n", True)):
        with Node(extra=extra) as n:
            use(n)
            assert n.stop() == 0
            log = n.log()
            assert ("level=DEBUG" in log) == wanted, log
            assert log.splitlines()[1].startswith("litefs ") and "time=" not in log, log


if __name__ == "__main__":
    run(sys.modules[__name__])
