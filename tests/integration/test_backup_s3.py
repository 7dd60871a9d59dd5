"""Backups to a bucket of a real server, Ceph's radosgw, which verifies signatures and conditions; and the lease in one of its objects."""
import base64
import json
import os
import random
import subprocess
import sys
import time
from urllib.parse import quote

from litefs_fixture import LITEFS, Node, run, stop_process, wait_until
from rados import Rados, need_rados, s3_keys, s3_request
from test_backup import SEED, replay, work

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "lease"), os.path.join(HERE, "cluster")]


class Bucketed(Node):
    """A node whose databases go to s3://BUCKET/PREFIX."""

    def __init__(self, server, prefix, more="", secret=None):
        super().__init__()
        self.server, self.prefix = server, prefix
        self.environment = {**os.environ, "AWS_ACCESS_KEY_ID": server.access_key,
                            "AWS_SECRET_ACCESS_KEY": secret or server.secret_key}
        with open(self.config, "a") as f:
            f.write(f"backup:\n  url: s3://{server.bucket}/{prefix}\n  endpoint: {server.url}\n  sync-interval: 50ms\n{more}")

    def start(self, **kw):
        return super().start(env=self.environment, **kw)

    def command(self, *args, code=0):
        p = subprocess.run([LITEFS, *args], capture_output=True, text=True, env=self.environment)
        assert p.returncode == code, (args, p.returncode, p.stdout, p.stderr)
        return p

    def place(self, name="t.db"):
        return f"s3://{self.server.bucket}/{self.prefix}/{name}?endpoint={self.server.url}"

    def restore(self, *options, name="t.db"):
        """(position, image) or None."""
        out = os.path.join(self.root, "restored")
        p = self.command("restore", "-json", "-if-replica-exists", "-force", "-o", out, *options, self.place(name))
        if not p.stdout:
            return None
        said = json.loads(p.stdout)
        assert said["proved"]
        with open(out, "rb") as f:
            return said["txid"] + "/" + said["checksum"], f.read()

    def wait_for_backup(self, name="t.db"):
        def has_it():
            got = self.restore(name=name)
            return got and got[0] == self.pos(name)
        wait_until(has_it, "the bucket to have all of it")


def txids(keys, level):
    return sorted(k[-20:-4] for k in keys if f"/{level:04x}/" in k)


def test_each_border(server):
    rng = random.Random(SEED)
    with Bucketed(server, "a/b c+d") as n:
        c = n.connect()
        c.execute("pragma journal_mode=wal")
        c.execute("create table t(id integer primary key, x)")
        for _ in range(6):
            work(c, rng, 8)
            n.wait_for_backup()
        c.close()
        keys = s3_keys(server, n.prefix)
        assert f"{n.prefix}/t.db/litefs.json" in keys and f"{n.prefix}/litefs.probe" in keys, keys
        borders = set(txids(keys, 0) + txids(keys, 9))
        assert len(borders) >= 6, keys
        for txid in borders:
            assert n.restore("-txid", txid) == replay(n, txid), txid
        assert n.restore("-timestamp", "2101-01-01T00:00:00Z") == replay(n, max(borders))
        n.command("restore", "-timestamp", "2001-01-01T00:00:00Z", "-o", n.root + "/x", n.place(), code=1)
        assert "ignores If-None-Match" not in n.log()


def test_a_database_in_parts(server):
    with Bucketed(server, "parts") as n:
        c = n.connect()
        c.execute("create table t(id integer primary key, x)")
        c.execute("begin")
        for _ in range(40):
            c.execute("insert into t(x) values(randomblob(1000000))")
        c.execute("commit")
        c.execute("update t set x=randomblob(100) where id%2=0")
        c.close()
        n.wait_for_backup()
        assert n.restore("-integrity-check", "full")[1] == n.visible()


def test_the_server_stands_still_and_goes_on(server):
    rng = random.Random(SEED)
    with Bucketed(server, "still") as n:
        c = n.connect()
        c.execute("create table t(id integer primary key, x)")
        n.wait_for_backup()
        for d in server.daemons:
            stop_process(d)
        try:
            work(c, rng, 10)  # nothing of it waits
        finally:
            for d in server.daemons:
                d.send_signal(18)
        n.wait_for_backup()
        c.close()


