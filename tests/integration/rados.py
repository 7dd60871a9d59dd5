"""A real S3 server of the test's own: Ceph's radosgw over one monitor and one OSD in memory."""
import hashlib
import hmac
import http.client
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
import uuid

from litefs_fixture import free_ports, wait_until

PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "ceph-mgr", "monmaptool", "radosgw", "radosgw-admin")

CONF = """[global]
fsid = {fsid}
mon initial members = a
mon host = [v2:127.0.0.1:{mon2}/0,v1:127.0.0.1:{mon1}/0]
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
ms bind ipv4 = true
ms bind port min = {low}
ms bind port max = {high}
public network = 127.0.0.0/8
run dir = {dir}/run
admin socket = {dir}/run/$name.asok
log file = {dir}/$name.log
pid file = {dir}/run/$name.pid
mon data = {dir}/mon
osd data = {dir}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
mgr initial modules =
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = {dir}/keyring
mgr data = {dir}/mgr
[client.rgw.a]
rgw frontends = beast endpoint=127.0.0.1:{rgw}
rgw data = {dir}/rgw
rgw crypt require ssl = false
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = key-of-test=YmluCmJvb3N0CmJvb3N0LWJ1aWxkCmNlcGguY29uZgo=
"""


def need_rados():
    for program in PROGRAMS:
        if shutil.which(program) is None:
            print(f"skipped: there is no {program} (scripts/setup --cluster-tests installs it)")
            sys.exit(77)


def free_range(n):
    """The first of @n ports that nobody listens on at this moment."""
    while True:
        low = random.randrange(20000, 32000)
        try:
            for port in range(low, low + n):
                with socket.socket() as s:
                    s.bind(("127.0.0.1", port))
            return low
        except OSError:
            pass


class Rados:
    access_key, secret_key, bucket = "litefsaccess", "litefssecret", "backups"

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="litefs-rados-")
        self.daemons = []
        mon2, mon1, self.port = free_ports(3)
        low = free_range(24)
        for sub in ("run", "mon", "osd", "mgr", "rgw"):
            os.mkdir(os.path.join(self.dir, sub))
        self.conf = os.path.join(self.dir, "ceph.conf")
        self.fsid = str(uuid.uuid4())
        with open(self.conf, "w", encoding="utf-8") as f:
            f.write(CONF.format(dir=self.dir, fsid=self.fsid, mon2=mon2, mon1=mon1, low=low, high=low + 23, rgw=self.port))
        self.addresses = f"[v2:127.0.0.1:{mon2},v1:127.0.0.1:{mon1}]"
        self.url = f"http://127.0.0.1:{self.port}"
        try:
            self.start()
        except BaseException:
            self.stop(is_failure=True)
            raise

    def run(self, program, *args, stdin=None):
        p = subprocess.run([program, *args], capture_output=True, text=True, input=stdin, timeout=120, cwd=self.dir)
        assert p.returncode == 0, (program, args, p.stdout, p.stderr)
        return p.stdout

    def daemon(self, program, *args):
        log = open(os.path.join(self.dir, program + ".out"), "w", encoding="utf-8")
        self.daemons.append(subprocess.Popen([program, "-c", self.conf, "-f", *args], stdout=log, stderr=log, cwd=self.dir))
        log.close()

    def ceph(self, *args, stdin=None):
        return self.run("ceph", "-c", self.conf, *args, stdin=stdin)

    def start(self):
        keyring, monmap = os.path.join(self.dir, "keyring"), os.path.join(self.dir, "monmap")
        every = ["--cap", "mon", "allow *", "--cap", "osd", "allow *"]
        self.run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        for name, caps in (("client.admin", every + ["--cap", "mgr", "allow *"]), ("client.rgw.a", every),
                           ("osd.0", every + ["--cap", "mgr", "allow *"]), ("mgr.a", every)):
            self.run("ceph-authtool", keyring, "--gen-key", "-n", name, *caps)
        self.run("monmaptool", "--create", "--addv", "a", self.addresses, "--fsid", self.fsid, monmap)
        self.run("ceph-mon", "-c", self.conf, "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        self.daemon("ceph-mon", "-i", "a")
        self.ceph("auth", "import", "-i", keyring)
        osd = str(uuid.uuid4())
        self.ceph("osd", "new", osd)
        self.run("ceph-osd", "-c", self.conf, "-i", "0", "--mkfs", "--osd-uuid", osd)
        self.daemon("ceph-osd", "-i", "0")
        self.ceph("osd", "crush", "add-bucket", "here", "host", "root=default")
        self.ceph("osd", "crush", "set", "osd.0", "1.0", "host=here")
        self.daemon("ceph-mgr", "-i", "a")
        self.daemon("radosgw", "-n", "client.rgw.a")
        wait_until(self.answers, "radosgw to answer", 120)
        self.run("radosgw-admin", "-c", self.conf, "user", "create", "--uid=litefs", "--display-name=litefs",
                 "--access-key=" + self.access_key, "--secret-key=" + self.secret_key)
        status, body = s3_request(self.url, self.access_key, self.secret_key, "PUT", "/" + self.bucket)
        assert status == 200, body

    def answers(self):
        for d in self.daemons:
            assert d.poll() is None, f"{d.args[0]} exited with {d.returncode}"
        try:
            with urllib.request.urlopen(self.url, timeout=2):
                return True
        except OSError:
            return False

    def stop(self, is_failure=False):
        for d in reversed(self.daemons):
            d.kill()
            d.wait()
        if is_failure:
            for name in sorted(os.listdir(self.dir)):
                if name.endswith((".out", ".log")):
                    with open(os.path.join(self.dir, name), errors="replace") as f:
                        sys.stderr.write(f"--- {name} ---\n" + f.read()[-3000:])
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, tb):
        self.stop()


# --- requests of our own, so that the bucket is not only seen through litefs ---

def s3_request(url, access_key, secret_key, method, path, query="", body=b"", region="us-east-1"):
    """(status, body) of a signed request; @path and @query are encoded, the query sorted."""
    host = url.split("://")[1]
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    digest = hashlib.sha256(body).hexdigest()
    names = "host;x-amz-content-sha256;x-amz-date"
    canonical = "\n".join([method, path, query, f"host:{host}", f"x-amz-content-sha256:{digest}", f"x-amz-date:{date}", "",
                           names, digest])
    scope = f"{date[:8]}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + secret_key).encode()
    for part in (date[:8], region, "s3", "aws4_request", text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    c = http.client.HTTPConnection(host, timeout=30)
    c.request(method, path + ("?" + query if query else ""), body,
              {"x-amz-content-sha256": digest, "x-amz-date": date,
               "Authorization": f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature={key.hex()}"})
    r = c.getresponse()
    answer = r.status, r.read()
    c.close()
    return answer


def s3_keys(server, prefix=""):
    """Of the objects in the bucket, at most 1000."""
    query = "list-type=2&prefix=" + urllib.parse.quote(prefix, safe="")
    status, body = s3_request(server.url, server.access_key, server.secret_key, "GET", "/" + server.bucket, query)
    assert status == 200, body
    return re.findall(r"<Key>([^<]*)</Key>", body.decode())
