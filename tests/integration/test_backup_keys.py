"""Where the keys of a bucket come from: each place that AWS's own tools look at, by what a request is then signed with."""
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

from litefs_fixture import LITEFS, Node, run, wait_until

EMPTY = b'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>'


class Handler(http.server.BaseHTTPRequestHandler):
    """The bucket, the metadata service, a container's and STS in one."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, body, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def keys(self, name):
        s = self.server
        s.n_asked += 1
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + s.valid_for))
        return json.dumps({"AccessKeyId": name, "SecretAccessKey": "s", "Token": f"token-{s.n_asked}", "Expiration": at}).encode()

    def do(self):
        s, path = self.server, urllib.parse.urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
        if path == "/latest/api/token" and s.metadata_status != 200:
            self.answer(b"", s.metadata_status)
        elif path == "/latest/api/token":
            assert self.command == "PUT" and self.headers["x-aws-ec2-metadata-token-ttl-seconds"]
            self.answer(b"metadata-token")
        elif path.startswith("/latest/"):
            if self.headers["x-aws-ec2-metadata-token"] != "metadata-token":
                self.answer(b"", 401)
            elif path.endswith("/security-credentials/"):
                self.answer(b"a-role\n")
            else:
                assert path.endswith("/a-role")
                self.answer(self.keys("MACHINE"))
        elif path == "/container":
            if self.headers["authorization"] == "let me":
                self.answer(self.keys("CONTAINER"))
            else:
                self.answer(b"", 403)
        elif path == "/sts/":
            form = dict(urllib.parse.parse_qsl(body))
            assert form["Action"] == "AssumeRoleWithWebIdentity" and form["RoleArn"] == "arn:aws:iam::1:role/x", form
            if form["WebIdentityToken"] == "a.web+token/=":
                self.answer(b"<R><AccessKeyId>WEB</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
                            b"<Expiration>2099-01-02T03:04:05Z</Expiration></R>")
            else:
                self.answer(b"<Error><Code>InvalidIdentityToken</Code></Error>", 400)
        elif self.headers["authorization"] is None:
            self.answer(b"", 404)
        elif s.refusals:
            status, code = s.refusals.pop()
            self.answer(f"<Error><Code>{code}</Code></Error>".encode(), status)
        else:
            s.signed.append((self.headers["authorization"].split("Credential=")[1].split("/")[0],
                             self.headers["x-amz-security-token"]))
            self.answer(EMPTY)

    do_GET = do_PUT = do_POST = do


class Server:
    def __enter__(self):
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.signed, self.http.n_asked, self.http.valid_for = [], 0, 3600
        self.http.metadata_status, self.http.refusals = 200, []
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    @staticmethod
    def environment(**environment):
        """Without what the caller's has to say about keys."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "LITESTREAM_")) and k != "HOME"}
        return {**clean, **environment}

    def ask(self, **environment):
        """Who signed the LIST of `litefs backup list`, and with which token; or what the command said instead."""
        self.http.signed.clear()
        p = subprocess.run([LITEFS, "backup", "list", f"s3://bucket/x?endpoint={self.url}"], capture_output=True, text=True,
                           env=self.environment(**environment), timeout=60, check=False)
        assert p.returncode == (0 if self.http.signed else 1), p
        return self.http.signed[-1] if self.http.signed else p.stderr


def test_each_place_in_its_order():
    with Server() as s, tempfile.TemporaryDirectory() as home:
        os.mkdir(os.path.join(home, ".aws"))
        path = os.path.join(home, ".aws", "credentials")
        with open(path, "w", encoding="utf-8") as f:
            f.write("[default]\naws_access_key_id = FILE\naws_secret_access_key = s\n"
                    "[other]\naws_access_key_id = OTHER\naws_secret_access_key = s\naws_session_token = t2\n[half]\n")
        token = os.path.join(home, "token")
        with open(token, "w", encoding="utf-8") as f:
            f.write("a.web+token/=\n")
        machine = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": s.url + "/"}
        container = {**machine, "AWS_CONTAINER_CREDENTIALS_FULL_URI": s.url + "/container", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "let me"}
        file = {**container, "HOME": home}
        web = {**file, "AWS_ROLE_ARN": "arn:aws:iam::1:role/x", "AWS_WEB_IDENTITY_TOKEN_FILE": token, "AWS_ENDPOINT_URL_STS": s.url + "/sts/"}
        assert s.ask(**machine) == ("MACHINE", "token-1")
        assert s.ask(**container) == ("CONTAINER", "token-2")
        assert s.ask(**file) == ("FILE", None)
        assert s.ask(**file, AWS_PROFILE="other") == ("OTHER", "t2")
        assert s.ask(AWS_SHARED_CREDENTIALS_FILE=path, AWS_PROFILE="other") == ("OTHER", "t2")
        assert s.ask(**web) == ("WEB", "t")
        assert s.ask(**web, AWS_ACCESS_KEY_ID="GIVEN", AWS_SECRET_ACCESS_KEY="s") == ("GIVEN", None)


