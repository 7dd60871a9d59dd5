"""The lease in a real Consul."""
import json
import os

from contract import Contract
from lease_fixture import LeaseCase, Node, Script, Server, http, losing_the_answer, main, tls_authority
from litefs_fixture import free_ports, wait_until


class Consul(Server):
    def __init__(self, extra=""):
        self.extra = extra
        super().__init__()

    def start(self):
        web, server, serf = free_ports(3)
        self.url = f"{self.scheme}://127.0.0.1:{web}"
        # Consul refuses a TTL of less than 10 s unless told so.
        self.spawn("consul", "agent", "-dev", "-bind", "127.0.0.1", "-client", "127.0.0.1",
                   "-http-port", str(web if self.scheme == "http" else -1),
                   "-https-port", str(web if self.scheme == "https" else -1), "-server-port", str(server), "-serf-lan-port", str(serf),
                   "-serf-wan-port", "-1", "-dns-port", "-1", "-grpc-port", "-1",
                   "-hcl", 'session_ttl_min = "1s"', "-hcl", self.extra)

    def is_ready(self):
        # A leader that has not yet registered its own node takes no sessions.
        status, body = self.get("/v1/catalog/nodes")
        return status == 200 and body.strip() != "[]"

    def get(self, path):
        return http("GET", self.url + path, headers={"X-Consul-Token": "master"})

    def put(self, path, body="", token=None):
        status, text = http("PUT", f"{self.url}/v1{path}", body, {"X-Consul-Token": token} if token else {})
        assert status == 200, text
        return text


class ConsulTls(Consul):
    """Knows only clients with a certificate of its authority."""
    scheme = "https"

    def __init__(self):
        self.ca = tls_authority()
        path = self.ca.path
        super().__init__(f'ca_file = "{path("ca.pem")}" cert_file = "{path("server.pem")}" '
                         f'key_file = "{path("server.key")}" verify_incoming = true')

    def get(self, path):
        return http("GET", self.url + path, context=self.ca.context("client"))

    def close(self):
        super().close()
        self.ca.close()


class ConsulLease(Contract, LeaseCase):
    new_server = Consul

    def node(self, hostname, server=None, **options):
        options = {"url": (server or self.server).url, "key": self.key, "ttl_ms": self.TTL_MS, **options}
        return self.add(Node("consul", hostname=hostname, advertise_url=f"http://{hostname}:20202", **options))

    def end_session(self, session):
        self.server.put(f"/session/destroy/{session}")

    def delete_key(self, suffix):
        self.assertEqual(http("DELETE", f"{self.server.url}/v1/kv/{self.key}{suffix}")[1].strip(), "true")

    def delete_tree(self):
        http("DELETE", f"{self.server.url}/v1/kv/{self.key}?recurse")

    def take_key_from(self, session):
        self.assertEqual(self.server.put(f"/kv/{self.key}?release={session}").strip(), "true")

    def write_by_litefs(self, value):
        session = json.loads(self.server.put("/session/create", json.dumps(
            {"NodeChecks": [], "Name": "litefs", "Behavior": "delete", "LockDelay": "1000ms", "TTL": "10s"})))["ID"]
        self.assertEqual(self.server.put(f"/kv/{self.key}?acquire={session}", value).strip(), "true")
        return session

    def sessions(self):
        return {s["ID"] for s in json.loads(http("GET", f"{self.server.url}/v1/session/list")[1])}

    def test_litefs_can_read_the_holder(self):
        a = self.holder()
        a.ok("renew")
        value = json.loads(http("GET", f"{self.server.url}/v1/kv/{self.key}?raw")[1])
        self.assertEqual(value["hostname"], "a")
        self.assertEqual(value["advertise-url"], "http://a:20202")

    def test_a_released_key_is_empty_and_the_session_gone(self):
        before = self.sessions()
        a = self.holder()
        self.assertEqual(len(self.sessions() - before), 1)
        a.ok("release")
        self.assertEqual(self.sessions() - before, set())
        self.assertEqual(http("GET", f"{self.server.url}/v1/kv/{self.key}?raw"), (200, ""))

    def test_a_lost_race_leaves_no_session(self):
        self.holder()
        b, before = self.node("b"), self.sessions()
        self.assertCode(b.call("acquire"), "E_NOT_PRIMARY")
        self.assertEqual(self.sessions(), before)

    def test_the_session_is_as_litefs_makes_it(self):
        a = self.node("a", lock_delay_ms=1500)
        a.ok("acquire")
        info = json.loads(http("GET", f"{self.server.url}/v1/session/info/{a.ok('read').session}")[1])[0]
        self.assertEqual((info["Name"], info["Behavior"], info["TTL"], info["LockDelay"]),
                         ("litefs", "delete", "2000ms", 1500000000))
        self.assertEqual(info["NodeChecks"], [])

    def test_an_acquisition_whose_answer_was_lost_is_undone_without_a_delay(self):
        is_lost = True
        proxy = Script(losing_the_answer(self.server.url, lambda path: is_lost and path == "/v1/txn"))
        self.addCleanup(proxy.close)
        a, b = self.node("a", server=proxy), self.node("b")
        self.assertCode(a.call("acquire"), "ETIMEDOUT")
        self.assertIsNone(a.left_ms())
        seen = b.ok("read")
        self.assertEqual(seen.hostname, "a")
        is_lost = False
        self.assertCode(a.call("acquire"), "E_NOT_PRIMARY", "an earlier session had to be ended")
        self.assertGreater(a.ok("acquire").term, seen.term)
        a.ok("renew")

    def test_a_destroyed_session_leaves_the_lock_delay(self):
        """That break_stale has none is worth something only if there is one otherwise."""
        a, b = self.holder(), self.node("b")
        self.end_session(a.ok("read").session)
        self.assertCode(b.call("acquire"), "E_NOT_PRIMARY")
        wait_until(lambda: b.call("acquire").code == "OK", "the lock-delay to end")

    def test_the_urls_path_is_a_prefix(self):
        a = self.node("a", url=self.server.url + "/team/x/")
        a.ok("acquire")
        a.ok("put-id LFSC0123456789ABCDEF")
        status, value = http("GET", f"{self.server.url}/v1/kv/team/x/{self.key}?raw")
        self.assertEqual((status, json.loads(value)["hostname"]), (200, "a"))
        self.assertEqual(http("GET", f"{self.server.url}/v1/kv/team/x/{self.key}/clusterid?raw"),
                         (200, "LFSC0123456789ABCDEF"))
        info = json.loads(http("GET", f"{self.server.url}/v1/session/info/{a.ok('read').session}")[1])[0]
        self.assertEqual(info["Node"], "team/x/litefs")
        self.assertFalse(self.node("b").ok("read").has_holder)
        a.ok("renew")
        token = a.ok("offer").token
        self.node("c", url=self.server.url + "/team/x").ok("take-over " + token)

    def test_keys_of_odd_characters(self):
        self.key = "/a b//./ü&?#%41"
        a = self.holder()
        a.ok("renew")
        self.assertEqual(self.node("b").ok("read").hostname, "a")
        keys = json.loads(http("GET", f"{self.server.url}/v1/kv/a%20b/?keys")[1])
        self.assertEqual(keys, ["a b/ü&?#%41" + s for s in ("", "/heir", "/term")])
        self.wait_and_break(a)

    def wait_and_break(self, a):
        b = self.node("b")
        a.kill()
        self.break_stale(b)
        b.ok("acquire")

    def test_a_ttl_that_consul_refuses_is_its_error(self):
        a = self.node("a", ttl_ms=90000000)
        self.assertCode(a.call("acquire"), "EPROTO", "Invalid Session TTL")


