"""The mount as a file system: plain files, directories, attributes, names, and what LiteFS shows."""
import errno
import mmap
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time

import litefs_fixture
from litefs_fixture import Node, wait_until

SEED = int(os.environ.get("SEED", random.randrange(1 << 30)))
print("SEED=%d" % SEED, flush=True)


def errno_of(fn, *args):
    try:
        fn(*args)
    except OSError as e:
        return e.errno
    return 0


def fails_with(code, fn, *args):
    got = errno_of(fn, *args)
    assert got == code, f"{errno.errorcode.get(got, 'success')}, expected {errno.errorcode[code]}"


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def test_plain_files_and_directories():
    with Node() as n:
        p = n.path
        write(p("a.txt"), b"hello")
        assert read(p("a.txt")) == b"hello"
        os.mkdir(p("d"))
        os.mkdir(p("d/e"))
        write(p("d/e/f"), b"x" * 300000)
        os.rename(p("a.txt"), p("d/b.txt"))
        assert sorted(os.listdir(p("d"))) == ["b.txt", "e"]
        os.rename(p("d/b.txt"), p("d/e/f"))
        assert read(p("d/e/f")) == b"hello"
        fails_with(errno.ENOTEMPTY, os.rmdir, p("d"))
        fails_with(errno.ENOENT, os.stat, p("a.txt"))
        fails_with(errno.EEXIST, os.mkdir, p("d"))
        fails_with(errno.ENOTDIR, os.rmdir, p("d/e/f"))
        fails_with(errno.EISDIR, os.unlink, p("d"))
        os.rename(p("d"), p("g"))
        assert read(p("g/e/f")) == b"hello"
        os.symlink("g/e/f", p("link"))
        assert read(p("link")) == b"hello" and os.readlink(p("link")) == "g/e/f"
        os.unlink(p("link"))
        shutil.rmtree(p("g"))
        assert os.listdir(n.mnt) == []
        fails_with(errno.ENAMETOOLONG, open, p("n" * 256), "w")
        write(p("n" * 255), b"")
        n.restart()
        assert len(os.listdir(n.mnt)) == 1


def test_many_entries():
    with Node() as n:
        names = {f"file-{i:05d}" for i in range(3000)}
        for name in names:
            os.close(os.open(n.path(name), os.O_CREAT | os.O_WRONLY))
        assert set(os.listdir(n.mnt)) == names


def test_attributes():
    with Node() as n:
        f = n.path("f")
        write(f, b"1")
        os.chmod(f, 0o640)
        os.chown(f, 1234, 4321)
        os.utime(f, (1000, 2000))
        st = os.stat(f)
        assert (st.st_mode, st.st_uid, st.st_gid, st.st_mtime, st.st_size) == (0o100640, 1234, 4321, 2000, 1)
        c = n.connect()
        c.execute("create table t(x)")
        c.close()
        os.chmod(n.path("t.db"), 0o600)
        os.chown(n.path("t.db"), 77, 88)
        st = os.stat(n.path("t.db"))
        assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o600, 77, 88)
        vfs = os.statvfs(n.mnt)
        assert vfs.f_blocks == os.statvfs(n.data).f_blocks and vfs.f_namemax >= 255


def test_mtime_moves_with_commits():
    with Node() as n:
        c = n.connect()
        c.execute("pragma journal_mode=wal")
        c.execute("create table t(x)")
        for _ in range(2):
            before = os.stat(n.path("t.db")).st_mtime
            time.sleep(0.05)
            c.execute("insert into t values(1)")
            wait_until(lambda: os.stat(n.path("t.db")).st_mtime > before, "mtime to move")
        c.close()


def test_removal_of_a_database_with_all_that_goes_with_it():
    with Node() as n:
        for mode in ("delete", "wal"):
            os.mkdir(n.path("d"))
            for name in ("t.db", "d/t.db"):
                c = n.connect(name)
                c.execute(f"pragma journal_mode={mode}")
                c.execute("create table t(x)")
                c.close()
            subprocess.run(f"rm {n.path('t.db')}*", shell=True, check=True)
            shutil.rmtree(n.path("d"))
            assert os.listdir(n.mnt) == []


