"""The documentation as the tests read it: pages, code blocks, tables, links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "benchmarks/README.md", "fuzz/README.md")),
        *(ROOT / "docs").rglob("*.md"),
    ]
)

_BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its page, line, language (with what follows it) and text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def text_of(page: Path) -> str:
    """A page's text."""
    return page.read_text(encoding="utf-8")


def blocks(language: str) -> list[Block]:
    """Every block in this language, of all pages."""
    found = []
    for page in PAGES:
        text = text_of(page)
        found += [
            Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])
            for match in _BLOCK.finditer(text)
            if match[1] == language
        ]
    return found


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return _BLOCK.sub("", text_of(page))


def anchors(page: Path) -> set[str]:
    """The names that headings of a page have, as GitHub makes them."""
    plain = (heading.replace("`", "").strip().lower() for heading in _HEADING.findall(prose(page)))
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def links(page: Path) -> list[str]:
    """Where a page's links lead, links to other sites left out."""
    return [target for target in _LINK.findall(prose(page)) if "://" not in target]


def marked(page: Path, mark: str) -> list[list[str]]:
    """The rows of the table between `<!-- mark -->` and `<!-- end -->`, its head left out."""
    inside = text_of(page).partition(f"<!-- {mark} -->\n")[2].partition("<!-- end -->")[0]
    rows = [line for line in inside.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[2:]]


def names(cell: str) -> Iterator[str]:
    """What stands in backticks in a cell."""
    return iter(re.findall(r"`([^`]+)`", cell))


def docs(name: str) -> Path:
    """A page of docs/."""
    return ROOT / "docs" / name
