"""Programs that know nothing of litefs: the sqlite3 shell, Python's sqlite3 module and Fossil, with their files in the
mount. What they make there is what they make in a plain directory, and the log holds all of it."""
import os
import shutil
import sqlite3
import subprocess
import sys

import litefs_fixture
from litefs_fixture import Node

N_FILES = 200


def run(*argv, stdin=None, cwd=None, env=None):
    r = subprocess.run(argv, input=stdin, capture_output=True, text=True, cwd=cwd, env=env, timeout=120)
    assert r.returncode == 0, f"{argv}: exit status {r.returncode}\n{r.stdout}{r.stderr}"
    return r.stdout


def shell(path, *commands):
    """One run of the sqlite3 shell. An error in its input ends it."""
    return run("sqlite3", "-batch", "-bail", path, stdin="\n".join(commands) + "\n")


def make_tables(path):
    shell(path, "create table t(a integer primary key, b text, c blob);", "create index i on t(b);",
          "create table u(x primary key, y) without rowid;", "create view v as select a, b from t where a % 2;",
          "create trigger r after insert on t begin insert or replace into u values(new.b, new.a); end;",
          "with recursive n(k) as (select 1 union all select k+1 from n where k<3000)"
          " insert into t select k, 'row ' || k % 1000, randomblob(k % 300) from n;",
          "delete from t where a % 5 = 0;")


def content(path):
    return run("sqlite3", "-readonly", path, ".dump")


def is_sound(n, name):
    assert shell(n.path(name), "pragma integrity_check;") == "ok\n"
    n.check(name)


def test_shell_dump_and_read():
    with Node() as n:
        make_tables(n.path("t.db"))
        dump = content(n.path("t.db"))
        for name in ("copy.db", "sub/copy.db"):
            os.makedirs(os.path.dirname(n.path(name)), exist_ok=True)
            run("sqlite3", "-bail", n.path(name), stdin=dump)
            assert content(n.path(name)) == dump
            is_sound(n, name)
        # A whole script from the mount, into a database there.
        with open(n.path("dump.sql"), "w") as f:
            f.write(dump)
        shell(n.path("read.db"), "pragma journal_mode=wal;", f".read {n.path('dump.sql')}")
        assert content(n.path("read.db")) == dump
        is_sound(n, "read.db")


def test_shell_backup_and_restore():
    """Both directions, onto nothing and onto a database that is larger, in WAL mode or not, with another page size."""
    with Node() as n:
        outside = os.path.join(n.root, "outside.db")
        make_tables(n.path("t.db"))
        want = content(n.path("t.db"))
        shell(n.path("t.db"), f".backup {outside}")
        assert content(outside) == want
        for name, before in (("empty.db", []), ("full.db", ["create table z(q);",
                                                            "insert into z values(zeroblob(900000));"]),
                             ("wal.db", ["pragma journal_mode=wal;", "create table z(q);"])):
            if before:
                shell(n.path(name), *before)
            shell(n.path(name), f".restore {outside}")
            assert content(n.path(name)) == want, name
            is_sound(n, name)
        shell(n.path("t.db"), f".backup {n.path('inside.db')}", f".clone {n.path('clone.db')}",
              f"vacuum into '{n.path('into.db')}';")
        for name in ("inside.db", "clone.db", "into.db"):
            assert content(n.path(name)) == want, name
            is_sound(n, name)


def test_shell_import():
    with Node() as n:
        csv = n.path("in.csv")
        with open(csv, "w") as f:
            f.writelines(f'{k},"a ""{k}""",{k * k}\n' for k in range(5000))
        shell(n.path("t.db"), "create table c(a, b, c);", ".mode csv", f".import {csv} c")
        assert shell(n.path("t.db"), "select count(*), sum(c), max(b) from c;") == '5000|41654167500|a "999"\n'
        is_sound(n, "t.db")


def test_shell_archive():
    with Node() as n:
        tree = os.path.join(n.root, "tree")
        os.mkdir(tree)
        for k in range(50):
            with open(os.path.join(tree, f"f{k}"), "w") as f:
                f.write(f"{k}\n" * 100)
        run("sqlite3", n.path("ar.db"), "-Ac", ".", cwd=tree)
        os.mkdir(os.path.join(n.root, "out"))
        run("sqlite3", n.path("ar.db"), "-Ax", cwd=os.path.join(n.root, "out"))
        run("diff", "-r", tree, os.path.join(n.root, "out"))
        is_sound(n, "ar.db")


