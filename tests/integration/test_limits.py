"""At the edges: no space, one huge transaction, many databases, nobody asking anything, no privileges. (Damaged files:
test_damage.py.)"""
import errno
import os
import pwd
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time

import litefs_fixture
from litefs_fixture import LITEFS, REPLAY, Node, wait_until

MIB = 1 << 20


def status(n, field):
    with open(f"/proc/{n.process.pid}/status") as f:
        return int(re.search(rf"(?m)^{field}:\s+(\d+)", f.read()).group(1))


def needs_root():
    if os.geteuid() != 0:
        print("skipped: needs root")
        return False
    return True


# --- no space ---

class SmallDisk:
    """A tmpfs of @mib MiB."""

    def __init__(self, mib):
        self.dir = tempfile.mkdtemp(prefix="litefs-small-")
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", self.dir], check=True)

    def resize(self, mib):
        subprocess.run(["mount", "-o", f"remount,size={mib}m", self.dir], check=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.dir], check=True)
        os.rmdir(self.dir)


def copy_in_with_wal(n, pages):
    """A database whose WAL has one more transaction, of @pages pages: the error of closing the copy, or None."""
    plain = os.path.join(n.root, "t.db")
    c = sqlite3.connect(plain, isolation_level=None)
    c.execute("pragma journal_mode=wal")
    c.execute("create table t(a)")
    c.execute("pragma wal_checkpoint(truncate)")
    c.execute("begin")
    for _ in range(pages):
        c.execute("insert into t values(randomblob(4000))")
    c.execute("commit")
    error = None
    for suffix in ("-wal", ""):
        try:
            with open(plain + suffix, "rb") as f, open(n.path("t.db" + suffix), "wb", buffering=0) as out:
                out.write(f.read())
        except OSError as e:
            error = (suffix, e.errno)
    c.close()
    return error


def test_no_space_for_a_wal_that_comes_with_its_database():
    """Frames that cannot be logged are not there: not for the application, whose copy fails, nor for the next start."""
    for pages in (300, 700):  # by the thread that adopts, and by another
        size = pages * 4096
        with SmallDisk(64) as disk, Node(data_parent=disk.dir) as n:
            used = os.statvfs(disk.dir)
            ballast = used.f_bavail * used.f_frsize - size * 3 // 2
            with open(os.path.join(disk.dir, "ballast"), "wb") as f:
                os.posix_fallocate(f.fileno(), 0, ballast)
            error = copy_in_with_wal(n, pages)
            assert error is not None and error[0] == "" and error[1] in (errno.EIO, errno.ENOSPC), error
            os.unlink(os.path.join(disk.dir, "ballast"))
            for _ in range(2):
                c = n.connect()
                assert c.execute("select count(*) from t").fetchone() == (0,), "frames that the log does not have"
                c.execute("insert into t values(1)")
                assert c.execute("select count(*) from t").fetchone() == (1,)
                c.execute("delete from t")
                assert c.execute("pragma integrity_check").fetchone() == ("ok",)
                c.close()
                n.stop()
                n.start()


def fill_up(c):
    """Commits until one fails: how many rows stand, and the error."""
    for k in range(10000):
        try:
            c.execute("insert into t values(?, randomblob(100000))", (k,))
        except sqlite3.OperationalError as e:
            return k, str(e)
    raise AssertionError("the disk did not fill up")


