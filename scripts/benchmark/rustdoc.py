"""Reads the prose of a crate: its Markdown files and the doc comments of its sources, cut into sections.

A section is what stands under one heading of a README, or the documentation of one item. Code
blocks, tables, badges and markup go; what remains is what a search engine for documentation would
be given.
"""

import dataclasses
import re

MAX_SOURCE_BYTES = 1_000_000  # Larger ones are generated bindings and tables.
SKIPPED_DIRECTORIES = {"tests", "benches", "examples", "target", "fuzz"}
SKIPPED_HEADINGS = re.compile(r"licen[cs]e|contribut|code.of.conduct|sponsor|table of contents", re.I)

COMMENT = re.compile(r"\s*//([/!])(?!/) ?(.*)")
ATTRIBUTE = re.compile(r"\s*(#!?\[|//|\)?\]|$)")
ITEM = re.compile(r"\s*(?:pub(?:\([^)]*\))?\s+)?(?:(?:default|unsafe|async|const|extern(?:\s+\"[^\"]*\")?)\s+)*"
                  r"(?:(?:fn|struct|enum|trait|mod|type|union|const|static|macro_rules!)\s+)?(\w+)")
HEADING = re.compile(r"#{1,6}\s+(.*?)\s*#*$")
FENCE = re.compile(r"(```|~~~)")
NOT_PROSE = re.compile(r"\s*(\||<|!\[|\[!\[|\[[^\]]+\]:|[-=*_]{3,}\s*$| {4}\S)")
MARKUP = [
    (re.compile(r"!\[[^\]]*\](\([^)]*\)|\[[^\]]*\])?|<[^>\s][^>]*>"), ""),
    (re.compile(r"\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])?"), r"\1"),
    (re.compile(r"[`*]+|^\s*(?:[-+>]|\d+\.)\s+"), ""),
    (re.compile(r"\s+"), " "),
]


@dataclasses.dataclass
class Section:
    """A heading path and the paragraphs under it."""

    title: str
    paragraphs: list


def sections(crate, directory):
    """All sections of a crate: README, change log and the like first, then the sources by path."""
    for path in sorted(directory.glob("*.md"), reverse=True):
        title = crate if path.stem.lower() == "readme" else f"{crate} > {path.stem.lower()}"
        yield from markdown(title, path.read_text(encoding="utf-8", errors="replace"))
    root = directory / "src"
    for path in sorted(root.rglob("*.rs")):
        within = path.relative_to(root)
        if SKIPPED_DIRECTORIES & set(within.parts) or path.stat().st_size > MAX_SOURCE_BYTES:
            continue
        source = path.read_text(encoding="utf-8", errors="replace")
        if "///" not in source and "//!" not in source:
            continue
        modules = [part for part in within.with_suffix("").parts if part not in ("lib", "mod", "main")]
        place = "::".join([crate.replace("-", "_"), *modules])
        for item, text in doc_comments(source):
            yield from markdown(f"{place}::{item}" if item else place, text)


def doc_comments(source):
    """(name of the item or nothing, text) of every doc comment of a source file."""
    kind, lines = None, []
    for line in source.splitlines():
        comment = COMMENT.match(line)
        if comment and (not lines or comment[1] == kind):
            kind = comment[1]
            lines.append(comment[2])
        elif lines and not (kind == "/" and ATTRIBUTE.match(line)):
            item = ITEM.match(line) if kind == "/" else None
            yield (item[1] if item else ""), "\n".join(lines)
            lines = []
            if comment:
                kind, lines = comment[1], [comment[2]]
    if lines:
        yield "", "\n".join(lines)


def markdown(title, text):
    """The sections of a Markdown text; one without headings is a single section."""
    section, paragraph, fence = Section(title, []), [], None

    def close():
        words = " ".join(paragraph)
        for pattern, replacement in MARKUP:
            words = pattern.sub(replacement, words)
        paragraph.clear()
        if words.strip():
            section.paragraphs.append(words.strip())

    for line in text.splitlines():
        mark = FENCE.match(line.strip())
        if mark or fence:
            fence = fence if not mark else (None if fence else mark[1])
            continue
        heading = HEADING.match(line)
        if heading or not line.strip():
            close()
        elif not NOT_PROSE.match(line):
            paragraph.append(line.strip())
        if heading:
            yield from finished(section)
            section = Section(f"{title} > {plain(heading[1])}", [])
    close()
    yield from finished(section)


def finished(section):
    if section.paragraphs and not SKIPPED_HEADINGS.search(section.title):
        yield section


def plain(words):
    """A heading without markup."""
    for pattern, replacement in MARKUP:
        words = pattern.sub(replacement, words)
    return words.strip()
