#!/usr/bin/env python3
"""Writes tests/golden/encoder.json: reference values for crates/encoder from the original Python
implementation (sentence-transformers on PyTorch, CPU, float32).

How the checked-in file was made (Python 3.11 on Linux x86-64; the file repeats the versions):

    python3 -m venv venv
    venv/bin/pip install torch transformers sentence-transformers
    venv/bin/python scripts/gen_reference.py ENCODER_DIR tests/golden/encoder.json

ENCODER_DIR holds all-MiniLM-L6-v2 in Hugging Face layout (`moerag model fetch`). Pooled vectors come
from SentenceTransformer.encode, token ids and offsets from its tokenizer, states from the
transformer's hidden states. Offsets are converted from characters to UTF-8 bytes. All texts below
were written for this file.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy
import sentence_transformers
import torch
import transformers

MAX_TOKENS = 256

SENTENCES = [
    "The canal was dug by hand over nine summers, and the men who dug it were paid in grain.",
    "A lock lifts a barge by letting water in from the upper reach until both levels agree.",
    "Nobody measured the flow in 1907; the first gauge, at the mill, dates from 1931.",
    "When the frost came early the barges stayed where they were, and so did their cargo.",
    "Engineers argued about the gradient for years before they settled on one in four thousand.",
    "Silt collects fastest below the bridge, where the channel widens and the current slows.",
]


def long_text(words):
    """Prose of exactly this many words."""
    out = []
    i = 0
    while len(out) < words:
        out.extend(f"{SENTENCES[i % len(SENTENCES)]} Entry {i}.".split())
        i += 1
    return " ".join(out[:words])


TEXTS = [
    "",
    " ",
    ".",
    "a",
    "?!",
    "42",
    "water",
    "Antidisestablishmentarianism",
    "What is attention?",
    "how do i reset a forgotten password",
    "The quick brown fox jumps over the lazy dog.",
    "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG.",
    "Photosynthesis converts light energy into chemical energy that is stored in glucose.",
    "In 1969, Apollo 11 landed on the Moon; 600 million people watched it on television.",
    "Prices rose by 3.7% to $1,249.99 (up from $1,205.39) on 14/02/2023.",
    "Compare TCP and UDP: which one keeps the order of packets, and at what cost?",
    "caf\u00e9 na\u00efve r\u00e9sum\u00e9 \u00fcber \u00c5ngstr\u00f6m \u0141\u00f3d\u017a",
    "cafe\u0301 nai\u0308ve re\u0301sume\u0301",
    "D\u00f6ner macht sch\u00f6ner: die gr\u00f6\u00dfte Stra\u00dfe hei\u00dft Kaiserstra\u00dfe.",
    "\u0130stanbul'da \u0131\u015f\u0131k ve \u00e7i\u00e7ek",
    "\u041a\u0430\u043a \u0440\u0430\u0431\u043e\u0442\u0430\u0435\u0442 \u0432\u043d\u0438\u043c\u0430\u043d\u0438\u0435 \u0432 \u043d\u0435\u0439\u0440\u043e\u043d\u043d\u044b\u0445 \u0441\u0435\u0442\u044f\u0445?",
    "\u03a4\u03b9 \u03b5\u03af\u03bd\u03b1\u03b9 \u03b7 \u03c0\u03c1\u03bf\u03c3\u03bf\u03c7\u03ae;",
    "\u6ce8\u610f\u529b\u673a\u5236\u662f\u4ec0\u4e48\uff1f\u5b83\u7528\u4e8e\u673a\u5668\u7ffb\u8bd1\u3002",
    "\u65e5\u672c\u8a9e\u306e\u6587\u7ae0\u3067\u3059\u3002\u30ab\u30bf\u30ab\u30ca\u3082\u3042\u308a\u307e\u3059\u3002",
    "\ud55c\uad6d\uc5b4 \ubb38\uc7a5\uc785\ub2c8\ub2e4.",
    "\u0647\u0630\u0647 \u062c\u0645\u0644\u0629 \u0628\u0627\u0644\u0644\u063a\u0629 \u0627\u0644\u0639\u0631\u0628\u064a\u0629.",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902 \u090f\u0915 \u0935\u093e\u0915\u094d\u092f",
    "\U0001f600\U0001f680\U0001f44d\U0001f3fd",
    "I \u2764\ufe0f Rust \U0001f980 and \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 families",
    "fn main() { let x: Vec<u32> = (0..10).map(|i| i * i).collect(); println!(\"{x:?}\"); }",
    "SELECT p.id, COUNT(*) FROM passages p LEFT JOIN hits h ON h.pid = p.id GROUP BY p.id HAVING COUNT(*) > 3;",
    "def f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)\n",
    "https://example.org/a/b?c=d&e=%20f#g user@example.org /usr/local/bin",
    "line one\nline two\r\nline three\n\n\ttabbed\u00a0hard space\u200bzero width",
    "control \u0000\u0007 characters and \ufffd replacement",
    "x" * 99 + " " + "y" * 101,
    "long" * 120,
    "e^{i\u03c0} + 1 = 0, \u2211_{k=1}^{n} k = n(n+1)/2, a \u2264 b \u21d2 \u2203c",
    "[CLS] a text that [MASK] names special [SEP] tokens [PAD]",
    "don't can't won't it's o'clock rock'n'roll",
    "Mixed: \u6771\u4eac Tower is 333\u202fm tall, \u00b11 cm\u2026 \u201cquoted\u201d \u2014 \u00abfran\u00e7ais\u00bb \U0001f5fc",
    "One sentence. Another one! A third? Yes; and (in brackets) a fourth: the last.",
    " ".join(SENTENCES[:2]),
    " ".join(SENTENCES),
    long_text(120),
    long_text(180),
    long_text(600),
    "word " * 254,
    "word " * 255,
    "\u6f22" * 300,
]

# Texts whose token states and CLS states are kept, by index.
STATES = [3, 8, 16, 22, 24, 28, 42, 46]
CLS = [0, 8, 28, 44, 46]


def rounded(array):
    return [round(float(x), 7) for x in numpy.asarray(array).reshape(-1)]


def byte_offsets(text, spans):
    starts = [0]
    for char in text:
        starts.append(starts[-1] + len(char.encode("utf-8")))
    return [[starts[a], starts[b]] for a, b in spans]


def main():
    directory, out = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    model = sentence_transformers.SentenceTransformer(str(directory), device="cpu")
    model.max_seq_length = MAX_TOKENS
    network = model[0].auto_model.eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(directory), use_fast=True)
    cases = []
    for index, text in enumerate(TEXTS):
        vector = model.encode(text, normalize_embeddings=True, convert_to_numpy=True)
        whole = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)
        cut = tokenizer(
            text,
            truncation=True,
            max_length=MAX_TOKENS,
            return_offsets_mapping=True,
            return_tensors="pt",
        )
        spans = cut.pop("offset_mapping")[0].tolist()[1:-1]
        case = {
            "text": text,
            "token_count": len(whole["input_ids"]),
            "token_ids": cut["input_ids"][0].tolist()[1:-1],
            "offsets": byte_offsets(text, spans),
            "vector": rounded(vector),
        }
        with torch.no_grad():
            result = network(**cut, output_hidden_states=True)
        mean = torch.nn.functional.normalize(result.last_hidden_state.mean(dim=1), dim=1)[0]
        assert abs(mean.numpy() - vector).max() < 1e-5, index
        if index in STATES:
            states = torch.nn.functional.normalize(result.last_hidden_state[0, 1:-1], dim=1)
            chosen = sorted({0, len(states) // 2, len(states) - 1})
            case["states"] = [{"token": t, "state": rounded(states[t])} for t in chosen]
        if index in CLS:
            case["cls_layers"] = [rounded(h[0, 0]) for h in result.hidden_states[1:]]
        cases.append(case)
    digest = hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()
    head = {
        "made_by": "scripts/gen_reference.py",
        "versions": {
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "sentence_transformers": sentence_transformers.__version__,
        },
        "weights_sha256": digest,
        "max_tokens": MAX_TOKENS,
    }
    # One case per line, so that a difference between two files can be read.
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    body = json.dumps(head, separators=(",", ":"))[:-1]
    out.write_text(f'{body},"cases":[\n{lines}\n]}}\n', encoding="utf-8")
    print(f"{out}: {len(cases)} texts, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
