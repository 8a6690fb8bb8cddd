"""The systems of a comparison as processes: a Python peer, or our two services with their driver.

Both speak the protocol of peer.py. `start` brings a system up without a corpus, `open` gives it one,
`cold` measures a start over data that are there already.
"""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

# Ctrl-C in the terminal reaches run.py alone, which stops everything in order.
ALONE = {"start_new_session": True}
# Queries are distinct; this makes sure of it.
NO_CACHE = {"MOERAG_ROUTER__CACHE__REPLY_BYTES": "0"}
# What the number of a peer's computing threads is chosen by; the first third warms up.
TRIAL = [f"how do I create a listener that accepts {number} connections?" for number in range(60)]
HERE = pathlib.Path(__file__).resolve().parent
COLLECTION = "bench"
LABELS = {
    "ours": "MoE-RAG",
    "ours-qdrant": "MoE-RAG on Qdrant",
    "a": "a torch",
    "b": "b onnxruntime",
    "c": "c LangChain",
    "d": "d Qdrant local",
    "qdrant": "Qdrant server",
}
MEANINGS = {
    "ours": "`Attend` over gRPC, embedded store, trained on the corpus",
    "ours-qdrant": "the same with its passages in a Qdrant server",
    "a": "sentence-transformers on torch, bm25s and numpy, reciprocal rank fusion",
    "b": "tokenizers and onnxruntime on the same weights, bm25s and numpy, reciprocal rank fusion",
    "c": "LangChain's EnsembleRetriever of BM25Retriever and FAISS, HuggingFaceEmbeddings",
    "d": "qdrant-client's local mode, dense and sparse prefetch, its own fusion, encoder of b; not meant for production",
    "qdrant": "the hybrid query of d to a Qdrant server",
}


class Failed(Exception):
    """A system did not do what it was asked."""


class Process:
    """A process that answers JSON lines; what it prints besides goes to a log."""

    def __init__(self, command, log):
        self.name, self.log = pathlib.Path(command[0]).name, log
        self.busy = False
        with open(log, "a", encoding="utf-8") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, **ALONE)

    def ask(self, command, **arguments):
        self.busy = True
        try:
            self.process.stdin.write(json.dumps({"cmd": command, **arguments}) + "\n")
            self.process.stdin.flush()
            reply = self.process.stdout.readline()
        except BrokenPipeError:
            reply = ""
        if not reply:
            raise Failed(f"{self.name} ended with status {self.process.wait()}; see {self.log}")
        self.busy = False
        reply = json.loads(reply)
        if "error" in reply:
            raise Failed(f"{self.name}: {command}: {reply['error']}; see {self.log}")
        return reply

    def close(self, **arguments):
        if self.busy:
            self.process.terminate()  # The run was broken off, and its command may take an hour.
        elif self.process.poll() is None:
            self.ask("close", **arguments)
        self.process.wait()


class Peer:
    """A Python peer. `threads` compute a single query; None takes as many as answer it faster."""

    def __init__(self, key, setup, threads):
        self.key, self.setup, self.threads = key, setup, threads
        self.log = setup.logs / f"{key}.log"
        self.process = self.corpus = None

    @property
    def command(self):
        command = [sys.executable, str(HERE / "peer.py"), self.key, "--encoder", str(self.setup.encoder), "--graph", str(self.setup.graph),
                   "--threads", str(self.threads)]
        return command + (["--qdrant", self.setup.qdrant] if self.key == "qdrant" else [])

    def choose_threads(self, passages):
        """One, or one for each core, by whole queries: the encoder alone may be faster with all cores and the
        query slower, because threads that wait for the next product keep its other steps from the cores.
        The wrong number costs a peer a factor of two to eight, which would flatter us.
        """
        if self.threads:
            return
        medians = {}
        for threads in sorted({1, os.cpu_count()}):
            self.threads = threads
            self.start()
            self.open(passages)
            ms = self.ask("latency", queries=TRIAL)["ms"]
            medians[threads] = statistics.median(ms[len(ms) // 3:])
            self.close()
        self.threads = min(medians, key=medians.get)

    def start(self):
        self.process = Process(self.command, self.log)

    def ask(self, command, **arguments):
        return self.process.ask(command, **arguments)

    def open(self, passages):
        self.corpus = {"passages": str(passages), "work": str(self.setup.index)}
        return self.ask("open", **self.corpus)

    def cold(self, queries):
        """A second process beside the first, which waits and costs nothing but memory."""
        started = time.monotonic()
        fresh = Process(self.command, self.log)
        fresh.ask("open", **self.corpus)
        fresh.ask("latency", queries=queries[:1])
        seconds = time.monotonic() - started
        fresh.ask("latency", queries=queries[1:])
        resources = fresh.ask("resources")
        fresh.close()
        return {"seconds": seconds, **resources}

    def close(self):
        if self.process:
            self.process.close(discard=True)


class Ours:
    """`moerag up` and the driver of its services."""

    def __init__(self, key, setup, data):
        self.key, self.setup, self.data = key, setup, data
        self.log = setup.logs / f"{key}.log"
        # A server keeps what an earlier run left: another corpus needs another collection.
        self.collection = f"{COLLECTION}-{setup.digest}"
        self.environment = dict(os.environ) | NO_CACHE
        if key == "ours-qdrant":
            self.environment |= {"MOERAG_STORE__KIND": "qdrant", "MOERAG_STORE__URL": setup.qdrant}
        self.services = self.driver = None
        if not setup.reuse:
            shutil.rmtree(data, ignore_errors=True)

    def start(self):
        command = [str(self.setup.bin / "moerag"), "up", "--json", "--data-dir", str(self.data), "--encoder-dir", str(self.setup.encoder),
                   "--router-listen", "127.0.0.1:0", "--trainer-listen", "127.0.0.1:0"]
        with open(self.log, "a", encoding="utf-8") as errors:
            self.services = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=self.environment, **ALONE)
        lines = []
        # An object over several lines, when both serve.
        while "}\n" not in lines:
            lines.append(self.services.stdout.readline())
            if not lines[-1]:
                raise Failed(f"moerag up ended with status {self.services.wait()}; see {self.log}")
        urls, pid = json.loads("".join(lines)), str(self.services.pid)
        self.driver = Process(
            [str(self.setup.bin / "moerag-bench"), "drive", "--router", urls["router"], "--trainer", urls["trainer"], "--router-pid", pid,
             "--trainer-pid", pid, "--encoder-dir", str(self.setup.encoder), "--collection", self.collection,
             "--checkpoints", str(self.data / "checkpoints")], self.log)

    def ask(self, command, **arguments):
        return self.driver.ask(command, **arguments)

    def open(self, passages):
        return self.ask("open", passages=str(passages))

    def cold(self, queries):
        """The services themselves: their data have one owner."""
        self.close()
        started = time.monotonic()
        self.start()
        # Not `latency`, which would load the driver's own encoder.
        self.ask("throughput", queries=queries[:1], clients=1)
        seconds = time.monotonic() - started
        self.ask("throughput", queries=queries[1:], clients=1)
        return {"seconds": seconds, **self.ask("resources")}

    def close(self):
        try:
            if self.driver:
                self.driver.close()
        finally:
            if self.services and self.services.poll() is None:
                self.services.terminate()
                self.services.wait()
        if self.services and self.services.returncode != 0:
            raise Failed(f"moerag up ended with status {self.services.returncode}; see {self.log}")
