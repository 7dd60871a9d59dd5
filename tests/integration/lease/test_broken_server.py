"""Leases with a server that says what no real one would: each call ends in time, with an error and no lease."""
import base64
import json
import time
import unittest

from contract import CALL_SLACK_MS
from lease_fixture import CUT, GONE, HANG, LeaseCase, Node, Script

TTL_MS = 2000
CALL_MS = 500
SESSION = "adf4238a-882b-9ddc-4a9d-5b6758e4159e"


# What any request may be answered with, and what no call may take for success.
NONSENSE = [
    (500, "No cluster leader"), (502, ""), (503, "x" * 60000), (301, ""), (307, ""), (204, ""), (418, "\0\1\2\xff"),
    (200, ""), (200, "{"), (200, "null"), (200, "[]"), (200, "{}"), (200, "[null]"), (200, "[{}]"), (200, '"x"'),
    (200, "5"), (200, "[" * 5000), (200, b"\xff\xfe\x00"), (200, "{" + '"a":[' * 3000), (200, " " * 65536),
    (200, "[" + "1," * 100000 + "1]"), (200, "x" * 10000000), HANG, CUT,
]


class Consul:
    """Well-behaved, as far as one holder needs."""

    def __init__(self, session=SESSION):
        self.index, self.session, self.value = 10, "", ""
        self.new_session = session

    def __call__(self, method, path, body):
        if path == "/v1/session/create":
            return 200, json.dumps({"ID": self.new_session})
        if path == "/v1/txn":
            self.index += 1
            for op in (o["KV"] for o in json.loads(body)):
                if op["Verb"] == "lock":
                    self.session, self.value = op["Session"], base64.b64decode(op["Value"]).decode()
                elif op["Verb"] == "unlock":
                    self.session, self.value = "", ""
            return 200, json.dumps({"Results": [{"KV": {"ModifyIndex": self.index}}], "Errors": None})
        if method == "GET" and path.split("?")[0] != "/v1/kv/k":
            return 404, ""
        if method == "GET":
            return 200, json.dumps([{"Key": "k", "Session": self.session, "ModifyIndex": self.index,
                                     "Value": base64.b64encode(self.value.encode()).decode()}])
        return 200, "true"


class Etcd:
    def __init__(self):
        self.revision = 10

    def __call__(self, method, path, body):
        header = {"revision": str(self.revision)}
        if path == "/v3/lease/grant":
            return 200, json.dumps({"header": header, "ID": "7", "TTL": "2"})
        if path == "/v3/lease/keepalive":
            return 200, json.dumps({"result": {"header": header, "ID": "7", "TTL": "2"}})
        if path == "/v3/kv/txn":
            return 200, json.dumps({"header": header, "succeeded": True, "responses": []})
        return 200, json.dumps({"header": header})


