"""The application that litefs runs: what it is given, how it ends, and what comes after it."""
import os
import signal
import subprocess
import sys

from litefs_fixture import LITEFS, Node, is_mounted, run, wait_until

INSERT = ("import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
          "c.execute('create table if not exists t(a)'); c.execute('insert into t values(?)', (sys.argv[2],))")


def write_file(path, text):
    with open(path, "w") as f:
        f.write(text)
    return path


def insert(node, value):
    return f"{sys.executable} {write_file(node.config + '.py', INSERT)} {node.path('t.db')} {value}"


def script(node, text):
    """A file, because the configuration has a meaning for $ of its own."""
    return f"sh {write_file(node.config + '.sh', text)}"


class App(Node):
    """With `exec` and other keys in the configuration; may end by itself. `with` only cleans up."""

    def __init__(self, exec_yaml="", extra=""):
        super().__init__(extra=extra)
        self.exec_yaml = exec_yaml

    def launch(self, *words, **kw):
        rewrite(self, self.exec_yaml)
        self.log_file = open(self.log_path, "a")
        self.process = subprocess.Popen([LITEFS, "mount", "-config", self.config, *words], stdin=subprocess.DEVNULL,
                                        stdout=self.log_file, stderr=self.log_file, **kw)
        return self

    def __enter__(self):
        return self

    def ended(self, seconds=60):
        code = self.process.wait(seconds)
        self.process = None
        self.log_file.close()
        assert not is_mounted(self.mnt), "still mounted"
        return code

    def wait_log(self, text):
        wait_until(lambda: text in self.log() or self.process.poll() is not None, f"'{text}' in the log")
        assert text in self.log(), self.log()

    def rows(self):
        """After its end, as its log has them."""
        Node.start(self)
        c = self.connect()
        found = [a for a, in c.execute("select a from t order by rowid")]
        c.close()
        self.stop()
        return found


def rewrite(node, exec_yaml):
    """The configuration with another end."""
    with open(node.config) as f:
        text = f.read()
    at = text.find("# exec\n")
    write_file(node.config, (text if at < 0 else text[:at]) + "# exec\n" + exec_yaml)


def test_commands_run_in_order():
    with App() as n:
        n.exec_yaml = (f"exec:\n  - cmd: {insert(n, 'first')}\n  - cmd: {insert(n, 'second')}\n"
                       "  - cmd: sh -c 'exit 7'\n")
        n.launch()
        assert n.ended() == 7, n.log()
        assert "subprocess exited with error code 7, litefs shutting down" in n.log()
        rewrite(n, "")
        assert n.rows() == ["first", "second"]


def test_words_of_the_command_line():
    """They replace exec, and stay words."""
    with App("exec: sh -c 'exit 9'\n") as n:
        out = n.config + ".out"
        n.launch("--", "sh", "-c", 'printf "%s|" "$@" > "$OUT"', "sh", "a b", "$HOME;x", "it's", "",
                 env={**os.environ, "OUT": out})
        assert n.ended() == 0, n.log()
        with open(out) as f:
            assert f.read() == "a b|$HOME;x|it's||"


def signal_app(how_it_ends):
    """SIGTERM goes on to the application, which can still write when it comes."""
    with App() as n:
        n.exec_yaml = "exec: " + script(n, f"trap '{insert(n, 'last')}; {how_it_ends}' TERM\n{insert(n, 'begun')}\n"
                                           "echo ready\nwhile :; do sleep 0.05; done\n") + "\n"
        n.launch()
        n.wait_log("ready")
        n.process.send_signal(signal.SIGTERM)
        code = n.ended()
        log = n.log()
        order = [log.index(t) for t in ("sending signal to exec process", "waiting for exec process to close",
                                        "signal received, litefs shutting down")]
        assert order == sorted(order), log
        rewrite(n, "")
        assert n.rows() == ["begun", "last"]
        return code, log


def test_signal_is_passed_on():
    code, log = signal_app("exit 0")
    assert code == 0 and "litefs shut down complete" in log, log


def test_signal_and_failure():
    """The application fails while it ends: that is told, and all else is done all the same."""
    code, log = signal_app("exit 3")
    assert code == 1 and "ERROR: cannot wait for exec process: exit status 3" in log, log


def test_killed_application():
    with App() as n:
        n.exec_yaml = "exec: " + script(n, "kill -9 $$\n") + "\n"
        n.launch()
        assert n.ended() == 255, n.log()


def test_candidates_only():
    with Node() as p:
        with App("exec:\n  - cmd: expr 40 + 1\n    if-candidate: true\n  - cmd: expr 40 + 2\n",
                 extra=f"  candidate: false\n  advertise-url: http://127.0.0.1:{p.port()}\n") as n:
            n.launch()
            assert n.ended() == 0, n.log()
            lines = n.log().splitlines()
            assert "42" in lines and "41" not in lines, n.log()
            assert "node is not a candidate, skipping command execution" in n.log()


def test_command_that_fails():
    commands = "exec:\n  - cmd: sh -c 'exit 4'\n  - cmd: expr 40 + 2\n"
    error = "cannot exec: sync cmd: cannot run command: exit status 4"
    with App(commands) as n:
        n.launch()
        assert n.ended() == 1 and error in n.log() and "42" not in n.log().splitlines(), n.log()
    with App("exit-on-error: false\n" + commands) as n:
        n.launch()
        n.wait_log(error)
        wait_until(lambda: is_mounted(n.mnt), "the mount, which stays for whoever wants to look")
        c = n.connect()
        c.execute("create table t(a)")
        c.close()
        n.process.send_signal(signal.SIGTERM)
        assert n.ended() == 0 and "42" not in n.log().splitlines(), n.log()


if __name__ == "__main__":
    run(sys.modules[__name__])
