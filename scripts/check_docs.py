"""Check the documents against the project: links, paths that must not be published, generated blocks.

Run by `make check`. With `--write` (in `make fmt`) it redraws the generated blocks instead of comparing them.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from forebay.model.state import mermaid

ROOT = Path(__file__).resolve().parent.parent
INTERNALS = ROOT / "docs" / "internals.md"
BEGIN, END = "<!-- states:begin -->", "<!-- states:end -->"

# Fenced blocks and inline code hold programs, where `a[b](c)` is no link.
CODE = re.compile(r"^ {0,3}(```+|~~~+).*?^ {0,3}\1|(`+)[^`].*?\2", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s+<?([^\s>]+)", re.MULTILINE)
HAS_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)

UNPUBLISHABLE = {
    "a path of one machine": re.compile(r"(?<![\w./}-])/(?:work|root|home)(?:/|\b(?=[\s`'\",:;)]))"),
    "a registry's host": re.compile(
        r"\b(?:pypi\.org|pythonhosted\.org|registry\.npmjs\.org|crates\.io|proxy\.golang\.org|repo1?\.maven)\b"
    ),
}


def main() -> int:
    """Return 0 when all documents stand, 1 after printing one line for each fault."""
    files = project_files()
    write = "--write" in sys.argv[1:]
    faults = [*broken_links(files), *unpublishable(files), *stale_states(write=write)]
    for fault in faults:
        print(fault)
    print(f"check_docs: {len(files)} files, {len(faults)} faults")
    return 1 if faults else 0


def project_files() -> list[Path]:
    """List what git keeps, or would keep: files committed, and new ones that are not ignored."""
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return [path for name in names if name and (path := ROOT / name).is_file()]


def broken_links(files: list[Path]) -> list[str]:
    """Name every relative link in a Markdown file whose target does not exist."""
    faults = []
    for path in files:
        if path.suffix != ".md":
            continue
        for found in LINK.finditer(CODE.sub("", path.read_text(encoding="utf-8"))):
            link = found[1] or found[2]
            target = link.partition("#")[0]
            if not target or HAS_SCHEME.match(link):
                continue
            if not (path.parent / target).exists():
                faults.append(f"{path.relative_to(ROOT)}: the link {link} leads nowhere")
    return faults


def unpublishable(files: list[Path]) -> list[str]:
    """Name every line that says something of the machine it was written on."""
    faults = []
    for path in files:
        if path == Path(__file__).resolve():
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # bytes, such as a golden file
        for number, line in enumerate(lines, start=1):
            for what, pattern in UNPUBLISHABLE.items():
                if found := pattern.search(line):
                    faults.append(f"{path.relative_to(ROOT)}:{number}: {found[0]!r} is {what}")
    return faults


def stale_states(*, write: bool) -> list[str]:
    """Compare the state diagram in the internals page with the transition table, or redraw it."""
    where = INTERNALS.relative_to(ROOT)
    if not INTERNALS.exists():
        return [f"{where}: is missing; it holds the state diagram between {BEGIN} and {END}"]
    text = INTERNALS.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    held, end, tail = rest.partition(END)
    if not begin or not end:
        return [f"{where}: has no block between {BEGIN} and {END}"]
    drawn = f"\n```mermaid\n{mermaid().strip()}\n```\n"
    if held == drawn:
        return []
    if not write:
        return [f"{where}: the state diagram differs from the transition table; run: make fmt"]
    INTERNALS.write_text(head + begin + drawn + end + tail, encoding="utf-8")
    return []


if __name__ == "__main__":
    sys.exit(main())
