#!/usr/bin/env python3
"""Holds the code to its shape: check_shape.py

No file of production code over 400 lines, no function over 80, no circle of imports but between a parent and
its own children, and no more doc comments that open with What, How, Whether, Where or Who than there were. What
does not hold yet is listed in shape.txt, beside this file, each with its reason. The list may only shrink: what
has become shorter, or is gone, has to be taken out or lowered.

Imports are read from `use crate::…`, `use super::…` and `use self::…`. Tests are not looked at.
"""

import collections
import itertools
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ALLOWED = ROOT / "tools" / "shape.txt"
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 80
# So much a limit of the list may lie above what it is the limit of.
SLACK = 25
TEST = re.compile(r"(?m)^#\[cfg\(test\)\]\n(?:pub(?:\([^)]*\))? )?mod (\w+);")
OPENER = re.compile(r"\s*//[/!] (What|How|Whether|Where|Who|Whoever|That|Why)\b")
FUNCTION = re.compile(r"(\s*)(?:pub(?:\([^)]*\))? )?(?:const )?(?:async )?fn (\w+)")
USE = re.compile(r"(?m)^\s*(?:pub(?:\([^)]*\))? )?use ((?:crate|super|self)\b[^;]*);")


def main():
    sources = production_sources()
    allowed = Allowed(ALLOWED.read_text())
    wrong = []
    for file, text in sources.items():
        wrong += allowed.hold("file", file, text.count("\n"), MOST_LINES)
        for name, lines in functions(text):
            wrong += allowed.hold("function", f"{file}:{name}", lines, MOST_LINES_OF_A_FUNCTION)
    opened = sum(openers(text) for text in sources.values())
    wrong += allowed.hold("openers", "src", opened, 0)
    for circle in circles(imports(sources)):
        if not is_family(circle):
            wrong += allowed.hold_circle(circle)
    wrong += allowed.left_over()
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        sys.exit(f"the shape does not hold; {ALLOWED.relative_to(ROOT)} has what is excepted, and why")


class Allowed:
    """The exceptions, as far as nothing has made use of them yet."""

    def __init__(self, text):
        self.limits, self.circles = {}, {}
        for line in text.splitlines():
            words = line.split()
            if not words or line.startswith("#"):
                continue
            if words[0] == "circle":
                members = frozenset(itertools.takewhile(lambda word: word != ":", words[1:]))
                self.circles[members] = False
            else:
                kind, what, limit = words[:3]
                self.limits[kind, what] = int(limit)

    def hold(self, kind, what, lines, usual):
        """What is wrong with something of so many lines."""
        if lines <= usual:
            return []
        limit = self.limits.pop((kind, what), None)
        if limit is None:
            return [f"{what}: {lines}, and {usual} is the most"]
        if lines > limit:
            return [f"{what}: {lines}, and {limit} was allowed"]
        if lines <= limit - SLACK:
            return [f"{what}: {lines} now; lower its limit of {limit}"]
        return []

    def hold_circle(self, circle):
        for members in self.circles:
            if members.issuperset(circle):
                self.circles[members] = True
                return []
        return [f"a circle of imports: {' '.join(sorted(circle))}"]

    def left_over(self):
        for kind, what in self.limits:
            yield f"{kind} {what} is no exception any more; take it out"
        for members, used in self.circles.items():
            if not used:
                yield f"the circle {' '.join(sorted(members))} is gone; take it out"


