"""A primary that commits what nobody else gets: it ends like the others, and what only it had is kept."""
import os
import shutil
import sqlite3
import sys
import time

from cluster_fixture import HERE, Cluster, need, run, wait_until

sys.path.insert(0, os.path.join(os.path.dirname(HERE), "http"))

from http_fixture import metrics

need("etcd")


def cut_off(cl, node):
    """No replica hears of it any more."""
    node.link.cut()
    for r in cl.replicas():
        r.wait_log(f"stream from the primary at 127.0.0.1:{node.link.port} ended")


def insert(c, who, n):
    for i in range(n):
        c.execute("insert into log(who, n) values(?, ?)", (who, i))


def write(node, who, n, name="t.db"):
    c = node.connect(name)
    c.execute("create table if not exists log(who, n)")
    insert(c, who, n)
    c.close()


COUNT = "select who, count(*) from log group by who order by who"


def dies_alone(cl, everywhere, alone, mode="delete", name="t.db"):
    """The primary commits rows that reach everywhere (if any) and rows that nobody else gets, and dies. It, and who is the
    primary then."""
    old = cl.wait_followers()
    c = old.connect(name)
    if everywhere:
        c.execute(f"pragma journal_mode={mode}")
        c.execute("create table log(who, n)")
        insert(c, "all", everywhere)
        cl.in_step(name)
    cut_off(cl, old)
    c.execute("create table if not exists log(who, n)")
    insert(c, "old", alone)
    assert old.is_primary()
    old.kill()
    c.close()
    new = cl.wait_primary(other_than=(old,))
    old.link.heal()
    return old, new


def orphans(node, name="t.db"):
    """The databases that were set aside, as SQLite reads them."""
    directory = os.path.join(node.data, "orphans")
    found = []
    for entry in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
        if entry.startswith(name):
            c = sqlite3.connect(os.path.join(directory, entry, "database"))
            found.append(c.execute(COUNT).fetchall())
            c.close()
    return found


def check_told(node, name="t.db", is_there=True):
    """One line in the log, and the metrics; what is deleted has none of its own."""
    assert node.recent_log().count(" is kept in ") == 1, node.name
    m = metrics(node)
    assert m.get(f'litefs_db_divergences_total{{db="{name}"}}') == (1 if is_there else None), node.name
    assert m["litefs_orphans"] == 1, node.name


def diverge(mode, more, name="t.db"):
    """`more`: rows that the new primary writes, beside the 20 of the old one that nobody got."""
    with Cluster(3, backend="etcd", ttl="2s") as cl:
        old, new = dies_alone(cl, 10, 20, mode, name)
        write(new, "new", more, name)
        old.start()
        cl.check_equal(name, has_whole_log=False)
        for n in cl.nodes:
            c = n.connect(name)
            got = c.execute(COUNT).fetchall()
            assert got == [("all", 10)] + ([("new", more)] if more else []), (n.name, got)
            c.close()
        assert orphans(old, name) == [[("all", 10), ("old", 20)]], orphans(old, name)
        check_told(old, name)
        for n in cl.nodes:
            assert n is old or not orphans(n, name), n.name
        # And it goes on: the one that came back can be the primary again.
        for n in sorted(cl.nodes, key=lambda n: n.is_primary()):
            if n is not old:
                n.stop()
        wait_until(old.is_primary, "the old primary to take over")
        write(old, "again", 3, name)
        for n in cl.nodes:
            if n is not old:
                n.start()
        cl.check_equal(name, has_whole_log=False)


def test_old_primary_is_ahead_wal():
    diverge("wal", 5)


def test_old_primary_is_ahead_delete():
    diverge("delete", 5)


def test_old_primary_is_behind():
    diverge("wal", 50)


def test_same_length():
    diverge("delete", 20, name="n" * 216)  # no name is longer


def test_nothing_new():
    diverge("wal", 0)


def lose_log(node):
    """Until it does not begin at the first transaction."""
    c = node.connect()
    c.execute("create table filler(b)")
    log = os.path.join(node.data, "dbs", "t.db", "log")
    while int(min(os.listdir(log))[:16], 16) == 1:
        c.execute("insert into filler select randomblob(1000000)")
        c.execute("delete from filler")
    c.close()


