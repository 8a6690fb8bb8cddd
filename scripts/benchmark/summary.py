"""From measurements to figures, ratios with their bars, and the table."""

import math
import statistics

from measure import CLIENTS, FEW
from systems import LABELS, MEANINGS

# What is asked of ours: name, whose rounds ours are divided by (None: our own), how, limit.
BARS = [
    ("p50, one client / our encoder alone", "ours", "encoder", "<=", 1.8),
    ("the same / our encoder in f32", "ours", "encoder_f32", "<=", 1.8),
    ("p50, one client / peer a", "a", "p50", "<=", 0.4),
    ("p50, one client / peer b", "b", "p50", "<=", 1.0),
    ("p99 / p50, one client", "ours", "tail", "<=", 3.0),
    ("throughput, 16 clients / peer a", "a", "throughput", ">=", 3.0),
    ("throughput, 16 clients / peer b", "b", "throughput", ">=", 1.5),
    ("passages per CPU second, 8 bits / plain burn-flex", "plain_burn", "encoding", ">=", 1.5),
]
ENGINES = {"int8": "ours, 8 bits", "f32": "ours, f32", "plain_burn": "plain burn-flex", "onnxruntime": "b onnxruntime", "torch": "a torch"}
ROWS = [
    ("one client: p50, ms", "p50_ms"),
    ("one client: p99, ms", "p99_ms"),
    ("of it encoding: p50, ms", "encode_p50_ms"),
    ("CPU per query, ms", "cpu_ms"),
    ("p50: MoE-RAG / this", "p50_ratio"),
    *((f"queries/s, {clients} client{'s' * (clients > 1)}", f"per_s_{clients}") for clients in CLIENTS),
    ("p99 with 16 clients, ms", "p99_ms_16"),
    ("p99 with 64 clients, ms", "p99_ms_64"),
    ("16 clients: MoE-RAG / this", "throughput_ratio"),
    ("ingest, passages/s", "ingest_per_s"),
    ("cold start to first answer, s", "cold_s"),
    ("memory after it, MiB", "rss_mb"),
    ("of it anonymous, MiB", "rss_anon_mb"),
    (f"the same with {FEW} passages, MiB", "few_mb"),
    ("more per 100k passages, MiB", "per_100k_mb"),
    ("highest, serving one client, MiB", "peak_mb"),
]


def quantile(values, share):
    """The smallest value that this share of them does not exceed: one that was measured."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def pooled(rounds, field):
    return [value for one in rounds for value in one[field]]


def figures(key, found):
    """The figures of one system; what was not measured is missing."""
    result = {}
    if rounds := found.get("latency", {}).get(key):
        result["p50_ms"] = statistics.median(pooled(rounds, "ms"))
        result["p99_ms"] = quantile(pooled(rounds, "ms"), 0.99)
        result["encode_p50_ms"] = statistics.median(pooled(rounds, "encode_ms"))
        result["cpu_ms"] = statistics.median(one["cpu_ms"] for one in rounds)
    for clients, rounds in found.get("throughput", {}).get(key, {}).items():
        result[f"per_s_{clients}"] = statistics.median(one["per_s"] for one in rounds)
        result[f"p99_ms_{clients}"] = quantile(pooled(rounds, "ms"), 0.99)
    if rates := found.get("ingest", {}).get(key):
        result["ingest_per_s"] = statistics.median(rates)
    if starts := found.get("cold", {}).get(key):
        result["cold_s"] = statistics.median(one["seconds"] for one in starts)
        for name in ("rss_mb", "rss_anon_mb", "peak_mb"):
            result[name] = statistics.median(one[name] for one in starts)
        result["few_mb"] = found["few"][key]["rss_mb"]
        if found["passages"] >= 10 * FEW:  # Else it is noise.
            result["per_100k_mb"] = (result["rss_mb"] - result["few_mb"]) * 100_000 / (found["passages"] - FEW)
    if key != "ours":
        for name in ("p50", "throughput"):
            if ratios := per_round(found, key, name):
                result[f"{name}_ratio"] = statistics.median(ratios)
    return result


def per_round(found, key, what):
    """Ours divided by a system's, in each round: the figure that a noisy machine allows."""
    latency, throughput = found.get("latency", {}), found.get("throughput", {})
    if what == "throughput":
        pairs = zip(throughput.get("ours", {}).get(16, []), throughput.get(key, {}).get(16, []))
        return [mine["per_s"] / other["per_s"] for mine, other in pairs]
    if what == "encoding":
        rounds = found.get("encode", {})
        return [mine["per_cpu_s"] / other["per_cpu_s"] for mine, other in zip(rounds.get("int8", []), rounds.get(key, []))]
    if what == "tail":
        times = pooled(latency.get("ours", []), "ms")
        return [quantile(times, 0.99) / statistics.median(times)] if times else []
    field = {"encoder": "encode_ms", "encoder_f32": "encode_f32_ms"}.get(what, "ms")
    pairs = zip(latency.get("ours", []), latency.get(key, []))
    return [statistics.median(mine["ms"]) / statistics.median(other[field]) for mine, other in pairs]


