"""examples/cluster/run does what it says."""
import os
import re
import signal
import subprocess
import sys

from cluster_fixture import HERE, need, run, wait_until

need("consul", "sqlite3")
SCRIPT = os.path.join(HERE, "../../../examples/cluster/run")


def test_example():
    bin_path = os.path.abspath(os.environ["LITEFS_BIN"])
    with subprocess.Popen([SCRIPT], stdout=subprocess.PIPE, text=True, env={**os.environ, "LITEFS_BIN": bin_path}) as p:
        try:
            said = ""
            for line in p.stdout:
                said += line
                if line.startswith("Ctrl-C"):
                    break
            commands = re.findall(r"^    (sqlite3 .*)$", said, re.M)
            assert len(commands) == 4, said
            subprocess.run(commands[0], shell=True, check=True)
            for command in commands[1:]:
                wait_until(lambda c=command: subprocess.run(c, shell=True, capture_output=True, text=True).stdout
                           == "hello\n", command)
            status = re.search(r"^Look at the cluster: +(.*)$", said, re.M).group(1)
            seen = subprocess.run(status, shell=True, check=True, capture_output=True, text=True).stdout
            assert all(f"node{i}" in seen for i in (1, 2, 3)) and "my.db" in seen, seen
            directory = re.search(r"removes (\S+)\.$", said, re.M).group(1)
            assert os.path.isdir(directory)
            # Who types the first command again, where nobody is mounted any more, is told so.
            take_over = re.search(r"^Let another one take over: +(.*)$", said, re.M).group(1)
            mnt = re.search(r"^sqlite3 (\S+)/my.db", commands[0]).group(1)
            subprocess.run(take_over, shell=True, check=True)
            wait_until(lambda: not os.path.exists(mnt), "the bare mount point to go")
            late = subprocess.run(commands[0], shell=True, check=False, capture_output=True, text=True)
            assert late.returncode != 0 and "unable to open" in late.stderr, late
        finally:
            p.send_signal(signal.SIGTERM)
        assert p.wait(60) == 143
    assert not os.path.exists(directory)
    with open("/proc/self/mountinfo") as f:
        assert directory not in f.read()


if __name__ == "__main__":
    run(sys.modules[__name__])