def test_files_that_litefs_makes():
    with Node() as n:
        assert read(n.path(".lag")) == b"+000000000\n"
        fails_with(errno.ENOENT, os.stat, n.path(".primary"))
        fails_with(errno.ENOENT, os.stat, n.path("t.db-pos"))
        c = n.connect()
        c.execute("create table t(x)")
        assert os.stat(n.path("t.db-pos")).st_size == 34
        fd = os.open(n.path("t.db-pos"), os.O_RDONLY)
        first = os.pread(fd, 100, 0)
        c.execute("insert into t values(1)")
        second = os.pread(fd, 100, 0)
        os.close(fd)
        assert len(first) == len(second) == 34 and first != second
        assert second.endswith(b"\n") and second[16:17] == b"/" and first[:16] < second[:16]
        assert set(os.listdir(n.mnt)) == {"t.db"}
        fails_with(errno.EACCES, os.unlink, n.path("t.db-pos"))
        fails_with(errno.EACCES, open, n.path("t.db-pos"), "w")
        c.execute("pragma journal_mode=wal")
        c.execute("insert into t values(2)")
        assert set(os.listdir(n.mnt)) == {"t.db", "t.db-wal", "t.db-shm"}
        c.close()


def test_databases_in_subdirectories():
    with Node() as n:
        os.makedirs(n.path("tenants/a%b"))
        for name in ("tenants/1.db", "tenants/a%b/2.db"):
            c = n.connect(name)
            c.execute("pragma journal_mode=wal")
            c.execute("create table t(x)")
            c.execute("insert into t values(7)")
            c.close()
            n.check(name)
        write(n.path("tenants/note"), b"plain")
        assert sorted(os.listdir(n.path("tenants"))) == ["1.db", "a%b", "note"]
        fails_with(errno.ENOTEMPTY, os.rmdir, n.path("tenants/a%b"))
        n.restart()
        assert n.connect("tenants/a%b/2.db").execute("select x from t").fetchone()[0] == 7
        n.check("tenants/1.db")
        os.unlink(n.path("tenants/a%b/2.db"))
        os.rmdir(n.path("tenants/a%b"))


def test_moving_a_database():
    with Node() as n:
        c = n.connect("a.db")
        c.execute("create table t(x)")
        c.execute("insert into t values(5)")
        c.close()
        shutil.move(n.path("a.db"), n.path("b.db"))
        assert not os.path.exists(n.path("a.db"))
        assert n.connect("b.db").execute("select x from t").fetchone()[0] == 5
        n.check("b.db")


def test_what_is_no_database_does_not_replace_one():
    with Node() as n:
        for mode in ("delete", "wal"):
            c = n.connect()
            c.execute(f"pragma journal_mode={mode}")
            c.execute("create table t(x)")
            c.execute("insert into t values(5)")
            c.close()
            write(os.path.join(n.root, "junk"), b"no database " * 3000)
            image = read(n.path("t.db"))
            r = subprocess.run(["cp", os.path.join(n.root, "junk"), n.path("t.db")], capture_output=True, text=True)
            assert r.returncode == 1 and "Input/output error" in r.stderr, r
            wait_until(lambda: read(n.path("t.db")) == image, "the database to be what it was")
            c = n.connect()
            assert c.execute("select x from t").fetchall() == [(5,)]
            c.execute("insert into t values(6)")
            assert c.execute("pragma integrity_check").fetchone()[0] == "ok"
            c.close()
            n.check()
            os.unlink(n.path("t.db"))
            # Where it stays open, it is said once, whatever is tried again.
            c = n.connect()
            c.execute("create table t(x)")
            c.close()
            before = n.log().count("refused")
            fd = os.open(n.path("t.db"), os.O_RDWR)
            os.write(fd, b"no database " * 100)
            for _ in range(2):
                fails_with(errno.EIO, os.fsync, fd)
            time.sleep(1.2)  # more than one look at it
            os.close(fd) # is told nothing where the file was open for reading, too: see wants_flush in fuse/fs_file.c
            wait_until(lambda: not read(n.path("t.db")).startswith(b"no database"), "the database to be what it was")
            assert n.log().count("refused") == before + 1, n.log()
            n.check()
            assert n.connect().execute("select count(*) from t").fetchone() == (0,)
            os.unlink(n.path("t.db"))
        assert n.log().count("refused") == 4 and "commit failed" not in n.log(), n.log()


def encrypted(path):
    """As an extension that encrypts leaves it: pages that nobody can read, written by SQLite with a journal."""
    with open(path, "wb") as f:
        f.write(os.urandom(8192))
    with open(path + "-journal", "wb") as f:
        f.write(bytes.fromhex("d9d505f920a163d7") + bytes(504))
    os.unlink(path + "-journal")


