#!/usr/bin/env python3
"""The four kernels that took most of the time, from ncu's CSV on the standard input."""

import csv
import sys
from collections import defaultdict

N_KERNELS = 4
TIME = "gpu__time_duration.sum"
COLUMNS = (("dram__throughput.avg.pct_of_peak_sustained_elapsed", "memory, % of peak"),
           ("dram__bytes.sum.per_second", "memory, GB/s"),
           ("sm__throughput.avg.pct_of_peak_sustained_elapsed", "multiprocessors, % of peak"),
           ("sm__warps_active.avg.pct_of_peak_sustained_active", "warps, % of those that fit"))
TO_NS = {"ns": 1.0, "nsecond": 1.0, "us": 1e3, "usecond": 1e3, "ms": 1e6, "msecond": 1e6}
TO_GB_PER_S = {"byte/s": 1e-9, "Kbyte/s": 1e-6, "Mbyte/s": 1e-3, "Gbyte/s": 1.0, "Tbyte/s": 1e3}


def value_of(row):
    unit, value = row["Metric Unit"], float(row["Metric Value"].replace(",", ""))
    return value * TO_NS.get(unit, TO_GB_PER_S.get(unit, 1.0))


def main():
    # Programs and ncu itself print before the table.
    lines = sys.stdin.read().splitlines()
    begin = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if begin is None:
        raise SystemExit("kernel_table.py: no table of ncu's: " + " ".join(lines[-3:])[:300])
    calls = defaultdict(lambda: defaultdict(dict))  # kernel -> call -> metric -> value
    for row in csv.DictReader(lines[begin:]):
        calls[row["Kernel Name"]][row["ID"]][row["Metric Name"]] = value_of(row)
    by_time = sorted(calls.items(), key=lambda item: -sum(c[TIME] for c in item[1].values()))
    print("| kernel | calls | us each | " + " | ".join(title for _, title in COLUMNS) + " |")
    print("|---|---:|---:|" + "---:|" * len(COLUMNS))
    for kernel, found in by_time[:N_KERNELS]:
        total = sum(call[TIME] for call in found.values())
        cells = [f"{sum(c[TIME] * c[name] for c in found.values()) / total:.1f}"
                 for name, _ in COLUMNS]  # weighted by time
        name = kernel.split("(")[0].replace("thermocline::kernels::cuda::gpu::", "")
        print(f"| {name} | {len(found)} | {total / len(found) / 1e3:.1f} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
