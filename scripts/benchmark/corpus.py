#!/usr/bin/env python3
"""Makes passages.jsonl and queries.jsonl for scripts/bench out of documentation that every machine
with this project's build has: Markdown files and doc comments of the crates in the local cargo registry.

    corpus.py DIRECTORY --passages N --queries M
    corpus.py --capacity                # how many passages this registry can yield

Passages have 50 to 250 words, in whole paragraphs; short doc comments of one file are put together.
Exact and near duplicates go. Crates come in the order of a hash of their name, one version each and
60 passages each until all crates are through, so a choice is the same on every machine with the
same crates, and a small corpus is not one big crate. Queries are made of first sentences of doc
comments, headings and crate descriptions of the same crates, turned into questions.
"""

import argparse
import hashlib
import heapq
import itertools
import json
import os
import pathlib
import re
import sys
import tomllib
import zlib

import rustdoc

PER_CRATE = 60
QUERIES_PER_CRATE = 120
MIN_WORDS, ENOUGH_WORDS, MAX_WORDS = 50, 85, 250
SHINGLE_WORDS, SHINGLES = 5, 16
QUERY_WORDS = range(4, 21)
VERBS = set("""add allocate append apply build calculate call check clear clone close collect compare compute configure
connect construct convert copy count create decode define delete deserialize disable drop emit enable encode ensure
execute extend extract fetch fill filter find flush format generate get handle implement initialize insert invoke iterate
join list load lock make map match merge modify move open parse perform poll pop print process produce provide push read
receive register release remove render replace reset resolve retrieve reverse run schedule select send serialize set skip
sort spawn specify split start stop store swap take transform trim try unlock update validate verify visit wait wrap
write yield""".split())


def digest(text):
    return hashlib.sha256(text.encode()).digest()


def crates():
    """(name, directory) of the newest version of each crate of the registry, in hash order."""
    home = pathlib.Path(os.environ.get("CARGO_HOME") or pathlib.Path.home() / ".cargo")
    newest = {}
    for directory in (home / "registry" / "src").glob("*/*"):
        named = re.fullmatch(r"(.+?)-(\d+)\.(\d+)\.(\d+)(.*)", directory.name)
        if named:
            version = (*map(int, named.groups()[1:4]), named[5] == "" or named[5].startswith("+"), named[5])
            newest[named[1]] = max(newest.get(named[1], ((), directory)), (version, directory))
    return sorted(((name, directory) for name, (_, directory) in newest.items()), key=lambda crate: digest(crate[0]))


def packed(sections):
    """(title, text) of passages: whole paragraphs, never two long sections in one."""
    short = []
    for section in sections:
        place = section.title.split(" > ")[0].rsplit("::", 1)[0]
        if sum(len(text.split()) for text in section.paragraphs) >= MIN_WORDS:
            yield from filled(section.title, section.paragraphs)
            continue
        if short and short[0][0] != place and sum(len(text.split()) for _, text in short) >= MIN_WORDS:
            yield from filled(short[0][0], [text for _, text in short])
            short = []
        name = section.title.rsplit("::", 1)[-1].rsplit(" > ", 1)[-1]
        short.append((place, f"{name}: {' '.join(section.paragraphs)}"))
    if short:
        yield from filled(short[0][0], [text for _, text in short])


def filled(title, paragraphs):
    """Passages of these paragraphs; what is too long, too short or no prose is left out."""
    words, texts = 0, []
    for text in itertools.chain(paragraphs, [None]):
        size = len(text.split()) if text else 0
        if words >= ENOUGH_WORDS or words + size > MAX_WORDS or text is None:
            whole = "\n".join(texts)
            if MIN_WORDS <= words <= MAX_WORDS and is_prose(whole):
                yield title, whole
            words, texts = 0, []
        words += size
        texts.append(text)


def is_prose(text):
    words = text.split()
    return sum(word.strip(".,:;()\"'!?").isalpha() and word.isascii() for word in words) > 0.7 * len(words)


class Seen:
    """Remembers a fingerprint of every text: the smallest hashes of its five-word sequences."""

    def __init__(self):
        self.hashes = set()

    def is_new(self, text):
        """False if half of the fingerprint is known; else the text is remembered."""
        words = re.findall(r"\w+", text.lower())
        shingles = {zlib.crc32(" ".join(words[at:at + SHINGLE_WORDS]).encode()) for at in range(len(words) - SHINGLE_WORDS + 1)}
        fingerprint = set(heapq.nsmallest(SHINGLES, shingles))
        new = 2 * len(fingerprint & self.hashes) < len(fingerprint)
        if new:
            self.hashes |= fingerprint
        return new


