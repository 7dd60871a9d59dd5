"""The Debian package on a clean Debian 12: what it declares is enough to mount, write, stop, and find it all again. And
what cmake --install puts where."""
import glob
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE)]
from litefs_fixture import free_ports, run

BUILD = os.environ["BUILD_DIR"]

INSTALLED = ["bin/litefs", "lib/systemd/system/litefs.service", "share/man/man1/litefs.1.gz",
             "share/man/man5/litefs.yml.5.gz", "share/bash-completion/completions/litefs",
             "share/zsh/vendor-completions/_litefs", "share/fish/vendor_completions.d/litefs.fish",
             "share/doc/litefs/examples/litefs.yml", "share/doc/litefs/README.md", "share/doc/litefs/copyright", "share/doc/litefs/changelog.gz", "share/doc/litefs/CHANGELOG.md", "share/doc/litefs/docs/on-disk.md"]

# Runs inside: no Python there.
LIFE = r"""
set -eu
mkdir -p /etc
cat >/etc/litefs.yml <<END
lease: { type: static, candidate: true }
http: { addr: "127.0.0.1:PORT" }
END
test "$(stat -c %a /litefs)" = 555
start() {
    litefs mount >>/log 2>&1 &
    pid=$!
    for _ in $(seq 600); do [ ! -e /litefs/.lag ] || return 0; kill -0 $pid; sleep 0.1; done
    return 1
}
litefs version
start
sqlite3 /litefs/app.db "PRAGMA journal_mode=wal; CREATE TABLE t(x); INSERT INTO t VALUES('hello')"
litefs status | grep -w primary
litefs export -name app.db /copy.db
test "$(sqlite3 /copy.db 'SELECT x FROM t')" = hello
kill $pid
wait $pid
test ! -e /litefs/.lag
start
test "$(sqlite3 /litefs/app.db 'SELECT x FROM t')" = hello
kill $pid
wait $pid
echo lived
"""


# Runs as a service of the booted system, and then turns it off.
PROBE = r"""#!/bin/sh
set -eux
trap 'systemctl poweroff' EXIT
! systemctl is-enabled litefs
timeout 60 systemctl start litefs
test "$(systemctl show -P ActiveState litefs)" = active
test "$(systemctl show -P StatusText litefs)" = "primary, term 1"
grep ' /litefs ' /proc/self/mountinfo
test "$(sqlite3 /litefs/app.db 'SELECT x FROM t')" = hello
sqlite3 /litefs/app.db "INSERT INTO t VALUES('again')"
litefs doctor
main=$(systemctl show -P MainPID litefs)
kill -KILL $main
for _ in $(seq 600); do
    [ "$(systemctl show -P ActiveState litefs)" = active ] && [ "$(systemctl show -P MainPID litefs)" != $main ] && break
    sleep 0.1
done
test "$(sqlite3 /litefs/app.db 'SELECT count(*) FROM t')" = 2
timeout 60 systemctl stop litefs
test "$(systemctl show -P Result litefs)" = success
! grep ' /litefs ' /proc/self/mountinfo
timeout 60 systemctl start litefs
main=$(systemctl show -P MainPID litefs)
exec 3</litefs/app.db
dpkg -i /litefs.deb | grep 'the running node is of this version now'
test "$(systemctl show -P MainPID litefs)" = $main
cat <&3 | head -c 15 | grep 'SQLite format 3'
systemctl reload litefs
test "$(systemctl show -P MainPID litefs)" = $main
exec 3<&-
test "$(sqlite3 /litefs/app.db 'SELECT count(*) FROM t')" = 2
dpkg --remove litefs
! grep ' /litefs ' /proc/self/mountinfo
dpkg -i /litefs.deb
echo lived
"""
PROBE_UNIT = """[Service]
Type=oneshot
ExecStart=/probe
StandardOutput=file:/probe.log
StandardError=file:/probe.log
"""


def call(*words, **kw):
    p = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False, **kw)
    assert p.returncode == 0, f"{words}: {p.returncode}\n{p.stdout}"
    return p.stdout


def package(directory):
    call("cpack", "--config", os.path.join(BUILD, "CPackConfig.cmake"), "-G", "DEB", "-B", directory)
    return glob.glob(os.path.join(directory, "*.deb"))[0]


def test_install_puts_everything_in_its_place():
    with tempfile.TemporaryDirectory() as root:
        call("cmake", "--install", BUILD, "--prefix", root)
        for path in INSTALLED:
            assert os.path.getsize(os.path.join(root, path)) > 0, path
        call(os.path.join(root, "bin/litefs"), "version")


