"""A second local user beside litefs: what a plain directory would refuse him, the mount refuses; and the data directory."""
import ctypes
import errno
import importlib
import json
import os
import shutil
import signal
import sqlite3
import stat
import sys
import tempfile
import traceback

import litefs_fixture
from litefs_fixture import Node, in_step, replica_of, stop_process, wait_until

STRANGER = 65534
GROUP = 54321
ALLOW_OTHER = "fuse:\n  allow-other: true\n"

# What a user does in the directory argv[1]: one line of JSON, {step: what came of it}.
BATTERY = r'''
import errno, json, os, sqlite3, stat, sys
top, done = sys.argv[1], {}
p = lambda name: os.path.join(top, name)
def step(name, fn):
    try:
        r = fn()
    except OSError as e:
        r = errno.errorcode[e.errno]
    except sqlite3.Error as e:
        r = str(e)
    done[name] = r
def slurp(name):
    with open(p(name), "rb") as f:
        return len(f.read()) > 0
def modify(name):
    os.close(os.open(p(name), os.O_RDWR))
def make(name, mode=0o666):
    os.close(os.open(p(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    st = os.stat(p(name))
    return [oct(st.st_mode), st.st_uid, st.st_gid]
def make_dir(name):
    os.mkdir(p(name))
    st = os.stat(p(name))
    return [oct(st.st_mode), st.st_uid, st.st_gid]
def make_link(name):
    os.symlink("/etc/passwd", p(name))
    st = os.lstat(p(name))
    return [st.st_uid, st.st_gid]
def sql(name, statement):
    c = sqlite3.connect(p(name), isolation_level=None, timeout=20)
    r = c.execute(statement).fetchall()
    c.close()
    return r
os.umask(0o022)
for name in ("secret.db", "secret.db-wal", "secret.db-shm", "public.db", "public.db-wal", "closed/x.db", "plain", "hidden"):
    step("read " + name, lambda: slurp(name))
    step("write " + name, lambda: modify(name))
    step("truncate " + name, lambda: os.truncate(p(name), 0))
    step("unlink " + name, lambda: os.unlink(p(name)))
    step("chmod " + name, lambda: os.chmod(p(name), 0o666))
    step("chown " + name, lambda: os.chown(p(name), os.getuid(), os.getgid()))
    step("touch " + name, lambda: os.utime(p(name)))
    step("touch at " + name, lambda: os.utime(p(name), (1, 1)))
    step("rename " + name, lambda: os.rename(p(name), p("mine/stolen")))
step("list closed", lambda: sorted(os.listdir(p("closed"))))
step("enter closed", lambda: os.chdir(p("closed")))
step("create in top", lambda: make("new"))
step("mkdir in top", lambda: make_dir("newdir"))
step("symlink in top", lambda: make_link("newlink"))
step("journal in top", lambda: make("public.db-journal"))
step("chmod top", lambda: os.chmod(top, 0o777))
step("unlink in sticky", lambda: os.unlink(p("sticky/theirs")))
step("unlink database in sticky", lambda: os.unlink(p("sticky/theirs.db")))
step("rename in sticky", lambda: os.rename(p("sticky/theirs"), p("sticky/x")))
step("unlink link in sticky", lambda: os.unlink(p("sticky/link")))
step("create in sticky", lambda: make("sticky/mine"))
step("own link in sticky", lambda: make_link("sticky/mylink"))
step("unlink own in sticky", lambda: (os.unlink(p("sticky/mine")), os.unlink(p("sticky/mylink"))))
step("create in setgid", lambda: make("setgid/new"))
step("mkdir in setgid", lambda: make_dir("setgid/newdir"))
step("mkdir in that", lambda: make_dir("setgid/newdir/d"))
step("create in that", lambda: make("setgid/newdir/d/f"))
step("give away", lambda: os.chown(p("setgid/new"), 0, -1))
step("give to a foreign group", lambda: os.chown(p("setgid/newdir/d/f"), -1, 0))
step("mode 600", lambda: make("mine/private", 0o600))
step("closed for itself", lambda: (os.chmod(p("mine/private"), 0), modify("mine/private")))
def raise_link():
    os.symlink(p("plain"), p("mine/link"))
    os.chmod(p("mine/link"), 0o666)
step("chmod by link", raise_link)
step("select public", lambda: sql("public.db", "select count(*) from t"))
step("insert public", lambda: sql("public.db", "insert into t values(1)"))
step("select secret", lambda: sql("secret.db", "select count(*) from t"))
for mode in ("delete", "wal", "truncate"):
    step("own database " + mode, lambda: sql("mine/own.db", "pragma journal_mode=" + mode))
    step("own table " + mode, lambda: sql("mine/own.db", "create table %s_t(x)" % mode))
    step("own insert " + mode, lambda: sql("mine/own.db", "insert into %s_t values(1)" % mode))
step("own database's owner", lambda: [os.stat(p("mine/own.db")).st_uid, oct(os.stat(p("mine/own.db")).st_mode)])
step("group database", lambda: sql("setgid/shared.db", "insert into t values(2)"))
print(json.dumps(done))
'''


