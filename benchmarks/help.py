"""How long ``gensoup --help`` takes, as a user waits for it, beside the interpreter's own start.

python benchmarks/help.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 15


def seconds(command: list[str]) -> float:
    """Wall-clock time of one process."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    """Run both in turn and print medians and their ratio."""
    ours, bare = [sys.executable, "-m", "gensoup", "--help"], [sys.executable, "-c", "pass"]
    seconds(ours)
    pairs = [(seconds(ours), seconds(bare)) for _ in range(RUNS)]
    help_median = statistics.median(first for first, _ in pairs)
    bare_median = statistics.median(second for _, second in pairs)
    print("| what | median of 15, s |\n| --- | --- |")
    print(f"| gensoup --help | {help_median:.3f} |\n| python -c pass | {bare_median:.3f} |")
    print(f"| ratio | {help_median / bare_median:.1f} |\n| under 0.3 s | {'yes' if help_median < 0.3 else 'no'} |")


if __name__ == "__main__":
    main()
