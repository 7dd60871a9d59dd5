"""Ordinary tools in the mount: what copies, archives, deletes and versions a directory works as on a disk."""
import errno
import os
import shutil
import sqlite3
import subprocess
import sys

import litefs_fixture
from litefs_fixture import Node, wait_until
from test_files import errno_of, fails_with, read, write

MODES = ("delete", "persist", "truncate", "wal")
COMPANIONS = ("-journal", "-wal", "-shm", "-pos", "-lock")


def sh(command, cwd):
    r = subprocess.run(command, shell=True, cwd=cwd, capture_output=True, text=True)
    assert r.returncode == 0, f"{command}: exit {r.returncode}\n{r.stdout}{r.stderr}"
    assert not r.stderr, f"{command}: {r.stderr}"
    return r.stdout


def has_program(name):
    if shutil.which(name) is not None:
        return True
    print(f"skipped: {name} is not installed", flush=True)
    return False


def make(n, name, mode="wal", rows=10):
    """A database with a connection that stays open, so that its companions are there."""
    c = n.connect(name)
    c.execute(f"pragma journal_mode={mode}")
    c.execute("create table t(x)")
    c.executemany("insert into t values(?)", [(i,) for i in range(rows)])
    return c


def count(path):
    c = sqlite3.connect(path)
    assert c.execute("pragma integrity_check").fetchone()[0] == "ok"
    rows = c.execute("select count(*) from t").fetchone()[0]
    c.close()
    return rows


def make_tree(n, top):
    """Databases in each mode, in use, and plain files beside them."""
    os.makedirs(n.path(f"{top}/sub"))
    write(n.path(f"{top}/note.txt"), b"plain")
    return [make(n, f"{top}/{where}{mode}.db", mode) for mode in MODES for where in ("", "sub/")]


def end(connections):
    for c in connections:
        c.close()


def test_a_listing_has_what_can_be_copied():
    with Node() as n:
        c = make(n, "t.db")
        assert sorted(os.listdir(n.mnt)) == ["t.db", "t.db-shm", "t.db-wal"]
        assert read(n.path("t.db-pos")) == n.pos().encode() + b"\n"
        assert read(n.path(".lag")) == b"+000000000\n" and read(n.path("t.db-lock")) == b""
        c.close()


def test_deleting_a_directory_with_databases_in_use():
    with Node() as n:
        deleters = (
            lambda d: sh(f"rm -r {d}", n.mnt),
            lambda d: sh(f"rm {d}/sub/* {d}/*.db* {d}/*.txt && rmdir {d}/sub {d}", n.mnt),
            lambda d: sh(f"find {d} -delete", n.mnt),
            lambda d: shutil.rmtree(n.path(d)),
            lambda d: sh(f"for f in {d}/*/*.db {d}/*.db; do for c in $f*; do rm $c; done; done; rm -r {d}", n.mnt),
        )
        for i, delete in enumerate(deleters):
            connections = make_tree(n, f"d{i}")
            delete(f"d{i}")
            assert os.listdir(n.mnt) == [], i
            end(connections)
        n.restart()
        assert os.listdir(n.mnt) == []


def test_companions_of_a_deleted_database_remain_as_empty_names():
    with Node() as n:
        os.mkdir(n.path("d"))
        c = make(n, "d/t.db")
        c.execute("insert into t values(1)")
        os.unlink(n.path("d/t.db"))
        assert sorted(os.listdir(n.path("d"))) == ["t.db-shm", "t.db-wal"]
        for name in ("t.db-wal", "t.db-shm"):
            wait_until(lambda: os.stat(n.path("d/" + name)).st_size == 0, "the kernel to hear of it")
            assert read(n.path("d/" + name)) == b""
        assert c.execute("select count(*) from t").fetchone()[0] == 11
        c.close()
        assert n.pos("d/t.db").endswith("8000000000000000")  # that of the deletion
        for name in ("t.db-lock", "t.db-journal"):
            fails_with(errno.ENOENT, os.stat, n.path("d/" + name))
        os.unlink(n.path("d/t.db-wal"))
        fails_with(errno.ENOENT, os.unlink, n.path("d/t.db-wal"))
        os.rmdir(n.path("d"))  # over what is left
        assert os.listdir(n.mnt) == []


def test_remains_go_at_the_next_start():
    with Node() as n:
        c = make(n, "t.db")
        os.unlink(n.path("t.db"))
        c.close()
        write(n.path("plain-wal"), b"")  # of no database
        assert sorted(os.listdir(n.mnt)) == ["plain-wal", "t.db-shm", "t.db-wal"]
        n.restart()
        assert os.listdir(n.mnt) == ["plain-wal"]