def test_a_wrong_secret_is_said(server):
    with Bucketed(server, "secret", secret="wrong") as n:
        c = n.connect()
        c.execute("create table t(id integer primary key, x)")
        c.close()
        wait_until(lambda: "SignatureDoesNotMatch" in n.log(), "the log to say what is wrong")
        assert "SignatureDoesNotMatch" in n.command("restore", "-o", n.root + "/x", n.place(), code=1).stderr
        assert not s3_keys(server, n.prefix)


def test_a_bucket_that_is_not_there(server):
    with Bucketed(server, "x") as n:
        out = n.command("restore", "-o", n.root + "/x", f"s3://nobucket/x?endpoint={server.url}", code=1).stderr
        assert "NoSuchBucket" in out, out
        out = n.command("restore", "-o", n.root + "/x", n.place("other.db"), code=1).stderr
        assert "no matching backup files" in out, out


def test_another_clusters_place_is_left_alone(server):
    with Bucketed(server, "shared") as n:
        c = n.connect()
        c.execute("create table t(id integer primary key, x)")
        c.close()
        n.wait_for_backup()
        with Bucketed(server, "shared") as other:
            c = other.connect()
            c.execute("create table other(x)")
            c.close()
            wait_until(lambda: "has the backup of another cluster" in other.log(), "the node to refuse")
        assert n.restore()[0] == n.pos()


def test_a_restarted_node_goes_on(server):
    with Bucketed(server, "restart") as n:
        c = n.connect()
        c.execute("create table t(id integer primary key, x)")
        c.execute("insert into t(x) values(1)")
        c.close()
        n.wait_for_backup()
        n.restart()
        c = n.connect()
        c.execute("insert into t(x) values(2)")
        c.close()
        n.wait_for_backup()
        assert len(txids(s3_keys(server, n.prefix), 9)) == 1
        n.kill()
        # The head goes, with it whose the place is: then nothing is written over what is there.
        status, _ = s3_request(server.url, server.access_key, server.secret_key, "DELETE",
                               f"/{server.bucket}/{n.prefix}/t.db/litefs.json")
        assert status == 204
        n.start()
        wait_until(lambda: "that litefs has not written" in n.log(), "the node to refuse")


def test_old_objects_go_together(server):
    with Bucketed(server, "old & <'new'>", "  snapshot:\n    interval: 1s\n    retention: 1s\n") as n:
        c = n.connect()
        c.execute("create table t(id integer primary key, x)")
        for _ in range(3):
            c.execute("insert into t(x) values(randomblob(3000))")
            n.wait_for_backup()
            time.sleep(1.1)
        c.close()
        before = s3_keys(server, n.prefix)
        assert len(before) > 5, before
        n.restart()  # the next look at what may go is its first
        c = n.connect()
        c.execute("insert into t(x) values(randomblob(3000))")
        c.close()
        wait_until(lambda: len(set(before) - set(s3_keys(server, n.prefix))) >= 2, "what is old to go")
        n.wait_for_backup()
        assert n.restore()[1] == n.visible()


CUSTOMER_KEY = base64.b64encode(bytes(range(32))).decode()


def plain_get(server, key):
    return s3_request(server.url, server.access_key, server.secret_key, "GET", f"/{server.bucket}/{key}")


def test_encryption_by_the_server(server):
    """With a key of ours: without it nobody reads what is there, in parts or not. With one of the server's, who may read reads."""
    for prefix, more, query in (("sse-c", f"  sse-customer-key: {CUSTOMER_KEY}\n", "&sseCustomerKey=" + quote(CUSTOMER_KEY, safe="")),
                                ("kms", "  sse-kms-key-id: key-of-test\n  storage-class: STANDARD\n", "")):
        with Bucketed(server, prefix, more) as n:
            os.chmod(n.config, 0o600)
            c = n.connect()
            c.execute("create table t(id integer primary key, x)")
            c.execute("begin")
            for _ in range(12):
                c.execute("insert into t(x) values(randomblob(1000000))")
            c.execute("commit")
            c.close()

            def has_it():
                p = subprocess.run([LITEFS, "restore", "-json", "-force", "-o", n.root + "/got", n.place() + query],
                                   capture_output=True, text=True, env=n.environment, check=False)
                if p.returncode != 0:
                    return False
                said = json.loads(p.stdout)
                return said["txid"] + "/" + said["checksum"] == n.pos("t.db")
            wait_until(has_it, "the bucket to have all of it")
            with open(n.root + "/got", "rb") as f:
                assert f.read() == n.visible()
            for key in s3_keys(server, prefix):
                status, body = plain_get(server, key)
                assert (status == 200) == (prefix == "kms"), (key, status, body[:200])
            if prefix == "sse-c":
                assert "400" in n.command("restore", "-o", n.root + "/x", n.place(), code=1).stderr
    with Bucketed(server, "class", "  storage-class: NONE-SUCH\n") as n:
        c = n.connect()
        c.execute("create table t(id integer primary key, x)")
        c.close()
        wait_until(lambda: "400 Invalid" in n.log(), "the log to say what is wrong")


