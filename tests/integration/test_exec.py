"""The application that litefs runs: what it is given, how it ends, and what comes after it."""
import os
import shutil
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


def show_environment(node):
    """An exec that writes what it is and has to a file, which it returns."""
    out = node.config + ".out"
    write_file(out, "")
    os.chmod(out, 0o666)
    os.chmod(node.root, 0o755)
    node.exec_yaml = f"exec:\n  cmd: " + script(node, f"id >{out}; env >>{out}; grep ^Cap /proc/self/status >>{out}\n") + "\n"
    return out


def test_secrets_stay_with_litefs():
    with App() as n:
        out = show_environment(n)
        with open(n.config) as f:
            text = f.read()
        write_file(n.config, text.replace("http:\n", 'http:\n  token: "${LITEFS_SECRET}"\n'))
        n.launch(env={**os.environ, "LITEFS_SECRET": "of-this-cluster", "URL": "http://of-this-cluster@localhost/",
                      "LITEFS_CLOUD_TOKEN": "old", "KEPT": "yes"})
        assert n.ended() == 0, n.log()
        with open(out) as f:
            seen = f.read()
        assert "KEPT=yes" in seen and "of-this-cluster" not in seen and "LITEFS_CLOUD_TOKEN" not in seen, seen
        for name in ("LITEFS_SECRET", "URL", "LITEFS_CLOUD_TOKEN"):
            assert f"the variable {name} holds a secret of litefs" in n.log(), n.log()
        assert "of-this-cluster" not in n.log() and "can be read or written" not in n.log(), n.log()


def test_files_with_secrets_that_others_can_read():
    with App("exec: 'true'\n") as n:
        with open(n.config) as f:
            text = f.read()
        write_file(n.config, text.replace("http:\n", "http:\n  token: of-this-cluster\n"))
        for mode, is_warned in ((0o644, True), (0o640, True), (0o602, True), (0o600, False)):
            os.chmod(n.config, mode)
            before = len(n.log()) if os.path.exists(n.log_path) else 0
            n.launch()
            assert n.ended() == 0, n.log()
            said = f"{n.config} (it holds a token) can be read or written by other users than its owner (mode {mode:03o})"
            assert (said in n.log()[before:]) == is_warned, n.log()[before:]


def test_another_user():
    if os.geteuid() != 0:
        print("skipped: only root may start processes of other users")
        return
    with App() as n:
        out = show_environment(n)
        for user in ("nobody", "65534", "61234"):
            with open(n.config) as f:
                text = f.read()
            write_file(n.config, text.replace("fuse:\n  dir", "fuse:\n  allow-other: true\n  dir"))
            n.exec_yaml = n.exec_yaml.split("  user:")[0] + f'  user: "{user}"\n'
            n.launch()
            assert n.ended() == 0, n.log()
            with open(out) as f:
                seen = f.read()
            uid = 65534 if user == "nobody" else int(user)
            assert f"uid={uid}" in seen and f"gid={uid}" in seen and "groups=0" not in seen and ",0(" not in seen, seen
            assert (user != "nobody") or ("USER=nobody" in seen and "HOME=/nonexistent" in seen), seen
            assert "CapEff:\t0000000000000000" in seen and "CapAmb:\t0000000000000000" in seen, seen
        n.exec_yaml = n.exec_yaml.split("  user:")[0] + "  user: nobody-of-that-name\n"
        n.launch()
        assert n.process.wait(60) == 2 and "exec: user: there is no user called nobody-of-that-name" in n.log(), n.log()
        n.process = None


def test_command_of_another_user_that_is_not_there():
    if os.geteuid() != 0:
        print("skipped: only root may start processes of other users")
        return
    with App("exec:\n  - {cmd: /usr/bin/no-such-program, user: nobody}\n  - cmd: 'true'\n") as n:
        n.launch()
        assert n.ended() == 1 and "cannot exec: /usr/bin/no-such-program: No such file" in n.log(), n.log()
        assert "cannot exec: sync cmd: cannot run command: exit status 127" in n.log(), n.log()


def held_by(pid):
    return sorted(os.readlink(f"/proc/{pid}/fd/{fd}").split(":")[0] for fd in os.listdir(f"/proc/{pid}/fd"))


def test_standard_streams_that_are_closed():
    """The next files that are opened would get their numbers: log lines would go into a database, and the guard would
    close its own pipe."""
    for closed in ("<&-", "<&- >&- 2>&-"):
        n = Node()
        rewrite(n, "log: {debug: true}\n")
        n.process = subprocess.Popen(["sh", "-c", f'exec "$0" mount -config "$1" {closed}', LITEFS, n.config],
                                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        n.log_file = open(n.log_path, "a")
        try:
            wait_until(lambda: is_mounted(n.mnt) and os.path.exists(n.path(".lag")), "mount")
            fds = f"/proc/{n.process.pid}/fd/"
            for fd in ("0", "1", "2"):
                assert os.readlink(fds + fd) == "/dev/null", [(f, os.readlink(fds + f)) for f in os.listdir(fds)]
            with open(f"/proc/{n.process.pid}/task/{n.process.pid}/children") as f:
                guard = f.read().split()[0]
            wait_until(lambda: held_by(guard) == ["/dev/fuse", "anon_inode", "socket"],
                       f"the guard to hold what it needs, not {held_by(guard)}")
            c = n.connect()
            c.executescript("pragma journal_mode=wal; create table t(a); insert into t values(1)")
            c.close()
            n.check()
            assert n.stop() == 0
        except BaseException:
            n.kill()
            raise
        finally:
            shutil.rmtree(n.root)


if __name__ == "__main__":
    run(sys.modules[__name__])
