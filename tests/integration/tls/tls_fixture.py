"""An authority, certificates that it has made, and requests to nodes that have one."""
import http.client
import os
import ssl
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(os.path.dirname(HERE), d) for d in ("", "lease", "cluster", "http")]

import http_fixture
import litefs_fixture
from litefs_fixture import wait_until

NAMES = "IP:127.0.0.1,DNS:localhost"


class Authority:
    """`with Authority() as ca:` makes a directory of PEM files, gone at the end."""

    def __init__(self):
        self.directory = tempfile.TemporaryDirectory(prefix="litefs-tls-")
        self.root = self.directory.name
        self.make("ca", issuer=None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.directory.cleanup()

    def path(self, name):
        return os.path.join(self.root, name)

    def make(self, name, issuer="ca", names=NAMES, days=2):
        """Makes NAME.pem and NAME.key; without an issuer it is an authority of its own."""
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                   str(days), "-subj", f"/CN={name}", "-keyout", self.path(name + ".key"), "-out",
                   self.path(name + ".pem")]
        if issuer:
            command += ["-CA", self.path(issuer + ".pem"), "-CAkey", self.path(issuer + ".key"), "-addext",
                        f"subjectAltName={names}", "-addext", "basicConstraints=critical,CA:FALSE"]
        subprocess.run(command, check=True, capture_output=True)
        return self.path(name + ".pem"), self.path(name + ".key")

    def section(self, name, client_ca="ca", ca=None):
        """`tls:` of a node's `http:`, with the certificate called `name`."""
        text = f"  tls:\n    cert: {self.path(name + '.pem')}\n    key: {self.path(name + '.key')}\n"
        if client_ca:
            text += f"    client-ca: {self.path(client_ca + '.pem')}\n"
        if ca:
            text += f"    ca: {self.path(ca + '.pem')}\n"
        return text

    def context(self, name=None):
        """Of a client that shows the certificate called `name`."""
        c = ssl.create_default_context(cafile=self.path("ca.pem"))
        if name:
            c.load_cert_chain(self.path(name + ".pem"), self.path(name + ".key"))
        return c


def with_http(node, section):
    """Adds to `http:` of a node that has not been started."""
    with open(node.config) as f:
        text = f.read()
    with open(node.config, "w") as f:
        f.write(text.replace("http:\n", "http:\n" + section, 1))
    return node


def request(node, context, method, path, body=None, headers=None, timeout=30):
    c = http.client.HTTPSConnection("127.0.0.1", http_fixture.port_of(node), timeout=timeout, context=context)
    try:
        c.request(method, path, body, headers or {})
        return http_fixture.Answer(c.getresponse())
    finally:
        c.close()


def tls_node(ca, name="node", extra="", **kw):
    return with_http(litefs_fixture.Node(extra=extra), ca.section(name, **kw))


def tls_replica(ca, primary, name="node", extra="", **kw):
    extra = (f"  candidate: false\n  advertise-url: https://127.0.0.1:{primary.port()}\n  reconnect-delay: 100ms\n" + extra)
    return tls_node(ca, name, extra, **kw)


def ready(node, context):
    wait_until(lambda: request(node, context, "GET", "/readyz").status == 200, "the node to be ready")


def run(module):
    litefs_fixture.run(module)
