"""What a run of ctest came to: why tests were skipped, which failed and what they said, and one line with the numbers.
usage: summary.py RESULTS.XML [AGAIN.XML]

AGAIN.XML is of the failed ones, run once more, each alone: one that passes there counts as passed, and is named, since it
depends on more than it should. It is for integration tests only, which wait for real clocks, processes and mounts:
what fails among the others failed. `summary.py --again RESULTS.XML` prints which those are, for ctest -R, and nothing when there is
one that is not run again."""
import re
import sys
import xml.etree.ElementTree

AGAIN = "integration."
TELLING = re.compile(r":[FE]:|Error\b|Assertion|assert |runtime error|WARNING: ThreadSanitizer|timeout", re.IGNORECASE)


class Run:
    def __init__(self, path):
        self.passed, self.failed, self.skipped = set(), {}, {}
        for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
            name, output = case.get("name"), case.findtext("system-out") or ""
            if case.get("status") == "run":
                self.passed.add(name)
            elif case.find("skipped") is not None and case.find("failure") is None:
                self.skipped[name] = reason(output)
            else:
                self.failed[name] = output


def reason(output):
    """Each test that is skipped says why in a line of its own."""
    said = [line.partition("skipped:")[2].strip() for line in output.splitlines() if "skipped:" in line]
    return "; ".join(dict.fromkeys(said)) or "it does not say why"


def telling(output):
    """Where a log is cut, these lines are still there: they come last."""
    lines = [line for line in output.splitlines() if TELLING.search(line) and not line.startswith("level=")]
    return "".join(f"\n    {line[:300]}" for line in lines[-6:])


def print_again(run):
    if run.failed and all(name.startswith(AGAIN) for name in run.failed):
        print("^(" + "|".join(re.escape(name) for name in sorted(run.failed)) + ")$")


def main(first, again=None):
    run = Run(first)
    for name, why in run.skipped.items():
        print(f"skipped {name}: {why}")
    for name in sorted(Run(again).passed if again else ()):
        print(f"PASSED ONLY WHEN RUN AGAIN {name}{telling(run.failed.pop(name))}")
        run.passed.add(name)
    for name, output in run.failed.items():
        print(f"FAILED {name}{telling(output)}")
    print(f"{len(run.passed)} passed, {len(run.failed)} failed, {len(run.skipped)} skipped")


if sys.argv[1] == "--again":
    print_again(Run(sys.argv[2]))
else:
    main(*sys.argv[1:])
