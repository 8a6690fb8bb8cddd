#!/usr/bin/env python3
"""Turns public question sets over documents into the layout that `moerag eval --dataset` reads.

  scripts/ragsets.py SET CHECKOUT OUT

SET, and the repository that CHECKOUT is a clone of:
  code      chunks of a code base, questions about it         anthropics/anthropic-cookbook
  apidocs   sections of an API's documentation                anthropics/anthropic-cookbook
  chunks    finance, biomedicine, encyclopedia, speech, chat  brandonstarxel/chunking_evaluation
  wikiqa    sentences, questions to a search engine           vikas95/WikiQA (dev and test of Microsoft's WikiQA)
  pubmedqa  abstracts, their titles as questions              pubmedqa/pubmedqa
  finance   pages of annual reports                           patronus-ai/financebench
All judgements count 1.
"""

import csv
import io
import json
import pathlib
import re
import sys

import beir

# Characters of a piece of a long text, and where the search for its end begins and stops.
PIECE, FROM, TO = 900, 500, 1200
# Share of a reference that a piece has to hold to count as an answer.
HELD = 0.3


def code(base):
    base /= "skills/contextual-embeddings/data"
    names, documents = {}, []
    for document in json.loads((base / "codebase_chunks.json").read_text()):
        for chunk in document["chunks"]:
            place = (document["original_uuid"], chunk["original_index"])
            names[place] = f"{place[0][:12]}-{place[1]}"
            documents.append((names[place], "", chunk["content"]))
    asked = [json.loads(line) for line in (base / "evaluation_set.jsonl").read_text().splitlines()]
    queries = [(f"q{n}", question["query"]) for n, question in enumerate(asked)]
    gold = [(f"q{n}", names.get(tuple(at))) for n, question in enumerate(asked) for at in question["golden_chunk_uuids"]]
    return documents, queries, gold


def apidocs(base):
    base /= "skills/retrieval_augmented_generation"
    sections = json.loads((base / "data/anthropic_docs.json").read_text())
    documents = {s["chunk_link"]: (s["chunk_link"], s["chunk_heading"], s["text"]) for s in sections if s["text"].strip()}
    asked = json.loads((base / "evaluation/docs_evaluation_dataset.json").read_text())
    gold = [(question["id"], link) for question in asked for link in question["correct_chunks"]]
    return documents.values(), [(question["id"], question["question"]) for question in asked], gold


def pieces(text):
    """(start, end) of pieces that end at a sentence or a line where one is near."""
    start = 0
    while start < len(text):
        end = min(len(text), start + PIECE)
        if end < len(text):
            ends = [match.end() for match in re.finditer(r"[.!?]\s|\n", text[start : start + TO])]
            end = start + min((end for end in ends if end >= FROM), key=lambda end: abs(end - PIECE), default=PIECE)
        yield start, end
        start = end


def chunks(base):
    base /= "chunking_evaluation/evaluation_framework/general_evaluation_data"
    documents, cut = [], {}
    for path in sorted((base / "corpora").glob("*.md")):
        text = path.read_text()
        cut[path.stem] = [(*ends, f"{path.stem}-{n}") for n, ends in enumerate(pieces(text)) if text[slice(*ends)].strip()]
        documents += [(key, "", text[start:end].strip()) for start, end, key in cut[path.stem]]
    queries, gold = [], []
    for n, row in enumerate(csv.DictReader(io.StringIO((base / "questions_df.csv").read_text()))):
        queries.append((f"q{n}", row["question"]))
        for reference in json.loads(row["references"]):
            first, last = reference["start_index"], reference["end_index"]
            for start, end, key in cut[row["corpus_id"]]:
                if 0 < HELD * (last - first) <= min(last, end) - max(first, start):
                    gold.append((f"q{n}", key))
    return documents, queries, gold


def wikiqa(base):
    documents, queries, gold = {}, {}, []
    for part in ("test", "dev"):
        text = io.StringIO((base / f"WikiQA-{part}.tsv").read_text())
        for row in csv.DictReader(text, delimiter="\t", quoting=csv.QUOTE_NONE):
            key, question = row["SentenceID"], row["QuestionID"]
            documents[key] = (key, row["DocumentTitle"], row["Sentence"])
            queries[question] = row["Question"]
            gold += [(question, key)] if row["Label"] == "1" else []
    return documents.values(), queries.items(), gold


def pubmedqa(base):
    found = json.loads((base / "data/ori_pqal.json").read_text()).items()
    documents = [(key, "", " ".join(entry["CONTEXTS"])) for key, entry in found]
    return documents, [(f"q{key}", entry["QUESTION"]) for key, entry in found], [(f"q{key}", key) for key, _ in found]


def finance(base):
    documents, queries, gold = {}, [], []
    for line in (base / "data/financebench_open_source.jsonl").read_text().splitlines():
        entry = json.loads(line)
        queries.append((entry["financebench_id"], entry["question"]))
        for evidence in entry["evidence"]:
            page = evidence.get("evidence_text_full_page") or evidence["evidence_text"]
            key = f"{entry['doc_name']}-{evidence['evidence_page_num']}"
            documents[key] = (key, entry["doc_name"].replace("_", " "), " ".join(page.split()))
            gold.append((entry["financebench_id"], key))
    return documents.values(), queries, gold


SETS = {read.__name__: read for read in (code, apidocs, chunks, wikiqa, pubmedqa, finance)}


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in SETS:
        sys.exit(__doc__.strip())
    try:
        beir.write(sys.argv[3], *SETS[sys.argv[1]](pathlib.Path(sys.argv[2])))
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}; is {sys.argv[2]} a clone of the set's repository?")


if __name__ == "__main__":
    main()
