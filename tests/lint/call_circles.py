#!/usr/bin/env python3
"""Checks that the files of a part call each other in one direction: a circle is read as a whole or not at all.

A call is a function's name, defined in one file of the part and without `static`, that stands in another one. A part is a directory
of the program.

usage: call_circles.py [ROOT]     prints what is wrong; exits 1 if anything is
"""
import collections
import os
import re
import sys

from include_direction import sources


COMMENT_OR_STRING = re.compile(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)
# As the layout has it: the type on a line, then the name at the start of the next one.
DEFINITION = re.compile(r"^(?!static\b)[a-z][^;{}()=\n]*\n(\w+)\([^;{}]*\)\n\{", re.MULTILINE)
WORD = re.compile(r"(?<![\w.>])[a-z]\w*(?=\s*[(),;}])")


def read(path):
    with open(path, encoding="utf-8") as f:
        return COMMENT_OR_STRING.sub("", f.read())


def calls_of(texts):
    """file: {another file: a name that the first calls of it}"""
    home = {m.group(1): name for name, text in texts.items() for m in DEFINITION.finditer(text)}
    calls = {name: {} for name in texts}
    for name, text in texts.items():
        for word in WORD.findall(text):
            if home.get(word, name) != name:
                calls[name].setdefault(home[word], word)
    return calls


def reach(calls, start):
    """The files that `start` calls, by others too."""
    seen, todo = set(), [start]
    while todo:
        for other in calls[todo.pop()]:
            if other not in seen:
                seen.add(other)
                todo.append(other)
    return seen


def check(place, texts):
    """What is wrong with the part in the directory `place`, a line each."""
    calls = calls_of(texts)
    reached = {name: reach(calls, name) for name in calls}
    for name in sorted(calls):
        for other, word in sorted(calls[name].items()):
            if name in reached[other]:
                yield f"{place}/{name}: calls {word}() of {other}, which calls back: by a result, or from a file below both"


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..", "..")
    parts = collections.defaultdict(dict)
    for path in sources(root):
        place, name = os.path.split(path)
        if name.endswith(".c"):
            parts[place][name] = read(os.path.join(root, path))
    wrong = [line for place in sorted(parts) for line in check(place, parts[place])]
    for line in wrong:
        print(line)
    print(f"{sum(map(len, parts.values()))} files in {len(parts)} directories, {len(wrong)} calls in circles")
    return 1 if wrong or not parts else 0


if __name__ == "__main__":
    sys.exit(main())