def test_old_primary_whose_place_is_gone():
    """Nobody can tell whether its last transaction is one of the cluster; it has made it itself."""
    with Cluster(2, backend="etcd", ttl="2s",
                 data_options="  retention: 100ms\n  retention-monitor-interval: 100ms\n") as cl:
        old, new = dies_alone(cl, 10, 20)
        write(new, "new", 5)
        lose_log(new)
        old.start()
        cl.check_equal(has_whole_log=False)
        assert orphans(old) == [[("all", 10), ("old", 20)]], orphans(old)


def test_connection_that_stays_open():
    """In WAL mode it holds a lock for as long, so that the files are exchanged under it: it gets an error, or what is true."""
    with Cluster(2, backend="etcd", ttl="2s") as cl:
        old = cl.wait_followers()
        c = old.connect()
        c.execute("pragma journal_mode=wal")
        c.execute("create table log(who, n)")
        insert(c, "all", 10)
        cl.in_step()
        cut_off(cl, old)
        insert(c, "old", 20)
        old.lease_link.cut()
        new = cl.wait_primary(other_than=(old,))
        write(new, "new", 50)
        old.link.heal()
        old.lease_link.heal()
        cl.in_step()
        for _ in range(3):
            try:
                got = c.execute(COUNT).fetchall()
            except sqlite3.Error:
                continue
            assert got == [("all", 10), ("new", 50)], f"what was replaced is read in silence: {got}"
        assert orphans(old) == [[("all", 10), ("old", 20)]], orphans(old)
        w = old.connect()
        assert w.execute(COUNT).fetchall() == [("all", 10), ("new", 50)]
        w.close()
        c.close()
        cl.check_equal(has_whole_log=False)


def test_primary_without_a_log():
    """After a replacement its log is empty: who is behind needs a snapshot, also before the next commit."""
    with Cluster(2, backend="etcd", ttl="2s") as cl:
        old, new = dies_alone(cl, 10, 1)
        write(new, "new", 5)
        old.start()
        cl.in_step()
        new.stop()
        cl.wait_primary(other_than=(new,))
        cl.add().start()
        cl.check_equal(has_whole_log=False)


def test_damaged_replica():
    """What does not open is set aside, too, and asked for again."""
    with Cluster(2, backend="etcd", ttl="2s") as cl:
        p = cl.wait_followers()
        r, = cl.replicas()
        c = p.connect()
        c.execute("create table log(who, n)")
        insert(c, "all", 10)
        cl.in_step()
        r.stop()
        log = os.path.join(r.data, "dbs", "t.db", "log")
        os.rename(log, log + ".lost")
        open(log, "w").close()
        insert(c, "all", 10)
        r.start()
        cl.check_equal()
        assert os.listdir(os.path.join(r.data, "orphans"))[0].startswith("t.db-damaged-")
        c.close()


def test_database_that_nobody_else_has():
    """Made on the old primary while it was cut off."""
    with Cluster(2, backend="etcd", ttl="2s") as cl:
        old, new = dies_alone(cl, 0, 3, name="mine.db")
        write(new, "new", 3)
        new.restart()
        cl.wait_primary()
        # As a crash in the middle of an earlier replacement leaves it.
        half_built = os.path.join(old.data, "tmp", "mine.db.new")
        os.mkdir(half_built)
        for file in ("database", "base"):
            shutil.copy(os.path.join(new.data, "dbs", "t.db", file), half_built)
        old.start()
        cl.check_equal()
        wait_until(lambda: not os.path.exists(old.path("mine.db")), "what the cluster does not have to go")
        assert orphans(old, "mine.db") == [[("old", 3)]]
        check_told(old, "mine.db", is_there=False)
        assert "mine.db" not in cl.names(old)
        # The name is free.
        write(new, "new", 4, "mine.db")
        cl.check_equal("mine.db")


def test_database_deleted_meanwhile():
    """The old primary went on to write where the new one has deleted."""
    with Cluster(2, backend="etcd", ttl="2s") as cl:
        old, new = dies_alone(cl, 3, 3)
        os.unlink(new.path("t.db"))
        old.start()
        wait_until(lambda: not os.path.exists(old.path("t.db")), "the deletion")
        cl.in_step()
        assert orphans(old) == [[("all", 3), ("old", 3)]], orphans(old)


if __name__ == "__main__":
    run(sys.modules[__name__])
