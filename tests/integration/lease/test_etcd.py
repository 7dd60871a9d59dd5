"""The lease in a real etcd."""
import base64
import json
import os
import socket

from contract import CALL_SLACK_MS, Contract
from lease_fixture import LeaseCase, Node, Script, Server, http, losing_the_answer, main, tls_authority
from litefs_fixture import free_ports, wait_until


def b64(text):
    return base64.b64encode(text.encode()).decode()


class Etcd(Server):
    tls = ()

    def start(self):
        client, peer = free_ports(2)
        self.url = f"{self.scheme}://127.0.0.1:{client}"
        peer_url = f"http://127.0.0.1:{peer}"
        self.spawn("etcd", "--data-dir", os.path.join(self.root, "data"), "--listen-client-urls", self.url,
                   "--advertise-client-urls", self.url, "--listen-peer-urls", peer_url,
                   "--initial-advertise-peer-urls", peer_url, "--initial-cluster", f"default={peer_url}", *self.tls)

    def is_ready(self):
        return json.loads(http("GET", f"{self.url}/health")[1])["health"] == "true"

    def post(self, path, **body):
        status, text = http("POST", f"{self.url}/v3/{path}", json.dumps(body))
        assert status == 200, text
        return json.loads(text)


class EtcdTls(Etcd):
    """Knows only clients with a certificate of its authority."""
    scheme = "https"

    def __init__(self):
        self.ca = tls_authority()
        super().__init__()

    def start(self):
        self.tls = ("--cert-file", self.ca.path("server.pem"), "--key-file", self.ca.path("server.key"),
                    "--trusted-ca-file", self.ca.path("ca.pem"), "--client-cert-auth")
        super().start()

    def is_ready(self):
        return json.loads(http("GET", f"{self.url}/health", context=self.ca.context("client"))[1])["health"] == "true"

    def close(self):
        super().close()
        self.ca.close()


