#!/usr/bin/env python3
"""Turns a classic test collection into the layout that `moerag eval --dataset` reads.

  scripts/smart.py DOCUMENTS QUERIES JUDGEMENTS OUT

Reads the SMART format (.I, .T, .W: CACM, CISI, MED, ADI), that of NPL (a number, a text, a slash), of TIME (*TEXT,
*FIND) and of LISA (documents and queries by number; DOCUMENTS is a directory or one of its parts). Judgements are lines
that begin with the numbers of a query and of a document, or lists of documents as NPL, TIME and LISA have them; all
count 1. A document without a text is its title; queries without a text or without a judged document are left out.
"""

import pathlib
import re
import sys

import beir


def words(text):
    return " ".join(text.split())


def smart(text):
    """(id, title, text) of each record, as do the functions below."""
    for record in re.split(r"^\.I\s+", text, flags=re.M)[1:]:
        number, _, body = record.partition("\n")
        parts = re.split(r"^\.([A-Z])[ \t]*$", body, flags=re.M)
        fields = dict(zip(parts[1::2], parts[2::2]))
        yield number.strip(), words(fields.get("T", "")), words(fields.get("W", ""))


def npl(text):
    for record in re.split(r"^\s*/\s*$", text, flags=re.M):
        number, _, body = record.strip().partition("\n")
        if number.strip().isdigit() and body:
            yield number.strip(), "", words(body).lower()


def time(text):
    """Judgements count the documents in their order; the numbers beside them are others."""
    for place, record in enumerate(re.split(r"^\*(?:TEXT|FIND)\s+", text, flags=re.M)[1:], 1):
        _, _, body = record.partition("\n")
        yield str(place), "", words(body.replace("*STOP", ""))


def lisa(text):
    for record in re.split(r"^\*{10,}\s*$|#\s*$", text, flags=re.M):
        match = re.match(r"\s*(Document\s+)?(\d+)\s*\n(.*)", record, re.S)
        if match:
            # A document's title ends with a blank line; a query has none.
            title, *body = re.split(r"\n\s*\n", match[3].strip(), maxsplit=1) if match[1] else ("", match[3])
            yield match[2], words(title), words(" ".join(body))


def pairs(text):
    for line in filter(str.strip, text.splitlines()):
        query, document = line.split()[:2]
        yield str(int(query)), str(int(document))


def lists(rows):
    """(query, document) of rows that hold a query and its documents."""
    for query, *documents in filter(None, rows):
        yield from ((query, document) for document in documents)


def counted(text):
    """A query, the number of its documents, these documents, and so on."""
    numbers = iter(text.split())
    for query in numbers:
        for _ in range(int(next(numbers))):
            yield query, next(numbers)


# What marks a file of documents, how documents and queries are read, and how judgements.
FORMATS = (
    (r"^\.I\s", smart, pairs),
    (r"^\*TEXT\s", time, lambda text: lists(line.split() for line in text.splitlines())),
    (r"^\s*Document\s+\d", lisa, counted),
    (r"^\s*/\s*$", npl, lambda text: lists(query.split() for query in text.split("/"))),
)


def read(path):
    path = pathlib.Path(path)
    parts = sorted(path.glob("LISA[0-9].[0-9][0-9][0-9]")) if path.is_dir() else [path]
    try:
        texts = [part.read_text(errors="replace") for part in parts]
    except OSError as error:
        sys.exit(f"{path}: {error.strerror}")
    return texts or sys.exit(f"{path}: holds no parts, which are called LISA0.001 and so on")


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__.strip())
    parts = read(sys.argv[1])
    found = [formats for formats in FORMATS if re.search(formats[0], parts[0], re.M)]
    if not found:
        sys.exit(f"{sys.argv[1]}: holds no records (`.I 1`, `*TEXT 1`, `Document 1`, or a number and a text before a slash)")
    _, records, judgements = found[0]
    documents = [record for part in parts for record in records(part)]
    corpus = [(key, title if text else "", text or title) for key, title, text in documents if text or title]
    queries = [(key, text) for key, _, text in records(read(sys.argv[2])[0])]
    beir.write(sys.argv[4], corpus, queries, judgements(read(sys.argv[3])[0]))


if __name__ == "__main__":
    main()
