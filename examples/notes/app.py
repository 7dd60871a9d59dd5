#!/usr/bin/env python3
"""A web application on SQLite that knows nothing of litefs: GET / lists the notes, POST / adds the body as one.
usage: app.py HOST PORT DATABASE"""
import os
import sqlite3
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST, PORT, DATABASE = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def connect():
    return sqlite3.connect(DATABASE, timeout=10, isolation_level=None)


def add(text):
    db = connect()
    try:
        db.execute("create table if not exists note(id integer primary key, text text)")
        db.execute("insert into note(text) values (?)", (text,))
    finally:
        db.close()


def notes():
    if not os.path.exists(DATABASE):  # a connection would make it
        return []
    db = connect()
    try:
        return [text for (text,) in db.execute("select text from note order by id")]
    finally:
        db.close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, text):
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def attempt(self, status, action):
        try:
            text = action()
        except sqlite3.Error as e:
            self.answer(503, f"{e}\n")
        else:
            self.answer(status, text)

    def do_GET(self):
        self.attempt(200, lambda: "".join(f"{text}\n" for text in notes()))

    def do_POST(self):
        text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.attempt(201, lambda: add(text) or "added\n")

    def log_message(self, *_):
        pass


ThreadingHTTPServer((HOST, PORT), Handler).serve_forever()
