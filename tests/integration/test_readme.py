"""What the documents tell to type does what they say: the README's minute, and the recipes of docs/operations.md. Each command
of litefs that any document names exists, with its flags, and each key of litefs.yml.
"""
import functools
import glob
import os
import re
import shlex
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
                         ("$(mktemp -d)", demo), ("127.0.0.1:20202", "127.0.0.1:0"))
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
            subprocess.run(["fusermount3", "-uzq", os.path.join(demo, "db")], check=False)
            shutil.rmtree(demo, ignore_errors=True)
    assert not is_mounted(os.path.join(demo, "db"))


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
        names = ["app.db", "tenants/7.db", "two\nlines.db", "ends\n", "a\\cb 50%2F.db", "-n", "ends.", "sub dir/it's $HOME \"x\".db"]
        for name in names:
            os.makedirs(os.path.dirname(n.path(name)), exist_ok=True)
            c = n.connect(name)
            c.executescript("pragma journal_mode=wal; create table t(x); insert into t values('kept')")
            c.close()
        backup = block_after("docs/operations.md", "test_readme.py: backup")
        p = n.do(backup, ("find /litefs", f"find {n.mnt}"), ("#/litefs/", f"#{n.mnt}/"))
        assert (p.returncode, p.stdout, p.stderr) == (0, "", ""), "cron would mail this"
        made = sorted(os.listdir(n.backups))
        encoded = sorted(n.replace("%", "%25").replace("/", "%2F").replace("\n", "%0A") for n in names)
        assert [re.sub(r"\.\d{4}-\d\d-\d\d\.gz$", "", file) for file in made] == encoded, made
        assert os.stat(os.path.join(n.backups, made[0])).st_mode & 0o077 == 0
        c = n.connect("app.db")
        c.execute("update t set x='spoiled'")
        p = n.do(block_after("docs/operations.md", "test_readme.py: restore"), ("app.db.2026-11-21.gz", next(file for file in made if file.startswith("app.db."))))
        assert p.returncode == 0, p.stdout + p.stderr
        assert c.execute("select x from t").fetchall() == [("kept",)]
        c.close()
        # Without a node it fails, and leaves what is there.
        assert n.stop() == 0
        os.makedirs(n.mnt, exist_ok=True)
        for name in ("app.db", "app.db-pos"):
            open(os.path.join(n.mnt, name), "w").close()
        p = n.do(backup, ("find /litefs", f"find {n.mnt}"), ("#/litefs/", f"#{n.mnt}/"))
        assert p.returncode != 0 and "ERROR" in p.stderr, p.stdout + p.stderr
        assert sorted(os.listdir(n.backups)) == made


# --- what is named exists ---

def documents():
    """(path, number, line, whether it is in a block of code) of all that is written for people."""
    paths = [*glob.glob(os.path.join(ROOT, "*.md")), *glob.glob(os.path.join(ROOT, "docs", "*.md")),
             *glob.glob(os.path.join(ROOT, "examples", "**", "*"), recursive=True), *glob.glob(os.path.join(ROOT, "packaging", "**", "*"), recursive=True),
             os.path.join(ROOT, "litefs.example.yml"), os.path.join(ROOT, "scripts", "demo")]
    for path in sorted(paths):
        if os.path.isfile(path) and not path.endswith(".json"):
            is_code = False
            with open(path, encoding="utf-8") as f:
                for number, line in enumerate(f, 1):
                    is_code ^= line.startswith("```")
                    yield os.path.relpath(path, ROOT), number, line, is_code


@functools.cache
def help_of(command):
    p = subprocess.run([LITEFS, *command.split(), "-h"], capture_output=True, text=True, timeout=60, check=False)
    return p.stdout if p.returncode == 0 else None


def commands_in(line, is_code):
    """Words of each "litefs COMMAND ...": in backticks, or at the begin of a shell's line."""
    typed = re.findall(r"`((?:sudo )?litefs [a-z][^`]*)`", line)
    m = re.match(r"(?:\$ |#   )?(?:sudo )?(?:\S+=\S+ )*(litefs [a-z].*)", line.strip())
    for text in [*typed, *([m[1]] if m and is_code else [])]:
        text = re.split(r" \| | && | \|\| |; | >|  +#| \\$", re.sub(r"^sudo ", "", text))[0]
        try:
            yield shlex.split(text, comments=True)[1:]
        except ValueError:
            yield text.split()[1:]


def test_every_command_of_the_documents_exists():
    known = set(re.findall(r"^  ([a-z]+) ", help_of("").split("commands are:")[1], re.M))
    seen, wrong = set(), []
    for path, number, line, is_code in documents():
        for words in commands_in(line, is_code):
            command = words[0]
            if command not in known:
                wrong.append(f"{path}:{number}: litefs {command}: there is no such command")
                continue
            seen.add(command)
            for word in words[1:]:
                if word == "--":
                    break
                flag = re.match(r"--?([a-z][a-z.-]*)", word)
                if flag and flag[1] not in ("h", "help") and f"\n  -{flag[1]} " not in help_of(command):
                    wrong.append(f"{path}:{number}: litefs {command} has no flag {word}")
    assert not wrong, "\n".join(wrong)
    assert len(seen) > 12, seen


def test_every_key_of_the_documents_exists():
    keys, path = set(), []
    with open(os.path.join(ROOT, "litefs.example.yml"), encoding="utf-8") as f:
        for line in f:
            m = re.match(r"( *)([a-z-]+):", line)
            if m:
                path[len(m[1]) // 2:] = [m[2]]
                keys.add(".".join(path))
    # What is of LiteFS alone is named where the two are compared.
    named = [(f"{doc}:{number}", key) for doc, number, line, _ in documents() if "migrating" not in doc
             for key in re.findall(r"`((?:data|fuse|http|proxy|lease|backup|log|tracing)\.[a-z][a-z.-]*)[`:]", line)]
    wrong = [f"{where}: {key}" for where, key in named if key not in keys and not re.search(r"\.(c|h|cmake|py|md)$", key)]
    assert not wrong, "there is no such key:\n" + "\n".join(wrong)
    assert len(named) > 50


if __name__ == "__main__":
    run(sys.modules[__name__])
