"""A bucket of the test's own, for leases: it honours conditions as S3 does and verifies no signature. It can be made to stop, to lose
what it was asked or what it answers, and to do late what it was asked."""
import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOSE_REQUEST, LOSE_ANSWER, LATE, DENY = "lose request", "lose answer", "late", "do it, and say 412"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", etag=None):
        self.send_response(status)
        if etag:
            self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        bucket = self.server.bucket
        fault = bucket.next_fault(self.command, self.path)
        bucket.is_running.wait(30)
        time.sleep(bucket.delay_s)
        if bucket.is_over:
            self.close_connection = True
        elif fault in (LOSE_REQUEST, LATE):
            if fault == LATE:
                bucket.late.append((self.path, body, self.headers))
            self.close_connection = True
        elif isinstance(fault, tuple):
            self.answer(*fault)
        else:
            done = bucket.do(self.command, self.path, body, self.headers)
            if fault == LOSE_ANSWER:
                self.close_connection = True
            elif fault == DENY:
                self.answer(*error(412, "PreconditionFailed"))
            else:
                self.answer(*done)

    do_GET = do_PUT = do


def error(status, code):
    return status, f'<?xml version="1.0"?><Error><Code>{code}</Code></Error>'.encode()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request, client_address):
        """A client that goes away is no event."""


class Bucket:
    """@objects: their bytes by path, which begins with /NAME-OF-THE-BUCKET/."""
    access_key, secret_key, bucket = "a", "s", "b"

    def __init__(self):
        self.objects, self.lock = {}, threading.Lock()
        self.requests = []  # "PUT /b/key"
        self.faults = []    # of the next PUTs: None, one of the above, or (status, body, etag)
        self.every = None   # of each request
        self.delay_s = 0    # before each answer
        self.late = []      # (path, body, headers) of what is to be done late
        self.honours = True  # conditions; None: it answers 501
        self.quotes = True  # what If-Match is compared with has them
        self.is_over = False
        self.is_running = threading.Event()
        self.is_running.set()
        self.http = Server(("127.0.0.1", 0), Handler)
        self.http.bucket = self
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def lease_url(self, key):
        return f"s3://{self.bucket}/{key}?endpoint={self.url}"

    def next_fault(self, method, path):
        with self.lock:
            self.requests.append(f"{method} {path}")
            return self.faults.pop(0) if method == "PUT" and self.faults else self.every

    def etag(self, path):
        return f'"{hashlib.md5(self.objects[path]).hexdigest()}"'

    def do(self, method, path, body, headers):
        with self.lock:
            if method == "GET":
                return (200, self.objects[path], self.etag(path)) if path in self.objects else error(404, "NoSuchKey")
            match = headers.get("If-Match")
            if self.honours is None and (match or headers.get("If-None-Match")):
                return error(501, "NotImplemented")
            if self.honours and headers.get("If-None-Match") == "*" and path in self.objects:
                return error(412, "PreconditionFailed")
            if self.honours and match and path not in self.objects:
                return error(404, "NoSuchKey")
            if self.honours and match and match != (self.etag(path) if self.quotes else self.etag(path).strip('"')):
                return error(412, "PreconditionFailed")
            self.objects[path] = body
            return 200, b"", self.etag(path)

    def do_late(self):
        """What was put aside: the statuses of it."""
        late, self.late = self.late, []
        return [self.do("PUT", *one)[0] for one in late]

    # --- what the contract does to servers ---

    def read(self, key):
        return self.objects.get(f"/{self.bucket}/{key}")

    def write(self, key, data):
        """Unconditionally; None removes it."""
        with self.lock:
            if data is None:
                self.objects.pop(f"/{self.bucket}/{key}", None)
            else:
                self.objects[f"/{self.bucket}/{key}"] = data

    def pause(self):
        self.is_running.clear()

    def resume(self):
        self.is_running.set()
        time.sleep(0.05)  # what has waited is done, before what comes now

    def kill(self):
        self.is_over = True
        self.http.shutdown()
        self.http.server_close()

    def close(self):
        self.is_running.set()
        if not self.is_over:
            self.kill()
