"""More handshakes than a node can do: what runs goes on, and who is in earnest gets in."""
import ssl
import subprocess
import sys
import time

from tls_fixture import ready, request, run, tls_node, tls_replica, wait_until
from certificates import Authority
from http_fixture import in_step
from test_tls_node import fill


def client_hello(context):
    to, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(to, out, server_hostname="127.0.0.1").do_handshake()
    except ssl.SSLWantReadError:
        return out.read()


FLOOD = """
import collections, socket, sys
hello, held = bytes.fromhex(sys.argv[2]), collections.deque()
while True:
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex(("127.0.0.1", int(sys.argv[1])))
    held.append(s)
    if len(held) > 100:
        try:
            held[-100].send(hello)
        except OSError:
            pass
    if len(held) > 700:
        held.popleft().close()
"""


def test_a_flood_of_handshakes():
    """Handshakes are begun as fast as three processes can, and never ended: a stream goes on, and who is in earnest gets
    in."""
    with Authority() as ca:
        ca.make("node")
        client = ca.context("node")
        hello = client_hello(client).hex()
        with tls_node(ca) as n, tls_replica(ca, n) as r:
            ready(n, client)
            c = fill(n)
            in_step(n, r)
            floods = [subprocess.Popen([sys.executable, "-c", FLOOD, str(n.port()), hello]) for _ in range(3)]
            try:
                cpu = n.cpu_seconds()
                wait_until(lambda: n.cpu_seconds() - cpu > 0.5, "the flood to be felt")
                begin = time.monotonic()
                for i in range(20):
                    c.execute("insert into t values(?, 0)", (i,))
                    in_step(n, r)
                stream = time.monotonic() - begin
                with tls_replica(ca, n) as late:
                    in_step(n, late)
                print(f"20 commits reached the replica in {stream:.1f} s, a new one had all after "
                      f"{time.monotonic() - begin - stream:.1f} s")
            finally:
                for p in floods:
                    p.kill()
                    p.wait()
            assert "stream disconnected" not in n.log().split("stream connected")[1], n.log()
            wait_until(lambda: request(n, client, "GET", "/healthz").status == 200, "the node to answer")
            c.close()


if __name__ == "__main__":
    run(sys.modules["__main__"])