def test_one_of_many_has_the_lease(server):
    """Of nodes that ask for it at the same moment, by conditions that the server looks at."""
    import lease_fixture

    nodes = [lease_fixture.Node("object", url=f"s3://{server.bucket}/many?endpoint={server.url}&sseKmsKeyId=key-of-test", hostname=f"n{i}",
                                advertise_url=f"http://n{i}", ttl_ms=20000, access_key_id=server.access_key,
                                secret_access_key=server.secret_key) for i in range(4)]
    terms = []
    try:
        for _ in range(6):
            for n in nodes:
                n.send("acquire")
            answers = [n.receive() for n in nodes]
            assert sorted(a.code for a in answers) == ["E_NOT_PRIMARY"] * 3 + ["OK"], answers
            winner = nodes[[a.code for a in answers].index("OK")]
            terms += [a.term for a in answers if a.code == "OK"]
            winner.ok("renew")
            winner.ok("release")
        assert terms == sorted(set(terms)), terms
        wrong = lease_fixture.Node("object", url=f"s3://{server.bucket}/many?endpoint={server.url}", hostname="w",
                                   advertise_url="http://w", ttl_ms=20000, access_key_id=server.access_key,
                                   secret_access_key="wrong")
        wrong.close()
        assert wrong.made.code == "EACCES" and "SignatureDoesNotMatch" in wrong.made.text, wrong.made
    finally:
        for n in nodes:
            n.close()


class Shared:
    """The server for a cluster that is not to stop it."""
    scheme = "http"

    def __init__(self, server):
        self.url, self.bucket, self.access_key, self.secret_key = server.url, server.bucket, server.access_key, server.secret_key

    def close(self):
        """It goes on for the other tests."""


def test_failover_and_backup_with_nothing_but_a_bucket(server):
    from cluster_fixture import Cluster
    from test_lease_file import wait_rows, write_soon

    backup = (f"backup:\n  url: s3://{server.bucket}/cluster\n  endpoint: {server.url}\n  access-key-id: {server.access_key}\n"
              f"  secret-access-key: {server.secret_key}\n  sync-interval: 50ms\n")
    with Cluster(2, backend="object", ttl="6s", lease_options=backup, server=Shared(server)) as c:
        write_soon(c, 0)
        wait_rows(c, 1)
        first = c.wait_primary()
        first.kill()
        c.wait_primary(other_than=(first,))
        write_soon(c, 1)
        first.start()
        c.wait_followers()
        wait_rows(c, 2)
        c.check_equal()
        out = os.path.join(first.root, "restored")
        environment = {**os.environ, "AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}

        def has_all():
            p = subprocess.run([LITEFS, "restore", "-json", "-force", "-o", out,
                                f"s3://{server.bucket}/cluster/t.db?endpoint={server.url}"], capture_output=True, text=True,
                               env=environment, check=False)
            if p.returncode != 0:
                return False
            said = json.loads(p.stdout)
            return said["txid"] + "/" + said["checksum"] == c.wait_primary().pos("t.db")
        wait_until(has_all, "the bucket to have what the second primary committed")


if __name__ == "__main__":
    print("SEED", SEED)
    need_rados()
    with Rados() as rados:
        for name, test in list(vars().items()):
            if name.startswith("test_") and callable(test):
                globals()[name] = lambda test=test: test(rados)
        run(sys.modules[__name__])