def test_a_directory_with_more_than_remains_is_not_empty():
    with Node() as n:
        os.mkdir(n.path("d"))
        c = make(n, "d/t.db")
        write(n.path("d/note-wal"), b"")
        os.unlink(n.path("d/t.db"))
        c.close()
        fails_with(errno.ENOTEMPTY, os.rmdir, n.path("d"))
        assert sorted(os.listdir(n.path("d"))) == ["note-wal", "t.db-shm", "t.db-wal"]


def test_a_database_comes_back_over_its_remains():
    with Node() as n:
        for first in MODES:
            for second in MODES:
                c = make(n, "t.db", first)
                if first != "wal":
                    c.execute("begin")
                    c.execute("insert into t values(100)")
                os.unlink(n.path("t.db"))
                c.close()
                assert "t.db" not in os.listdir(n.mnt)
                for name in os.listdir(n.mnt):
                    os.stat(n.path(name))  # so that the kernel has them
                c = make(n, "t.db", second, rows=3)
                d = n.connect()
                assert d.execute("select count(*) from t").fetchone()[0] == 3
                d.execute("insert into t values(3)")
                assert c.execute("select count(*) from t").fetchone()[0] == 4
                n.check()
                c.close()
                d.close()
                assert count(n.path("t.db")) == 4
                os.unlink(n.path("t.db"))
                for name in os.listdir(n.mnt):
                    os.unlink(n.path(name))


def test_a_plain_file_called_like_a_position_is_hidden_by_the_real_one():
    with Node() as n:
        for name in ("t.db-pos", "t.db-lock"):
            write(n.path(name), b"mine")
            assert read(n.path(name)) == b"mine"
        c = make(n, "t.db")
        wait_until(lambda: read(n.path("t.db-pos")) == n.pos().encode() + b"\n", "the position to show")
        assert sorted(os.listdir(n.mnt)) == ["t.db", "t.db-shm", "t.db-wal"]
        assert n.log().count("t.db-pos is hidden") == 1, n.log()
        c.close()
        n.restart()
        position = n.pos()
        assert position.startswith("00000000000000")
        assert n.log().count("t.db-pos is hidden") == 2, n.log()
        os.unlink(n.path("t.db"))
        assert read(n.path("t.db-pos")) == b"mine"
        assert sorted(os.listdir(n.mnt)) == ["t.db-lock", "t.db-pos"]


def test_a_copied_position_does_not_shadow_the_real_one():
    """An old copy may hold one, from when they were listed. It is written before its database is there, or not at all."""
    with Node() as n:
        make(n, "t.db").close()
        backup = os.path.join(n.root, "bk")
        os.mkdir(backup)
        shutil.copy(n.path("t.db"), backup)
        write(os.path.join(backup, "t.db-pos"), b"0000000000000099/c000000000000000\n")
        for i, order in enumerate((("t.db", "t.db-pos"), ("t.db-pos", "t.db"))):
            for d, command in ((f"cp{i}", "cp -a {0}/{1} ."), (f"tar{i}", "tar cf - -C {0} {1} | tar xf -")):
                os.mkdir(n.path(d))
                for name in order:
                    subprocess.run(command.format(backup, name), shell=True, cwd=n.path(d), stderr=subprocess.DEVNULL,
                                   check=False)
                wait_until(lambda: n.pos(f"{d}/t.db").startswith("0000000000000001"), "the true position")
                assert os.listdir(n.path(d)) == ["t.db"]


def test_copying_a_live_mount():
    with Node() as n:
        connections = make_tree(n, "d")
        out = os.path.join(n.root, "out")
        os.mkdir(out)
        commands = ["cp -a . {out}/cp", "mkdir {out}/tar && tar cf - . | tar xf - -C {out}/tar"]
        if has_program("rsync"):
            commands.append("rsync -a ./ {out}/rsync/")
        for command in commands:
            sh(command.format(out=out), n.mnt)
        for made in os.listdir(out):
            for where in ("", "sub/"):
                for mode in MODES:
                    assert count(os.path.join(out, made, "d", where + mode + ".db")) == 10, (made, mode)
        end(connections)


def check_copies(n, top, what):
    for where in ("", "sub/"):
        for mode in MODES:
            assert count(n.path(f"{top}/{where}{mode}.db")) == 10, (what, top, mode)
            n.check(f"{top}/{where}{mode}.db")


def test_copying_into_the_mount():
    """Of databases in use, with what goes with them, and back over databases that nobody uses."""
    with Node() as n:
        connections = make_tree(n, "d")
        used, unused = os.path.join(n.root, "used"), os.path.join(n.root, "unused")
        sh(f"cp -a . {used}", n.mnt)
        end(connections)
        sh(f"cp -a . {unused}", n.mnt)
        sh(f"cp -a {used}/d by_cp && mkdir by_tar && tar cf - -C {used}/d . | tar xf - -C by_tar", n.mnt)
        commands = [f"cp -a {unused}/. .", f"tar cf - -C {unused} . | tar xf -"]
        if has_program("rsync"):
            sh(f"rsync -a {used}/d/ by_rsync/", n.mnt)
            check_copies(n, "by_rsync", "rsync")
            commands.append(f"rsync -a --delete {unused}/ ./")
        check_copies(n, "by_cp", "cp")
        check_copies(n, "by_tar", "tar")
        for command in commands:
            sh(command, n.mnt)
            check_copies(n, "d", command)


