"""Lease servers and nodes of the test's own: each server has its own directory and ports, each node is a process
that drives one lease."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from certificates import Authority
from litefs_fixture import stop_process, wait_until  # noqa: F401

DRIVER = os.environ.get("LEASE_DRIVER", "build/release/tests/integration/lease/lease_driver")


def tls_authority():
    """With certificates for a server, a client, and an authority that nobody trusts."""
    ca = Authority()
    for name in ("server", "client"):
        ca.make(name)
    ca.make("other", issuer=None)
    return ca


def http(method, url, body=None, headers=None, timeout=10, context=None):
    """(status, body as text)"""
    request = urllib.request.Request(url, method=method, data=body.encode() if body is not None else None,
                                     headers=headers or {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}),
                                          urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=timeout) as f:
            return f.status, f.read().decode()
    except urllib.error.HTTPError as e:
        with e:
            return e.code, e.read().decode()


class Server:
    """A process that is ready when is_ready() says so."""
    scheme = "http"

    def __init__(self):
        self.root = tempfile.mkdtemp(prefix="litefs-lease-")
        for _ in range(5):
            self.process = None
            self.start()
            if self.wait_ready():
                return
            self.kill()
        log = self.log()
        shutil.rmtree(self.root)
        raise AssertionError("the server did not start:\n" + log)

    def spawn(self, *command):
        with open(os.path.join(self.root, "log"), "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.root)

    def log(self):
        with open(os.path.join(self.root, "log"), encoding="utf-8") as f:
            return f.read()[-4000:]

    def wait_ready(self):
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if self.is_ready():
                    return True
            except OSError:
                pass
            time.sleep(0.02)
        return False

    def pause(self):
        stop_process(self.process)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def close(self):
        self.kill()
        shutil.rmtree(self.root, ignore_errors=True)


HANG = object()
CUT = object()
GONE = object()


class Script(ThreadingHTTPServer):
    """Answers by `answer(method, path, body)`, which gives (status, body), HANG, CUT, or GONE: the connection ends. Remembers the requests."""
    daemon_threads = True
    block_on_close = False

    def __init__(self, answer):
        self.answer = answer
        self.requests = []
        self.is_over = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, request, client_address):
        """A client that goes away is no event."""

    def close(self):
        self.is_over.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.server.requests.append((self.command, self.path, body))
        a = self.server.answer(self.command, self.path, body)
        if a is HANG:
            self.server.is_over.wait(30)
            self.close_connection = True
            return
        if a is GONE:
            self.close_connection = True
            return
        if a is CUT:
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"[{")
            self.close_connection = True
            return
        status, text = a
        data = text.encode() if isinstance(text, str) else text
        self.send_response(status)
        if status in (301, 307):
            self.send_header("Location", self.server.url + "/elsewhere")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = answer


def losing_the_answer(url, is_lost):
    """For Script: passes requests on to `url`, but loses the answers to those of which is_lost(path) is true."""
    def answer(method, path, body):
        got = http(method, url + path, body)
        return HANG if is_lost(path) else got

    return answer


class Answer(dict):
    """What a call answered; a.term is a["term"]."""
    __getattr__ = dict.__getitem__


class Node:
    def __init__(self, backend, env=None, **options):
        args = []
        for name, value in options.items():
            for one in value if isinstance(value, list) else [value]:
                args.append(f"{name.replace('_', '-')}={one}")
        clean = {k: v for k, v in os.environ.items() if not k.startswith("CONSUL_")}
        self.process = subprocess.Popen([DRIVER, backend, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env={**clean, **(env or {})})
        self.made = self.receive()

    def send(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def receive(self):
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError("the driver ended")
        return Answer(json.loads(line))

    def call(self, line):
        self.send(line)
        return self.receive()

    def ok(self, line):
        a = self.call(line)
        if a.code != "OK":
            raise AssertionError(f"{line}: {a.code}: {a.text}")
        return a

    def left_ms(self):
        """Until the deadline; None: this node does not hold the lease."""
        return self.ok("deadline").left_ms

    def deadline_ms(self):
        """On a clock that only tells which of two is later."""
        return self.ok("deadline").at_ms

    def pause(self):
        stop_process(self.process)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.close()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait()


class LeaseCase(unittest.TestCase):
    """Gives each test a key of its own on one server, new_server() of the class if it has that, and ends its nodes. A
    driver that a sanitizer stopped fails the test."""
    counter = 0
    new_server = None
    server = None

    @classmethod
    def setUpClass(cls):
        if cls.new_server is not None:
            cls.server = cls.new_server()

    @classmethod
    def tearDownClass(cls):
        if cls.server is not None:
            cls.server.close()

    def setUp(self):
        LeaseCase.counter += 1
        self.key = f"litefs/test{LeaseCase.counter}"
        self.nodes = []

    def tearDown(self):
        for n in self.nodes:
            if n.process.returncode is None:
                self.assertEqual(n.close(), 0)

    def add(self, node):
        self.nodes.append(node)
        return node

    def assertCode(self, answer, code, words=""):
        self.assertEqual(answer.code, code, answer.text)
        self.assertIn(words, answer.text)


def main(needs):
    if shutil.which(needs) is None:
        print(f"skipped: there is no {needs} (scripts/setup --cluster-tests installs it)")
        sys.exit(77)
    unittest.main(verbosity=2)
