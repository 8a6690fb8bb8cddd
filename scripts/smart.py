#!/usr/bin/env python3
"""Turns a classic test collection into the layout that `moerag eval --dataset` reads.

  scripts/smart.py DOCUMENTS QUERIES JUDGEMENTS OUT

Reads the SMART format (.I, .T, .W: CACM, CISI, MED, ADI) and that of NPL (a number, a text, a slash). Judgements are
lines that begin with the numbers of a query and of a document, or NPL's lists; all count 1. A document without a
text is its title; queries without a text or without a judged document are left out.
"""

import json
import pathlib
import re
import sys


def words(text):
    return " ".join(text.split())


def smart(text):
    """(id, title, text) of each record."""
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


def records(path):
    text = pathlib.Path(path).read_text(errors="replace")
    found = list(smart(text) if re.search(r"^\.I\s", text, re.M) else npl(text))
    if not found:
        sys.exit(f"{path}: holds no records, neither `.I 1` nor a number and a text before a slash")
    return found


def judgements(path):
    text = pathlib.Path(path).read_text(errors="replace")
    if re.search(r"^\s*/\s*$", text, re.M):
        for query in text.split("/"):
            numbers = query.split()
            yield from ((numbers[0], document) for document in numbers[1:])
    else:
        for line in filter(str.strip, text.splitlines()):
            query, document = line.split()[:2]
            yield str(int(query)), str(int(document))


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__.strip())
    documents, queries = records(sys.argv[1]), records(sys.argv[2])
    out = pathlib.Path(sys.argv[4])
    (out / "qrels").mkdir(parents=True, exist_ok=True)
    corpus = [
        {"_id": number, "title": title if text else "", "text": text or title}
        for number, title, text in documents if text or title
    ]
    known = {document["_id"] for document in corpus}
    judged = [pair for pair in dict.fromkeys(judgements(sys.argv[3])) if pair[1] in known]
    asked = {query for query, _ in judged}
    asked_for = [{"_id": number, "text": text} for number, _, text in queries if text and number in asked]
    texts = {query["_id"] for query in asked_for}
    for name, rows in (("corpus.jsonl", corpus), ("queries.jsonl", asked_for)):
        (out / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    lines = [f"{query}\t{document}\t1\n" for query, document in judged if query in texts]
    (out / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    print(f"{out}: {len(corpus)} documents, {len(asked_for)} queries, {len(lines)} judgements")


if __name__ == "__main__":
    main()
