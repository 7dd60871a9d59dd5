"""What SQLite's calls cost in requests to the daemon, counted by the daemon itself (SIGUSR1). The numbers are the design:
locks and wal-index need no request, and neither does a read of what the kernel has cached.

Two things of the kernel show in them. It cuts a write in two where it leaves a cached page that is only partly known:
a 4096-byte page behind a 24-byte frame header, or behind the number in a journal record, straddles two cached pages, so
its pwrite() is two WRITEs unless somebody has read the first of them before. And it asks for attributes again after a
write to the file, and once after the daemon has told it that a commit changed them, a moment after that commit."""
import collections
import os
import re
import signal
import sys
import time

import litefs_fixture
from litefs_fixture import Node, wait_until

N = 20


def totals(n):
    marker = "fuse requests:"
    seen = n.log().count(marker)

    def is_complete():
        log = n.log()
        return log.count(marker) > seen and log.endswith("\n")
    n.process.send_signal(signal.SIGUSR1)
    wait_until(is_complete, "the request counters in the log")
    line = n.log()[n.log().rindex(marker):].splitlines()[0]
    return collections.Counter({k: int(v) for k, v in re.findall(r"([A-Z]+)=(\d+)", line)})


def cost(n, fn, times=N):
    """The requests that @times calls of fn made, by type, those that were made at all."""
    before = totals(n)
    for i in range(times):
        fn(i)
    return dict(totals(n) - before)


def assert_cost(n, fn, each, times=N, tries=30):
    """Exactly @each a call. Only RELEASE comes when the kernel finds the time for it, and half a second after a commit
    the daemon itself looks into the wal-index or at the attributes: when that falls into the count, it counts again."""
    want = {k: v * times for k, v in each.items()}
    for _ in range(tries):
        made = cost(n, fn, times)
        if "RELEASE" in made and abs(made["RELEASE"] - want.get("RELEASE", 0)) == 1:
            made["RELEASE"] = want.get("RELEASE", 0)
        if collections.Counter(made) == collections.Counter(want):
            return
    raise AssertionError(f"{times} calls made {made}, expected {want}")


def assert_free(n, fn, tries=30):
    """200 calls of fn end up at no request at all, once what follows the last commit is over: which may fall into the count."""
    for _ in range(tries):
        wait_until(lambda: cost(n, fn) == {}, f"{fn.__name__} to need no more requests; it needs {cost(n, fn)}")
        made = cost(n, fn, 200)
        if made == {}:
            return
    raise AssertionError(f"200 calls of {fn.__name__} made {made}")


def open_table(n, mode, synchronous):
    c = n.connect()
    c.execute(f"pragma journal_mode={mode}")
    c.execute(f"pragma synchronous={synchronous}")
    # A checkpoint is not part of a commit, and the first 160 frames of a WAL have their headers in one cached page.
    c.execute("pragma wal_autocheckpoint=0")
    c.execute("create table t(a integer primary key, b)")
    c.executemany("insert into t values(?, 'x')", [(i,) for i in range(10)])
    return c


def update(c):
    def one_page_commit(i):
        c.execute("update t set b=? where a=1", (str(i),))
    one_page_commit(-1)
    return one_page_commit


def select(c):
    def point_read(_):
        assert c.execute("select b from t where a=1").fetchone()
    point_read(0)
    return point_read


def test_wal_commit():
    for synchronous, fsyncs in (("full", {"FSYNC": 1}), ("normal", {})):
        with Node() as n:
            c = open_table(n, "wal", synchronous)
            # pwrite(frame header), pwrite(page), which straddles: 3 WRITEs for 2 calls.
            assert_cost(n, update(c), {"WRITE": 3, **fsyncs})
            c.close()


def test_wal_commit_that_another_connection_reads():
    with Node() as n:
        c = open_table(n, "wal", "full")
        d = n.connect()
        write, read = update(c), select(d)

        def commit_and_read(i):
            write(i)
            read(i)
        commit_and_read(-1)
        # The reader fetches the frame, and with it the cached page in which the next one begins.
        assert_cost(n, commit_and_read, {"WRITE": 2, "FSYNC": 1, "READ": 1})
        c.close()
        d.close()


def test_wal_read():
    with Node() as n:
        c = open_table(n, "wal", "full")
        assert_free(n, select(c))
        d = n.connect()
        assert_free(n, select(d))
        c.close()
        d.close()


def test_delete_read():
    """SQLite asks whether there is a journal and reads the change counter: the kernel knows the name to be absent, since
    the last unlink and the look-up after it, and has page 1."""
    with Node() as n:
        c = open_table(n, "delete", "full")
        assert_free(n, select(c))
        d = n.connect()
        assert_free(n, select(d))
        # It goes on like this after another connection's commit, with one look-up.
        update(c)(1)
        assert_free(n, select(d))
        c.close()
        d.close()


# The directory's attributes, once after each change of its names, for the kernel compares its mode with whoever looks
# into it. access(journal), and fstat(database) because the last commit wrote it; creat(journal), fstat, and fchown that only root
# makes; the writes; fstat(journal) before the commit record is read behind its end; then three syncs (with one of the
# directory after the first), close and unlink. Journal of two pages, page 1 and the row's: header 1, number 2, page 2
# that straddle and make 4, checksum 2; the count 1 after the first sync; 2 to the database.
def rollback_commit(**more):
    want = collections.Counter(LOOKUP=1, GETATTR=5, CREATE=1, WRITE=12, FSYNC=3, FSYNCDIR=1, RELEASE=1, UNLINK=1)
    want["SETATTR"] += os.geteuid() == 0
    want.update(more)
    return dict(+want)


def test_delete_commit():
    for synchronous, more in (("full", {}), ("normal", {"FSYNC": -1})):
        with Node() as n:
            c = open_table(n, "delete", synchronous)
            assert_cost(n, update(c), rollback_commit(**more))
            c.close()


def test_truncate_commit():
    """The journal stays: opened instead of created, cut instead of unlinked, and that is synced as well."""
    with Node() as n:
        c = open_table(n, "truncate", "full")
        assert_cost(n, update(c), rollback_commit(LOOKUP=-1, CREATE=-1, UNLINK=-1, GETATTR=-2, OPEN=1, SETATTR=1, FSYNC=1))
        c.close()


def test_close_of_a_connection():
    """It asks for nothing, though the connection has written: FLUSH would come between SQLite's look whether another thread has
    locks and their end."""
    with Node() as n:
        for mode in ("delete", "wal", "memory"):
            open_table(n, mode, "full").close()
            before = totals(n)
            c = n.connect()
            c.execute("update t set b = 'y'")
            c.close()
            assert (totals(n) - before)["FLUSH"] == 0, mode
            os.unlink(n.path("t.db"))


def test_idle_connections():
    """Nothing asks for anything between two statements."""
    for mode in ("wal", "delete"):
        with Node() as n:
            c = open_table(n, mode, "full")
            read = select(c)
            assert_free(n, read)
            # One second: longer than the daemon waits until it follows a commit up.
            wait_until(lambda: cost(n, lambda _: time.sleep(1), 1) == {}, "silence")
            made = cost(n, lambda _: time.sleep(3), 1)
            assert made == {}, made
            c.close()


if __name__ == "__main__":
    litefs_fixture.run(sys.modules[__name__])