def as_user(code, *args, uid=STRANGER, groups=()):
    """(exit status, output) of the code, run by that user: in a fork, for he may not be able to reach this interpreter."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(out)
            os.dup2(into, 1)
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            os.chdir("/")
            sys.argv = ["-c", *map(str, args)]
            sys.stdout = open(1, "w", closefd=False)
            exec(compile(code, "<as_user>", "exec"), {"__name__": "__main__"})
            sys.stdout.flush()
            status = 0
        except OSError:
            pass  # which is what most are asked for
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(into)
    with open(out) as f:
        text = f.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text


def succeeds(code, *args, **kw):
    return as_user("import os,sys\np=sys.argv[1]\n" + code, *args, **kw)[0] == 0


def fill(top):
    """The same for a plain directory and for a mount: what a root and a stranger have in one place. The connections keep
    the WALs there."""
    os.chmod(top, 0o755)
    kept = []
    for name, mode in (("secret.db", 0o600), ("public.db", 0o644), ("closed/x.db", 0o666), ("sticky/theirs.db", 0o666),
                       ("setgid/shared.db", 0o660)):
        directory = os.path.join(top, os.path.dirname(name))
        if not os.path.isdir(directory):
            os.mkdir(directory)
        c = sqlite3.connect(os.path.join(top, name), isolation_level=None)
        c.execute("create table t(x)")
        os.chmod(os.path.join(top, name), mode)
        if name in ("secret.db", "public.db"):
            c.execute("pragma journal_mode=wal")
            c.execute("insert into t values(1)")
            kept.append(c)
        else:
            c.close()
    os.mkdir(os.path.join(top, "mine"))
    os.chown(os.path.join(top, "mine"), STRANGER, STRANGER)
    os.chmod(os.path.join(top, "closed"), 0o700)
    os.chmod(os.path.join(top, "sticky"), 0o1777)
    os.chown(os.path.join(top, "setgid"), 0, GROUP)
    os.chmod(os.path.join(top, "setgid"), 0o2775)
    os.chown(os.path.join(top, "setgid/shared.db"), 0, GROUP)
    os.symlink("theirs", os.path.join(top, "sticky/link"))
    for name, mode in (("plain", 0o644), ("hidden", 0o600), ("sticky/theirs", 0o666)):
        with open(os.path.join(top, name), "w") as f:
            f.write("root's")
        os.chmod(os.path.join(top, name), mode)
    return kept


def open_way(n):
    os.chmod(n.root, 0o755)
    return n


def node(extra=""):
    """With allow-other, and reached by everybody."""
    n = Node(extra=extra)
    with open(n.config) as f:
        text = f.read()
    with open(n.config, "w") as f:
        f.write(text.replace("fuse:\n", ALLOW_OTHER, 1))
    return open_way(n)


def node_replica(p, extra=""):
    return node("  candidate: false\n  advertise-url: http://127.0.0.1:%d\n  reconnect-delay: 100ms\n" % p.port() + extra)


def test_a_stranger_may_what_a_plain_directory_lets_him():
    with tempfile.TemporaryDirectory() as plain, node() as n:
        results = []
        for top in (plain, n.mnt):
            kept = fill(top)
            results.append(json.loads(as_user(BATTERY, top, groups=[GROUP])[1]))
            for c in kept:
                assert c.execute("pragma integrity_check").fetchone() == ("ok",)
                c.close()
        assert len(results[0]) > 100
        differences = {k: (v, results[1].get(k)) for k, v in results[0].items() if v != results[1].get(k)}
        assert differences == {}, differences


def test_without_allow_other_nobody_enters():
    with open_way(Node()) as n:
        kept = fill(n.mnt)
        for name in ("", "public.db", "public.db-pos", "sticky/theirs", ".lag"):
            assert not succeeds("os.stat(p)", n.path(name)), name
        for c in kept:
            c.close()


def test_position_and_lock_are_for_who_may_have_the_database():
    with node() as n:
        kept = fill(n.mnt)
        for name in ("secret.db", "public.db", "setgid/shared.db"):
            db = os.stat(n.path(name))
            for suffix in ("-pos", "-lock", "-wal", "-shm"):
                if os.path.exists(n.path(name + suffix)):
                    st = os.stat(n.path(name + suffix))
                    assert (st.st_mode, st.st_uid, st.st_gid) == (db.st_mode, db.st_uid, db.st_gid), (name, suffix)
        assert not succeeds("open(p, 'rb').read()", n.path("secret.db-pos"))
        assert succeeds("open(p, 'rb').read()", n.path("public.db-pos"))
        assert not succeeds("open(p, 'r+')", n.path("public.db-lock"))
        assert not succeeds("open(p)", n.path("secret.db-lock"))
        for c in kept:
            c.close()


def test_companions_follow_the_database_at_once():
    """The kernel keeps their modes for a day."""
    with node() as n:
        c = n.connect("t.db")
        c.execute("pragma journal_mode=wal")
        c.execute("create table t(x)")
        for name in ("t.db", "t.db-wal", "t.db-shm", "t.db-pos"):
            assert succeeds("open(p, 'rb').read()", n.path(name)), name
        os.chmod(n.path("t.db"), 0o600)
        for name in ("t.db", "t.db-wal", "t.db-shm", "t.db-pos"):
            assert not succeeds("open(p)", n.path(name)), name
        os.chown(n.path("t.db"), STRANGER, STRANGER)
        for name in ("t.db", "t.db-wal", "t.db-shm", "t.db-pos"):
            assert succeeds("open(p, 'rb').read()", n.path(name)), name
        os.chmod(n.path("t.db-wal"), 0o666)  # as SQLite does for root: no effect of its own
        os.chown(n.path("t.db-shm"), 0, 0)
        assert stat.S_IMODE(os.stat(n.path("t.db-wal")).st_mode) == 0o600
        assert os.stat(n.path("t.db-shm")).st_uid == STRANGER
        c.close()


def every_mode(top):
    for path, dirs, files in os.walk(top):
        for name in dirs + files:
            yield os.path.join(path, name), os.lstat(os.path.join(path, name))


def test_no_way_to_root_by_set_id_files():
    with node() as n:
        shutil.copy("/bin/true", n.path("helper"))
        os.chmod(n.path("helper"), 0o6755)
        assert stat.S_IMODE(os.stat(n.path("helper")).st_mode) == 0o755
        os.mkdir(n.path("mine"))
        os.chown(n.path("mine"), STRANGER, STRANGER)
        assert not succeeds("import shutil\nshutil.copy('/bin/true', p)\nos.chmod(p, 0o4755)\nos.chown(p, 0, 0)", n.path("mine/h"))
        fd = os.open(n.path("mine/sgid"), os.O_CREAT | os.O_WRONLY, 0o6777)
        os.close(fd)
        c = n.connect()
        c.execute("create table t(x)")
        c.close()
        os.chmod(n.path("t.db"), 0o6755)
        for path, st in every_mode(n.data):
            assert stat.S_ISDIR(st.st_mode) or not st.st_mode & 0o6000, path
        n.stop()
        os.chmod(os.path.join(n.data, "files/helper"), 0o6755)  # as an earlier version left it
        n.start()
        assert stat.S_IMODE(os.stat(os.path.join(n.data, "files/helper")).st_mode) == 0o755


def test_data_directory_is_closed_whatever_the_umask():
    for umask in (0, 0o022):
        n = node()
        old = os.umask(umask)
        try:
            n.start()
            c = n.connect()
            c.execute("pragma journal_mode=wal")
            c.execute("create table t(x)")
            c.execute("insert into t values(1)")
            os.chmod(n.path("t.db"), 0o640)
            for name in ("", "dbs", "dbs/t.db", "dbs/t.db/log"):
                assert stat.S_IMODE(os.stat(os.path.join(n.data, name)).st_mode) == 0o700, name
            for path, st in every_mode(n.data):
                if stat.S_ISREG(st.st_mode):
                    expected = 0o640 if path.endswith("/database") else 0o600
                    assert stat.S_IMODE(st.st_mode) == expected, (path, oct(st.st_mode))
                assert not succeeds("os.stat(p)", path), path
            assert stat.S_IMODE(os.stat(n.mnt).st_mode) == 0o755
            c.close()
            n.stop()
            for name in ("", "dbs"):  # of an earlier version
                os.chmod(os.path.join(n.data, name), 0o755)
            n.start()
            for name in ("", "dbs"):
                assert stat.S_IMODE(os.stat(os.path.join(n.data, name)).st_mode) == 0o700, name
        finally:
            os.umask(old)
            n.__exit__(None, None, None)


def test_first_start_beside_another_user_says_what_to_type():
    with node() as n:
        wait_until(lambda: f"chown -R USER: {n.mnt}" in n.log(), "the advice")
        n.restart()
        assert n.log().count("chown -R USER") == 1
    with open_way(Node()) as n:
        assert "chown -R USER" not in n.log()


READ_STATE = "print(len(open(p, 'rb').read()))"


def test_past_states_of_a_deleted_database_are_nobodys():
    """Where everybody may make files, and delete his own: the next database of the name is another user's."""
    with node() as n:
        os.chmod(n.mnt, 0o1777)
        c = n.connect("s.db")
        os.chmod(n.path("s.db"), 0o600)
        c.execute("create table secret(x)")
        c.close()
        txid = n.pos("s.db").partition("/")[0]
        then = n.path("s.db@" + txid)
        assert os.path.getsize(then) > 0 and not succeeds(READ_STATE, then)
        os.unlink(n.path("s.db"))
        assert not succeeds(READ_STATE, then)
        assert succeeds("import sqlite3\nsqlite3.connect(p).execute('create table t(x)')", n.path("s.db"))
        now = n.path("s.db@" + n.pos("s.db").partition("/")[0])
        assert os.stat(now).st_uid == STRANGER and succeeds(READ_STATE, now)
        for state in (then, n.path(".history/s.db/" + txid)):
            assert not succeeds(READ_STATE, state), state
            assert os.path.getsize(state) > 0
        n.restart()
        assert not succeeds(READ_STATE, then) and succeeds(READ_STATE, now)


