"""The file of ``gensoup bench --json``: the verdict, how certain its latencies are, and where its trace lies."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gensoup.bench.latency_bounds import Blocks, intervals
from gensoup.bench.measurement import Measurement
from gensoup.bench.verdict import Verdict, check_schema
from gensoup.runtime.errors import DataError
from gensoup.runtime.files import write_atomic

_MAX_BYTES = 32 << 20


@dataclass(frozen=True)
class TraceFile:
    """A measurement as it was saved. sha256: of the file's bytes."""

    path: Path
    sha256: str

    @classmethod
    def of(cls, path: Path) -> TraceFile:
        """The file as it is now. Raises DataError."""
        try:
            return cls(path, hashlib.sha256(path.read_bytes()).hexdigest())
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def bench_result(verdict: Verdict, measurement: Measurement, trace: TraceFile | None = None) -> dict[str, Any]:
    """Plain values for JSON, as ``schemas/bench.schema.json`` describes them."""
    bounds = intervals(Blocks.of(measurement.repetitions, verdict.limits.latency_ms))
    return {
        **verdict.to_dict(),
        "bundle": measurement.bundle,
        "latency_interval_ms": {name: [_plain(end) for end in ends] for name, ends in bounds.items()} or None,
        "trace": None if trace is None else {"file": trace.path.name, "sha256": trace.sha256},
    }


def write_bench_result(path: Path, values: dict[str, Any]) -> None:
    """Write JSON, atomically."""
    write_atomic(path, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """A JSON file of some command. Raises DataError, naming it."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise DataError(f"{path}: too large for a result of gensoup")
        return json.loads(text)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no JSON; give what `gensoup bench --json` or `gensoup eval --json` wrote") from error


def read_bench_result(path: Path) -> dict[str, Any]:
    """The inverse of :func:`write_bench_result`. Raises DataError, naming the file."""
    return check_schema(read_json(path), path)


def trace_of(path: Path, values: dict[str, Any]) -> Measurement | None:
    """The trace that a result names, where it lies beside it unchanged; None where there is none.

    Raises DataError for one that is another by now: it would speak of other frames.
    """
    told = values.get("trace")
    if not isinstance(told, dict):
        return None
    beside = path.parent / Path(str(told.get("file"))).name
    if not beside.is_file():
        return None
    if TraceFile.of(beside).sha256 != told.get("sha256"):
        raise DataError(f"{beside}: not the trace that {path} was judged from; move it away or measure again")
    return Measurement.load(beside)


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