def test_what_is_wrong_is_said():
    with Server() as s, tempfile.TemporaryDirectory() as home:
        os.mkdir(os.path.join(home, ".aws"))
        path = os.path.join(home, ".aws", "credentials")
        with open(path, "w", encoding="utf-8") as f:
            f.write("[half]\naws_access_key_id = HALF\n")
        off = {"AWS_EC2_METADATA_DISABLED": "true"}
        assert "no credentials: set AWS_ACCESS_KEY_ID" in s.ask(**off)
        assert "profile half has no aws_access_key_id and" in s.ask(HOME=home, AWS_PROFILE="half", **off)
        assert "AWS_PROFILE is none" in s.ask(HOME=home, AWS_PROFILE="none", **off)
        assert "a key without its secret" in s.ask(AWS_ACCESS_KEY_ID="A", **off)
        assert "this machine's role has none" in s.ask(AWS_EC2_METADATA_SERVICE_ENDPOINT=s.url + "/nothing")
        s.http.metadata_status = 503
        assert "does not answer: set AWS_ACCESS_KEY_ID" in s.ask(AWS_EC2_METADATA_SERVICE_ENDPOINT=s.url)
        assert "status 403" in s.ask(AWS_CONTAINER_CREDENTIALS_FULL_URI=s.url + "/container", **off)
        assert "want https://" in s.ask(AWS_CONTAINER_CREDENTIALS_FULL_URI="http://example.com/container", **off)
        assert "want https://" in s.ask(AWS_CONTAINER_CREDENTIALS_FULL_URI="http://127.0.0.1.example.com/", **off)
        assert "cannot read" in s.ask(AWS_ROLE_ARN="arn:x", AWS_WEB_IDENTITY_TOKEN_FILE=home + "/none", **off)


def test_a_users_name_in_the_address_of_a_container_leads_nowhere():
    with Server() as s:
        at = s.url.removeprefix("http://")
        off = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "let me"}
        for url in f"http://127.0.0.1:1@{at}/container", f"https://127.0.0.1:1@{at}/container":
            assert "want https://" in s.ask(AWS_CONTAINER_CREDENTIALS_FULL_URI=url, **off), url
        assert "want a path" in s.ask(AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=f":1@{at}/container", **off)
        assert s.http.n_asked == 0


def test_a_credentials_file_that_cannot_be_read_is_not_passed_over():
    with Server() as s, tempfile.TemporaryDirectory() as home:
        machine = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": s.url}
        assert s.ask(HOME=home + "/none", **machine)[0] == "MACHINE"
        path = os.path.join(home, "credentials")
        os.mkdir(path)
        said = s.ask(AWS_SHARED_CREDENTIALS_FILE=path, **machine)
        assert "cannot read the credentials file " + path in said, said
        assert s.ask(AWS_SHARED_CREDENTIALS_FILE=path, AWS_ACCESS_KEY_ID="GIVEN", AWS_SECRET_ACCESS_KEY="s")[0] == "GIVEN"
        os.rmdir(path)
        with open(path, "w", encoding="utf-8") as f:
            f.write("[default]\naws_access_key_id = FILE\naws_secret_access_key = s\n" + "# long\n" * 100000)
        assert "cannot read the credentials file " + path in s.ask(AWS_SHARED_CREDENTIALS_FILE=path, **machine)


def test_what_runs_out_is_asked_for_once_in_a_while():
    with Server() as s:
        s.http.valid_for = 240
        began = time.monotonic()
        assert s.ask(AWS_EC2_METADATA_SERVICE_ENDPOINT=s.url)[0] == "MACHINE"
        assert s.http.n_asked <= 1 + (time.monotonic() - began) // 15, s.http.n_asked


def test_keys_that_are_refused_are_asked_for_again():
    with Server() as s:
        machine = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": s.url}
        for refusal in (400, "ExpiredToken"), (403, "InvalidAccessKeyId"):
            before = s.http.n_asked
            s.http.refusals.append(refusal)
            assert s.ask(**machine) == ("MACHINE", f"token-{before + 2}"), refusal
        s.http.refusals += 4 * [(400, "ExpiredToken")]
        assert "ExpiredToken" in s.ask(**machine)
        assert len(s.http.refusals) == 2, "asked for other keys more than once"


class KeyedNode(Node):
    """Its keys are its machine's."""

    def __init__(self, server):
        super().__init__(extra=f"backup:\n  url: s3://bucket/x\n  endpoint: {server.url}\n  sync-interval: 50ms\n")
        self.environment = server.environment(AWS_EC2_METADATA_SERVICE_ENDPOINT=server.url)

    def start(self, **kw):
        return super().start(env=self.environment, **kw)


def test_a_node_waits_for_the_metadata_service():
    with Server() as s:
        s.http.metadata_status = 503
        with KeyedNode(s) as n:
            c = n.connect()
            c.execute("create table t(x)")
            c.close()
            said = [line for line in n.log().splitlines() if "metadata service does not answer: set AWS_ACCESS_KEY_ID" in line]
            assert len([line for line in said if "(failure" not in line]) == 1, said
            assert not s.http.signed
            s.http.metadata_status = 200
            wait_until(lambda: s.http.signed, "a request to the bucket")
            assert s.http.signed[0][0] == "MACHINE"


def test_a_node_whose_machine_has_no_role_says_so_and_ends():
    with Server() as s:
        s.http.metadata_status = 404
        n = KeyedNode(s)
        try:
            p = subprocess.run([LITEFS, "mount", "-config", n.config], capture_output=True, text=True, timeout=60, check=False,
                               env=n.environment)
        finally:
            shutil.rmtree(n.root)
        assert p.returncode != 0 and "this machine's role has none" in p.stderr, p


if __name__ == "__main__":
    run(sys.modules[__name__])
