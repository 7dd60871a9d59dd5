"""What the contract has to know of a lease in an object of a bucket, whatever the bucket's server is."""
import json

from contract import Contract
from lease_fixture import Node


class ObjectNodes:
    """Of a LeaseCase."""

    def node(self, hostname, server=None, **options):
        server = server or self.server
        options = {"url": server.lease_url(self.key), "ttl_ms": self.TTL_MS, "access_key_id": server.access_key,
                   "secret_access_key": server.secret_key, **options}
        return self.add(Node("object", hostname=hostname, advertise_url=f"http://{hostname}:20202", **options))

    def state(self):
        return json.loads(self.server.read(self.key))

    def change(self, fn):
        """As if somebody else had written it."""
        root = self.state() if self.server.read(self.key) is not None else {}
        fn(root)
        root["revision"] = root.get("revision", 0) + 1
        self.server.write(self.key, json.dumps(root).encode())


class ObjectContract(ObjectNodes, Contract):
    def remove_holder(self):
        def remove(root):
            for name in ("holder", "session", "holder-revision"):
                root.pop(name, None)
        self.change(remove)

    def end_session(self, _):
        self.remove_holder()

    def take_key_from(self, _):
        self.remove_holder()

    def delete_key(self, suffix):
        def remove(root):
            del root["released"], root["released-revision"]
        if suffix == "":
            self.remove_holder()
        else:
            self.assertEqual(suffix, "/released")
            self.change(remove)

    def delete_tree(self):
        self.server.write(self.key, b"{}")

    def write_by_litefs(self, value):
        """There is no LiteFS in a bucket, but there may be another writer."""
        self.change(lambda root: root.update({"holder": json.loads(value), "session": "1234567",
                                              "holder-revision": (root.get("revision", 0) + 1) << 20}))
        return "1234567"

    # --- as the contract has it, but for the watch, which would cost a request each time ---

    def watched_loss(self, lose):
        a = self.holder()
        self.assertCode(a.call("watch"), "EOPNOTSUPP")
        lose(a.ok("read").session)
        self.assertCode(a.call("renew"), "E_NOT_PRIMARY")
        self.assertIsNone(a.left_ms())

    def test_handed_on_after_the_watch_has_seen_it_lost(self):
        """Which sees nothing here; as when nobody has noticed."""
        self.test_handed_on_after_it_was_lost()

    def test_a_watch_without_a_server_is_no_loss(self):
        self.assertCode(self.holder().call("watch"), "EOPNOTSUPP")