def test_past_states_of_a_database_that_was_renamed_over():
    """Where everybody may make and rename files: what has the name now may be another user's, or was always open to all. The
    states from before are nobody's then, here and on a replica; the new one's are as it is."""
    with node() as n, node_replica(n) as r:
        os.chmod(n.mnt, 0o777)
        for name, mode in (("his.db", 0o600), ("open.db", 0o600), ("same.db", 0o644), ("public.db", 0o644)):
            c = n.connect(name)
            c.execute("create table secret(x)")
            c.close()
            os.chmod(n.path(name), mode)
        for name in ("new.db", "same.new"):
            shutil.copy(n.path("public.db"), n.path(name))
            os.chmod(n.path(name), 0o644)
        for name in ("new.db", "same.new"):
            wait_until(lambda: os.path.exists(n.path(name + "-pos")), "the copy to be a database")
        then = {name: name + "@" + n.pos(name).partition("/")[0] for name in ("his.db", "open.db", "same.db")}
        assert not succeeds(READ_STATE, n.path(then["his.db"])) and succeeds(READ_STATE, n.path(then["same.db"]))
        assert succeeds("""import sqlite3
sqlite3.connect(p + '/mine').execute('create table t(x)')
os.rename(p + '/mine', p + '/his.db')
os.rename(p + '/new.db', p + '/open.db')""", n.mnt)
        os.rename(n.path("same.new"), n.path("same.db"))
        now = {name: name + "@" + n.pos(name).partition("/")[0] for name in then}

        def as_it_should_be(m):
            for name in then:
                assert succeeds(READ_STATE, m.path(now[name])), now[name]
                assert succeeds(READ_STATE, m.path(then[name])) == (name == "same.db"), then[name]
                assert os.path.getsize(m.path(then[name])) > 0
        as_it_should_be(n)
        for name in then:
            in_step(n, r, name)
        same_ownership(n, r, *then)
        as_it_should_be(r)
        n.restart()
        as_it_should_be(n)