class ConsulToken(LeaseCase):
    @staticmethod
    def new_server():
        return Consul('acl { enabled = true default_policy = "deny" tokens { master = "master" } }')

    def acquire(self, url=None, **options):
        n = self.add(Node("consul", url=url or self.server.url, key=self.key, hostname="a",
                          advertise_url="http://a", ttl_ms=2000, **options))
        answer = n.call("acquire")
        if answer.code == "OK":
            n.ok("renew")
            n.ok("release")
        return answer

    def test_without_a_token(self):
        self.assertCode(self.acquire(), "EACCES", "status 403: Permission denied")

    def test_a_wrong_token(self):
        answer = self.acquire(token="hunter2")
        self.assertCode(answer, "EACCES")
        self.assertNotIn("hunter2", answer.text)

    def test_of_the_configuration(self):
        wait_until(lambda: self.acquire(token="master").code == "OK", "the token to work")
        self.assertCode(self.acquire(url=self.server.url.replace("//", "//:wrong@"), token="master",
                                     env={"CONSUL_HTTP_TOKEN": "wrong"}), "OK")

    def test_of_the_url(self):
        url = self.server.url.replace("//", "//u:m%61ster@")
        self.assertCode(self.acquire(url=url, env={"CONSUL_HTTP_TOKEN": "wrong"}), "OK")

    def test_of_the_environment(self):
        self.assertCode(self.acquire(env={"CONSUL_HTTP_TOKEN": "master"}), "OK")


class ConsulLeaseTls(LeaseCase):
    new_server = ConsulTls

    def acquire(self, env=None, **files):
        files = {name: self.server.ca.path(file) for name, file in files.items()}
        n = self.add(Node("consul", url=self.server.url, key=self.key, hostname="a", advertise_url="http://a",
                          ttl_ms=2000, env=env or {}, **files))
        self.assertCode(n.made, "OK")
        return n.call("acquire")

    def test_with_a_certificate(self):
        self.assertCode(self.acquire(ca="ca.pem", cert="client.pem", cert_key="client.key"), "OK")

    def test_of_the_environment(self):
        path = self.server.ca.path
        self.assertCode(self.acquire(env={"CONSUL_CACERT": path("ca.pem"), "CONSUL_CLIENT_CERT": path("client.pem"),
                                          "CONSUL_CLIENT_KEY": path("client.key")}), "OK")

    def test_without_a_certificate(self):
        self.assertIn(self.acquire(ca="ca.pem").code, ("EPROTO", "EIO"))

    def test_a_server_of_another_authority(self):
        self.assertCode(self.acquire(ca="other.pem", cert="client.pem", cert_key="client.key"), "EPROTO",
                        "certificate")


if __name__ == "__main__":
    os.environ.pop("CONSUL_HTTP_TOKEN", None)
    main("consul")