def bars(found):
    """Every bar with its figure, the range over the rounds and whether it holds; unmeasured ones are left out."""
    result = []
    for name, key, what, sense, limit in BARS:
        if ratios := per_round(found, key, what):
            figure = statistics.median(ratios)
            holds = figure <= limit if sense == "<=" else figure >= limit
            result.append({"bar": name, "ratio": figure, "least": min(ratios), "most": max(ratios),
                           "limit": f"{sense} {limit}", "holds": holds})
    return result


def encoding(found):
    """The table of encoders: passages a second and per CPU second, and our ratio to each."""
    return [{"engine": ENGINES[engine], "per_s": statistics.median(one["per_s"] for one in rounds),
             "per_cpu_s": statistics.median(one["per_cpu_s"] for one in rounds),
             "ratio": statistics.median(per_round(found, engine, "encoding"))}
            for engine, rounds in found.get("encode", {}).items() if rounds and found["encode"].get("int8")]


def stages(found):
    """What the router itself says about the stages of a query."""
    rounds = found.get("latency", {}).get("ours", [])
    names = rounds[0]["stages"] if rounds else []
    medians = {name: statistics.median(one["stages"][name] for one in rounds) / 1e3 for name in names}
    return ", ".join(f"{name} {number(medians[name])}" for name in sorted(medians, key=medians.get, reverse=True))


def number(value):
    if value is None:
        return ""
    digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 2)}f}"


def grid(head, rows):
    """A Markdown table that can also be read as it is."""
    rows = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    aligned = [[row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in aligned]
    lines.insert(1, "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|")
    return "\n".join(lines)


def markdown(report):
    """The report as text: bars, the table, training, and what was compared on what."""
    keys = list(report["systems"])
    parts = [f"# scripts/bench, {report['date']}", f"{report['machine']}. {report['workload']}."]
    if report["bars"]:
        rows = [[bar["bar"], number(bar["ratio"]), f"{number(bar['least'])} to {number(bar['most'])}", bar["limit"],
                 "pass" if bar["holds"] else "FAIL"] for bar in report["bars"]]
        parts.append(grid(["MoE-RAG's", "ratio", "over the rounds", "bar", ""], rows))
    rows = [[title, *(number(report["systems"][key]["figures"].get(field)) for key in keys)] for title, field in ROWS]
    if rows := [row for row in rows if any(row[1:])]:
        parts.append(grid(["", *(LABELS[key] for key in keys)], rows))
    if report["encoding"]:
        rows = [[one["engine"], *(number(one[field]) for field in ("per_s", "per_cpu_s", "ratio"))] for one in report["encoding"]]
        parts.append(grid(["encoding in batches", "passages/s", "per CPU second", "8 bits / this"], rows))
    if report["training"]:
        rows = [[LABELS[one["system"]], f"{one['passages']:,}", number(one["ingest_s"]), number(one["seconds"]), number(one["trainer_peak_mb"]),
                 ", ".join(f"{stage} {number(seconds)}" for stage, seconds in one["steps"])] for one in report["training"]]
        parts.append(grid(["training", "passages", "ingest, s", "train to serving, s", "trainer's highest memory, MiB", "of it, s"], rows))
    if report["swap"]:
        fields = ("p50_ms", "p99_during_ms", "p99_else_ms")
        rows = [[LABELS[key], one["swaps"], *(number(one[field]) for field in fields), one["failed"]]
                for key, one in report["swap"].items()]
        parts.append(grid(["model swap", "swaps", "p50, ms", "p99 during, ms", "p99 else, ms", "failed"], rows))
    parts.append("\n".join(f"- **{LABELS[key]}**: {MEANINGS[key]}. {versions(report['systems'][key]['versions'])}" for key in keys))
    parts.append("\n".join(f"- {note}" for note in report["notes"]))
    return "\n\n".join(parts) + "\n"


def versions(packages):
    return ", ".join(f"{name} {version}" for name, version in packages.items())