def test_past_states_lie_behind_the_directories_of_their_database():
    with node() as n:
        os.mkdir(n.path("closed"))
        c = n.connect("closed/s.db")
        c.execute("create table secret(x)")
        c.close()
        os.chmod(n.path("closed/s.db"), 0o644)
        state = n.path(".history/closed/s.db/" + n.pos("closed/s.db").partition("/")[0])
        assert succeeds(READ_STATE, state)
        os.chmod(n.path("closed"), 0o700)
        assert not succeeds(READ_STATE, state) and not succeeds("os.listdir(p)", n.path(".history/closed"))
        os.chmod(n.path("closed"), 0o711)
        assert succeeds(READ_STATE, state) and not succeeds("os.listdir(p)", n.path(".history/closed"))
        os.unlink(n.path("closed/s.db"))
        os.rmdir(n.path("closed"))
        assert not succeeds(READ_STATE, state) and os.path.getsize(state) > 0


FCHMODAT2, AT_FDCWD, AT_SYMLINK_NOFOLLOW = 452, -100, 0x100


def test_no_mode_by_the_name_of_a_link():
    libc = ctypes.CDLL(None, use_errno=True)
    with node() as n:
        os.symlink("/etc/passwd", n.path("link"))
        before = os.stat("/etc/passwd").st_mode
        r = libc.syscall(FCHMODAT2, AT_FDCWD, n.path("link").encode(), 0o666, AT_SYMLINK_NOFOLLOW)
        assert r == -1 and ctypes.get_errno() in (errno.EOPNOTSUPP, errno.ENOSYS), ctypes.get_errno()
        assert os.stat("/etc/passwd").st_mode == before


