"""Durable results of a comparison, one JSON line each, and the tables made of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from gensoup.runtime.errors import DataError, GenSoupError

CONFIDENCE = 0.95
RESAMPLES = 10_000
Row = Mapping[str, Any]
Key = tuple[str, str, int, str]


def digest(values: Any) -> str:
    """A short hash of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def key_of(row: Row) -> Key:
    """What tells results apart: data set, method, seed and the hash of all settings that decide the result."""
    return (row["data"], row["method"], row["seed"], row["settings"])


def append(path: Path, row: Row) -> None:
    """Add a line in one write, flushed to disk; a line that an earlier process was cut off in is closed first.

    Raises GenSoupError when the file cannot be written.
    """
    line = json.dumps(row) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        cut = path.exists() and path.stat().st_size > 0 and path.read_bytes()[-1:] != b"\n"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, ("\n" * cut + line).encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise GenSoupError(f"{path}: cannot be written ({error.strerror or error})") from error


def read(path: Path) -> dict[Key, Row]:
    """All whole lines; one that was cut off is left out, of two with the same key the later counts.

    Raises DataError for a file that holds other lines.
    """
    if not path.exists():
        return {}
    rows: dict[Key, Row] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as results ({error}); name another --out") from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            continue  # cut off: its run counts as not made
        try:
            rows[key_of(row)] = row
        except (KeyError, TypeError) as error:
            raise DataError(f"{path}: line {number} is no result of this benchmark; name another --out") from error
    return rows


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p in the order given, each made comparable with the level of the whole family.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def bootstrap_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Percentile interval of the mean over seeds [N]; the same for the same values."""
    draws = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[draws].mean(1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def student_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Student's interval of the mean over seeds [N], N ≥ 2."""
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stats.sem(values)
    return float(values.mean() - half), float(values.mean() + half)


def signed_rank(differences: NDArray[np.float64]) -> float:
    """Wilcoxon's two-sided p, exact for few seeds; 1 where nothing differs."""
    return float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0


def tables(rows: Sequence[Row], methods: Sequence[str], ours: str, metric: str = "mcc") -> list[str]:
    """Two tables in Markdown for one data set: each method over all its seeds, and ours less each other, paired."""
    of: dict[str, dict[int, Row]] = {method: {} for method in methods}
    for row in rows:
        of[row["method"]][row["seed"]] = row
    lines = [
        f"| method | seeds | test {metric}, mean [95%] | likelihood loss | untempered | images | CPU s | wall s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method in methods:
        if of[method]:
            lines.append(_method_line(method, list(of[method].values()), metric))
    pairs = []
    for other in (method for method in methods if method != ours):
        shared = sorted(set(of.get(ours, {})) & set(of[other]))
        if len(shared) >= 2:
            pairs.append(
                (other, shared, np.array([of[ours][seed][metric] - of[other][seed][metric] for seed in shared]))
            )
    if not pairs:
        return lines
    raw = [signed_rank(difference) for _, _, difference in pairs]
    lines += [
        "",
        f"| paired, {ours} less | pairs | {metric}, mean [95%] | loss | wins–losses | Wilcoxon p | Holm |",
        "|---|---|---|---|---|---|---|",
    ]
    for (other, shared, difference), p, corrected in zip(pairs, raw, holm(raw), strict=True):
        low, high = bootstrap_interval(difference)
        loss = np.mean([of[ours][seed]["nll"] - of[other][seed]["nll"] for seed in shared])
        lines.append(
            f"| {other} | {len(shared)} | {difference.mean():+.4f} [{low:+.4f}, {high:+.4f}] | {loss:+.4f} | "
            f"{(difference > 0).sum()}–{(difference < 0).sum()} | {p:.3f} | {corrected:.3f} |"
        )
    least = 2.0 ** (1 - min(len(shared) for _, shared, _ in pairs))
    lines += [
        "",
        f"The least p that so few pairs can give is {least:.3g}, after Holm {min(1.0, len(pairs) * least):.3g}. Splits "
        "of one data set overlap: intervals speak of seeds and splits of these images, not of other images.",
    ]
    return lines


def _method_line(method: str, rows: list[Row], metric: str) -> str:
    values = np.array([row[metric] for row in rows])
    low, high = bootstrap_interval(values)
    images = [row["images"] for row in rows]
    off = sum(not row["within_budget"] for row in rows)
    mean = {name: np.mean([row[name] for row in rows]) for name in ("nll", "nll_untempered", "cpu_seconds", "seconds")}
    return (
        f"| {method} | {len(rows)} | {values.mean():.4f} [{low:.4f}, {high:.4f}] | {mean['nll']:.4f} | "
        f"{mean['nll_untempered']:.4f} | {min(images)}–{max(images)}{f' ({off} under budget)' if off else ''} | "
        f"{mean['cpu_seconds']:.0f} | {mean['seconds']:.0f} |"
    )
