"""What is made before anything is measured: corpus, queries, the peers' graph and embeddings. All of it
lies in the work directory and is made once for the same documents.
"""

import hashlib
import json
import subprocess
import sys
import time

import measure
from systems import HERE, Failed

STARTED = time.monotonic()


def say(text):
    print(f"[{time.monotonic() - STARTED:5.0f} s] {text}", flush=True)


def script(name, *rest):
    """Runs a script of this directory; its output is its answer."""
    done = subprocess.run([sys.executable, str(HERE / name), *map(str, rest)], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Failed(f"{name} ended with status {done.returncode}")
    return done.stdout.strip()


class Setup:
    """Where everything is."""

    def __init__(self, options):
        self.work, self.bin, self.encoder = options.work, options.bin, options.encoder
        self.qdrant, self.reuse, self.size = options.qdrant, options.reuse, options.size
        self.logs = self.work / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.graph = self.work / "encoder.onnx"
        size = self.size
        needed = [measure.WARM_UP, (measure.COLD_STARTS + 1) * measure.COLD_QUERIES, measure.SWAP_QUERIES, size.queries]
        if "throughput" in options.tasks:
            needed.append(size.throughput_rounds * len(measure.CLIENTS) * size.throughput_queries)
        corpus = self.work / f"corpus-{size.passages}"
        say(script("corpus.py", corpus, "--passages", size.passages + size.samples * size.sample_passages, "--queries", sum(needed)))
        lines = (corpus / "passages.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        self.passages = self.written(corpus / "opened.jsonl", lines[:size.passages])
        self.few = self.written(corpus / "few.jsonl", lines[:measure.FEW])
        # Never seen by the opened corpus.
        rest = lines[size.passages:]
        self.samples = [self.written(corpus / f"sample-{at}.jsonl", rest[at * size.sample_passages:(at + 1) * size.sample_passages])
                        for at in range(size.samples)]
        asked = (corpus / "queries.jsonl").read_text(encoding="utf-8").splitlines()
        self.queries = measure.Queries([json.loads(line)["query"] for line in asked])
        self.digest = hashlib.sha256(self.passages.read_bytes()).hexdigest()[:12]
        self.index = corpus / self.digest
        self.index.mkdir(exist_ok=True)
        # Now, so that a registry that is too small shows before hours of measurements, not after them.
        sizes = size.training if "train" in options.tasks and not options.without_ours else ()
        self.training = {passages: self.smaller_or_larger(passages) for passages in sizes if passages != size.passages}

    def written(self, path, lines):
        path.write_text("".join(lines), encoding="utf-8")
        return path

    def for_peers(self):
        """What only the Python side needs."""
        if not self.graph.exists():
            say(script("export_onnx.py", self.encoder, self.graph))
        if not (self.index / "embeddings.npy").exists():
            say("the peers' embeddings, once for this corpus")
            say(script("encoders.py", self.encoder, self.graph, self.passages, self.index / "embeddings.npy"))

    def smaller_or_larger(self, passages):
        """The corpus of a training task."""
        directory = self.work / f"training-{passages}"
        say(script("corpus.py", directory, "--passages", passages, "--queries", 0))
        return directory / "passages.jsonl"
