"""Nodes with certificates, and requests to them."""
import http.client
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(os.path.dirname(HERE), d) for d in ("", "lease", "cluster", "http")]

import http_fixture
import litefs_fixture
from certificates import Authority
from litefs_fixture import wait_until


def section(ca, name="node", client_ca="ca", trusted=None):
    """`tls:` of a node's `http:`, with the certificate called `name`."""
    text = f"  tls:\n    cert: {ca.path(name + '.pem')}\n    key: {ca.path(name + '.key')}\n"
    if client_ca:
        text += f"    client-ca: {ca.path(client_ca + '.pem')}\n"
    if trusted:
        text += f"    ca: {ca.path(trusted + '.pem')}\n"
    return text


def with_http(node, section):
    """Adds to `http:` of a node that has not been started."""
    with open(node.config) as f:
        text = f.read()
    with open(node.config, "w") as f:
        f.write(text.replace("http:\n", "http:\n" + section, 1))
    return node


def request(node, context, method, path, body=None, headers=None, timeout=60):
    c = http.client.HTTPSConnection("127.0.0.1", http_fixture.port_of(node), timeout=timeout, context=context)
    try:
        c.request(method, path, body, headers or {})
        return http_fixture.Answer(c.getresponse())
    finally:
        c.close()


def tls_node(ca, name="node", extra="", **kw):
    return with_http(litefs_fixture.Node(extra=extra), section(ca, name, **kw))


def tls_replica(ca, primary, name="node", extra="", **kw):
    extra = (f"  candidate: false\n  advertise-url: https://127.0.0.1:{primary.port()}\n  reconnect-delay: 100ms\n" + extra)
    return tls_node(ca, name, extra, **kw)


def ready(node, context):
    wait_until(lambda: request(node, context, "GET", "/readyz").status == 200, "the node to be ready")


def run(module):
    litefs_fixture.run(module)
