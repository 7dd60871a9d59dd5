"""A TCP proxy whose traffic can be cut, stalled in either direction or delayed."""
import collections
import selectors
import socket
import threading
import time

CHUNK = 65536
QUEUE_MAX = 1 << 20


class Way:
    """One direction of a connection: what was read from `source` and is on its way to `sink`."""

    def __init__(self, name, source, sink):
        self.name, self.source, self.sink = name, source, sink
        self.queue = collections.deque()  # (when it may go on, bytes)
        self.n_bytes = 0
        self.has_ended = False
        self.free_at = 0.0  # of a link with a rate: when the next bytes may go


class Link:
    """Listens on a port of its own at `host` and passes on to `target`, a port of loopback. Ways: "there", "back"."""

    def __init__(self, target, host="127.0.0.1", rate=None):
        """@rate: bytes in a second, each way; then the sockets hold little of what has not gone yet."""
        self.target = target
        self.rate = rate
        self.listener = socket.create_server((host, 0))
        if rate is not None:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.ways = []
        self.stalled = set()
        self.delay = 0
        self.is_cut = False
        self.is_over = False
        self.recorded = None  # a bytearray takes all that comes through
        self.wake_in, self.wake_out = socket.socketpair()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    # --- what a test says ---

    def cut(self):
        """Connections are reset, new ones refused at once after they were accepted."""
        self.set(is_cut=True)

    def stall(self, *ways):
        """Bytes of these directions stay where they are; the other end notices nothing."""
        self.set(stalled=set(ways or ("there", "back")))

    def heal(self):
        self.set(is_cut=False, stalled=set(), delay=0)

    def slow(self, seconds):
        self.set(delay=seconds)

    def set(self, **values):
        with self.lock:
            for name, value in values.items():
                setattr(self, name, value)
        self.wake_out.send(b"x")

    def close(self):
        self.set(is_over=True)
        self.thread.join()

    # --- its thread ---

    def accept(self):
        try:
            near, _ = self.listener.accept()
        except OSError:
            return
        if self.is_cut:
            near.close()
            return
        try:
            far = socket.create_connection(("127.0.0.1", self.target), 5)
        except OSError:
            near.close()
            return
        for s in (near, far):
            s.setblocking(False)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ways += [Way("there", near, far), Way("back", far, near)]

    def drop(self, way):
        ends = {way.source, way.sink}
        for s in ends:
            s.close()
        self.ways = [w for w in self.ways if w.source not in ends]

    def read(self, way):
        try:
            data = way.source.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self.drop(way)
            return
        if data:
            if self.recorded is not None:
                self.recorded += data
            way.queue.append((time.monotonic() + self.delay, data))
            way.n_bytes += len(data)
        else:
            way.has_ended = True

    def write(self, way):
        """Seconds until there is more to do; None: nothing to wait for but the sockets."""
        while way.queue and way.name not in self.stalled:
            due, data = way.queue[0]
            wait = max(due, way.free_at) - time.monotonic()
            if wait > 0:
                return wait
            try:
                n = way.sink.send(data if self.rate is None else data[:16384])
            except BlockingIOError:
                return 0.002
            except OSError:
                self.drop(way)
                return None
            way.n_bytes -= n
            if self.rate is not None:
                way.free_at = time.monotonic() + n / self.rate
            way.queue.popleft()
            if n < len(data):
                way.queue.appendleft((due, data[n:]))
        if way.has_ended and not way.queue and way.name not in self.stalled:
            self.drop(way)
        return None

    def turn(self):
        with self.lock:
            if self.is_cut:
                for way in list(self.ways):
                    self.drop(way)
            waits = [self.write(w) for w in list(self.ways)]
            readable = [w for w in self.ways
                        if not w.has_ended and w.name not in self.stalled
                        and w.n_bytes < (QUEUE_MAX if self.rate is None else CHUNK)]
        with selectors.DefaultSelector() as sel:
            sel.register(self.wake_in, selectors.EVENT_READ)
            sel.register(self.listener, selectors.EVENT_READ)
            for w in readable:
                sel.register(w.source, selectors.EVENT_READ, w)
            events = sel.select(min([x for x in waits if x is not None], default=1))
        with self.lock:
            for key, _ in events:
                if key.fileobj is self.wake_in:
                    self.wake_in.recv(4096)
                elif key.fileobj is self.listener:
                    self.accept()
                elif key.data in self.ways:
                    self.read(key.data)

    def run(self):
        while not self.is_over:
            self.turn()
        for way in list(self.ways):
            self.drop(way)
        for s in (self.listener, self.wake_in, self.wake_out):
            s.close()
