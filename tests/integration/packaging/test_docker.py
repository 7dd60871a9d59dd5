"""examples/docker, as far as it can be checked without Docker: what it copies is there, what it installs is what the
program is linked to, and its configuration is one."""
import glob
import json
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from litefs_fixture import LITEFS, run

SOURCE, BUILD = os.environ["SOURCE_DIR"], os.environ["BUILD_DIR"]


def instructions():
    """[(stage, instruction, rest)], with continued lines joined."""
    with open(os.path.join(SOURCE, "examples/docker/Dockerfile"), encoding="utf-8") as f:
        text = "".join(line for line in f if not line.startswith("#"))
    found, stage = [], -1
    for line in text.replace("\\\n", " ").splitlines():
        if line:
            name, rest = line.split(None, 1)
            stage += name == "FROM"
            found.append((stage, name, rest))
    return found


def test_two_stages_and_the_program_copied_where_litefs_has_it():
    lines = instructions()
    assert [rest for _, name, rest in lines if name == "FROM"] == ["debian:12-slim AS build", "debian:12-slim"]
    copies = [rest.split() for stage, name, rest in lines if stage == 1 and name == "COPY"]
    assert ["--from=build", "/src/build/release/cmd/litefs/litefs", "/usr/local/bin/litefs"] in copies, copies
    with open(os.path.join(SOURCE, "CMakePresets.json"), encoding="utf-8") as f:
        presets = json.load(f)["configurePresets"]
    assert presets[0]["binaryDir"] == "${sourceDir}/build/${presetName}"
    for copy in copies:
        if not copy[0].startswith("--from"):
            assert os.path.exists(os.path.join(SOURCE, copy[0])), copy


def test_the_image_has_the_libraries():
    script = " ".join(rest for stage, name, rest in instructions() if stage == 1 and name == "RUN")
    installed = set(re.split(r"\s+", re.search(r"--no-install-recommends(.*?)&&", script)[1].strip()))
    with tempfile.TemporaryDirectory() as directory:
        p = subprocess.run(["cpack", "--config", os.path.join(BUILD, "CPackConfig.cmake"), "-G", "DEB", "-B", directory],
                           capture_output=True, text=True, timeout=60, check=False)
        assert p.returncode == 0, p.stdout + p.stderr
        depends = subprocess.run(["dpkg-deb", "-f", glob.glob(directory + "/*.deb")[0], "Depends"], capture_output=True,
                                 text=True, timeout=60, check=True).stdout
    needed = {one.split()[0] for one in depends.split(",")} - {"libc6"}
    assert needed <= installed, f"the Dockerfile does not install {sorted(needed - installed)}"
    assert installed <= needed | {"ca-certificates", "sqlite3"}, f"needlessly installed: {sorted(installed - needed)}"


def test_the_configuration_is_one():
    secret = tempfile.NamedTemporaryFile("w")
    secret.write("secret\n")
    secret.flush()
    for env in ({}, {"LITEFS_LEASE": "consul", "CONSUL_URL": "http://127.0.0.1:1", "LITEFS_ADDR": ":20202",
                     "LITEFS_TOKEN_FILE": secret.name}):
        p = subprocess.run([LITEFS, "doctor", "-json", "-config", os.path.join(SOURCE, "examples/docker/litefs.yml")],
                           capture_output=True, text=True, timeout=60, check=False, env={"PATH": os.environ["PATH"], **env})
        found = json.loads(p.stdout)
        assert found[0]["check"] == "config" and found[0]["level"] == "OK", found[0]
        assert not any(f["check"] == "http" for f in found), found


def test_nobody_is_let_in_by_the_example():
    """Not root, no token in the environment, no lease service that all can reach."""
    lines = instructions()
    assert [rest for stage, name, rest in lines if stage == 1 and name == "USER"] == ["litefs"]
    with open(os.path.join(SOURCE, "examples/docker/compose.yml"), encoding="utf-8") as f:
        text = f.read()
    assert "0.0.0.0" not in text and "LITEFS_TOKEN:" not in text and "internal: true" in text, text


if __name__ == "__main__":
    run(sys.modules[__name__])
