#!/usr/bin/env python3
"""A peer as a process: one JSON command a line in, one JSON reply a line out, like `moerag-bench drive`.

    peer.py NAME --encoder DIR --graph MODEL.onnx [--threads N] [--qdrant URL]

open        {"passages", "work"}                 index of a corpus; work/embeddings.npy has its vectors
ingest      {"passages"}                         encodes and indexes a sample and throws it away
latency     {"queries", "top_k"}                 one query after the other: encode, search, fuse, fetch the texts
throughput  {"queries", "clients", "top_k"}      many clients before as many workers as cores
encode      {"texts"}                            the encoder alone, in batches
resources   {}                                   CPU time and memory of all its processes
close       {"discard"}                          ends; discard: also what a server keeps
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import pathlib
import sys
import time
import traceback

import numpy

from encoders import OnnxEncoder, TorchEncoder, embedded_text, read_passages
from pool import Pool
from usage import usage


def engine(options, threads):
    """The retriever of a name. Imported here, so that no peer pays for the libraries of another."""
    if options.name == "c":
        from langchain_hybrid import LangChain

        return LangChain(options.encoder, threads)
    if options.name in ("d", "qdrant"):
        from qdrant_hybrid import Qdrant

        return Qdrant(OnnxEncoder(options.encoder, options.graph, threads), options.qdrant)
    from hybrid import Hybrid

    encoder = {"a": TorchEncoder, "b": OnnxEncoder}[options.name]
    return Hybrid(encoder(options.encoder, options.graph, threads))


class Clock:
    """Adds up the time inside `with`."""

    def __init__(self):
        self.ms = 0.0

    def __enter__(self):
        self.started = time.perf_counter()

    def __exit__(self, *_):
        self.ms += (time.perf_counter() - self.started) * 1e3


class Peer:
    """An engine with a corpus, and its workers."""

    def __init__(self, options, threads):
        self.options = options
        self.engine = engine(options, threads)
        self.engine.encoder.query("warm up")
        self.index = self.corpus = self.pool = None

    def open(self, passages, work):
        started = time.monotonic()
        entries = read_passages(passages)
        # Of the whole corpus; a smaller one is its beginning.
        vectors = numpy.load(pathlib.Path(work) / "embeddings.npy")[:len(entries)].copy()
        if self.index is not None:
            self.engine.discard(self.index)
        self.index = self.engine.index(entries, [embedded_text(entry) for entry in entries], vectors)
        self.corpus = (passages, work)
        versions = {"python": sys.version.split()[0]}
        versions.update((name, importlib.metadata.version(name)) for name in self.engine.packages)
        return {"system": self.options.name, "versions": versions, "passages": len(entries), "seconds": time.monotonic() - started}

    def ingest(self, passages):
        entries = read_passages(passages)
        started = time.monotonic()
        texts = [embedded_text(entry) for entry in entries]
        index = self.engine.index(entries, texts, self.engine.encoder.passages(texts))
        seconds = time.monotonic() - started
        self.engine.discard(index)
        return {"passages": len(entries), "seconds": seconds}

    def latency(self, queries, top_k=10):
        ms, encode_ms = [], []
        for query in queries:
            clock, started = Clock(), time.perf_counter()
            self.engine.search(self.index, query, top_k, clock)
            ms.append((time.perf_counter() - started) * 1e3)
            encode_ms.append(clock.ms)
        return {"ms": ms, "encode_ms": encode_ms}

    def throughput(self, queries, clients, top_k=10):
        self.pool = self.pool or Pool(serve, self.options, *self.corpus)
        return self.pool.throughput(queries, clients, top_k)

    def encode(self, texts, **_):
        started, cpu = time.perf_counter(), time.process_time()
        self.engine.encoder.passages(texts)
        return {"seconds": time.perf_counter() - started, "cpu_s": time.process_time() - cpu}

    def resources(self):
        return usage([os.getpid(), *(self.pool.pids() if self.pool else [])])

    def close(self, discard=False):
        if self.pool:
            self.pool.close()
        if discard and self.index is not None:
            self.engine.discard(self.index)
        return {}


def serve(connection, options, passages, work):
    """A worker: opens the corpus, answers until the other end is closed."""
    peer = Peer(options, threads=1)
    peer.open(passages, work)
    peer.latency(["warm up"])
    connection.send("ready")
    with contextlib.suppress(EOFError):
        while True:
            query, top_k = connection.recv()
            connection.send(peer.engine.search(peer.index, query, top_k, Clock()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["a", "b", "c", "d", "qdrant"])
    parser.add_argument("--encoder", required=True, help="directory of the encoder, Hugging Face layout")
    parser.add_argument("--graph", help="its ONNX export")
    parser.add_argument("--threads", type=int, default=1, help="computing threads of a single query")
    parser.add_argument("--qdrant", help="address of a Qdrant server")
    options = parser.parse_args()

    # Libraries may print what they like; only replies go to standard output.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peer, command = Peer(options, options.threads), None
    while command != "close" and (line := sys.stdin.readline()):
        arguments = json.loads(line)
        command = arguments.pop("cmd")
        try:
            if command not in ("open", "ingest", "latency", "throughput", "encode", "resources", "close"):
                raise ValueError(f"unknown command {command}")
            reply = getattr(peer, command)(**arguments)
        except Exception as failure:  # Whatever it is, the other end has to hear of it.
            traceback.print_exc()
            reply = {"error": f"{type(failure).__name__}: {failure}"}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
