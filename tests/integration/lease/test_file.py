"""The lease in a file. What services do by themselves, or operators by their tools, is done to the file here."""
import contextlib
import fcntl
import json
import os
import shutil
import struct
import tempfile
import unittest

from contract import Contract
from lease_fixture import LeaseCase, Node
from litefs_fixture import wait_until

# Where a sync takes no time, for calls have half a second.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Files:
    """In place of a server: the directory that has the files."""

    def __init__(self):
        self.root = tempfile.mkdtemp(prefix="litefs-lease-", dir=MEMORY)
        self.key = "none"
        self.stopped = contextlib.ExitStack()

    def path(self, key):
        return os.path.join(self.root, key.replace("/", "-"))

    @contextlib.contextmanager
    def byte(self, key, at):
        """Locked as a node locks it: for as long as the file is open, not for as long as the process lives."""
        with open(self.path(key) + ".lock", "a+b") as f:
            wait_until(lambda: self.try_byte(f, at), "a byte of the lock file")
            yield

    @staticmethod
    def try_byte(f, at):
        try:
            fcntl.fcntl(f, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, at, 1, 0))
        except BlockingIOError:
            return False
        return True

    @contextlib.contextmanager
    def state(self, key):
        """To be changed."""
        path = self.path(key)
        with self.byte(key, 0):
            root = {}
            if os.path.exists(path):
                with open(path, encoding="utf-8") as f:
                    root = json.load(f)
            yield root
            root["revision"] = root.get("revision", 0) + 1
            with open(path + ".test", "w", encoding="utf-8") as f:
                json.dump(root, f)
            os.rename(path + ".test", path)

    def pause(self):
        """As if a node had been stopped while it had the files locked."""
        self.stopped.enter_context(self.byte(self.key, 0))

    def resume(self):
        self.stopped.close()

    def kill(self):
        os.rename(self.root, self.root + ".gone")

    def close(self):
        for path in (self.root, self.root + ".gone"):
            shutil.rmtree(path, ignore_errors=True)


