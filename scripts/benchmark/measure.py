"""The measurements. What two systems are compared by is interleaved: round by round, in shuffled order,
everyone gets the same queries, which nobody has seen before; a machine that is slow for a minute is
slow for all. Who is not measured waits and uses no CPU, once it has come to rest.
"""

import random
import time

from encoders import embedded_text, read_passages

CLIENTS = (1, 4, 16, 64)
TOP_K = 10
WARM_UP = 20
# Seconds until the system before has come to rest. Its second computing thread (numpy's, by all appearances)
# waits actively for tens of milliseconds after the last product, and whoever is next had one core less.
REST = 0.2
COLD_STARTS, COLD_QUERIES = 3, 21
ENGINES = {"ours": ("int8", "f32", "plain_burn"), "a": ("torch",), "b": ("onnxruntime",)}
FEW = 100  # Passages of the start that memory is compared with.
SWAP_SECONDS, SWAP_QUERIES = 20, 200


class Queries:
    """Hands out queries, none of them twice."""

    def __init__(self, texts):
        self.texts, self.taken = texts, 0

    def take(self, count):
        taken = self.texts[self.taken:self.taken + count]
        if len(taken) < count:
            raise ValueError(f"{self.taken + count} queries are needed, there are {len(self.texts)}")
        self.taken += count
        return taken


class Measurements:
    """All measurements of some systems, each as {key of the system: result}."""

    def __init__(self, systems, queries, say):
        self.systems, self.queries, self.say = systems, queries, say
        self.random = random.Random(0)

    def shuffled(self):
        return self.random.sample(self.systems, len(self.systems))

    def asked(self, system, command, count, **arguments):
        """The reply, and the CPU time of the system itself for each of `count` queries."""
        time.sleep(REST)
        before = system.ask("resources")["cpu_s"]
        reply = system.ask(command, **arguments)
        return reply, (system.ask("resources")["cpu_s"] - before) * 1e3 / count

    def warm_up(self, clients):
        queries = self.queries.take(WARM_UP)
        for system in self.systems:
            system.ask("latency", queries=queries, top_k=TOP_K)
            if clients:
                system.ask("throughput", queries=queries, clients=clients, top_k=TOP_K)

    def latency(self, rounds, count):
        found = {system.key: [] for system in self.systems}
        for number in range(rounds):
            queries = self.queries.take(count)
            for system in self.shuffled():
                reply, cpu_ms = self.asked(system, "latency", count, queries=queries, top_k=TOP_K)
                if system.key == "ours":
                    reply["encode_f32_ms"] = system.ask("encode", texts=queries, engine="f32")["ms"]
                found[system.key].append({**reply, "cpu_ms": cpu_ms})
            self.say(f"latency, round {number + 1} of {rounds}")
        return found

    def throughput(self, rounds, count):
        found = {system.key: {clients: [] for clients in CLIENTS} for system in self.systems}
        for number in range(rounds):
            for clients in CLIENTS:
                queries = self.queries.take(count)
                for system in self.shuffled():
                    reply, cpu_ms = self.asked(system, "throughput", count, queries=queries, clients=clients, top_k=TOP_K)
                    found[system.key][clients].append({**reply, "per_s": reply["queries"] / reply["seconds"], "cpu_ms": cpu_ms})
                self.say(f"throughput with {clients} clients, round {number + 1} of {rounds}")
        return found

    def ingest(self, samples):
        found = {system.key: [] for system in self.systems}
        for number, sample in enumerate(samples):
            for system in self.shuffled():
                reply = system.ask("ingest", passages=str(sample))
                found[system.key].append(reply["passages"] / reply["seconds"])
            self.say(f"ingest, round {number + 1} of {len(samples)}")
        return found

    def encode(self, samples):
        """Passages per CPU second of the encoders alone, in batches: {engine: rounds}."""
        pairs = [(system, engine) for system in self.systems for engine in ENGINES.get(system.key, ())]
        found = {engine: [] for _, engine in pairs}
        for number, sample in enumerate(samples):
            texts = [embedded_text(passage) for passage in read_passages(sample)]
            for system, engine in self.random.sample(pairs, len(pairs)):
                reply = system.ask("encode", texts=texts, kind="passage", engine=engine)
                found[engine].append({"per_s": len(texts) / reply["seconds"], "per_cpu_s": len(texts) / reply["cpu_s"]})
            self.say(f"encoding, round {number + 1} of {len(samples)}")
        return found

    def cold(self):
        """Time from the start of the process to its first answer, and its memory after 20 more."""
        found = {system.key: [] for system in self.systems}
        for number in range(COLD_STARTS):
            queries = self.queries.take(COLD_QUERIES)
            for system in self.shuffled():
                found[system.key].append(system.cold(queries))
            self.say(f"cold start, round {number + 1} of {COLD_STARTS}")
        return found

    def swap(self):
        queries = self.queries.take(SWAP_QUERIES)
        return {system.key: system.ask("swap", queries=queries, seconds=SWAP_SECONDS) for system in ours(self.systems)}


def ours(systems):
    """Those that train and swap models."""
    return [system for system in systems if system.key.startswith("ours")]
