#!/usr/bin/env python3
"""The two ways in which the peers run the same encoder, and what is done once with them.

    encoders.py ENCODER_DIR MODEL.onnx PASSAGES.jsonl OUT.npy

encodes a corpus once for all peers, who would otherwise take an hour each; how fast each one ingests is
measured on a sample.
"""

import json
import os
import pathlib
import sys
import time

import numpy

BATCH = 32
MAX_TOKENS = 256


class TorchEncoder:
    """sentence-transformers, as its documentation says."""

    packages = ["sentence-transformers", "transformers", "torch"]

    def __init__(self, directory, _graph, threads):
        import sentence_transformers
        import torch

        torch.set_num_threads(threads)
        self.model = sentence_transformers.SentenceTransformer(str(directory), device="cpu")

    def query(self, text):
        return self.model.encode(text, normalize_embeddings=True, show_progress_bar=False)

    def passages(self, texts):
        return self.model.encode(texts, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False)


class OnnxEncoder:
    """tokenizers and onnxruntime with all graph optimisations, pooled in numpy."""

    packages = ["tokenizers", "onnxruntime"]

    def __init__(self, directory, graph, threads):
        import onnxruntime
        import tokenizers

        self.tokenizer = tokenizers.Tokenizer.from_file(str(pathlib.Path(directory) / "tokenizer.json"))
        self.tokenizer.enable_truncation(MAX_TOKENS)
        self.tokenizer.enable_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

    def query(self, text):
        return self.batch([text])[0]

    def passages(self, texts):
        """Batches of similar length, so that little is padded."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        batches = [[texts[index] for index in order[at:at + BATCH]] for at in range(0, len(order), BATCH)]
        return numpy.concatenate([self.batch(batch) for batch in batches])[numpy.argsort(order)]

    def batch(self, texts):
        encodings = self.tokenizer.encode_batch(texts)
        ids = numpy.array([encoding.ids for encoding in encodings], numpy.int64)
        mask = numpy.array([encoding.attention_mask for encoding in encodings], numpy.int64)
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}
        states, = self.session.run(None, inputs)
        # The mean's divisor does not matter to a vector that is brought to unit length.
        sums = (states * mask[..., None].astype(numpy.float32)).sum(1)
        return sums / numpy.linalg.norm(sums, axis=1, keepdims=True)


def read_passages(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def embedded_text(passage):
    return f"{passage['title']}\n{passage['text']}" if passage["title"] else passage["text"]


def embed(directory, graph, passages, out):
    texts = [embedded_text(passage) for passage in read_passages(passages)]
    started = time.monotonic()
    vectors = OnnxEncoder(directory, graph, os.cpu_count()).passages(texts)
    seconds = time.monotonic() - started
    unfinished = pathlib.Path(out).with_suffix(".unfinished.npy")
    numpy.save(unfinished, vectors)
    unfinished.rename(out)
    print(f"{len(texts)} passages encoded in {seconds:.0f} s, {len(texts) / seconds:.0f} a second")


if __name__ == "__main__":
    embed(*sys.argv[1:])
