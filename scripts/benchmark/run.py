#!/usr/bin/env python3
"""The comparison behind scripts/bench: brings the systems up on the same passages, measures them in
interleaved rounds, writes bench.json, bench.md and bench.png and prints the table.

scripts/bench prepares the environment, builds our side and passes its options on.
"""

import contextlib
import datetime
import json
import os
import platform
import signal
import subprocess
import sys

import figure
import measure
import settings
import summary
from setup import Setup, say
from systems import HERE, LABELS, Failed, Ours, Peer


def systems_of(options, setup):
    """The systems in the order of the table."""
    systems = []
    if not options.without_ours:
        systems += [Ours(key, setup, setup.work / key) for key in ["ours", *(["ours-qdrant"] if options.qdrant else [])]]
    peers = [*(["qdrant"] if options.qdrant else []), *options.peers]
    if peers:
        setup.for_peers()
    return systems + [Peer(key, setup, options.threads) for key in peers]


def bring_up(options, setup, systems, found):
    """Starts everything; with few passages first, where memory is measured."""
    queries = setup.queries.take(measure.COLD_QUERIES)
    # First: our trainer would train by itself while it waits for them.
    for system in systems:
        if isinstance(system, Peer):
            system.choose_threads(setup.passages)
    for system in systems:
        system.start()
        if "cold" in options.tasks:
            system.open(setup.few)
            found["few"][system.key] = system.cold(queries)
        reply = found["opened"][system.key] = system.open(setup.passages)
        say(f"{LABELS[system.key]}: {reply['passages']} passages in {reply['seconds']:.1f} s")


def train(system, opened, found):
    """One line of the training table: the collection is trained and the result serves."""
    reply = system.ask("train")
    say(f"{LABELS[system.key]}: {opened['passages']} passages trained and served after {reply['seconds']:.1f} s")
    found["training"].append({"system": system.key, "passages": opened["passages"], "ingest_s": opened["seconds"], **reply})
    return reply["version"]


def perform(options, setup, systems, found):
    """The tasks, one after the other; what is measured is in `found` at once."""
    size, measured = setup.size, measure.Measurements(systems, setup.queries, say)
    for system in measure.ours(systems):
        opened = found["opened"][system.key]
        opened["versions"]["model"] = train(system, opened, found)
    if "cold" in options.tasks:
        found["cold"] = measured.cold()
    measured.warm_up(os.cpu_count() if "throughput" in options.tasks else None)
    if "latency" in options.tasks:
        found["latency"] = measured.latency(size.rounds, size.queries // size.rounds)
    if "throughput" in options.tasks:
        found["throughput"] = measured.throughput(size.throughput_rounds, size.throughput_queries)
    if "encode" in options.tasks:
        found["encode"] = measured.encode(setup.samples)
    if "ingest" in options.tasks:
        found["ingest"] = measured.ingest(setup.samples)
    if "swap" in options.tasks:
        found["swap"] = measured.swap()


def train_others(setup, found):
    """Training of corpora of other sizes, each with services of its own."""
    for passages, path in setup.training.items():
        system = Ours("ours", setup, setup.work / f"ours-{passages}")
        with contextlib.closing(system):
            system.start()
            train(system, system.open(path), found)


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        model = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}"


def revision():
    """The commit that is measured, with a mark if the tree differs from it."""
    git = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=10"], cwd=HERE, capture_output=True, text=True)
    return git.stdout.strip() or "unknown"


def notes(options, systems, found, load, failure):
    yield f"The machine's load was {load:.1f} before the run and is {os.getloadavg()[0]:.1f} after it."
    if failure:
        yield f"BROKEN OFF, what follows it is missing: {failure}"
    if options.qdrant:
        yield "CPU time and memory of the Qdrant server itself are not counted."
    if stages := summary.stages(found):
        yield f"Where MoE-RAG's time goes, median ms: {stages}."
    if {"a", "b"} & set(options.peers):
        yield ("a and b compile bm25s's numba backend at their first query, most of their cold start. With its numpy backend they would "
               "start at once and take 0.25 ms more a query at 10,000 passages.")
    if peers := [system for system in systems if isinstance(system, Peer)]:
        used = ", ".join(f"{LABELS[peer.key]} {peer.threads}" for peer in peers)
        yield f"Computing threads of a peer's query with one client: {used}; with several: one in each of {os.cpu_count()} workers."


def run(options):
    """The report; one that was broken off has what was measured until then."""
    load, failure = os.getloadavg()[0], None
    setup = Setup(options)
    found = {"passages": setup.size.passages, "opened": {}, "few": {}, "training": [], "swap": {}}
    systems = systems_of(options, setup)
    try:
        with contextlib.ExitStack() as stack:
            for system in systems:
                stack.callback(system.close)
            bring_up(options, setup, systems, found)
            perform(options, setup, systems, found)
        train_others(setup, found)
    except Failed as reason:
        if not found["opened"]:
            raise
        failure = str(reason)
        say(f"BROKEN OFF: {failure}")
    for key, reply in found["opened"].items():
        if key.startswith("ours"):
            reply["versions"]["commit"] = revision()
    return {
        "date": datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
        "machine": machine(),
        "workload": f"{setup.size.passages:,} passages (digest {setup.digest}), every query new to all, {measure.TOP_K} passages each",
        "passages": setup.size.passages,
        "systems": {key: {"versions": reply["versions"], "figures": summary.figures(key, found)} for key, reply in found["opened"].items()},
        "bars": summary.bars(found),
        "training": found["training"],
        "encoding": summary.encoding(found),
        "swap": found["swap"],
        "notes": list(notes(options, systems, found, load, failure)),
        "failure": failure,
        "measured": found,
    }


def main():
    options = settings.arguments()
    # What was started is stopped, whatever ends this.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        report = run(options)
    except Failed as failure:
        sys.exit(f"scripts/bench: {failure}")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "bench.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    text = summary.markdown(report)
    (options.out / "bench.md").write_text(text, encoding="utf-8")
    figure.draw(report, options.out / "bench.png")
    print(f"\n{text}\nwritten to {options.out}: bench.json, bench.md, bench.png")
    sys.exit(1 if report["failure"] else 0)


if __name__ == "__main__":
    main()
