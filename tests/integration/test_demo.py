"""scripts/demo does what it says, and leaves nothing behind."""
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
from litefs_fixture import LITEFS, run

ROOT = os.path.join(HERE, "..", "..")


def demo(*words):
    p = subprocess.run([os.path.join(ROOT, "scripts", "demo"), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                       timeout=600, check=False, env={**os.environ, "LITEFS_BIN": os.path.abspath(LITEFS)})
    return p.returncode, p.stdout, p.stderr


def test_three_nodes():
    code, said, errors = demo("--once")
    assert code == 0, said + errors
    assert said.endswith("All of it is there, on all three nodes.\n"), said + errors
    positions = re.findall(r"^    ([0-9a-f]{16}/[0-9a-f]{16})$", said, re.M)
    assert len(positions) == 3 and len(set(positions)) == 1, said
    directory = re.search(r"(\S+/litefs-demo-\w+)/node1/app\.db", said).group(1)
    assert not os.path.exists(directory)
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        assert directory not in f.read()


def test_a_flag_that_is_none():
    code, said, errors = demo("--cluster")
    assert (code, said, errors) == (2, "", "usage: scripts/demo [--once]\n")


if __name__ == "__main__":
    run(sys.modules[__name__])
