"""What the documents tell to type does what they say: the README's minute, and the recipes of docs/operations.md."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
from litefs_fixture import LITEFS, Node, free_ports, is_mounted, run

ROOT = os.path.join(HERE, "..", "..")


def block_after(path, mark):
    """The first block of shell commands behind a line that contains `mark`."""
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        text = f.read()
    assert text.count(mark) == 1, (path, mark)
    return re.search(r"^```sh\n(.*?)^```$", text[text.index(mark):], re.M | re.S).group(1)


def shell(script, directory, path=""):
    program = ["sh"] if script.startswith("#!/bin/sh") else ["bash", "-e", "-o", "pipefail"]
    return subprocess.run(program, input=script, cwd=directory, capture_output=True, text=True,
                          timeout=60, check=False, env={**os.environ, "PATH": path + os.environ["PATH"]})


def replace_all(text, *pairs):
    for old, new in pairs:
        assert old in text, f"{old} in:\n{text}"
        text = text.replace(old, new)
    return text


def test_one_minute():
    demo = tempfile.mkdtemp(prefix="litefs-readme-")
    script = replace_all(block_after("README.md", "## One minute"), ("build/release/cmd/litefs/litefs", os.path.abspath(LITEFS)),
                         ("/tmp/demo", demo), ("127.0.0.1:20202", "127.0.0.1:0"))
    # `wait` ends with the status of what was killed.
    script = script.replace("wait $pid", "wait $pid || true")
    p = shell(script, ROOT)
    try:
        assert p.returncode == 0, p.stdout + p.stderr
        lines = p.stdout.splitlines()
        position = re.compile(r"0000000000000003/[0-9a-f]{16}$")
        assert lines[0] == "wal" and position.match(lines[1]), lines
        assert [line.split()[0] for line in lines[2:6]] == ["min_txid"] + [f"{n:016x}" for n in (1, 2, 3)], lines
        assert "3 transactions replayed from the log" in lines[6], lines
        assert lines[7:] == ["hello", lines[1]], lines
        assert not os.path.exists(demo)
    finally:
        if os.path.exists(demo):
            subprocess.run(["fusermount3", "-uzq", os.path.join(demo, "mnt")], check=False)
            shutil.rmtree(demo, ignore_errors=True)
    assert not is_mounted(os.path.join(demo, "mnt"))


class Machine(Node):
    """With the paths of the documents under a directory of the test, and litefs on the PATH. Commands find
    ./litefs.yml."""

    def __init__(self):
        super().__init__()
        with open(self.config, encoding="utf-8") as f:
            text = f.read()
        with open(self.config, "w", encoding="utf-8") as f:
            f.write(text.replace("127.0.0.1:0", f"127.0.0.1:{free_ports(1)[0]}"))
        self.backups = os.path.join(self.root, "backups")
        self.bin = os.path.join(self.root, "bin")
        os.mkdir(self.bin)
        os.symlink(os.path.abspath(LITEFS), os.path.join(self.bin, "litefs"))

    def do(self, script, *pairs):
        return shell(replace_all(script, ("/var/backups/litefs", self.backups), *pairs), self.root, self.bin + ":")


def test_backup_and_restore():
    with Machine() as n:
        for name in ("app.db", "tenants/7.db"):
            os.makedirs(os.path.dirname(n.path(name)), exist_ok=True)
            c = n.connect(name)
            c.executescript("pragma journal_mode=wal; create table t(x); insert into t values('kept')")
            c.close()
        backup = block_after("docs/operations.md", "test_readme.py: backup")
        p = n.do(backup, ("find /litefs", f"find {n.mnt}"), ("#/litefs/", f"#{n.mnt}/"))
        assert p.returncode == 0, p.stdout + p.stderr
        made = sorted(os.listdir(n.backups))
        assert len(made) == 2 and made[0].startswith("app.db.2") and made[1].startswith("tenants%7.db.2"), made
        c = n.connect("app.db")
        c.execute("update t set x='spoiled'")
        p = n.do(block_after("docs/operations.md", "test_readme.py: restore"), ("app.db.2026-11-21.gz", made[0]),
                 ("/tmp/app.db", os.path.join(n.root, "app.db")))
        assert p.returncode == 0, p.stdout + p.stderr
        assert c.execute("select x from t").fetchall() == [("kept",)]
        c.close()
        # Without a node it fails, and leaves what is there.
        assert n.stop() == 0
        os.makedirs(n.mnt, exist_ok=True)
        open(os.path.join(n.mnt, "app.db-pos"), "w").close()
        p = n.do(backup, ("find /litefs", f"find {n.mnt}"), ("#/litefs/", f"#{n.mnt}/"))
        assert p.returncode != 0 and "ERROR" in p.stderr, p.stdout + p.stderr
        assert sorted(os.listdir(n.backups)) == made


if __name__ == "__main__":
    run(sys.modules[__name__])