def test_what_is_not_protected_is_told_of_once():
    with Node() as n:
        for _ in range(3):
            encrypted(n.path("secret.db"))
        assert n.log().count('is it encrypted?') == 1 and 'db="secret.db"' in n.log(), n.log()
        write(n.path("wal.db"), os.urandom(8192))
        for _ in range(2):
            write(n.path("wal.db-wal"), bytes.fromhex("377f0682002de218") + bytes(100))
        assert n.log().count('is it encrypted?') == 2 and 'db="wal.db"' in n.log(), n.log()
        plain = os.path.join(n.root, "plain.db")
        c = sqlite3.connect(plain)
        c.execute("create table t(x)")
        c.close()
        for _ in range(2):
            shutil.copy(plain, n.path("old-wal"))
        assert n.log().count("its name is that of a companion") == 1, n.log()
        # What is neither says nothing.
        write(n.path("notes.txt"), b"x" * 1024)
        write(n.path("image-wal"), os.urandom(4096))
        write(n.path("x-journal"), b"text")
        os.unlink(n.path("x-journal"))
        assert n.log().count("level=WARN") == 3, n.log()


def test_path_too_long_for_a_database():
    with Node() as n:
        d = os.path.join("d" * 100, "e" * 100)
        os.makedirs(n.path(d))
        c = n.connect(os.path.join(d, "a" * 10))
        c.execute("create table t(x)")
        c.close()
        c = n.connect(os.path.join(d, "a" * 11))
        fails = None
        try:
            c.execute("create table t(x)")
        except sqlite3.OperationalError as e:
            fails = e
        assert fails is not None and "has 216 bytes at most" in n.log(), (fails, n.log())
        c.close()
        write(n.path(d + "/note"), b"not a database")
        assert read(n.path(d + "/note")) == b"not a database"


def test_names_like_companions_of_no_database():
    with Node() as n:
        for name in ("x-journal", "x-wal", "x-shm", "x-pos"):
            write(n.path(name), name.encode())
            assert read(n.path(name)) == name.encode()
        n.restart()
        assert read(n.path("x-wal")) == b"x-wal"


def test_unlinked_file_stays_readable():
    with Node() as n:
        write(n.path("f"), b"abc")
        with open(n.path("f"), "r+b") as f:
            os.unlink(n.path("f"))
            f.seek(3)
            f.write(b"def")
            f.seek(0)
            assert f.read() == b"abcdef"
        c = n.connect()
        c.execute("create table t(x)")
        c.execute("insert into t values(1)")
        os.unlink(n.path("t.db"))
        assert c.execute("select x from t").fetchone()[0] == 1


def random_file_ops(path, rng, steps):
    """Random writes, cuts, reads and mappings, compared with a model byte by byte."""
    model = bytearray()
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    for _ in range(steps):
        op = rng.randrange(6)
        off = rng.randrange(200000)
        size = rng.choice([1, 100, 4096, 30000])
        if op < 2:
            data = rng.randbytes(size)
            os.pwrite(fd, data, off)
            if len(model) < off:
                model.extend(bytes(off - len(model)))
            model[off:off + size] = data
        elif op == 2:
            os.ftruncate(fd, off)
            if off < len(model):
                del model[off:]
            else:
                model.extend(bytes(off - len(model)))
        elif op == 3:
            assert os.pread(fd, size, off) == model[off:off + size]
        elif op == 4 and model:
            with mmap.mmap(fd, len(model)) as m:
                at = rng.randrange(len(model))
                piece = rng.randbytes(min(500, len(model) - at))
                m[at:at + len(piece)] = piece
                model[at:at + len(piece)] = piece
        elif op == 5:
            os.fsync(fd)
            assert os.fstat(fd).st_size == len(model)
    os.close(fd)
    assert read(path) == model


def test_random_operations_on_plain_files():
    rng = random.Random(SEED)
    with Node() as n:
        for i in range(3):
            random_file_ops(n.path(f"f{i}"), rng, 400)
        subprocess.run(["sh", "-c", 'echo one > "$0"; echo two >> "$0"; cat "$0" | grep -q two', n.path("app")],
                       check=True)


def test_second_daemon_on_the_data_directory_is_refused():
    with Node() as n:
        r = subprocess.run([litefs_fixture.LITEFS, "mount", "-config", n.config], capture_output=True, text=True)
        assert r.returncode == 1 and "in use by another litefs" in r.stderr, r


