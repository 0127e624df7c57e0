"""Check the documents against the project: links, paths that must not be published, generated blocks.

Run by `make check`. With `--write` (in `make fmt`) it redraws the generated blocks instead of comparing them.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from scripts import pages

ROOT = Path(__file__).resolve().parent.parent
GENERATED = {
    "docs/internals.md": {"states": pages.states},
    "docs/cli.md": {"commands": pages.commands, "exits": pages.exits},
    "docs/settings.md": {"settings": pages.settings},
    "docs/errors.md": {"errors": pages.errors},
}
"""Pages with blocks between `<!-- name:begin -->` and `<!-- name:end -->`, and who draws each."""
SECTION = re.compile(r"^### `([a-z-]+)`$", re.MULTILINE)

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
    faults = [*broken_links(files), *unpublishable(files), *stale_blocks(write=write), *unexplained_errors()]
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


def stale_blocks(*, write: bool) -> list[str]:
    """Compare every generated block with what it is drawn from, or redraw it."""
    faults = []
    for name, blocks in GENERATED.items():
        page = ROOT / name
        if not page.exists():
            faults.append(f"{name}: is missing; it holds the generated blocks {', '.join(blocks)}")
            continue
        for block, draw in blocks.items():
            begin, end = f"<!-- {block}:begin -->", f"<!-- {block}:end -->"
            text = page.read_text(encoding="utf-8")
            head, opened, rest = text.partition(begin)
            held, closed, tail = rest.partition(end)
            if not opened or not closed:
                faults.append(f"{name}: has no block between {begin} and {end}")
                continue
            drawn = f"\n{draw().strip()}\n"
            if held == drawn:
                continue
            if write:
                page.write_text(head + begin + drawn + end + tail, encoding="utf-8")
            else:
                faults.append(f"{name}: the block {block} is not what the code says; run: make fmt")
    return faults


def unexplained_errors() -> list[str]:
    """Name every error code without a section of its own on the page of errors, and every section without an error."""
    page = ROOT / "docs" / "errors.md"
    told = SECTION.findall(page.read_text(encoding="utf-8")) if page.exists() else []
    codes = {kind.code for kind in pages.kinds()}
    return [
        *(
            f"docs/errors.md: has no section '### `{code}`': say why it happens and what to do"
            for code in sorted(codes - {*told})
        ),
        *(f"docs/errors.md: there is no error with the code {code}" for code in told if code not in codes),
        *(
            f"docs/errors.md: explains {code} twice"
            for code in sorted({c for c in told if told.count(c) > 1})
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
