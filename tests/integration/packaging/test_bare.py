"""The README's two commands on a bare Debian: minbase and git, in a chroot made for it. usage: test_bare.py SUITE [TEST]"""
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE), HERE]
from litefs_fixture import run
from test_deb import debian_mirror

SOURCE = os.environ["SOURCE_DIR"]
SUITE = sys.argv.pop(1)
DEVICES = "null zero full random urandom tty fuse"
# In name spaces of its own, which end with the last process and take all mounts with them.
INSIDE = f"""
mount -t proc proc "$0/proc" && mount --rbind /sys "$0/sys"
mount -t tmpfs tmpfs "$0/tmp" && mkdir -p "$0/dev/shm" && mount -t tmpfs tmpfs "$0/dev/shm"
for d in {DEVICES}; do touch "$0/dev/$d"; mount --bind "/dev/$d" "$0/dev/$d"; done
ln -sf /proc/self/fd "$0/dev/fd"
exec chroot "$0" /bin/bash -c "$1"
"""


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def copy_source(to):
    """What git has, and what is there beside it that is not ignored."""
    files = subprocess.run(["git", "-C", SOURCE, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                           capture_output=True, check=False)
    if files.returncode != 0:
        skip("the source is not a clone of git")
    for name in filter(None, files.stdout.decode().split("\0")):
        path = os.path.join(SOURCE, name)
        if os.path.lexists(path):
            os.makedirs(os.path.dirname(os.path.join(to, name)), exist_ok=True)
            shutil.copy2(path, os.path.join(to, name), follow_symlinks=False)


class Bare:
    def __enter__(self):
        if shutil.which("mmdebstrap") is None:
            skip("there is no mmdebstrap (scripts/setup --tools installs it)")
        if os.getuid() != 0:
            skip("needs root")
        self.root = tempfile.mkdtemp(prefix="litefs-bare-")
        p = subprocess.run(["mmdebstrap", "--variant=minbase", "--include=git", SUITE, self.root, debian_mirror()],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if p.returncode != 0:
            shutil.rmtree(self.root)
            skip(f"no bare {SUITE} can be made here: {p.stdout[-300:]}")
        copy_source(os.path.join(self.root, "src"))
        shutil.copy("/etc/resolv.conf", os.path.join(self.root, "etc/resolv.conf"))
        return self

    def __exit__(self, *_):
        subprocess.run(["rm", "-rf", "--one-file-system", self.root], check=False)

    def do(self, script):
        """The output's lines."""
        p = subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "sh", "-c", INSIDE,
                            self.root, f"cd /src && {script}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
                           env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"})
        assert p.returncode == 0, f"{script}: {p.returncode}\n{p.stdout[-20000:]}"
        return p.stdout.splitlines()


def test_demo():
    with Bare() as bare:
        lines = bare.do("scripts/demo --once")
        assert lines[-1] == "All of it is there, on all three nodes.", lines[-20:]


def test_tests():
    with Bare() as bare:
        lines = bare.do("scripts/test")
        print("\n".join(line for line in lines if line.startswith("skipped ")) + f"\n{lines[-1]}")
        assert " passed, 0 failed, " in lines[-1], lines[-1]


if __name__ == "__main__":
    run(sys.modules[__name__])