def production_sources():
    """Each file of production code with its text up to its tests."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "src/*.rs"],
        cwd=ROOT, capture_output=True, text=True, check=True)
    files = [file for file in listed.stdout.split() if (ROOT / file).exists()]
    texts = {file: (ROOT / file).read_text(encoding="utf-8") for file in files}
    tests = tuple(test for file, text in texts.items() for test in test_modules(file, text))
    return {file: re.split(r"(?m)^#\[cfg\(test\)\]\s*\nmod tests \{", text)[0] for file, text in texts.items()
            if not f"{file.removesuffix('.rs')}/".startswith(tests)}


def test_modules(file, text):
    """The folders of the modules that a file has for its tests alone."""
    path = pathlib.Path(file)
    own = path.parent if path.name in ("lib.rs", "main.rs") else path.with_suffix("")
    return [f"{own / name}/" for name in TEST.findall(text)]


def functions(text):
    """Each function's name and number of lines; its end is the bracket that stands as far to the left."""
    lines = text.split("\n")
    for start, line in enumerate(lines):
        head = FUNCTION.match(line)
        if not head:
            continue
        rest = "\n".join(lines[start:])
        if next((char for char in rest if char in "{;"), ";") == ";":
            continue
        closing = head[1] + "}"
        end = next((number for number in range(start, len(lines)) if lines[number].rstrip() == closing), start)
        yield head[2], end - start


def openers(text):
    """The number of doc comments that open with a relative clause."""
    lines = text.split("\n")
    before = [""] + lines
    return sum(1 for above, line in zip(before, lines)
               if OPENER.match(line) and not above.lstrip().startswith(line.lstrip()[:3]))


def imports(sources):
    """From each file to those that it imports from, within its crate."""
    roots = sorted((str(pathlib.Path(file).parent) for file in sources
                    if pathlib.Path(file).name in ("lib.rs", "main.rs")), key=len, reverse=True)
    modules = {file: module(file, roots) for file in sources}
    files = {place: file for file, place in modules.items()}
    edges = collections.defaultdict(set)
    for file, text in sources.items():
        root, own = modules[file]
        for use in USE.findall(text):
            for path in expanded(use):
                target = resolved(path, root, own, files)
                if target not in (None, file):
                    edges[file].add(target)
    return edges


def module(file, roots):
    """The folder of a file's crate, and its path as a module."""
    root = next(root for root in roots if file.startswith(root + "/"))
    parts = file[len(root) + 1:].removesuffix(".rs").split("/")
    return root, tuple(part for part in parts if part not in ("lib", "main"))


def resolved(path, root, own, files):
    parts = [part for part in path.split("::") if part]
    base = list(own)
    if parts[0] == "crate":
        base, parts = [], parts[1:]
    elif parts[0] == "self":
        parts = parts[1:]
    while parts and parts[0] == "super":
        base, parts = base[:-1], parts[1:]
    whole = base + parts
    places = ((root, tuple(whole[:length])) for length in range(len(whole), -1, -1))
    return next((files[place] for place in places if place in files), None)


def expanded(use):
    """The single paths of `a::{b, c::{d, e}}`."""
    use = re.sub(r"\s+", " ", use).strip()
    tree = re.match(r"^(.*?)\{(.*)\}$", use)
    if not tree:
        return [re.sub(r" as .*", "", use).strip(": ")]
    paths, depth, part = [], 0, ""
    for char in tree[2] + ",":
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            if part.strip():
                paths += [tree[1] + path for path in expanded(part.strip())]
            part = ""
        else:
            part += char
    return paths


def circles(edges):
    """The files that import each other, directly or by others: each circle as a set (Tarjan)."""
    sys.setrecursionlimit(10_000)
    index, low, stack, found = {}, {}, [], []

    def visit(file):
        index[file] = low[file] = len(index)
        stack.append(file)
        for target in sorted(edges.get(file, ())):
            if target not in index:
                visit(target)
                low[file] = min(low[file], low[target])
            elif target in stack:
                low[file] = min(low[file], index[target])
        if low[file] == index[file]:
            start = stack.index(file)
            circle = set(stack[start:])
            del stack[start:]
            if len(circle) > 1:
                found.append(circle)

    for file in sorted(edges):
        if file not in index:
            visit(file)
    return found


def is_family(circle):
    """Whether these are a parent and its own children alone."""
    parent = min(circle, key=len).removesuffix(".rs")
    return all(file == f"{parent}.rs" or file.startswith(f"{parent}/") for file in circle)


if __name__ == "__main__":
    main()