def base_form(verb):
    """"Returns" -> "get", "Copies" -> "copy"; None if it is not one of the verbs."""
    verb = verb.lower()
    if verb in ("returns", "return"):
        return "get"
    candidates = [verb, verb.removesuffix("s"), verb.removesuffix("es"), verb.removesuffix("ies") + "y"]
    return next((form for form in candidates if form in VERBS), None)


def questions(crate, directory, sections):
    """What somebody might ask about a crate."""
    try:
        package = tomllib.loads((directory / "Cargo.toml").read_text(encoding="utf-8"))["package"]
        yield "which crate is " + article_first(package.get("description", "").strip().split(". ")[0])
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        pass  # A crate without a readable manifest has no description to ask about.
    for section in sections:
        heading = section.title.split(" > ")[1:]
        if heading:
            yield f"{crate} {heading[-1].lower()}"
        # The main clause of the first sentence.
        clause = re.split(r"[.:;,](?:\s|$)|\s(?=\(|(?:which|that|where|when|if|so|by|using|from|as)\s)", section.paragraphs[0])[0]
        first, _, rest = clause.partition(" ")
        style = digest(clause)[0] % 3
        if base_form(first):
            asked = f"{base_form(first)} {rest}"
            yield (f"how do I {asked} in {crate}?", f"how to {asked}", f"{crate} {asked}")[style]
        elif first in ("A", "An", "The"):
            yield (f"what in {crate} is {first.lower()} {rest}?", f"what is {first.lower()} {rest}?", f"{rest} {crate}")[style]


def article_first(description):
    first, _, rest = description.partition(" ")
    return f"{first.lower() if first in ('A', 'An', 'The') else 'for ' + first} {rest}?"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=pathlib.Path)
    parser.add_argument("--passages", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--capacity", action="store_true", help="count what this registry can yield; writes nothing")
    options = parser.parse_args()

    seen, chosen, spare, asked = Seen(), [], [], set()
    wanted = sys.maxsize if options.capacity else options.passages
    for crate, directory in crates():
        if len(chosen) >= wanted:
            break
        sections = list(rustdoc.sections(crate, directory))
        fit = {text for text in questions(crate, directory, sections) if len(text.split()) in QUERY_WORDS and is_prose(text)}
        asked.update(sorted(fit, key=digest)[:QUERIES_PER_CRATE])
        fresh = [(crate, *passage) for passage in packed(sections) if seen.is_new(passage[1])]
        fresh.sort(key=lambda passage: digest(passage[2]))
        chosen += fresh[:PER_CRATE]
        spare.append(fresh[PER_CRATE:])
    if options.capacity:
        more = sum(map(len, spare))
        print(f"{len(chosen)} passages at {PER_CRATE} a crate, {len(chosen) + more} in all; {len(asked)} queries")
        return
    while len(chosen) < wanted and any(spare):
        chosen += [passage for passages in spare for passage in passages[:PER_CRATE]]
        spare = [passages[PER_CRATE:] for passages in spare]
    if len(chosen) < wanted or len(asked) < options.queries:
        sys.exit(f"the registry yields {len(chosen)} passages and {len(asked)} queries only; "
                 "ask for fewer (--passages, --training-sizes, --queries)")

    options.directory.mkdir(parents=True, exist_ok=True)
    with open(options.directory / "passages.jsonl", "w", encoding="utf-8") as out:
        for number, (crate, title, text) in enumerate(chosen[:wanted]):
            out.write(json.dumps({"id": f"{crate}/{number}", "title": title, "text": text}, ensure_ascii=False) + "\n")
    with open(options.directory / "queries.jsonl", "w", encoding="utf-8") as out:
        for text in sorted(asked, key=digest)[:options.queries]:
            out.write(json.dumps({"query": text}, ensure_ascii=False) + "\n")
    count = len({crate for crate, _, _ in chosen[:wanted]})
    print(f"{wanted} passages, {options.queries} queries of {count} crates in {options.directory}")


if __name__ == "__main__":
    main()
