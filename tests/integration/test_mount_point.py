"""What lies at the mount point before litefs is mounted there: nothing of it is hidden in silence."""
import glob
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile

from litefs_fixture import LITEFS, Node, is_mounted, run, stop_process, wait_until
from test_doctor import doctor, expect


def launch(node, *flags, code=None):
    """Starts it; with `code` it has to end with that, and the log is returned."""
    before = len(node.log()) if os.path.exists(node.log_path) else 0
    if code is None:
        node.log_file = open(node.log_path, "a", encoding="utf-8")
        node.process = subprocess.Popen([LITEFS, "mount", "-config", node.config, *flags], stdout=node.log_file,
                                        stderr=node.log_file)
        wait_until(lambda: is_mounted(node.mnt) or node.process.poll() is not None, "mount")
        wait_until(lambda: os.path.exists(node.path(".lag")), "mount to answer")
        return node.log()[before:]
    with open(node.log_path, "a", encoding="utf-8") as log:
        p = subprocess.run([LITEFS, "mount", "-config", node.config, *flags], stdout=log, stderr=log, timeout=60, check=False)
    assert p.returncode == code, node.log()[before:]
    return node.log()[before:]


class Stopped(Node):
    """Not started; `with` only cleans up."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.data_parent:
            shutil.rmtree(self.data_parent, ignore_errors=True)
        super().__exit__(*error)

    def __init__(self, data_parent=None):
        super().__init__(data_parent)
        self.data_parent = data_parent


def write(path, value, mode="delete"):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    c = sqlite3.connect(path, isolation_level=None)
    c.executescript(f"pragma journal_mode={mode}; create table if not exists t(a); insert into t values('{value}')")
    return c


def rows(path):
    c = sqlite3.connect(path)
    found = [a for a, in c.execute("select a from t order by rowid")]
    c.close()
    return found


def test_no_directory():
    with Stopped() as n:
        with open(n.mnt, "w", encoding="utf-8") as f:
            f.write("in the way")
        log = launch(n, code=1)
        assert f"fuse.dir {n.mnt} is not a directory" in log, log
        assert not is_mounted(n.mnt)
        expect(doctor(n, code=1), "mount", "FAIL", "not a directory")


def test_the_mount_of_another_node():
    with Node() as first, Stopped() as second:
        with open(second.config, encoding="utf-8") as f:
            text = f.read()
        with open(second.config, "w", encoding="utf-8") as f:
            f.write(text.replace(second.mnt, first.mnt))
        for flags in ([], ["-skip-unmount"], ["-move-aside"]):
            log = launch(second, *flags, code=1)
            assert f"a litefs that runs is mounted at {first.mnt} already" in log, log
        expect(doctor(second, code=1), "mount", "FAIL", "another data directory")
        stop_process(first.process)
        try:
            log = launch(second, code=1)
        finally:
            first.process.send_signal(signal.SIGCONT)
        assert f"a litefs that does not answer is mounted at {first.mnt} already" in log, log
        first.connect().execute("create table t(a)").connection.close()
        first.check()


def test_databases_are_not_hidden():
    with Stopped() as n:
        write(n.path("it's mine.db"), 1, "wal").close()
        expect(doctor(n, code=1), "mount", "FAIL", "it's mine.db was written while litefs was not mounted", "mv ")
        log = launch(n, code=1)
        assert f"fuse.dir {n.mnt} holds it's mine.db, written while litefs was not mounted there" in log, log
        assert not is_mounted(n.mnt)
        command = re.search(r"Move it aside \((.*)\), or start", log).group(1)
        subprocess.run(command, shell=True, check=True)
        assert rows(f"{n.data}/orphans/mount-point/it's mine.db") == ["1"]
        launch(n)
        assert visible(n) == [] and n.stop() == 0
        # A journal alone is one, too, and what is in a directory.
        os.makedirs(n.path("tenants"), exist_ok=True)
        with open(n.path("tenants/7.db-wal"), "wb") as f:
            f.write(b"\x37\x7f\x06\x82" + bytes(28))
        log = launch(n, code=1)
        command = re.search(r"Move it aside \((.*)\), or start", log).group(1)
        subprocess.run(command, shell=True, check=True)
        assert os.listdir(f"{n.data}/orphans/mount-point/tenants") == ["7.db-wal"]
        launch(n)


def visible(node):
    return [name for name in os.listdir(node.mnt) if not name.startswith(".")]


def moved(node):
    """The directory of the last move."""
    return sorted(glob.glob(node.data + "/orphans/mount-point-*"))[-1]


def check_move_aside(node):
    c = write(node.path("app.db"), "kept", "wal")
    # As a killed application leaves it: committed in the WAL alone.
    copies = {name: open(node.path(name), "rb").read() for name in ("app.db", "app.db-wal")}
    c.close()
    for name, content in copies.items():
        with open(node.path(name), "wb") as f:
            f.write(content)
    write(node.path("tenants/7.db"), "too").close()
    os.symlink(node.path("app.db"), node.path("link.db"))
    with open(node.path("notes.txt"), "w", encoding="utf-8") as f:
        f.write("stays")
    log = launch(node, "-move-aside")
    directory = moved(node)
    for name in ("app.db", "app.db-wal", "tenants/7.db"):
        assert f"{node.mnt}/{name} was written while litefs was not mounted there: moved to {directory}/{name}" in log, log
    assert "holds files that are hidden while litefs is mounted there, such as" in log, log
    assert not os.path.exists(f"{directory}/link.db") and not os.path.exists(f"{directory}/notes.txt")
    assert os.stat(directory).st_mode & 0o077 == 0
    assert rows(f"{directory}/app.db") == ["kept"] and rows(f"{directory}/tenants/7.db") == ["too"]
    found = doctor(node)
    expect(found, "data", "WARN", "mount-point-")
    assert node.stop() == 0
    assert sorted(os.listdir(node.mnt)) == ["link.db", "notes.txt", "tenants"]
    # Nothing is left to be moved.
    log = launch(node, "-move-aside")
    assert "moved to" not in log and moved(node) == directory, log


def test_move_aside():
    with Stopped() as n:
        check_move_aside(n)


def test_move_aside_to_another_file_system():
    parent = tempfile.mkdtemp(prefix="litefs-it-", dir="/dev/shm")
    with Stopped(data_parent=parent) as n:
        os.mkdir(n.mnt)
        if os.stat(parent).st_dev == os.stat(n.mnt).st_dev:
            print("     one file system only: not tried")
            return
        check_move_aside(n)


def test_a_database_that_is_open_is_not_moved():
    with Stopped() as n:
        c = write(n.path("app.db"), "begun", "wal")
        log = launch(n, "-move-aside", code=1)
        assert f"app.db, written while litefs was not mounted there, is open in process {os.getpid()}" in log, log
        c.execute("insert into t values('ended')")
        c.close()
        launch(n, "-move-aside")
        assert rows(moved(n) + "/app.db") == ["begun", "ended"]


def test_other_files():
    """lost+found of a volume, .gitkeep of a repository: the node starts, and says that they are hidden."""
    with Stopped() as n:
        os.makedirs(n.mnt + "/lost+found")
        with open(n.path(".gitkeep"), "w", encoding="utf-8"):
            pass
        expect(doctor(n, code=0), "mount", "WARN", ".gitkeep", "ls -laR")
        log = launch(n)
        assert "holds files that are hidden while litefs is mounted there, such as .gitkeep" in log, log
        assert visible(n) == []
        assert n.stop() == 0
        os.unlink(n.path(".gitkeep"))
        assert "hidden" not in launch(n)


if __name__ == "__main__":
    run(sys.modules[__name__])
