"""Connections by the thousand, from a process of their own."""
import contextlib
import os
import subprocess
import sys

N = int(os.environ.get("FLOOD_CONNECTIONS", 1500))  # at a time

SCRIPT = r"""
import resource, select, socket, sys
port, n, words = int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (n + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
poll, held, n_opened = select.epoll(), {}, 0
def drop(s):
    del held[s.fileno()]
    poll.unregister(s)
    s.close()
while True:
    for _ in range(min(n - len(held), 200)):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.setblocking(False)
        s.connect_ex(("127.0.0.1", port))
        held[s.fileno()] = s
        poll.register(s, (select.EPOLLOUT if words else 0) | select.EPOLLRDHUP | select.EPOLLHUP)
        n_opened += 1
        if n_opened == n:
            print("all", flush=True)
    for fd, event in poll.poll(0.05):
        s = held[fd]
        if event & (select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR):
            drop(s)
            continue
        try:
            s.send(words)
            poll.modify(s, select.EPOLLRDHUP | select.EPOLLHUP)
        except OSError:
            drop(s)
"""


@contextlib.contextmanager
def flood(port, words, n=N):
    """Each sends `words` and reads nothing; what is closed is opened again, as fast as one process can."""
    p = subprocess.Popen([sys.executable, "-c", SCRIPT, str(port), str(n), words.hex()], stdout=subprocess.PIPE)
    try:
        assert p.stdout.readline() == b"all\n"
        yield
        assert p.poll() is None, "the flood has ended"
    finally:
        p.kill()
        p.wait()
        p.stdout.close()


def head(request, *fields):
    return "\r\n".join([f"{request} HTTP/1.1", "Host: 127.0.0.1", *fields, "", ""]).encode()
