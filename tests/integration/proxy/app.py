"""A web application with its databases in a mount: notes, by database. usage: app.py PORT DIR NAME [SECONDS_TO_END]

At SIGTERM it answers what it has begun, takes no more, and ends SECONDS_TO_END later.

    GET  /notes/DB      {"node": NAME, "notes": [...]}
    POST /notes/DB      adds the body as a note: 201 {"id": N}
    GET  /add/DB?TEXT   does so, too, as too many applications do
    GET  /echo          what came here, as text
    GET  /ws            a WebSocket that says back what it hears
"""
import base64
import hashlib
import json
import os
import signal
import sqlite3
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, DIR, NAME = int(sys.argv[1]), sys.argv[2], sys.argv[3]
MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def connect(name):
    return sqlite3.connect(os.path.join(DIR, name), timeout=10, isolation_level=None)


def add(name, text):
    c = connect(name)
    try:
        c.execute("create table if not exists note (id integer primary key, text text)")
        return c.execute("insert into note (text) values (?)", (text,)).lastrowid
    finally:
        c.close()


def notes(name):
    if not os.path.exists(os.path.join(DIR, name)):
        return []
    c = connect(name)
    try:
        return [text for (text,) in c.execute("select text from note order by id")]
    finally:
        c.close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body, kind="application/json"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Node", NAME)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()

    def serve(self, fn):
        try:
            self.answer(*fn())
        except sqlite3.Error as e:
            self.answer(500, {"error": str(e)})

    def do_GET(self):
        what, _, rest = self.path[1:].partition("/")
        if what == "notes":
            self.serve(lambda: (200, {"node": NAME, "notes": notes(rest)}))
        elif what == "add":
            name, _, text = rest.partition("?")
            self.serve(lambda: (201, {"id": add(name, text)}))
        elif what == "ws":
            self.web_socket()
        else:
            self.answer(200, f"{self.requestline}\n{self.headers}".encode(), "text/plain")

    do_HEAD = do_GET

    def do_POST(self):
        text = self.body()
        self.serve(lambda: (201, {"id": add(self.path[1:].partition("/")[2], text)}))

    def web_socket(self):
        key = self.headers["Sec-WebSocket-Key"]
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept",
                         base64.b64encode(hashlib.sha1((key + MAGIC).encode()).digest()).decode())
        self.send_header("X-Node", NAME)
        self.end_headers()
        self.close_connection = True
        while True:
            opcode, data = self.read_frame()
            self.wfile.write(frame(opcode, data))
            if opcode == 8:
                return

    def read_frame(self):
        first, n = self.rfile.read(2)
        n &= 127
        if n == 126:
            n, = struct.unpack("!H", self.rfile.read(2))
        elif n == 127:
            n, = struct.unpack("!Q", self.rfile.read(8))
        mask = self.rfile.read(4)
        data = self.rfile.read(n)
        return first & 15, bytes(b ^ mask[i & 3] for i, b in enumerate(data))

    def log_message(self, *args):
        pass


def frame(opcode, data):
    n = len(data)
    size = bytes([n]) if n < 126 else b"\x7e" + struct.pack("!H", n) if n < 65536 else b"\x7f" + struct.pack("!Q", n)
    return bytes([0x80 | opcode]) + size + data


def serve():
    server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    signal.sigwait({signal.SIGTERM})
    server.shutdown()
    server.socket.close()
    time.sleep(float(sys.argv[4]) if len(sys.argv) > 4 else 0)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    serve()