def test_hard_links():
    with Node() as n:
        write(n.path("a"), b"one")
        os.link(n.path("a"), n.path("b"))
        a, b = os.stat(n.path("a")), os.stat(n.path("b"))
        assert (a.st_ino, a.st_nlink) == (b.st_ino, b.st_nlink) and a.st_nlink == 2
        assert os.path.samefile(n.path("a"), n.path("b"))
        for name, other in (("a", "b"), ("b", "a")):
            write(n.path(name), b"by " + name.encode())
            assert read(n.path(other)) == b"by " + name.encode()
        fails_with(errno.EEXIST, os.link, n.path("a"), n.path("b"))
        os.unlink(n.path("a"))
        assert read(n.path("b")) == b"by b" and os.stat(n.path("b")).st_nlink == 1
        # A database has one name; and a file with two does not become one.
        c = make(n, "t.db")
        for name in ("t.db", "t.db-wal", "t.db-pos"):
            fails_with(errno.EPERM, os.link, n.path(name), n.path("other"))
        fails_with(errno.EPERM, os.link, n.path("b"), n.path("t.db-journal"))
        c.close()
        copy = os.path.join(n.root, "copy")
        shutil.copy(n.path("t.db"), copy)
        write(n.path("x"), b"")
        os.link(n.path("x"), n.path("y"))
        write(n.path("x"), read(copy))
        fails_with(errno.ENOENT, os.stat, n.path("x-pos"))
        assert read(n.path("y")) == read(copy)
        assert 'db="x"' in n.log() and n.log().count("the file has another name, too") == 1, "it is told of, once"
        n.restart()
        fails_with(errno.ENOENT, os.stat, n.path("x-pos"))
        os.unlink(n.path("y"))
        n.restart()
        assert count(n.path("x")) == 10 and n.pos("x")
        # Copied with what they are.
        write(n.path("b"), b"b")
        os.link(n.path("b"), n.path("c"))
        sh("mkdir ../cp && cp -a b c ../cp && tar cf - b c | (mkdir d && tar xf - -C d)", n.mnt)
        for d in (os.path.join(n.root, "cp"), n.path("d")):
            assert os.stat(d + "/b").st_nlink == 2 and os.path.samefile(d + "/b", d + "/c")


def test_lock_files():
    if not has_program("lockfile-create"):
        return
    with Node() as n:
        make(n, "t.db").close()
        sh("lockfile-create --retry 0 t.db && lockfile-check t.db", n.mnt)
        assert subprocess.run(["lockfile-create", "--retry", "0", "t.db"], cwd=n.mnt, stderr=subprocess.DEVNULL).returncode != 0
        sh("lockfile-touch --oneshot t.db && lockfile-remove t.db", n.mnt)
        assert os.listdir(n.mnt) == ["t.db"]


def test_git():
    if not has_program("git"):
        return
    with Node() as n:
        connections = make_tree(n, "d")
        git = "git -c user.name=n -c user.email=e -c init.defaultBranch=main -c core.autocrlf=false "
        sh(git + "init -q . && git config user.name n && git config user.email e && git add -A && git commit -qm one", n.mnt)
        assert sh("git status --short", n.mnt) == ""
        assert "pos" not in sh("git ls-files", n.mnt)
        connections[0].execute("insert into t values(1)")
        assert "d/delete.db" in sh("git status --short", n.mnt)
        out = os.path.join(n.root, "clone")
        sh(f"git clone -q {n.mnt} {out}", n.root)
        assert count(os.path.join(out, "d/wal.db")) == 10
        end(connections)
        sh(f"git clone -q {out} again", n.mnt)
        assert count(n.path("again/d/sub/delete.db")) == 10
        n.check("again/d/sub/delete.db")
        sh("git checkout -q -- d/delete.db", n.mnt)
        assert count(n.path("d/delete.db")) == 10


def test_git_clone_into_an_empty_mount():
    if not has_program("git"):
        return
    with Node() as n:
        source = os.path.join(n.root, "source")
        os.mkdir(source)
        write(os.path.join(source, "f"), b"1")
        sh("git init -q . && git -c user.name=n -c user.email=e add f && git -c user.name=n -c user.email=e commit -qm one", source)
        sh(f"git clone -q {source} .", n.mnt)
        assert read(n.path("f")) == b"1"


if __name__ == "__main__":
    litefs_fixture.run(sys.modules[__name__])
