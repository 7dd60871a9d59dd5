"""What a run of ctest came to: why tests were skipped, which failed, and one line with the numbers.
usage: summary.py RESULTS.XML"""
import sys
import xml.etree.ElementTree


def main():
    passed = failed = skipped = 0
    for case in xml.etree.ElementTree.parse(sys.argv[1]).getroot().iter("testcase"):
        name = case.get("name")
        if case.get("status") == "run":
            passed += 1
        elif case.find("skipped") is not None and case.find("failure") is None:
            skipped += 1
            print(f"skipped {name}: {reason(case.findtext('system-out') or '')}")
        else:
            failed += 1
            print(f"FAILED {name}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")


def reason(output):
    """Each test that is skipped says why in a line of its own."""
    said = [line.partition("skipped:")[2].strip() for line in output.splitlines() if "skipped:" in line]
    return "; ".join(dict.fromkeys(said)) or "it does not say why"


main()