# --- the primary's modes and owners on replicas ---

def ownership(path):
    st = os.stat(path)
    return oct(st.st_mode), st.st_uid, st.st_gid


def same_ownership(p, r, *names):
    wait_until(lambda: all(os.path.exists(r.path(name)) and ownership(p.path(name)) == ownership(r.path(name))
                           for name in names), "the replica to show the primary's modes and owners")


def test_modes_and_owners_travel_to_replicas():
    with node() as p:
        os.chmod(p.mnt, 0o771)
        os.mkdir(p.path("d"))
        os.mkdir(p.path("d/e"))
        os.chown(p.path("d"), STRANGER, GROUP)
        os.chmod(p.path("d/e"), 0o2750)
        for name, mode in (("t.db", 0o600), ("d/e/u.db", 0o660)):
            c = p.connect(name)
            c.execute("create table t(x)")
            c.close()
            os.chmod(p.path(name), mode)
        os.chown(p.path("t.db"), STRANGER, STRANGER)
        with node_replica(p) as r:
            names = ("", "t.db", "d", "d/e", "d/e/u.db")
            same_ownership(p, r, *names)
            assert stat.S_IMODE(os.stat(os.path.join(r.data, "dbs/t.db/database")).st_mode) == 0o600
            # Later ones, with the stream open, for a database, a directory and the root.
            position = p.pos("t.db")
            os.chmod(p.path("t.db"), 0o604)
            os.chown(p.path("d"), 12, 34)
            os.chmod(p.path("d/e"), 0o700)
            os.chmod(p.mnt, 0o755)
            same_ownership(p, r, *names)
            assert p.pos("t.db") == position == r.pos("t.db")
            for name in ("t.db-pos", "d/e/u.db-lock"):
                assert ownership(p.path(name)) == ownership(r.path(name)), name
            # A database made anew has what its new file has, however close its mode follows.
            for mode in (0o640, 0o600, 0o660) * 5:
                os.unlink(p.path("t.db"))
                c = p.connect()
                c.execute("create table t(x)")
                c.close()
                os.chmod(p.path("t.db"), mode)
                same_ownership(p, r, "t.db")
            for name in ("t.db", "d", ""):
                try:
                    os.chmod(r.path(name), 0o777)
                    raise AssertionError("a replica changed the mode of " + name)
                except OSError as e:
                    assert e.errno == errno.EROFS, e
            # What changed while the replica was away.
            r.stop()
            os.chmod(p.path("t.db"), 0o600)
            os.chown(p.path("d/e"), 5, 6)
            r.start()
            same_ownership(p, r, *names)