def test_package_declares_what_it_needs():
    with tempfile.TemporaryDirectory() as directory:
        deb = package(directory)
        needs = call("dpkg-deb", "-f", deb, "Depends")
        for name in ("fuse3", "libc6 ", "libfuse3-3 ", "libcurl4 ", "libhttp-parser2.9", "libmicrohttpd", "libuv1",
                     "libfyaml0", "libjansson4"):
            assert name in needs, needs
        files = call("dpkg-deb", "-c", deb)
        for path in INSTALLED:
            assert f" ./usr/{path}\n" in files, path
        assert " ./etc" not in files and " ./var" not in files, files


def debian_mirror():
    found = call("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian",
                 "Codename: bookworm").split()
    return sorted(set(found))[0] if found else "http://deb.debian.org/debian"


def make_root(root, deb):
    p = subprocess.run(["mmdebstrap", "--variant=essential", "--hook-dir=/usr/share/mmdebstrap/hooks/file-mirror-automount",
                        f"--include={deb}", "--include=sqlite3", "--include=systemd-sysv", "bookworm", root,
                        debian_mirror()],
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False)
    if p.returncode != 0 and "litefs" not in p.stdout.rsplit("E:", 1)[-1] and "download" in p.stdout:
        print(f"skipped: no clean Debian 12 can be made here:\n{p.stdout[-1000:]}")
        sys.exit(77)
    assert p.returncode == 0, p.stdout


def inside(root, script):
    """In a mount name space of its own, which goes with its last process and takes all mounts with it."""
    prepare = ('mount -t proc proc "$0/proc" && touch "$0/dev/fuse" && mount --bind /dev/fuse "$0/dev/fuse" && '
               'exec chroot "$0" /bin/sh -c "$1"')
    return call("unshare", "--mount", "--propagation", "private", "sh", "-c", prepare, root, script,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C"})


def boot(root):
    """The unit under a systemd of its own: hardening, Type=notify, restart after a kill, upgrade and removal."""
    if shutil.which("systemd-nspawn") is None:
        print("     no systemd-nspawn here (scripts/setup --tools installs it): the unit was not started")
        return
    units = root + "/etc/systemd/system"
    os.makedirs(units + "/multi-user.target.wants", exist_ok=True)
    with open(units + "/probe.service", "w", encoding="utf-8") as f:
        f.write(PROBE_UNIT)
    os.symlink("../probe.service", units + "/multi-user.target.wants/probe.service")
    with open(root + "/probe", "w", encoding="utf-8") as f:
        f.write(PROBE)
    os.chmod(root + "/probe", 0o755)
    p = subprocess.run(["systemd-nspawn", "-q", "--register=no", "--keep-unit", "-D", root, "--private-network",
                        "--bind=/dev/fuse", "--capability=CAP_SYS_ADMIN", "-b"], stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False)
    if not os.path.exists(root + "/probe.log"):
        print(f"     no container boots here: the unit was not started\n{p.stdout[-500:]}")
        return
    with open(root + "/probe.log", encoding="utf-8") as f:
        log = f.read()
    assert "\nlived\n" in log, log


def test_clean_machine():
    if shutil.which("mmdebstrap") is None:
        print("skipped: there is no mmdebstrap (scripts/setup --tools installs it)")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as directory:
        deb = os.path.join(directory, "litefs.deb")
        os.rename(package(directory), deb)
        os.chmod(directory, 0o755)
        root = os.path.join(directory, "root")
        make_root(root, deb)
        try:  # what the package makes unwritable can be removed again only then
            live_and_leave(root, deb)
        finally:
            subprocess.run(["chattr", "-i", root + "/litefs"], check=False, capture_output=True)


def live_and_leave(root, deb):
    try:
        assert inside(root, LIFE.replace("PORT", str(free_ports(1)[0]))).endswith("lived\n")
    except AssertionError:
        with open(os.path.join(root, "log"), encoding="utf-8") as f:
            sys.stderr.write(f.read())
        raise
    shutil.copy(deb, root + "/litefs.deb")
    boot(root)
    inside(root, "dpkg --purge litefs")
    assert os.path.exists(root + "/var/lib/litefs/dbs/app.db/database"), "a purge takes no databases"
    assert os.path.exists(root + "/etc/litefs.yml") and not os.path.exists(root + "/usr/bin/litefs")


if __name__ == "__main__":
    run(sys.modules[__name__])