class EtcdLease(Contract, LeaseCase):
    # etcd rounds up to 3 s: half a second in which to break what has run out.
    TTL_MS = 2500
    CALL_MS = 625
    ENDS_AT_TTL = True

    new_server = Etcd

    def node(self, hostname, server=None, **options):
        options = {"endpoint": (server or self.server).url, "key": self.key, "ttl_ms": self.TTL_MS, **options}
        return self.add(Node("etcd", hostname=hostname, advertise_url=f"http://{hostname}:20202", **options))

    def end_session(self, session):
        self.server.post("lease/revoke", ID=session)

    def delete_key(self, suffix):
        self.server.post("kv/deleterange", key=b64(self.key + suffix))

    def delete_tree(self):
        for suffix in ("", "/term", "/released", "/heir", "/clusterid"):
            self.delete_key(suffix)

    def take_key_from(self, _):
        self.server.post("kv/deleterange", key=b64(self.key))

    def write_by_litefs(self, value):
        """There is no LiteFS on etcd, but there may be another writer."""
        session = self.server.post("lease/grant", TTL="10")["ID"]
        self.server.post("kv/put", key=b64(self.key), value=b64(value), lease=session)
        return session

    def leases(self):
        return {lease["ID"] for lease in self.server.post("lease/leases").get("leases", [])}

    def test_a_lost_race_leaves_no_etcd_lease(self):
        self.holder()
        b, before = self.node("b"), self.leases()
        self.assertCode(b.call("acquire"), "E_NOT_PRIMARY")
        self.assertEqual(self.leases(), before)

    def test_a_released_key_is_gone_and_its_etcd_lease(self):
        before = self.leases()
        a = self.holder()
        self.assertEqual(len(self.leases() - before), 1)
        a.ok("release")
        self.assertEqual(self.leases() - before, set())
        self.assertNotIn("kvs", self.server.post("kv/range", key=b64(self.key)))

    def test_a_key_without_an_etcd_lease_can_be_broken(self):
        value = '{"hostname":"x","advertise-url":"http://x","ttl-ms":2000}'
        self.server.post("kv/put", key=b64(self.key), value=b64(value))
        b = self.node("b")
        self.assertTrue(b.ok("read").has_holder)
        b.ok("break")
        b.ok("acquire")

    def test_a_holder_that_died_is_gone_after_the_ttl_by_etcd_alone(self):
        a, b = self.holder(), self.node("b")
        a.kill()
        wait_until(lambda: not b.ok("read").has_holder, "etcd to end the lease")
        b.ok("acquire")

    # --- several endpoints ---

    def test_an_endpoint_that_refuses_is_left_for_the_next(self):
        dead = f"http://127.0.0.1:{free_ports(1)[0]}"
        a = self.node("a", endpoint=[dead, dead, self.server.url])
        a.ok("acquire")
        self.assertLess(a.ok("renew").us, self.CALL_MS * 1000)
        a.ok("release")

    def test_an_endpoint_that_hangs_is_left_within_the_call(self):
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            hung = f"http://127.0.0.1:{deaf.getsockname()[1]}"
            a = self.node("a", endpoint=[hung, self.server.url])
            self.assertLess(a.ok("acquire").us / 1000, self.CALL_MS + CALL_SLACK_MS)
            # It is not asked again.
            deaf.setblocking(False)
            deaf.accept()[0].close()
            a.ok("renew")
            with self.assertRaises(BlockingIOError):
                deaf.accept()

    def test_a_transaction_whose_answer_was_lost_counts_once(self):
        proxy = Script(losing_the_answer(self.server.url, lambda path: path.endswith("/txn")))
        self.addCleanup(proxy.close)
        a = self.node("a", endpoint=[proxy.url, self.server.url])
        got = a.ok("acquire")
        kv = self.server.post("kv/range", key=b64(self.key))["kvs"][0]
        self.assertEqual(kv["version"], "1")
        a.ok("renew")
        b = self.node("b", endpoint=[proxy.url, self.server.url])
        token = a.ok("offer").token
        got = b.ok("take-over " + token)
        self.assertEqual(a.ok("read").term, got.term)
        b.ok("renew")

    def test_no_endpoint_works(self):
        dead = [f"http://127.0.0.1:{p}" for p in free_ports(2)]
        a = self.node("a", endpoint=dead)
        self.assertCode(a.call("acquire"), "ECONNREFUSED", dead[1])

    # --- another etcd at the same address ---

    def test_an_acquisition_is_bound_to_the_term_and_not_to_its_revision_alone(self):
        """An etcd that was emptied or restored gives its revisions again."""
        servers = [self.new_server(), self.new_server()]
        for server in servers:
            self.addCleanup(server.close)
        now = servers[0]
        proxy = Script(lambda method, path, body: http(method, now.url + path, body))
        self.addCleanup(proxy.close)
        b = self.node("b", server=proxy)
        for now, term in zip(servers, (7, 9)):
            a = self.node("a", server=now)
            a.ok(f"acquire {term}")
            now.post("lease/revoke", ID=a.ok("read").session)
            if term == 7:
                self.assertEqual(b.ok("read").last_term, 7)
        self.assertCode(b.call("acquire-seen"), "E_NOT_PRIMARY")
        self.assertEqual(b.ok("read").last_term, 9)
        b.ok("acquire-seen")

    def test_the_endpoint_that_was_kept_to_dies(self):
        server = self.new_server()
        try:
            a = self.node("a", endpoint=[server.url, self.server.url])
            self.assertFalse(a.ok("read").has_holder)
            server.kill()
            self.assertFalse(a.ok("read").has_holder)
        finally:
            server.close()


class EtcdLeaseTls(LeaseCase):
    new_server = EtcdTls

    def acquire(self, **files):
        files = {name: self.server.ca.path(file) for name, file in files.items()}
        n = self.add(Node("etcd", endpoint=self.server.url, key=self.key, hostname="a", advertise_url="http://a",
                          ttl_ms=4000, **files))
        self.assertCode(n.made, "OK")
        return n.call("acquire")

    def test_with_a_certificate(self):
        self.assertCode(self.acquire(ca="ca.pem", cert="client.pem", cert_key="client.key"), "OK")

    def test_without_a_certificate(self):
        answer = self.acquire(ca="ca.pem")
        self.assertIn(answer.code, ("EPROTO", "EIO"))  # TLS 1.3 says so only with the first bytes
        self.assertIn("alert", answer.text)
        self.assertIn("certificate", answer.text)

    def test_of_another_authority(self):
        answer = self.acquire(ca="ca.pem", cert="other.pem", cert_key="other.key")
        self.assertIn(answer.code, ("EPROTO", "EIO"))

    def test_a_server_of_another_authority(self):
        self.assertCode(self.acquire(ca="other.pem", cert="client.pem", cert_key="client.key"), "EPROTO",
                        "certificate")
        self.assertCode(self.acquire(), "EPROTO", "certificate")

    def test_a_file_that_is_not_there(self):
        n = Node("etcd", endpoint=self.server.url, key="k", hostname="a", advertise_url="http://a", ttl_ms=4000,
                 ca="/nonexistent.pem")
        self.assertEqual(n.close(), 1)
        self.assertCode(n.made, "EINVAL", "lease.etcd: /nonexistent.pem: No such file or directory")


if __name__ == "__main__":
    main("etcd")
