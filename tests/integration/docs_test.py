#!/usr/bin/env python3
"""Checks the documents: relative links resolve, and the flags of README's table exist.

docs_test.py SOURCE_FOLDER BIN_FOLDER
"""
import pathlib
import re
import subprocess
import sys

SKIPPED = {"build", ".git", "node_modules"}
PROGRAMS = ("thermocline-coordinator", "thermocline-worker", "thermocline-generate",
            "thermocline-bench", "thermocline-inspect", "thermocline-convert", "thermocline-synth",
            "thermocline-profile")


def documents(root):
    for path in sorted(root.rglob("*.md")):
        if not SKIPPED.intersection(path.relative_to(root).parts):
            yield path


def without_code(text):
    text = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(path):
    """The fragments that GitHub makes of the headings."""
    found = set()
    for heading in re.findall(r"^#+\s+(.*)$", path.read_text(), flags=re.M):
        kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
        found.add(kept.replace(" ", "-"))
    return found


def broken_links(root):
    for path in documents(root):
        for link in re.findall(r"\]\(([^)\s]+)\)", without_code(path.read_text())):
            if re.match(r"[a-z]+:", link):
                continue
            target, _, fragment = link.partition("#")
            file = (path.parent / target).resolve() if target else path
            if not file.exists():
                yield f"{path.relative_to(root)}: no such file: {link}"
            elif fragment and file.suffix == ".md" and fragment not in anchors(file):
                yield f"{path.relative_to(root)}: no such heading: {link}"


def flags_in(text):
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", text))


def table_flags(readme):
    section = re.search(r"^## Flags\n(.*?)^## ", readme.read_text(), flags=re.S | re.M)
    rows = [row.split("|") for row in section.group(1).splitlines() if row.startswith("| `")]
    return set().union(*(flags_in(" ".join(row[1:4])) for row in rows))


def unknown_flags(root, bin_folder):
    known = set()
    for program in PROGRAMS:
        help_text = subprocess.run([bin_folder / program, "--help"], check=True, text=True,
                                   stdout=subprocess.PIPE).stdout
        known |= flags_in(help_text)
    named = table_flags(root / "README.md")
    if len(named) < 20:
        yield f"README.md: the flag table was not found: {len(named)} flags"
    for flag in sorted(named - known):
        yield f"README.md: no program has the flag {flag}"


def main():
    root, bin_folder = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    problems = [*broken_links(root), *unknown_flags(root, bin_folder)]
    print("\n".join(problems) or "the documents are in order")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