def test_database_that_cannot_be_taken_over_fails_its_sync():
    """What is no database to litefs has not been made durable as one."""
    with Node() as n:
        image = os.path.join(n.root, "plain.db")
        c = sqlite3.connect(image)
        c.execute("create table t(x)")
        c.commit()
        c.close()
        write(os.path.join(n.data, "dbs", "t.db"), b"in the way")
        fd = os.open(n.path("t.db"), os.O_RDWR | os.O_CREAT)
        os.write(fd, read(image))
        fails_with(errno.ENOTDIR, os.fsync, fd)
        fails_with(errno.ENOTDIR, os.close, fd)


def test_stale_mount_of_a_killed_daemon_is_cleared():
    n = Node()
    with n:
        c = n.connect()
        c.execute("create table t(x)")
        c.close()
        n.process.kill()
        n.process.wait()
        n.log_file.close()
        # The guard, where it is root, aborts the connection.
        wait_until(lambda: errno_of(os.listdir, n.mnt) in (errno.ENOTCONN, errno.ECONNABORTED), "an error")
        n.start()
        n.check()


def test_stop_with_open_files_lets_reads_go_on():
    with Node() as n:
        c = n.connect()
        c.execute("create table t(x)")
        c.execute("insert into t values(1)")
        n.process.terminate()
        wait_until(lambda: not litefs_fixture.is_mounted(n.mnt), "detach")
        assert c.execute("select x from t").fetchone()[0] == 1
        c.close()
        assert n.process.wait(60) == 0
        n.process = None


def test_replica_role_is_read_only():
    with Node() as n:
        c = n.connect()
        c.execute("create table t(x)")
        c.execute("insert into t values(1)")
        c.close()
        assert n.stop() == 0
        with open(n.config, "a") as f:
            f.write("  candidate: false\n  advertise-url: http://other:20202\n")
        n.start()
        # Modes are the primary's: what is shown to an application before a promotion would bind it after.
        assert stat.S_IMODE(os.stat(n.mnt).st_mode) == 0o755
        assert stat.S_IMODE(os.stat(n.path("t.db")).st_mode) == 0o644
        wait_until(lambda: os.path.exists(n.path(".primary")), "the replica to know its primary")
        assert read(n.path(".primary")) == b"localhost\n"
        c = n.connect()
        assert c.execute("select x from t").fetchone()[0] == 1
        try:
            c.execute("insert into t values(2)")
            raise AssertionError("a replica accepted a write")
        except Exception as e:
            assert "readonly" in str(e), e
        c.close()


def adopt_while(n, name, during):
    """Copies a database to @name that takes a while to be taken over, and calls during() meanwhile: what that returns."""
    plain = os.path.join(n.root, "plain.db")
    if not os.path.exists(plain):
        c = sqlite3.connect(plain)
        c.execute("create table t as with recursive r(i) as (select 1 union all select i+1 from r where i<20) "
                  "select randomblob(1000000) x from r")
        c.commit()
        c.close()
    copy = threading.Thread(target=shutil.copyfile, args=(plain, n.path(name)))
    copy.start()
    wait_until(lambda: os.path.exists(n.data + "/dbs/" + name.replace("/", "%2F")), "the file to be taken over")
    r = during()
    copy.join(60)
    assert not copy.is_alive()
    return r


def test_rename_while_a_file_is_taken_over():
    """It waits until that is done: neither the database's directory nor another file moves meanwhile."""
    with Node() as n:
        os.makedirs(n.path("a/b"))
        assert adopt_while(n, "a/b/x.db", lambda: errno_of(os.rename, n.path("a"), n.path("c"))) == 0
        write(n.path("y"), b"no database")
        assert adopt_while(n, "z.db", lambda: errno_of(os.rename, n.path("y"), n.path("z.db"))) == 0
        assert adopt_while(n, "v.db", lambda: errno_of(os.rename, n.path("v.db"), n.path("w.db"))) == 0
        n.restart()
        assert sorted(os.listdir(n.mnt)) == ["c", "w.db", "z.db"]
        assert read(n.path("z.db")) == b"no database"
        for name in ("c/b/x.db", "w.db"):
            assert n.connect(name).execute("select count(*) from t").fetchone() == (20,)
            n.check(name)


if __name__ == "__main__":
    litefs_fixture.run(sys.modules[__name__])