def test_python_backup_in_steps():
    """The backup interface, a few pages at a time, while the source goes on changing."""
    with Node() as n:
        make_tables(n.path("t.db"))
        for mode in ("wal", "delete"):
            source, copy = n.connect(), n.connect(f"copy-{mode}.db")
            source.execute(f"pragma journal_mode={mode}")

            def write(_status, remaining, _total):
                if remaining and remaining % 3 == 0:
                    source.execute("update t set c=randomblob(100) where a=(abs(random()) % 3000)")
            source.backup(copy, pages=7, progress=write)
            assert list(copy.iterdump()) == list(source.iterdump())
            source.close()
            copy.close()
            is_sound(n, f"copy-{mode}.db")
        is_sound(n, "t.db")


def test_python_module():
    """Blob handles, serialised images, ATTACH with one commit over two databases, user functions, iterdump."""
    with Node() as n:
        c = n.connect()
        c.execute("create table t(a integer primary key, b)")
        c.execute("insert into t values(1, zeroblob(300000))")
        with c.blobopen("t", "b", 1) as blob:
            for k in range(0, 300000, 50000):
                blob.seek(k)
                blob.write(b"%06d" % k)
        got = c.execute("select b from t").fetchone()[0]
        assert all(got[k:k + 6] == b"%06d" % k for k in range(0, 300000, 50000))
        n.check()

        image = c.serialize()
        m = sqlite3.connect(":memory:")
        m.deserialize(image)
        assert m.execute("select b from t").fetchone()[0] == got
        with open(n.path("image.db"), "wb") as f:
            f.write(image)
        d = n.connect("image.db")
        assert d.execute("select b from t").fetchone()[0] == got
        d.close()

        c.execute("attach ? as other", (n.path("image.db"),))
        c.create_function("twice", 1, lambda x: 2 * x, deterministic=True)
        for end, rows in (("rollback", 1), ("commit", 2)):
            c.execute("begin")
            c.execute("insert into main.t values(twice(1), 'x')")
            c.execute("insert into other.t values(twice(1), 'x')")
            c.execute(end)
            for schema in ("main", "other"):
                assert c.execute(f"select count(*) from {schema}.t").fetchone() == (rows,)
        c.close()
        is_sound(n, "t.db")
        is_sound(n, "image.db")


def write_sources(tree, generation):
    # Of another length each time: Fossil takes a file of the same size and second for unchanged.
    os.makedirs(tree, exist_ok=True)
    for k in range(N_FILES):
        path = os.path.join(tree, f"dir{k % 7}", f"file{k}.txt")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if generation == 0 or k % 3 == generation % 3:
            with open(path, "w") as f:
                f.writelines(f"{generation} {k} line {j} {k * j}\n" for j in range(20 + k % 50 + generation))


def test_fossil():
    """A version control system that keeps everything in one database, and its check-out state in a second one, which
    is in the mount as well."""
    if shutil.which("fossil") is None:
        print("fossil is not installed (scripts/setup installs it)")
        sys.exit(77)
    with Node() as n:
        env = {**os.environ, "HOME": n.root, "USER": "tester", "FOSSIL_HOME": n.root}
        tree, again = n.path("tree"), os.path.join(n.root, "again")

        def fossil(*argv, cwd=None):
            return run("fossil", *argv, cwd=cwd, env=env)
        fossil("init", n.path("repo.fossil"))
        write_sources(tree, 0)
        fossil("open", "--nosync", "--keep", n.path("repo.fossil"), cwd=tree)
        for generation in range(4):
            write_sources(tree, generation)
            fossil("addremove", cwd=tree)
            fossil("commit", "--no-warnings", "-m", f"generation {generation}", cwd=tree)
            n.check("repo.fossil")
        assert len(fossil("ls", cwd=tree).splitlines()) == N_FILES
        fossil("rebuild", "--vacuum", n.path("repo.fossil"))
        fossil("rebuild", "--wal", n.path("repo.fossil"))
        report = fossil("test-integrity", "-R", n.path("repo.fossil"))
        assert "0 errors" in report, report

        os.mkdir(again)
        fossil("clone", n.path("repo.fossil"), n.path("clone.fossil"))
        fossil("open", "--nosync", n.path("clone.fossil"), cwd=again)
        for k in range(7):
            run("diff", "-r", os.path.join(tree, f"dir{k}"), os.path.join(again, f"dir{k}"))
        fossil("close", cwd=tree)
        for name in ("repo.fossil", "clone.fossil"):
            is_sound(n, name)


if __name__ == "__main__":
    litefs_fixture.run(sys.modules[__name__])
