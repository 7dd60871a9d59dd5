"""A page that the kernel hands over in two WRITEs, because it straddles two cached pages of the WAL, over a frame of an
earlier chain that ends with the same bytes."""
import os
import sys

import litefs_fixture
from litefs_fixture import Node


def forget_pages(path):
    """The kernel cuts a write behind a cached page that it does not know as a whole."""
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def test_frame_that_is_whole_before_its_last_bytes_come():
    """Behind the first part lies the end of the old frame. If that is what the second part will bring, the frame is
    whole, its checksum right and the commit captured when the second part arrives. That part changes nothing and must
    not be taken for a write over a captured commit. Of the first frame, 56 bytes are in it."""
    with Node() as n:
        c = n.connect()
        c.execute("pragma journal_mode=wal")
        c.execute("create table t(a integer primary key, b)")
        # The first row lies at the end of the page and stays as it is.
        c.execute("insert into t values(1, zeroblob(100))")
        c.execute("insert into t values(2, 0)")
        for k in range(10):
            assert c.execute("pragma wal_checkpoint(restart)").fetchone()[0] == 0
            forget_pages(n.path("t.db-wal"))
            c.execute("update t set b=? where a=2", (k,))
            n.check()
        d = n.connect()
        assert d.execute("select b from t where a=2").fetchone() == (k,)
        d.close()
        c.close()
        n.check()
        assert "anew" not in n.log(), "a commit was refused"


if __name__ == "__main__":
    litefs_fixture.run(sys.modules[__name__])
