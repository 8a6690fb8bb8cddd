#!/usr/bin/env python3
"""Compares what criterion has measured with the committed ratios (scripts/bench --check).

    check.py CRITERION_DIR RATIOS.json [--write]

A ratio is a function's median time over that of the reference product, the faster of its two runs. One
that is more than LIMIT times the committed one fails; --write commits today's ratios instead.
"""

import json
import pathlib
import sys

LIMIT = 1.6  # Machines differ in caches and registers, and this one within an hour.
REFERENCES = ("reference", "reference_again")


def medians(directory):
    """Median nanoseconds of every function that was measured now."""
    found = {}
    for path in sorted(pathlib.Path(directory).glob("*/new/estimates.json")):
        found[path.parent.parent.name] = json.loads(path.read_text(encoding="utf-8"))["median"]["point_estimate"]
    return found


def main():
    directory, committed = sys.argv[1], pathlib.Path(sys.argv[2])
    times = medians(directory)
    if missing := [name for name in REFERENCES if name not in times]:
        sys.exit(f"{directory} has no {' and no '.join(missing)}: run cargo bench -p moerag-bench")
    unit = min(times.pop(name) for name in REFERENCES)
    ratios = {name: time / unit for name, time in times.items()}
    if "--write" in sys.argv[3:]:
        committed.write_text(json.dumps({name: float(f"{ratio:.3g}") for name, ratio in ratios.items()}, indent=1) + "\n")
        print(f"{len(ratios)} ratios written to {committed}")
        return
    expected = json.loads(committed.read_text(encoding="utf-8"))
    print(f"{'function':18} {'µs':>10} {'ratio':>8} {'committed':>10}   (reference {unit / 1e3:.0f} µs)")
    slow = []
    for name in sorted(ratios.keys() | expected.keys()):
        if name not in ratios:
            print(f"{name:18} {'SKIPPED':>10}")
            continue
        if name not in expected:
            print(f"{name:18} {times[name] / 1e3:10.1f} {ratios[name]:8.3f} {'NEW':>10}")
            continue
        worse = ratios[name] > LIMIT * expected[name]
        slow += [name] if worse else []
        print(f"{name:18} {times[name] / 1e3:10.1f} {ratios[name]:8.3f} {expected[name]:10.3f}{'   SLOWER' if worse else ''}")
    if slow:
        sys.exit(f"slower than {LIMIT} times the committed ratio: {', '.join(slow)}")


if __name__ == "__main__":
    main()
