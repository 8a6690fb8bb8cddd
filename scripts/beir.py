"""Writes a set in the layout that `moerag eval --dataset` reads (BEIR: corpus.jsonl, queries.jsonl, qrels/test.tsv)."""

import json
import pathlib


def write(out, documents, queries, judgements):
    """documents: (id, title, text), queries: (id, text), judgements: (query, document), all of which count 1.

    What is judged but not there, and queries without a text or without a judged document, are left out.
    """
    out = pathlib.Path(out)
    (out / "qrels").mkdir(parents=True, exist_ok=True)
    corpus = [{"_id": key, "title": title, "text": text} for key, title, text in documents]
    known = {document["_id"] for document in corpus}
    texts = {key: text for key, text in queries if text}
    judged = [pair for pair in dict.fromkeys(judgements) if pair[0] in texts and pair[1] in known]
    asked = dict.fromkeys(query for query, _ in judged)
    rows = [{"_id": key, "text": text} for key, text in texts.items() if key in asked]
    for name, lines in (("corpus.jsonl", corpus), ("queries.jsonl", rows)):
        (out / name).write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    lines = [f"{query}\t{document}\t1\n" for query, document in judged]
    (out / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    print(f"{out}: {len(corpus)} documents, {len(rows)} queries, {len(lines)} judgements")