class FileLease(Contract, LeaseCase):
    new_server = Files
    ENDS_AT_TTL = True  # even before, where the holder's process has ended
    SERVER_IS_GONE = "ENOENT"

    def setUp(self):
        super().setUp()
        self.server.key = self.key
        self.others = contextlib.ExitStack()
        self.addCleanup(self.others.close)

    def node(self, hostname, server=None, **options):
        options = {"key": (server or self.server).path(self.key), "ttl_ms": self.TTL_MS, **options}
        return self.add(Node("file", hostname=hostname, advertise_url=f"http://{hostname}:20202", **options))

    def read_file(self):
        with open(self.server.path(self.key), encoding="utf-8") as f:
            return json.load(f)

    def remove_holder(self):
        with self.server.state(self.key) as root:
            for name in ("holder", "session", "lock-file", "holder-revision"):
                root.pop(name, None)

    def end_session(self, _):
        self.remove_holder()

    def take_key_from(self, _):
        self.remove_holder()

    def delete_key(self, suffix):
        if suffix == "":
            self.remove_holder()
            return
        self.assertEqual(suffix, "/released")
        with self.server.state(self.key) as root:
            del root["released"], root["released-revision"]

    def delete_tree(self):
        os.unlink(self.server.path(self.key))

    def write_by_litefs(self, value):
        """There is no LiteFS in a file, but there may be another writer."""
        session = "1234567"
        with open(self.server.path(self.key) + ".lock", "a+b") as f:
            identity = f"{os.fstat(f.fileno()).st_dev}:{os.fstat(f.fileno()).st_ino}"
        self.others.enter_context(self.server.byte(self.key, int(session)))
        with self.server.state(self.key) as root:
            root.update({"holder": json.loads(value), "session": session, "lock-file": identity,
                         "holder-revision": root.get("revision", 0) + 1})
        return session

    # --- what a file does by itself ---

    def test_a_restarted_holder_inherits_nothing(self):
        """The lease of a process that has ended is free, for any node, in a later term."""
        a = self.node("a")
        term = a.ok("acquire").term
        a.kill()
        self.assertGreater(self.node("a").ok("acquire").term, term)

    def test_a_process_that_ended_has_released_the_lease_and_one_that_is_stopped_has_not(self):
        a, b = self.node("a"), self.node("b")
        term = a.ok("acquire").term
        a.pause()
        self.assertTrue(b.ok("read").has_holder)
        self.assertCode(b.call("acquire"), "E_NOT_PRIMARY")
        a.kill()
        seen = b.ok("read")
        self.assertEqual((seen.has_holder, seen.is_released, seen.last_term), (False, True, term))
        b.ok("acquire-seen")

    def test_a_process_that_ended_released_its_own_term_alone(self):
        a, b = self.node("a"), self.node("b")
        term = a.ok("acquire").term
        a.kill()
        b.ok("read")
        b.ok(f"raise-term {term + 10}")
        seen = b.ok("read")
        self.assertEqual((seen.has_holder, seen.is_released, seen.last_term), (False, False, term + 10))

    def test_an_offer_of_a_process_that_goes_on_is_not_free(self):
        a, b = self.holder(), self.node("b")
        token = a.ok("offer").token
        for n in (a, b):
            self.assertTrue(n.ok("read").has_holder)
            self.assertCode(n.call("acquire"), "E_NOT_PRIMARY")
        b.ok("take-over " + token)
        # What its earlier owner does next takes nothing away.
        a.ok("read")
        self.assertCode(a.call("acquire"), "E_NOT_PRIMARY")
        self.assertTrue(a.ok("read").has_holder)
        b.ok("renew")

    def test_locks_in_a_file_that_was_removed_prove_nothing(self):
        a, b = self.holder(), self.node("b")
        os.unlink(self.server.path(self.key) + ".lock")
        self.assertTrue(b.ok("read").has_holder)
        self.assertCode(b.call("acquire"), "E_NOT_PRIMARY")
        self.assertCode(a.call("renew"), "E_NOT_PRIMARY", "was replaced")
        self.assertIsNone(a.left_ms())
        self.assertTrue(b.ok("read").is_released)
        b.ok("acquire")

    def test_the_first_change_makes_the_files_for_its_user_alone(self):
        path = self.server.path(self.key)
        a = self.node("a")
        a.ok("read")
        a.ok("get-id")
        self.assertFalse(os.path.exists(path + ".lock"), "what only reads makes nothing")
        a.ok("acquire")
        for name in (path, path + ".lock"):
            self.assertEqual(os.stat(name).st_mode & 0o777, 0o600)
        self.assertFalse(os.path.exists(path + ".new"))

    # --- what is refused ---

    def refused(self, path, code, words):
        n = Node("file", key=path, hostname="a", advertise_url="http://a", ttl_ms=2000)
        self.assertEqual(n.close(), 1)
        self.assertCode(n.made, code, words)

    def test_what_is_no_place_for_it(self):
        self.refused("here", "E_CONFIG", "lease.file.path: want the absolute path of a file")
        self.refused(self.server.root + "/", "E_CONFIG", "want the absolute path of a file")
        self.refused(self.server.root + "/none/lease", "ENOENT", "/none: No such file")
        self.refused("/proc/lease", "EOPNOTSUPP", "/proc/lease is on a file system of type 0x9fa0, whose locks other machines may not see: "
                     "want a local disk")

    def test_a_link_in_its_place_is_not_followed(self):
        path = self.server.path("linked")
        os.symlink("/dev/null", path + ".lock")
        self.refused(path, "ELOOP", "linked.lock")

    def test_a_file_that_is_something_else(self):
        path = self.server.path("other")
        for text in ("", "hello\n", "[]", '{"term": 3}'):
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
            self.refused(path, "E_FORMAT", "is not a lease that litefs wrote: stop the nodes and move it away")

    @unittest.skipIf(os.getuid() != 0, "needs root")
    def test_a_file_of_another_user(self):
        path = self.server.path("foreign")
        with open(path + ".lock", "w", encoding="utf-8"):
            pass
        os.chown(path + ".lock", 65534, 65534)
        self.refused(path, "EPERM", "belongs to another user (65534): run all nodes as the same user")

    # --- as the contract has it, but for what a server says ---

    def test_a_server_that_was_killed_refuses(self):
        """Its directory is gone."""
        server = self.new_server()
        try:
            a, b = self.node("a", server=server), self.node("b", server=server)
            a.ok("acquire")
            server.kill()
            for n, line in ((a, "renew"), (b, "read"), (b, "acquire")):
                self.assertCode(n.call(line), "ENOENT", "No such file")
            self.assertGreater(a.left_ms(), 0)
            a.ok("release")
            self.assertIsNone(a.left_ms())
        finally:
            server.close()


if __name__ == "__main__":
    unittest.main(verbosity=2)