def out_of_space(mode):
    with SmallDisk(48) as disk, Node(data_parent=disk.dir) as n:
        c = n.connect()
        c.execute(f"pragma journal_mode={mode}")
        c.execute("create table t(a integer primary key, b)")
        rows, error = fill_up(c)
        assert error in ("database or disk is full", "disk I/O error"), error
        assert rows > 10, rows
        if c.in_transaction:
            c.execute("rollback")

        # What was acknowledged is there, for this connection and for a new one.
        for reader in (c, n.connect()):
            got = reader.execute("select count(*), max(a), sum(length(b)) from t").fetchone()
            assert got == (rows, rows - 1, 100000 * rows), f"{got}, {rows} rows were committed"
            assert reader.execute("pragma integrity_check").fetchone() == ("ok",)
        n.check()

        # And for a connection that is the only one: nothing of the last one's is there any more.
        c.close()
        reader.close()
        c = n.connect()
        assert c.execute("select count(*), max(a), sum(length(b)) from t").fetchone() == got
        assert c.execute("pragma journal_mode").fetchone() == (mode,)

        # Who goes on trying fills no log.
        for _ in range(50):
            try:
                c.execute("insert into t values(?, randomblob(100000))", (rows,))
                raise AssertionError("it fitted after all")
            except sqlite3.OperationalError:
                pass
        assert n.log().count("commit failed") <= 5, n.log().count("commit failed")

        # A transaction that fails while its pages are written leaves a journal. It is rolled back without space.
        try:
            c.execute("insert into t values(-1, randomblob(3000000))")
            raise AssertionError("3 MB fitted on a full disk")
        except sqlite3.OperationalError:
            pass
        assert c.execute("select count(*) from t").fetchone() == (rows,)
        assert n.connect().execute("pragma integrity_check").fetchone() == ("ok",)
        n.check()

        disk.resize(200)
        c.execute("insert into t values(?, randomblob(100000))", (rows,))
        log = n.log()  # where SQLite could not even write the transaction, none failed
        assert log.count("commits are made again, after") == ("commit failed" in log), "how often it failed is told once, at the end"
        c.execute("delete from t where a % 2")
        assert c.execute("pragma integrity_check").fetchone() == ("ok",)
        n.check()
        c.close()
        n.restart()
        c = n.connect()
        assert c.execute("select count(*) from t").fetchone() == (rows // 2 + 1,)
        c.close()
        n.check()


def test_no_space_in_rollback_mode():
    if needs_root():
        out_of_space("delete")


def test_no_space_in_wal_mode():
    if needs_root():
        out_of_space("wal")


def fill_disk(disk):
    """To the last byte; what to delete."""
    path = os.path.join(disk.dir, "ballast")
    with open(path, "wb", buffering=0) as f:
        for size in (MIB, 4096, 1):
            try:
                while True:
                    f.write(bytes(size))
            except OSError as e:
                assert e.errno == errno.ENOSPC, e
    return path


def test_reads_go_on_without_any_space():
    """Also of a database that nobody has open, whose wal-index has to be made."""
    if not needs_root():
        return
    for mode in ("wal", "delete"):
        with SmallDisk(48) as disk, Node(data_parent=disk.dir) as n:
            c = n.connect()
            c.execute(f"pragma journal_mode={mode}")
            c.execute("create table t(x)")
            c.executemany("insert into t values(?)", [(i,) for i in range(100)])
            c.close()
            ballast = fill_disk(disk)
            readers = [n.connect() for _ in range(2)]
            for reader in readers:
                assert reader.execute("select count(*), max(x) from t").fetchone() == (100, 99), mode
            os.unlink(ballast)
            readers[0].execute("insert into t values(100)")
            assert readers[1].execute("select count(*) from t").fetchone() == (101,)
            ballast = fill_disk(disk)
            readers.append(n.connect())
            assert readers[2].execute("select count(*) from t").fetchone() == (101,)
            os.unlink(ballast)
            for reader in readers:
                reader.execute("delete from t where x > 50")
                assert reader.execute("select count(*) from t").fetchone() == (51,)
                reader.close()
            n.check()


# --- one huge transaction (slow) ---

def check_without_memory(n):
    """As Node.check(), for images that do not fit into this process. The WAL must be gone."""
    out = os.path.join(n.root, "replayed")
    r = subprocess.run([REPLAY, n.data, "t.db", out], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    assert r.stdout.split()[0] == n.pos(), f"log is at {r.stdout}, -pos says {n.pos()}"
    subprocess.run(["cmp", out, n.path("t.db")], check=True)
    os.unlink(out)


def huge_transaction(mode, mib=2048):
    with Node() as n:
        c = n.connect()
        c.execute("pragma page_size=4096")
        c.execute(f"pragma journal_mode={mode}")
        c.execute("pragma cache_size=-2000")
        c.execute("create table t(a integer primary key, b)")
        c.execute("begin")
        for k in range(mib):
            c.execute("insert into t values(?, randomblob(?))" if k % 4 else "insert into t values(?, zeroblob(?))",
                      (k, MIB))
        c.execute("commit")
        peak = status(n, "VmHWM")
        print(f"{mode}: {mib} MiB in one transaction, peak of the daemon {peak // 1024} MiB", flush=True)
        assert peak < 128 * 1024, f"VmHWM {peak} kB"
        assert c.execute("select count(*), sum(length(b)) from t").fetchone() == (mib, mib * MIB)
        if mode == "wal":
            assert c.execute("pragma wal_checkpoint(truncate)").fetchone()[0] == 0
        c.close()
        check_without_memory(n)
        peak = status(n, "VmHWM")
        assert peak < 128 * 1024, f"VmHWM {peak} kB after the checkpoint"


def test_huge_transaction_in_rollback_mode():
    huge_transaction("delete")


def test_huge_transaction_in_wal_mode():
    huge_transaction("wal")


# --- nobody asks anything ---

def wakeups(n):
    """Voluntary context switches of all threads of the daemon so far."""
    total = 0
    for task in os.listdir(f"/proc/{n.process.pid}/task"):
        with open(f"/proc/{n.process.pid}/task/{task}/status") as f:
            total += int(re.search(r"(?m)^voluntary_ctxt_switches:\s+(\d+)", f.read()).group(1))
    return total


def test_idle_daemon_sleeps():
    """No more than two wake-ups a second, of all threads together, with an open connection of either mode: for the heartbeat and
    for what ticks once a second, which are one where they fall into the same millisecond; and one in ten seconds for what the node
    keeps of its last hour."""
    with Node() as n:
        open_ones = []
        for mode in ("wal", "delete"):
            c = n.connect(f"{mode}.db")
            c.execute(f"pragma journal_mode={mode}")
            c.execute("create table t(a)")
            c.execute("insert into t values(1)")
            open_ones.append(c)

        def is_settled():
            before = wakeups(n)
            time.sleep(2)
            return wakeups(n) <= before + 2 * 3  # a timer of one second may fire at both ends
        wait_until(is_settled, "the daemon to finish what follows a commit")
        before = wakeups(n)
        time.sleep(10)
        made = wakeups(n) - before
        print(f"idle for 10 s: {made} wake-ups", flush=True)
        assert made <= 2 * 11 + 2, made  # at both ends here, too
        for c in open_ones:
            c.close()


# --- many databases ---

def test_500_databases():
    """All open at once, in WAL mode: less than 64 MiB and 12 bytes a page."""
    with Node() as n:
        # Each costs this process three descriptors, and the daemon as many.
        import resource
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
        connections = []
        for k in range(500):
            c = n.connect(f"{k}.db")
            c.execute("pragma journal_mode=wal")
            c.execute("create table t(a integer primary key, b)")
            c.execute("insert into t values(1, zeroblob(20000))")
            connections.append(c)
        pages = sum(c.execute("pragma page_count").fetchone()[0] for c in connections)
        for c in connections:
            c.execute("insert into t values(2, 'x')")
        rss = status(n, "VmRSS") * 1024
        print(f"500 databases of {pages} pages: RSS {rss / MIB:.1f} MiB", flush=True)
        assert rss < 64 * MIB + 12 * pages, rss
        for k in range(0, 500, 100):
            n.check(f"{k}.db")
        for c in connections:
            c.close()
        n.restart()
        c = n.connect("499.db")
        assert c.execute("select count(*) from t").fetchone() == (2,)
        c.close()


# --- without privileges ---

# /dev/fuse as udev makes it; in a container it may be root's alone.
OPEN_DEVICE = ('mknod -m 666 "$0/fuse" c 10 229 && mount --bind "$0/fuse" /dev/fuse && echo user_allow_other > "$0/conf" && '
               '{ [ ! -e /etc/fuse.conf ] || mount --bind "$0/conf" /etc/fuse.conf; } && exec "$@"')


class NobodysNode(Node):
    """Runs as nobody, in a mount namespace of its own, mounted by fusermount3. Nobody else can look into the mount,
    root neither."""

    def __init__(self):
        super().__init__()
        self.binary = os.path.join(self.root, "litefs")  # the build directory may not be nobody's to read
        shutil.copy(LITEFS, self.binary)
        os.makedirs(self.mnt)
        os.makedirs(self.data)
        who = pwd.getpwnam("nobody")
        for path in (self.root, self.mnt, self.data, self.config):
            os.chown(path, who.pw_uid, who.pw_gid)
        self.prefix = ["setpriv", f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--clear-groups"]

    def start(self):
        self.log_file = open(self.log_path, "a")
        self.process = subprocess.Popen(["unshare", "-m", "sh", "-c", OPEN_DEVICE, tempfile.mkdtemp(dir=self.root),
                                         *self.prefix, self.binary, "mount", "-config", self.config],
                                        stdout=self.log_file, stderr=self.log_file, cwd=self.root)
        wait_until(lambda: self.is_mounted() or self.process.poll() is not None, "mount")
        assert self.process.poll() is None, f"litefs exited with {self.process.returncode}:\n{self.log()}"
        return self

    def is_mounted(self):
        with open(f"/proc/{self.process.pid}/mountinfo") as f:
            return any(line.split()[4] == self.mnt for line in f)

    def run(self, *argv):
        inside = ["nsenter", "-t", str(self.process.pid), "-m", "--"]
        r = subprocess.run([*inside, *self.prefix, *argv], capture_output=True, text=True, cwd=self.root, timeout=60)
        assert r.returncode == 0, f"{argv}: {r.stdout}{r.stderr}"
        return r.stdout


def test_mount_without_privileges():
    if not needs_root() or shutil.which("setpriv") is None:
        return
    with NobodysNode() as n:
        for mode in ("wal", "delete"):
            db = n.path(f"{mode}.db")
            n.run("sqlite3", db, f"pragma journal_mode={mode}; create table t(a, b);"
                  "with recursive n(k) as (select 1 union all select k+1 from n where k<1000)"
                  " insert into t select k, hex(randomblob(50)) from n; update t set a=a+1; vacuum;")
            assert n.run("sqlite3", db, "pragma integrity_check; select count(*) from t") == "ok\n1000\n"
            # litefs has to open it, too, and has only what its owner has.
            n.run("chmod", "0040", db)
            assert n.run("stat", "-c", "%a", db) == "640\n"
        with open(f"/proc/{n.process.pid}/status") as f:
            uid = re.search(r"(?m)^Uid:\s+(\d+)", f.read()).group(1)
        assert int(uid) == pwd.getpwnam("nobody").pw_uid
        assert n.stop() == 0, n.log()
        n.start()
        for mode in ("wal", "delete"):
            assert n.run("sqlite3", n.path(f"{mode}.db"), "select count(*) from t") == "1000\n"
            position, image = n.replay(f"{mode}.db")
            assert n.run("cat", n.path(f"{mode}.db-pos")).strip() == position
            out = os.path.join(n.root, "replayed")
            os.chmod(out, 0o644)
            n.run("cmp", out, n.path(f"{mode}.db"))


def test_a_stranger_in_the_mount_of_a_litefs_without_privileges():
    """It can give him no file, and must not make one that is its own user's."""
    if not needs_root() or shutil.which("setpriv") is None or not os.path.exists("/etc/fuse.conf"):
        return
    n = NobodysNode()
    with open(n.config) as f:
        text = f.read()
    with open(n.config, "w") as f:
        f.write(text.replace("fuse:\n", "fuse:\n  allow-other: true\n", 1))
    os.chmod(n.root, 0o755)
    with n:
        n.run("sqlite3", n.path("t.db"), "create table t(x)")
        n.run("chmod", "0777", n.mnt)
        stranger = ["nsenter", "-t", str(n.process.pid), "-m", "--", "setpriv", "--reuid=1", "--regid=1", "--clear-groups"]
        for argv in (["touch", n.path("f")], ["mkdir", n.path("d")], ["ln", "-s", "x", n.path("l")]):
            r = subprocess.run([*stranger, *argv], capture_output=True, text=True, cwd="/")
            assert r.returncode != 0 and "not permitted" in r.stderr, r.stderr
        assert n.log().count("user 1 may not create files") == 1
        r = subprocess.run([*stranger, "sqlite3", n.path("t.db"), "select count(*) from t"], capture_output=True, text=True,
                           cwd="/")
        assert r.stdout == "0\n", r.stderr
        r = subprocess.run([*stranger, "sqlite3", n.path("t.db"), "insert into t values(1)"], capture_output=True, text=True,
                           cwd="/")
        assert r.returncode != 0 and "readonly" in r.stderr, r.stderr


if __name__ == "__main__":
    litefs_fixture.run(sys.modules[__name__])
