"""Reading result files, and comparing those of a kind with each other."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gensoup.bench.compare_bench import compare_bench
from gensoup.bench.compare_eval import compare_eval
from gensoup.bench.comparison import TOLERANCE, Comparison, Result, ResultKind
from gensoup.bench.json_kind import kind_of
from gensoup.bench.measurement import Measurement
from gensoup.bench.result_file import read_json, trace_of
from gensoup.bench.verdict import check_schema
from gensoup.runtime.errors import DataError, UsageError

_REMEDY = "give what `gensoup bench --json` or `gensoup eval --json` wrote"


def read_results(paths: Sequence[Path]) -> list[Result]:
    """Results by kind and name. Raises UsageError for fewer than two of a kind, DataError for what is no result."""
    read = [(path, *_read(path)) for path in paths]
    for kind in ("bench", "eval"):
        mine = [path for path, found, _ in read if found == kind]
        if len(mine) == 1:
            raise UsageError(f"{mine[0]}: the only result of `gensoup {kind}`; compare two or more of a kind")
    if not read:
        raise UsageError(f"nothing to compare; {_REMEDY}")
    return [
        Result(name, path, kind, values)
        for name, (path, kind, values) in zip(_names([path for path, _, _ in read]), read, strict=True)
    ]


def compare(results: Sequence[Result], tolerance: float = TOLERANCE) -> tuple[list[Comparison], dict[str, Measurement]]:
    """A comparison for each kind of result, bench first, and the traces that were found, by the results' names."""
    comparisons: list[Comparison] = []
    found: dict[str, Measurement] = {}
    if bench := [result for result in results if result.kind == "bench"]:
        traces = [trace_of(result.path, dict(result.values)) for result in bench]
        found = {one.name: trace for one, trace in zip(bench, traces, strict=True) if trace is not None}
        comparisons.append(_whole(bench, lambda: compare_bench(bench, traces, tolerance)))
    if evaluated := [result for result in results if result.kind == "eval"]:
        comparisons.append(_whole(evaluated, lambda: compare_eval(evaluated)))
    return comparisons, found


def _whole(results: Sequence[Result], made: Any) -> Comparison:
    try:
        comparison: Comparison = made()
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        named = ", ".join(str(result.path) for result in results)
        raise DataError(f"{named}: one of them is damaged ({error!r}); {_REMEDY}") from error
    return comparison


def _read(path: Path) -> tuple[ResultKind, Mapping[str, Any]]:
    if zipfile.is_zipfile(path):
        what = "a trace" if path.suffix == ".npz" else "a bundle"
        raise UsageError(f"{path}: is {what}; measure it with `gensoup bench BUNDLE --json` and compare the results")
    values = read_json(path)
    if isinstance(values, dict) and "confusion_matrix" in values and "data_fingerprint" in values:
        return "eval", values
    if isinstance(values, dict) and "verdict" in values:
        return "bench", check_schema(values, path)
    kind = kind_of(values)
    raise DataError(f"{path}: {f'is {kind}, ' if kind else ''}not a result to compare; {_REMEDY}")


def _names(paths: Sequence[Path]) -> list[str]:
    """The files' stems, with as many folders as it takes to tell them apart; numbered where nothing else does."""
    for depth in range(4):
        names = [
            "/".join([*path.resolve().parent.parts[-depth:], path.stem] if depth else [path.stem]) for path in paths
        ]
        if len(set(names)) == len(names):
            return names
    return [f"{path.stem} ({number})" for number, path in enumerate(paths, 1)]
