"""The manual pages and the completions say what -h says: they are made of the same tables."""
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from litefs_fixture import LITEFS, Node, free_ports, run

GENERATED = os.environ["GENERATED_DIR"]
CONFIG_KEYS = os.environ["CONFIG_EXAMPLE"]


def output(*words, code=0, **kw):
    p = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, **kw)
    assert p.returncode == code, (words, p.returncode, p.stdout, p.stderr)
    assert p.stderr == "", (words, p.stderr)
    return p.stdout


def litefs(*words):
    return output(LITEFS, *words)


def rows(text, title):
    """The left column under a title of a help text."""
    section = text.split(f"\n{title}:\n\n", 1)
    return re.findall(r"^  (\S+)", section[1].split("\n\n")[0], re.M) if len(section) > 1 else []


def commands():
    found = rows(litefs("-h"), "The commands are")
    assert "mount" in found and "help" in found, found
    return found


def flags(command):
    return rows(litefs(command, "-h"), "The flags are")


def generated(name):
    with open(os.path.join(GENERATED, name), encoding="utf-8") as f:
        return f.read()


def test_help_of_every_command():
    for command in commands():
        text = litefs(command, "-h")
        assert text == litefs(command, "--help") == litefs(command, "-help") == litefs("help", command)
        assert re.search(rf"Usage:\n\n    litefs {command}", text), text
        assert "\nExamples:\n\n    # " in text and f"    litefs {command}" in text, text
        assert {"0", "2"} <= set(rows(text, "Exit status")), text
        assert max(map(len, text.splitlines())) <= 120, text
    assert litefs("--help") == litefs("-h") == litefs("help")
    assert litefs("--version") == litefs("version")
    p = subprocess.run([LITEFS], capture_output=True, text=True, check=False)
    assert p.returncode == 2 and p.stdout == litefs("-h") and p.stderr.startswith("ERROR: no command is given")


def test_manual_page_has_it_all():
    page = generated("litefs.1").replace("\\-", "-")
    sections = dict(re.findall(r"^\.SS litefs (\S+)\n(.*?)(?=^\.S[SH])", page, re.M | re.S))
    assert list(sections) == commands()
    for command, section in sections.items():
        assert re.findall(r"^\\fB(-\S+)\\fR", section, re.M) == flags(command), section
        for row in rows(litefs(command, "-h"), "The actions are"):
            assert f"\n.B {row}\n" in section


def test_page_of_the_configuration_has_every_key():
    page = generated("litefs.yml.5").replace("\\-", "-")
    printed = re.findall(r"^\\fB(\S+)\\fR \(", page, re.M)
    path, want = [], []
    with open(CONFIG_KEYS, encoding="utf-8") as f:
        for line in f:
            m = re.match(r"( *)([a-z-]+):(.*)", line)
            if m:
                path[len(m[1]) // 2:] = [m[2]]
                if m[3]:
                    want.append(".".join(path))
    assert printed == want and len(want) > 50, set(want) ^ set(printed)


def test_pages_can_be_formatted():
    if shutil.which("groff") is None:
        print("     no groff here: not formatted")
        return
    for page in ("litefs.1", "litefs.yml.5"):
        text = output("groff", "-man", "-Tutf8", "-ww", os.path.join(GENERATED, page))
        assert len(text) > 4000


def bash_completes(*words, **kw):
    script = (f"source {GENERATED}/litefs.bash; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _litefs; "
              "printf '%s\\n' \"${COMPREPLY[@]}\"")
    return set(output("bash", "-c", script, "bash", "litefs", *words, **{"cwd": GENERATED, **kw}).splitlines()) - {""}


def test_bash_completes():
    assert bash_completes("") == set(commands())
    assert bash_completes("ver") == {"version"}
    for command in commands():
        assert bash_completes(command, "-") == {"-h", *flags(command)}
        assert bash_completes(command, "--") == {"-h", *flags(command)}
    assert bash_completes("ltx", "") == set(rows(litefs("ltx", "-h"), "The actions are"))
    assert bash_completes("mount", "-config", "litefs.b") == {"litefs.bash"}
    assert bash_completes("status", "-url", "litefs") == set()
    assert bash_completes("import", "litefs.b") == {"litefs.bash"}


def test_fish_completes():
    if shutil.which("fish") is None:
        print("     no fish here: not tried")
        return

    def completes(line):
        script = f"source {GENERATED}/litefs.fish; complete -C '{line}'"
        out = output("fish", "--no-config", "-c", script, cwd=GENERATED, env={**os.environ, "HOME": "/nonexistent"})
        return {one.split("\t")[0] for one in out.splitlines()}

    assert completes("litefs ") == set(commands())
    for command in commands():
        assert completes(f"litefs {command} -") == {"-h", *flags(command)}


def test_names_of_a_running_node_are_completed():
    """Those of the node that the rest of the line names, or else of the one that litefs.yml does."""
    node = Node()
    port = free_ports(1)[0]
    with open(node.config, encoding="utf-8") as f:
        text = f.read()
    with open(node.config, "w", encoding="utf-8") as f:
        f.write(text.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    with node as n:
        for name in ("app.db", "it's $1 here.db", "tenants/7.db"):
            os.makedirs(os.path.dirname(n.path(name)), exist_ok=True)
            n.connect(name).execute("create table t(x)").connection.close()
        path = os.path.join(n.root, "bin")
        os.mkdir(path)
        os.symlink(os.path.abspath(LITEFS), os.path.join(path, "litefs"))
        env = {**os.environ, "PATH": path + ":" + os.environ["PATH"], "HOME": "/nonexistent"}
        asked = ("-url", f"http://127.0.0.1:{port}")

        def bash(*words, cwd=n.root):
            return bash_completes(*words, env=env, cwd=cwd)
        every = {"app.db", "it's $1 here.db", "tenants/7.db"}
        assert bash("export", "") == every
        assert bash("export", *asked, "", cwd="/") == every
        assert bash("export", *asked, "ten", cwd="/") == {"tenants/7.db"}
        assert bash("import", "it") == {"it's $1 here.db"}
        assert bash("ltx", "list", "a") == {"app.db"}
        assert bash("handoff", "") == {"localhost"}
        assert bash("export", "app.db", "litefs.y") == {"litefs.yml"}, "the second is a file"
        assert bash("export", "-token-file", "litefs.y") == {"litefs.yml"}
        assert bash("export", "-url", "http://127.0.0.1:1", "litefs.y") == {"litefs.yml"}, "nobody answers"
        if shutil.which("fish") is not None:
            out = output("fish", "--no-config", "-c", f"source {GENERATED}/litefs.fish; complete -C 'litefs export app'", cwd=n.root, env=env)
            assert "app.db\tdatabases" in out.splitlines(), out


def test_zsh_knows_every_flag():
    text = generated("_litefs")
    for command in commands():
        block = re.search(rf"^{command}\)\n(.*?);;", text, re.M | re.S)[1]
        assert re.findall(r"'(-[a-z.-]+)\[", block) == ["-h", *flags(command)], block
    if shutil.which("zsh") is not None:
        output("zsh", "-n", os.path.join(GENERATED, "_litefs"))


if __name__ == "__main__":
    run(sys.modules[__name__])
