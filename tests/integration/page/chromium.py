"""A headless Chromium, spoken to over its debugging pipe: JSON messages that end in a zero byte."""
import base64
import fcntl
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time


def need_chromium():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if shutil.which(name):
            return name
    print("skipped: there is no chromium (scripts/setup --cluster-tests installs it)")
    sys.exit(77)


def pipe():
    """Away from the descriptors that it wants for its own ends."""
    ends = os.pipe()
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in ends]
    for fd in ends:
        os.close(fd)
    return moved


class Chromium:
    """`with Chromium() as c:` has one page. Whatever it says in its console, and what its policy blocked, is in `complaints`."""

    def __init__(self, width=1180, height=1000):
        self.dir = tempfile.mkdtemp(prefix="litefs-chromium-")
        read_fd, self.write_fd = pipe()
        self.read_fd, write_fd = pipe()
        # It reads its descriptor 3 and writes its descriptor 4.
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{read_fd} 4>&{write_fd}', need_chromium(), "--headless=new", "--no-sandbox",
             "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run", "--disable-extensions",
             "--disable-background-networking", "--disable-component-update", "--disable-sync",
             f"--window-size={width},{height}", f"--user-data-dir={self.dir}", "--remote-debugging-pipe", "about:blank"],
            pass_fds=(read_fd, write_fd), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": self.dir})
        os.close(read_fd)
        os.close(write_fd)
        self.pending, self.last_id, self.session = b"", 0, None
        self.complaints = []
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(domain + ".enable")
            self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        except BaseException:
            self.close()
            raise

    def receive(self, deadline):
        selector = selectors.DefaultSelector()
        selector.register(self.read_fd, selectors.EVENT_READ)
        while b"\0" not in self.pending:
            if not selector.select(max(0, deadline - time.monotonic())):
                raise AssertionError("chromium says nothing")
            piece = os.read(self.read_fd, 1 << 16)
            if not piece:
                raise AssertionError("chromium has gone")
            self.pending += piece
        message, self.pending = self.pending.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **params):
        self.last_id += 1
        message = {"id": self.last_id, "method": method, "params": params}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.write_fd, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 60
        while True:
            m = self.receive(deadline)
            self.note(m)
            if m.get("id") == self.last_id:
                assert "error" not in m, (method, m["error"])
                return m["result"]

    def note(self, m):
        p = m.get("params", {})
        if m.get("method") == "Log.entryAdded":
            self.complaints.append(p["entry"]["text"])
        elif m.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(p["exceptionDetails"]["exception"].get("description", str(p)))
        elif m.get("method") == "Runtime.consoleAPICalled":
            self.complaints.append(str(p["args"]))
        elif m.get("method") == "Network.requestWillBeSent":
            self.requests.append(p["request"]["url"])

    requests = ()

    def open(self, url):
        self.requests = []
        self.call("Page.navigate", url=url)

    def evaluate(self, script):
        r = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in r, r["exceptionDetails"]
        return r["result"].get("value")

    def wait(self, script, what, seconds=60):
        """An element that is not there yet is no error."""
        end = time.monotonic() + seconds
        while not self.evaluate(f"(() => {{ try {{ return Boolean({script}) }} catch {{ return false }} }})()"):
            if time.monotonic() > end:
                raise AssertionError(f"timed out: {what}; the page says:\n{self.text()}\n{self.complaints}")
            time.sleep(0.05)

    def text(self):
        return self.evaluate("document.body ? document.body.innerText : ''")

    def prefer(self, scheme):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def resize(self, width, height):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def screenshot(self, path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self):
        os.close(self.write_fd)  # it ends when the pipe does
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.read_fd)
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, tb):
        self.close()
