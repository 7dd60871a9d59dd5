"""What clients did and saw, one JSON object a line, and how it is written while they run.

    {"type": "invoke", "p": PROCESS, "i": N, "t": TIME, "node": NAME, "via": WAY, "ops": [...]}
    {"type": "ok" | "fail" | "info", "p": PROCESS, "i": N, "t": TIME, "ops": [...], "node": NAME, "error": TEXT}

An invocation names what the transaction is going to write, so that the end of a client between the two lines loses
nothing. `fail`: it has certainly not happened. `info`: nobody knows; an error at COMMIT is one. An invocation without a
second line is `info`, too. WAY is `mount`, `proxy`, `pos` (a read for which the session has waited by NAME-pos), `import` or `export`.

Operations, each with the database that it is about:

    ["append", DB, KEY, VALUE]            VALUE is written once in the whole history
    ["read", DB, KEY, [VALUE, ...]]
    ["transfer", DB, FROM, TO, AMOUNT, VALUE]   appends VALUE to the key "bank", too
    ["bank", DB, [BALANCE, ...]]
    ["import", DB, N]  ["generation", DB, [N, ...]]   every row of the database that import N brought has N
    ["integrity", DB, TEXT]

What the end of a run found, in the same file:

    {"type": "final", "node": NAME, "db": DB, "lists": {KEY: [VALUE, ...]}, "bank": [...], "generation": [...]}
    {"type": "aside", "db": DB, "lists": {KEY: [VALUE, ...]}, "generation": [...]}    of a history set aside on some node
    {"type": "run", "seed": N, "may_lose": BOOL, "accounts": N, "balance": N, ...}
"""
import json
import os
import threading
import time


class Op:
    """One transaction or request with its outcome."""

    def __init__(self, invoke):
        self.process, self.index = invoke["p"], invoke["i"]
        self.begin, self.end = invoke["t"], None
        self.node, self.via = invoke["node"], invoke["via"]
        self.ops, self.outcome, self.error = invoke["ops"], "info", None

    def complete(self, record):
        self.end, self.outcome, self.error = record["t"], record["type"], record.get("error")
        self.node = record.get("node", self.node)
        if "ops" in record:
            self.ops = record["ops"]

    def __repr__(self):
        return f"{self.process}#{self.index} ({self.via} {self.node}, {self.outcome})"


class History:
    def __init__(self, records=()):
        self.ops, self.finals, self.asides, self.run = [], [], [], {}
        open_ops = {}
        for r in records:
            kind = r["type"]
            if kind == "invoke":
                op = open_ops[r["p"], r["i"]] = Op(r)
                self.ops.append(op)
            elif kind in ("ok", "fail", "info"):
                open_ops.pop((r["p"], r["i"])).complete(r)
            elif kind == "final":
                self.finals.append(r)
            elif kind == "aside":
                self.asides.append(r)
            elif kind == "run":
                self.run.update(r)


def read_records(path):
    with open(path, encoding="utf-8") as f:
        for line in f:
            if line.endswith("\n"):  # the last one of a client that was killed may be cut
                yield json.loads(line)


def load(paths):
    records = []
    for path in paths:
        records += read_records(path)
    return History(records)


class Recorder:
    """Appends to a file of its own. Each line is one write, so that a killed process leaves whole lines."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.lock = threading.Lock()
        self.n = 0

    def write(self, **record):
        os.write(self.fd, (json.dumps(record, separators=(",", ":")) + "\n").encode())

    def invoke(self, process, node, via, ops):
        with self.lock:
            self.n += 1
            i = self.n
        self.write(type="invoke", p=process, i=i, t=time.monotonic(), node=node, via=via, ops=ops)
        return i

    def complete(self, process, i, outcome, **more):
        self.write(type=outcome, p=process, i=i, t=time.monotonic(), **more)
