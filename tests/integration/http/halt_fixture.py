"""Halt locks as an application takes them."""
import fcntl
import os
import struct

F_OFD_SETLKW = 38


class Halt:
    """As LiteFS's clients do it: opens NAME-lock, locks its byte 72, closes it."""

    def __init__(self, node, name="t.db"):
        self.path = node.path(name + "-lock")

    def __enter__(self):
        self.fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        fcntl.fcntl(self.fd, F_OFD_SETLKW, struct.pack("hhqqi", fcntl.F_WRLCK, 0, 72, 1, 0))
        return self

    def __exit__(self, *_):
        os.close(self.fd)