def child(fn):
    pid = os.fork()
    if pid == 0:
        try:
            fn()
        finally:
            os._exit(0)
    return pid


def keep_busy(cpu):
    os.sched_setaffinity(0, {cpu})
    while True:
        pass


def stat_late(path, cpu):
    """A process that asks for the file, and comes to read the answer when the busy ones of its CPU let it. Returns when it waits."""
    out, into = os.pipe()

    def ask():
        os.sched_setaffinity(0, {cpu})
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        os.write(into, b"x")
        os.stat(path)
    pid = child(ask)
    os.read(out, 1)
    os.close(out)
    os.close(into)

    def is_waiting():
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            return f.read().rsplit(")", 1)[1].split()[0] in "SD"
    wait_until(is_waiting, "it to ask")
    return pid


def test_a_mode_that_changes_while_somebody_looks_the_file_up():
    """He is answered, but the kernel has yet to hear what he is answered when the mode is changed behind it: it must not keep that."""
    names = [f"{i}.db" for i in range(5)]
    cpu = min(os.sched_getaffinity(0))
    with node() as p, node_replica(p) as r:
        for name in names:
            c = p.connect(name)
            c.execute("create table t(x)")
            c.close()
            in_step(p, r, name)
        r.restart()  # a kernel that knows none of them
        same_ownership(p, r, "")
        for name in names:
            stop_process(r.process)
            late = stat_late(r.path(name), cpu)
            busy = [child(lambda: keep_busy(cpu)) for _ in range(2)]
            try:
                os.chmod(p.path(name), 0o640)  # on its way when the replica goes on, with the answer first
                r.process.send_signal(signal.SIGCONT)
                kept = os.path.join(r.data, "dbs", name, "database")
                wait_until(lambda: stat.S_IMODE(os.stat(kept).st_mode) == 0o640, "the mode to arrive")
            finally:
                for pid in busy:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
            os.sched_setscheduler(late, os.SCHED_OTHER, os.sched_param(0))
            os.waitpid(late, 0)
            same_ownership(p, r, name)


