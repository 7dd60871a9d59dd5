"""The application behind a proxy: carries out the transaction that a request brings, on the databases of its node.
usage: app.py PORT MOUNT NODE DATABASES SEED [outlive]     DATABASES as in the specification of client.py

    POST / with a body, GET /HEX: {"names": [...], "begin": ..., "ops": [...]}
    200 (ok), 409 (fail), 500 (info): {"outcome", "ops", "error", "node"}
"""
import json
import random
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from transactions import Database, carry_out, connect, device, without_size

PORT, MOUNT, NODE = int(sys.argv[1]), sys.argv[2], sys.argv[3]
BY_NAME = {d[0]: Database(*d) for d in json.loads(sys.argv[4])}
OUTLIVE = sys.argv[6:] == ["outlive"]
STATUS = {"ok": 200, "fail": 409, "info": 500}


class Pool:
    """Connections that are kept from request to request."""

    def __init__(self, seed):
        self.rng, self.lock, self.idle = random.Random(seed), threading.Lock(), {}

    def take(self, names):
        """A connection, and the key under which it is given back."""
        key = (names, None if OUTLIVE else device(MOUNT))
        with self.lock:
            kept = self.idle.get(key)
            if kept:
                return kept.pop(), key
        return connect(names, BY_NAME, MOUNT, self.rng), key

    def give(self, c, key, error):
        with self.lock:
            if self.rng.random() > (0.1 if error is None or "BUSY" in error else 0.5):
                self.idle.setdefault(key, []).append(c)
                return
        c.close()


POOL = Pool(f"{sys.argv[5]} {NODE}")


def answer(question):
    names, ops = tuple(question["names"]), question["ops"]
    try:
        c, key = POOL.take(names)
    except sqlite3.Error as e:
        return "fail", [without_size(o) for o in ops], f"open: {e}"
    outcome, done, error = carry_out(c, names, question["begin"], ops)
    POOL.give(c, key, error)
    return outcome, done, error


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def serve(self, text):
        outcome, ops, error = answer(json.loads(text))
        data = json.dumps({"outcome": outcome, "ops": ops, "error": error, "node": NODE}).encode()
        self.send_response(STATUS[outcome])
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.serve(bytes.fromhex(self.path[1:]).decode() if len(self.path) > 1 else '{"names": [], "ops": []}')

    def do_POST(self):
        self.serve(self.rfile.read(int(self.headers["Content-Length"])).decode())

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """A client that goes away is no event."""


Server(("127.0.0.1", PORT), Handler).serve_forever()