class Broken:
    def script(self, answer):
        server = Script(answer)
        self.addCleanup(server.close)
        return server

    def assertFails(self, answer):
        self.assertNotEqual(answer.code, "OK")
        self.assertNotEqual(answer.text, "")
        self.assertLess(answer.us / 1000, CALL_MS + CALL_SLACK_MS)

    def test_nonsense_to_every_call(self):
        for nonsense in NONSENSE:
            # The holder acquired when all was well.
            server = self.script(self.good())
            holder, other = self.node(server), self.node(server)
            holder.ok("acquire")
            left_ms = holder.left_ms()
            other.ok("read")
            server.answer = lambda *_, a=nonsense: a
            with self.subTest(nonsense=str(nonsense)[:60]):
                for verb in ("renew", "offer"):
                    answer = holder.call(verb)
                    self.assertFails(answer)
                    # Nobody said that it is lost, and nobody that it was renewed.
                    self.assertNotEqual(answer.code, "E_NOT_PRIMARY")
                    self.assertLess(holder.left_ms(), left_ms)
                for verb in ("acquire", "put-id LFSC0123456789ABCDEF", "take-over 7"):
                    self.assertFails(other.call(verb))
                    self.assertIsNone(other.left_ms())
                if nonsense not in self.says_there_is_no_id:
                    self.assertFails(other.call("get-id"))
                self.assertFails(other.call("read"))
                self.assertLess(holder.ok("release").us / 1000, CALL_MS + CALL_SLACK_MS)
                self.assertIsNone(holder.left_ms())

    def test_nonsense_to_the_last_request_of_a_call(self):
        """The first ones are answered well, so that each request of each call is met by each nonsense."""
        for n_good in (1, 2):
            for nonsense in NONSENSE:
                server = self.script(self.good())
                node = self.node(server)
                self.fail_after(server, n_good, nonsense)
                with self.subTest(n_good=n_good, nonsense=str(nonsense)[:60]):
                    answer = node.call("acquire")
                    self.assertLess(answer.us / 1000, CALL_MS + CALL_SLACK_MS)
                    if len(server.requests) > n_good:
                        self.assertFails(answer)
                        self.assertIsNone(node.left_ms())

    def fail_after(self, server, n_good, nonsense):
        good = server.answer
        counter = iter(range(10 ** 6))
        server.answer = lambda *a: good(*a) if next(counter) < n_good else nonsense

    def test_a_request_that_was_lost_is_not_sent_again(self):
        """On a connection that was kept, whose end looks like that of an idle one. What may be repeated, the caller repeats."""
        for verb in ("renew", "offer", "acquire", "put-id LFSC0123456789ABCDEF", "take-over 7"):
            server = self.script(self.good())
            node = self.node(server)
            if verb in ("renew", "offer"):
                node.ok("acquire")
            node.ok("get-id")  # the connection is there
            good = server.answer
            server.answer = lambda m, p, b, good=good: good(m, p, b) if m == "GET" else (good(m, p, b), GONE)[1]
            server.requests.clear()
            with self.subTest(verb=verb):
                self.assertFails(node.call(verb))
                sent = [r for r in server.requests if r[0] != "GET"]
                self.assertGreater(len(sent), 0)
                self.assertEqual(len(sent), len(set(sent)), sent)

    def test_a_deadline_counts_from_the_start_of_the_request(self):
        """An answer that takes 0.3 s leaves 0.3 s less."""
        server = self.script(self.good())
        good = server.answer
        node = self.node(server)

        def slow(method, path, body):
            if "renew" in path or "keepalive" in path:
                time.sleep(0.3)
            return good(method, path, body)

        node.ok("acquire")
        server.answer = slow
        self.assertGreater(node.ok("renew").us, 290000)
        self.assertLessEqual(node.left_ms(), TTL_MS * 9 // 10 - 290)


class BrokenConsul(Broken, LeaseCase):
    good = Consul
    says_there_is_no_id = [(200, "")]

    def node(self, server):
        return self.add(Node("consul", url=server.url, key="k", hostname="a", advertise_url="http://a",
                             ttl_ms=TTL_MS))

    def test_a_session_that_may_hold_the_lease_is_ended_before_the_next(self):
        server = self.script(Consul())
        good = server.answer
        node = self.node(server)
        server.answer = lambda m, p, b: HANG if "txn" in p else good(m, p, b)
        self.assertCode(node.call("acquire"), "ETIMEDOUT")
        server.answer = good
        node.ok("read")
        server.requests.clear()
        self.assertCode(node.call("acquire-seen"), "E_NOT_PRIMARY", "an earlier session had to be ended")
        self.assertEqual([p for _, p, _ in server.requests], ["/v1/txn", f"/v1/session/destroy/{SESSION}"])
        self.assertIn('"unlock"', server.requests[0][2])
        node.ok("acquire")
        server.requests.clear()
        node.ok("renew")
        self.assertNotIn("destroy", str(server.requests))

    def test_a_session_id_that_is_a_path_is_refused(self):
        for session in ("../../x", "a?b", "", "x" * 200, "a b"):
            node = self.node(self.script(Consul(session)))
            self.assertCode(node.call("acquire"), "EPROTO", "no session id")

    def read_value(self, value):
        consul = Consul()
        consul.session, consul.value = SESSION, value
        return self.node(self.script(consul)).call("read")

    def test_a_cluster_id_that_is_none_is_refused(self):
        node = self.node(self.script(lambda *_: (200, "LFSC0123456789ABCDEG")))
        self.assertCode(node.call("get-id"), "E_FORMAT", "no cluster id: 'LFSC0123456789ABCDEG'")
        self.assertCode(node.call("put-id x"), "E_FORMAT", "no cluster id: 'x'")

    def test_values(self):
        self.assertCode(self.read_value('{"hostname":"h","advertise-url":"u","new":[1]}'), "OK")
        for value in ("x", "[]", '{"hostname":"h"}', '{"hostname":"h","advertise-url":1}',
                      '{"hostname":"%s","advertise-url":"u"}' % ("h" * 256),
                      '{"hostname":"h","advertise-url":"%s"}' % ("u" * 1024),
                      '{"hostname":"h\\u0000","advertise-url":"u"}',
                      '{"hostname":"h","advertise-url":"u","term":-1}',
                      '{"hostname":"h","advertise-url":"u","term":4611686018427387905}',
                      '{"hostname":"h","advertise-url":"u","ttl-ms":-5}', "y" * 3000):
            with self.subTest(value=value[:60]):
                self.assertCode(self.read_value(value), "E_FORMAT")


class BrokenEtcd(Broken, LeaseCase):
    good = Etcd
    says_there_is_no_id = []

    def node(self, server, *more):
        return self.add(Node("etcd", endpoint=[s.url for s in (server, *more)], key="k", hostname="a",
                             advertise_url="http://a", ttl_ms=TTL_MS))

    def test_an_endpoint_that_lost_its_cluster_is_left_for_the_next(self):
        bad, good = self.script(lambda *_: (503, "etcdserver: no leader")), self.script(Etcd())
        node = self.node(bad, good)
        node.ok("acquire")
        node.ok("renew")
        self.assertEqual(len(bad.requests), 1)
        good.answer = bad.answer
        self.assertCode(node.call("renew"), "EPROTO", "status 503: etcdserver: no leader")

    def test_a_shorter_ttl_than_asked_for_counts(self):
        good = Etcd()
        node = self.node(self.script(lambda m, p, b: (200, good(m, p, b)[1].replace('"TTL": "2"', '"TTL": "1"'))))
        node.ok("acquire")
        self.assertLessEqual(node.left_ms(), 900)


class Settings(unittest.TestCase):
    GOOD = {"consul": {"url": "http://h:8500", "key": "k", "hostname": "a", "advertise_url": "http://a",
                       "ttl_ms": 10000},
            "etcd": {"endpoint": "http://h:2379", "key": "k", "hostname": "a", "advertise_url": "http://a",
                     "ttl_ms": 10000}}

    def made(self, backend, **changes):
        n = Node(backend, **{**self.GOOD[backend], **changes})
        self.assertEqual(n.close(), 0 if n.made.code == "OK" else 1)
        return n.made

    def test_good_ones(self):
        for backend in self.GOOD:
            self.assertEqual(self.made(backend).code, "OK")

    def test_bad_ones(self):
        for backend, changes, words in (
                ("consul", {"url": ""}, "lease.consul.url required"),
                ("consul", {"url": "h:8500"}, "lease.consul.url: not a URL of the form http://host:port"),
                ("consul", {"url": "ftp://h"}, "lease.consul.url: not an http:// or https:// URL"),
                ("consul", {"url": "http://h/%00"}, "lease.consul.url: a part of the URL"),
                ("consul", {"key": ""}, "lease.consul.key required"),
                ("consul", {"key": "/"}, "lease.consul.key: required"),
                ("consul", {"key": "a/../b"}, 'lease.consul.key: ".." in it'),
                ("consul", {"key": "k" * 600}, "lease.consul.key: longer than 510 bytes"),
                ("consul", {"hostname": ""}, "lease.hostname required"),
                ("consul", {"hostname": "h" * 256}, "lease.hostname: longer than 255 bytes"),
                ("consul", {"advertise_url": ""}, "lease.advertise-url required"),
                ("consul", {"ttl_ms": 0}, "lease.consul.ttl: at least 1s"),
                ("consul", {"token": "a\nb"}, "lease.consul.token: invalid Consul token: it is too long, or has a line break in it"),
                ("etcd", {"endpoint": []}, "lease.etcd.endpoints required"),
                ("etcd", {"endpoint": "h:2379"}, "lease.etcd.endpoints: not a URL of the form http://host:port"),
                ("etcd", {"endpoint": "http://h:2379/v3"}, "lease.etcd.endpoints: has a path: '/v3'"),
                ("etcd", {"endpoint": "http://u:p@h:2379"}, "lease.etcd.endpoints: has a user name"),
                ("etcd", {"key": ""}, "lease.etcd.key: required")):
            with self.subTest(backend=backend, **changes):
                made = self.made(backend, **changes)
                self.assertEqual(made.code, "E_CONFIG", made.text)
                self.assertIn(words, made.text)


if __name__ == "__main__":
    unittest.main(verbosity=2)