def test_a_replica_follows_a_database_of_another_user():
    """Modes that let nobody but the owner in, and a directory that lets nobody in: the daemon has to get to it all the same."""
    for mode in ("wal", "delete"):
        with node() as p:
            os.mkdir(p.path("d"))
            c = p.connect("d/t.db")
            c.execute("pragma journal_mode=" + mode)
            c.execute("create table t(x)")
            os.chown(p.path("d/t.db"), STRANGER, STRANGER)
            os.chmod(p.path("d/t.db"), 0o400)
            os.chown(p.path("d"), STRANGER, STRANGER)
            os.chmod(p.path("d"), 0o500)
            with node_replica(p) as r:
                in_step(p, r, "d/t.db")
                reader = r.connect("d/t.db")
                for i in range(30):
                    c.execute("insert into t values(zeroblob(5000))")
                    assert reader.execute("select count(*) from t").fetchone()
                c.execute("pragma wal_checkpoint(truncate)")
                in_step(p, r, "d/t.db")
                assert reader.execute("select count(*) from t").fetchone() == (30,)
                c.execute("pragma journal_mode=off")  # a probe captures these
                c.execute("insert into t values(1)")
                in_step(p, r, "d/t.db")
                reader.close()
                halted = os.open(r.path("d/t.db-lock"), os.O_RDWR)
                w = r.connect("d/t.db")
                w.execute("insert into t values(2)")
                w.close()
                os.close(halted)
                in_step(p, r, "d/t.db")
                r.check("d/t.db")
            c.close()
            p.check("d/t.db")


# The rows of the table in docs/security.md, by how they begin.
ROWS = {
    "reads, writes, truncates": "test_a_stranger_may_what_a_plain_directory_lets_him",
    "deletes or renames others' files in a sticky": "test_a_stranger_may_what_a_plain_directory_lets_him",
    "creates in a set-group-ID directory": "test_a_stranger_may_what_a_plain_directory_lets_him",
    "creates files where litefs is not root": "test_limits.test_a_stranger_in_the_mount_of_a_litefs_without_privileges",
    "makes a file set-user-ID": "test_no_way_to_root_by_set_id_files",
    "gives a file away": "test_a_stranger_may_what_a_plain_directory_lets_him",
    "changes a mode by a symbolic link": "test_no_mode_by_the_name_of_a_link",
    "opens `NAME-wal`": "test_position_and_lock_are_for_who_may_have_the_database",
    "changes mode or owner of one of these": "test_companions_follow_the_database_at_once",
    "reads a past state": "test_past_states_of_a_deleted_database_are_nobodys",
    "renames a database over another one": "test_past_states_of_a_database_that_was_renamed_over",
    "goes by `.history`": "test_past_states_lie_behind_the_directories_of_their_database",
    "reads the data directory": "test_data_directory_is_closed_whatever_the_umask",
    "reads files litefs makes for itself": "test_data_directory_is_closed_whatever_the_umask",
}


def test_each_row_of_the_table_has_its_test():
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "../../docs/security.md"), encoding="utf-8") as f:
        table = f.read().partition("| What a user who is not the owner tries |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
    for begin, name in ROWS.items():
        assert sum(row.startswith(begin) for row in rows) == 1, begin
        module, _, test = name.rpartition(".")
        assert callable(getattr(importlib.import_module(module) if module else sys.modules[__name__], test)), name
    for row in rows:
        assert any(row.startswith(begin) for begin in ROWS), row


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root, for a second user")
        sys.exit(77)
    litefs_fixture.run(sys.modules[__name__])
