"""A primary that commits what nobody else gets: it ends like the others, and what only it had is kept."""
import os
import sqlite3
import sys
import time

from cluster_fixture import Cluster, need, run, wait_until

need("etcd")


def insert(c, who, n):
    for i in range(n):
        c.execute("insert into log(who, n) values(?, ?)", (who, i))


def orphans(node, name="t.db"):
    """The databases that were set aside, as SQLite reads them."""
    directory = os.path.join(node.data, "orphans")
    found = []
    for entry in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
        if entry.startswith(name):
            c = sqlite3.connect(os.path.join(directory, entry, "database"))
            found.append(c.execute("select who, count(*) from log group by who order by who").fetchall())
            c.close()
    return found


def diverge(mode, more):
    """`more`: rows that the new primary writes, beside the 20 of the old one that nobody got."""
    with Cluster(3, backend="etcd", ttl="2s") as cl:
        old = cl.wait_followers()
        c = old.connect()
        c.execute(f"pragma journal_mode={mode}")
        c.execute("create table log(who, n)")
        insert(c, "all", 10)
        cl.in_step()
        old.link.cut()
        for r in cl.replicas():
            r.wait_log(f"stream from the primary at 127.0.0.1:{old.link.port} ended")
        insert(c, "old", 20)
        assert old.is_primary()
        old.kill()
        c.close()
        new = cl.wait_primary(other_than=(old,))
        old.link.heal()
        c = new.connect()
        insert(c, "new", more)
        c.close()
        old.start()
        cl.check_equal(has_whole_log=False)
        for n in cl.nodes:
            c = n.connect()
            got = c.execute("select who, count(*) from log group by who order by who").fetchall()
            assert got == [("all", 10)] + ([("new", more)] if more else []), (n.name, got)
            c.close()
        assert orphans(old) == [[("all", 10), ("old", 20)]], orphans(old)
        for n in cl.nodes:
            assert n is old or not orphans(n), n.name
        # And it goes on: the one that came back can be the primary again.
        for n in sorted(cl.nodes, key=lambda n: n.is_primary()):
            if n is not old:
                n.stop()
        wait_until(old.is_primary, "the old primary to take over", 20)
        c = old.connect()
        insert(c, "again", 3)
        c.close()
        for n in cl.nodes:
            if n is not old:
                n.start()
        cl.check_equal(has_whole_log=False)


def test_old_primary_is_ahead_wal():
    diverge("wal", 5)


def test_old_primary_is_ahead_delete():
    diverge("delete", 5)


def test_old_primary_is_behind():
    diverge("wal", 50)


def test_same_length():
    diverge("delete", 20)


def test_nothing_new():
    diverge("wal", 0)


def test_database_that_nobody_else_has():
    """Made on the old primary while it was cut off."""
    with Cluster(2, backend="etcd", ttl="2s") as cl:
        old = cl.wait_followers()
        old.link.cut()
        time.sleep(0.1)
        c = old.connect("mine.db")
        c.execute("create table log(who, n)")
        insert(c, "old", 3)
        old.kill()
        c.close()
        new = cl.wait_primary(other_than=(old,))
        old.link.heal()
        c = new.connect()
        c.execute("create table log(who, n)")
        insert(c, "new", 3)
        c.close()
        old.start()
        cl.check_equal()
        wait_until(lambda: not os.path.exists(old.path("mine.db")), "what the cluster does not have to go")
        assert orphans(old, "mine.db") == [[("old", 3)]]
        # The name is free.
        c = new.connect("mine.db")
        c.execute("create table log(who, n)")
        insert(c, "new", 4)
        c.close()
        cl.check_equal("mine.db")


def test_database_deleted_meanwhile():
    """The old primary went on to write where the new one has deleted."""
    with Cluster(2, backend="etcd", ttl="2s") as cl:
        old = cl.wait_followers()
        c = old.connect()
        c.execute("create table log(who, n)")
        insert(c, "all", 3)
        cl.in_step()
        old.link.cut()
        time.sleep(0.1)
        insert(c, "old", 3)
        old.kill()
        c.close()
        new = cl.wait_primary(other_than=(old,))
        old.link.heal()
        os.unlink(new.path("t.db"))
        old.start()
        wait_until(lambda: not os.path.exists(old.path("t.db")), "the deletion")
        cl.in_step()
        assert orphans(old) == [[("all", 3), ("old", 3)]], orphans(old)


if __name__ == "__main__":
    run(sys.modules[__name__])
