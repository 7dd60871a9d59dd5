"""An authority of the test's own, and the certificates that it makes."""
import os
import shutil
import ssl
import subprocess
import sys
import tempfile

NAMES = "IP:127.0.0.1,DNS:localhost"


class Authority:
    """`with Authority() as ca:` makes a directory of PEM files, gone at the end."""

    def __init__(self):
        if shutil.which("openssl") is None:
            print("skipped: there is no openssl (scripts/setup --cluster-tests installs it)")
            sys.exit(77)
        self.root = tempfile.mkdtemp(prefix="litefs-ca-")
        self.make("ca", issuer=None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        shutil.rmtree(self.root, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.root, name)

    def make(self, name, issuer="ca", names=NAMES, days=2):
        """Makes NAME.pem and NAME.key; without an issuer it is an authority itself."""
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                   "-days", str(days), "-subj", f"/CN={name}", "-keyout", self.path(name + ".key"),
                   "-out", self.path(name + ".pem")]
        if issuer:
            command += ["-CA", self.path(issuer + ".pem"), "-CAkey", self.path(issuer + ".key"), "-addext",
                        f"subjectAltName={names}", "-addext", "basicConstraints=critical,CA:FALSE"]
        else:
            command += ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        subprocess.run(command, check=True, capture_output=True)

    def context(self, name=None):
        """Of a client that trusts the authority and shows the certificate called `name`."""
        c = ssl.create_default_context(cafile=self.path("ca.pem"))
        c.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 does by itself
        if name:
            c.load_cert_chain(self.path(name + ".pem"), self.path(name + ".key"))
        return c
