"""CPU time and memory of processes, from /proc."""

import os

TICKS = os.sysconf("SC_CLK_TCK")
MEMORY = {"rss_mb": "VmRSS", "rss_anon_mb": "RssAnon", "peak_mb": "VmHWM"}


def usage(pids):
    """The sums over these processes: CPU seconds, resident, anonymous and peak MiB."""
    total = {"cpu_s": 0.0, **dict.fromkeys(MEMORY, 0.0)}
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            # The name stands in parentheses and may hold blanks; user and system time are fields 14, 15.
            fields = stat.read().rpartition(")")[2].split()
        total["cpu_s"] += (int(fields[11]) + int(fields[12])) / TICKS
        with open(f"/proc/{pid}/status", encoding="utf-8") as status:
            lines = dict(line.split(":", 1) for line in status)
        for name, field in MEMORY.items():
            total[name] += int(lines[field].split()[0]) / 1024
    return total
