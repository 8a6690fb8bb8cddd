"""The picture of a report: latency, CPU time, throughput and memory, side by side."""

import textwrap

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter

from measure import CLIENTS, FEW
from summary import number
from systems import LABELS

COLOURS = {"ours": "#c1440e", "ours-qdrant": "#e8a07d", "a": "#1f4e79", "b": "#4f86b5", "c": "#5b8c5a", "d": "#8e6bb0", "qdrant": "#b9a3cf"}
HEIGHT = 0.65
LOGARITHMIC = 15  # Above this ratio of the longest bar to the shortest.


def draw(report, path):
    """Writes the PNG; a panel whose figures are missing says so."""
    systems = {key: system["figures"] for key, system in report["systems"].items()}
    figure, panels = pyplot.subplots(2, 2, figsize=(13, 8.5), layout="constrained")
    bars(panels[0, 0], systems, "p50_ms", "Latency, one client: p50, the line ends at p99", "ms", whisker="p99_ms")
    bars(panels[0, 1], systems, "cpu_ms", "CPU time of a query, one client", "ms")
    throughput(panels[1, 0], systems)
    bars(panels[1, 1], systems, "rss_mb", f"Memory with {report['passages']:,} passages; dark: with {FEW}", "MiB resident", within="few_mb")
    figure.suptitle("\n".join(textwrap.wrap(f"{report['date']}, {report['machine']}. {report['workload']}.", 140)), fontsize=10)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def finish(panel, title, found):
    panel.set_title(title)
    panel.spines[["top", "right"]].set_visible(False)
    if not found:
        panel.text(0.5, 0.5, "not measured", ha="center", transform=panel.transAxes)
        panel.set_axis_off()


def bars(panel, systems, field, title, unit, whisker=None, within=None):
    """Horizontal bars, or points where they are too different, the first system on top, with their values at the right."""
    rows = [(key, figures) for key, figures in reversed(systems.items()) if field in figures]
    finish(panel, title, rows)
    if not rows:
        return
    names, values = [LABELS[key] for key, _ in rows], [figures[field] for _, figures in rows]
    ends = [figures[whisker or field] for _, figures in rows]
    logarithmic = max(values) > LOGARITHMIC * min(values)
    colours = [COLOURS[key] for key, _ in rows]
    if logarithmic:
        # A bar would have to begin somewhere.
        panel.scatter(values, names, s=120, color=colours, zorder=3)
        panel.grid(axis="x", alpha=0.3)
        panel.set_ylim(-0.5, len(rows) - 0.5)
    else:
        panel.barh(names, values, HEIGHT, color=colours)
    panel.set_xlabel(unit)
    if whisker:
        lengths = [end - value for end, value in zip(ends, values)]
        panel.errorbar(values, names, xerr=[[0] * len(rows), lengths], fmt="none", color="black", capsize=4)
    if within:
        panel.barh(names, [figures[within] for _, figures in rows], HEIGHT, color="black", alpha=0.35)
    if logarithmic:
        panel.set_xscale("log")
        panel.set_xlabel(f"{unit}, logarithmic")
        panel.set_xlim(min(values) / 2, max(ends) * 6)
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        panel.set_xlim(0, max(ends) * 1.25)
    for name, value, end in zip(names, values, ends):
        text = f"{number(value)} | {number(end)}" if whisker else number(value)
        panel.annotate(text, (end, name), xytext=(10, 0), textcoords="offset points", va="center", fontsize=9)


def throughput(panel, systems):
    """Queries per second over the number of clients."""
    rows = [(key, figures) for key, figures in systems.items() if f"per_s_{CLIENTS[0]}" in figures]
    finish(panel, "Throughput, queries/s", rows)
    if not rows:
        return
    for key, figures in rows:
        panel.plot(range(len(CLIENTS)), [figures[f"per_s_{clients}"] for clients in CLIENTS], "o-", color=COLOURS[key], label=LABELS[key])
    panel.set_xticks(range(len(CLIENTS)), [str(clients) for clients in CLIENTS])
    panel.set_xlabel("clients at once")
    # Room for the legend above the lines.
    panel.set_ylim(0, 1.35 * max(figures[f"per_s_{clients}"] for _, figures in rows for clients in CLIENTS))
    panel.grid(axis="y", alpha=0.3)
    panel.legend(frameon=False, fontsize=9, loc="upper center", ncols=3)
