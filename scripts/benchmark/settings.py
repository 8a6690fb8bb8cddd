#!/usr/bin/env python3
"""The options of scripts/bench and what they mean in numbers. On its own it checks them or prints them,
before anything is built or installed.
"""

import argparse
import dataclasses
import pathlib

TASKS = ("latency", "throughput", "encode", "ingest", "train", "swap", "cold")


@dataclasses.dataclass
class Size:
    """How much is measured."""

    passages: int
    queries: int
    rounds: int
    throughput_rounds: int
    throughput_queries: int
    samples: int
    sample_passages: int
    training: tuple


FULL = Size(10_000, 600, 10, 3, 128, 3, 256, (2_000, 10_000, 50_000))
QUICK = Size(2_000, 80, 4, 1, 64, 1, 128, (2_000,))


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench", add_help=False, usage="%(prog)s [OPTION …]")
    add = parser.add_argument
    add("--passages", type=int, metavar="N", help="size of the corpus [10000; --quick 2000]")
    add("--queries", type=int, metavar="N", help="queries of the latency task, over all rounds [600; --quick 80]")
    add("--rounds", type=int, metavar="R", help="rounds of the latency task; throughput has a third of them [10; --quick 4]")
    add("--peers", default="a,b,c,d", metavar="LIST", help="of a,b,c,d, or none [all]")
    add("--without-ours", action="store_true", help="the peers alone; builds nothing")
    add("--qdrant", metavar="URL", help="gRPC address of a Qdrant server: adds ours and a plain hybrid query on it; "
        "our collections stay there")
    add("--tasks", default=",".join(TASKS), metavar="LIST", help=f"of {','.join(TASKS)} [all]; cold measures memory too")
    add("--training-sizes", metavar="LIST", help="passages of the train task [2000,10000,50000; --quick 2000]")
    add("--threads", type=int, metavar="N", help="computing threads of a peer's single query [1 or all cores, whichever answers it faster]")
    add("--quick", action="store_true", help="a small run that shows whether everything works")
    add("--reuse", action="store_true", help="go on with our store of an earlier run instead of ingesting again")
    add("--out", type=pathlib.Path, metavar="DIR", help="where the results go [.moerag/bench/results]")
    add("-h", "--help", action="help", help="this text")
    for name in ("bin", "encoder", "work"):
        add(f"--{name}", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.size = dataclasses.replace(QUICK if options.quick else FULL)
    for name in ("passages", "queries", "rounds"):
        if (value := getattr(options, name)) is not None:
            setattr(options.size, name, value)
    if options.rounds is not None:
        options.size.throughput_rounds = max(1, options.rounds // 3)
    if options.training_sizes:
        options.size.training = tuple(map(int, options.training_sizes.split(",")))
    options.peers = chosen(parser, "--peers", "" if options.peers == "none" else options.peers, "abcd")
    options.tasks = chosen(parser, "--tasks", options.tasks, TASKS)
    if options.size.queries < options.size.rounds:
        parser.error("--queries must be at least --rounds")
    if options.without_ours and not options.peers and not options.qdrant:
        parser.error("nothing is left to measure")
    return options


def chosen(parser, flag, text, known):
    names = [name for name in text.split(",") if name]
    if unknown := [name for name in names if name not in known]:
        parser.error(f"{flag} knows {','.join(known)}, not {','.join(unknown)}")
    return names


if __name__ == "__main__":
    arguments()
