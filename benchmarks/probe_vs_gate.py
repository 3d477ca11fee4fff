"""How well does a probe predict the gate? Both for each graph of a kit, on each engine, one after the other.

    gensoup export --probe-kit kit --size 96,160,224
    python benchmarks/probe_vs_gate.py kit --out benchmarks/results/probe_vs_gate.jsonl [--engine onnxruntime-cpu] \
        [--precision fp32] [--min-fps 64] [--rounds 1]
    python benchmarks/probe_vs_gate.py --report benchmarks/results/probe_vs_gate.jsonl

The probe is ``gensoup probe``'s (until its interval leaves no doubt about .85 of the limit), the gate is ``gensoup
bench``, tier quick, on a bundle around the same graph: both as a user calls them, each in processes of its own. Graphs
come in an order drawn at random, so that what else the machine does meets small and large alike. A line of JSON a pair;
called again it goes on with what is missing.

The report tells how measured times go together (rank correlation), how they compare (the gate's over the probe's:
geometric mean, 95% interval by a bootstrap over pairs), and how often admitting agrees with PASS (95% interval of
Clopper and Pearson). INVALID is no answer and stands apart.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from gensoup.bench.device_profile import HEADROOM
from gensoup.bench.probe_kit import KitGraph, ProbeKit
from gensoup.bench.probe_plan import ProbePlan
from gensoup.bench.probe_process import probe_apart
from gensoup.bench.probe_run import engines_named
from gensoup.runtime.bundle import MODEL_FILES, write_bundle
from gensoup.runtime.engines import load_engine
from gensoup.runtime.errors import EngineError
from gensoup.runtime.golden import Golden
from gensoup.runtime.manifest import Manifest
from gensoup.runtime.sources.synthetic import SyntheticEndoscope

Row = dict[str, Any]
# Name → where the probe has it and where the gate does; milliseconds.
TIMES = {
    "engine p50": (("engine_ms", "p50_ms"), ("stages_ms", "engine", "p50")),
    "engine p99": (("engine_ms", "p99_ms"), ("stages_ms", "engine", "p99")),
    "frame p50": (("p50_ms",), ("latency_ms", "p50")),
    "frame p95": (("p95_ms",), ("latency_ms", "p95")),
    "frame p99": (("p99_ms",), ("latency_ms", "p99")),
}
RESAMPLES = 4000


def bundle_of(kit: ProbeKit, graph: KitGraph, path: Path) -> None:
    """Write a bundle around an untrained graph, and its fp32 sibling that no bundle is without.

    Its golden outputs are the reference engine's, to be met within 1: whether an engine is exact is not the question.
    """
    siblings = [one for one in kit.graphs if (one.architecture, one.size) == (graph.architecture, graph.size)]
    models = {one.precision: kit.read(one) for one in siblings if one.precision in ("fp32", graph.precision)}
    engine = load_engine(models["fp32"])
    cameras = tuple(SyntheticEndoscope(1, "polyp", *size).frame(0.0) for size in ((97, 131), (1080, 1920)))
    frames = np.stack([graph.preprocess(camera) for camera in cameras])
    golden = Golden(cameras, frames, np.stack([engine.infer(frame) for frame in frames]))
    stated = {"engine": engine.name, "reference": "itself", "tolerance": 1.0}
    manifest = Manifest(
        labels=tuple(f"class {number}" for number in range(kit.classes)),
        preprocess=graph.preprocess,
        architecture=graph.architecture,
        macs=graph.macs,
        parameters=graph.parameters,
        precisions={name: {"member": MODEL_FILES[name], **stated} for name in models},
    )
    write_bundle(path, manifest, models, golden)


def gate(bundle: Path, engine: str, precision: str, min_fps: float) -> Row:
    """What ``gensoup bench --json`` says. Raises EngineError when it gives no verdict."""
    verdict = bundle.with_suffix(".json")
    verdict.unlink(missing_ok=True)
    command = [sys.executable, "-m", "gensoup", "bench", str(bundle), "--engine", engine, "--precision", precision]
    command += ["--min-fps", repr(min_fps), "--json", str(verdict)]
    done = subprocess.run(command, capture_output=True, text=True)
    if not verdict.exists():
        raise EngineError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "gensoup bench said nothing")
    values = json.loads(verdict.read_text())
    kept = ("verdict", "reason", "rate_hz", "frames", "misses", "drops", "latency_ms", "stages_ms", "taken_fraction")
    return {name: values[name] for name in kept if name in values}


def measure(
    kit: ProbeKit, out: Path, engines: Sequence[str], precisions: Sequence[str], fps: float, rounds: int
) -> None:
    """Append a row for each pair that ``out`` lacks."""
    jobs = [
        (number, graph, engine)
        for number in range(rounds)
        for graph in kit.graphs
        for engine in engines
        if graph.precision in precisions
    ]
    random.Random(0).shuffle(jobs)
    done = {(row["round"], row["key"], row["engine"], row["rate_hz"]) for row in rows_of(out)}
    plan = ProbePlan(fps)
    for count, (number, graph, engine) in enumerate(jobs, 1):
        if (number, graph.key, engine, fps) in done:
            continue
        row: Row = {"round": number, "key": graph.key, "engine": engine, "rate_hz": fps, "bound_ms": plan.bound_ms}
        try:
            with tempfile.TemporaryDirectory() as folder:
                row["probe"] = probe_apart(kit, graph, engine, plan, lambda share: None).to_dict()
                bundle_of(kit, graph, Path(folder) / "probed.gensoup")
                row["gate"] = gate(Path(folder) / "probed.gensoup", engine, graph.precision, fps)
        except EngineError as error:
            row["failed"] = str(error)
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        told = row.get("failed") or f"probe p99 {row['probe']['p99_ms']}, gate {row['gate']['verdict']}"
        print(f"{count}/{len(jobs)} {graph.key} {engine}: {told}", file=sys.stderr, flush=True)


def rows_of(path: Path) -> list[Row]:
    """The rows so far; a last line that was cut off is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


def value_at(values: Mapping[str, Any], path: Sequence[str]) -> float:
    """A time in milliseconds; infinite where it is null, for frames were dropped."""
    for name in path:
        values = values[name]
    return math.inf if values is None else float(values)  # type: ignore[arg-type]


def ratio(probe: Sequence[float], gate: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean of gate over probe, and its 95% interval by a bootstrap over pairs."""
    logs = np.log(np.asarray(gate) / np.asarray(probe))
    drawn = np.random.default_rng(0).choice(logs, (RESAMPLES, len(logs))).mean(axis=1)
    low, high = np.exp(np.percentile(drawn, [2.5, 97.5]))
    return float(np.exp(logs.mean())), float(low), float(high)


def agreement(rows: Sequence[Row]) -> dict[str, int]:
    """How often each answer of the probe met each of the gate; INVALID counts apart."""
    counts = dict.fromkeys(("admitted, PASS", "admitted, FAIL", "refused, PASS", "refused, FAIL", "INVALID"), 0)
    for row in rows:
        verdict = row["gate"]["verdict"]
        admitted = value_at(row["probe"], ("p99_ms",)) <= row["bound_ms"]
        counts[verdict if verdict == "INVALID" else f"{'admitted' if admitted else 'refused'}, {verdict}"] += 1
    return counts


def report(rows: Sequence[Row]) -> str:
    """Markdown tables, an engine at a time and over all."""
    whole = [row for row in rows if "failed" not in row]
    lines = []
    engines = sorted({row["engine"] for row in whole})
    for title, mine in [
        *((name, [row for row in whole if row["engine"] == name]) for name in engines),
        *([("all engines", whole)] if len(engines) > 1 else []),
    ]:
        lines += [f"### {title}: {len(mine)} pairs", "", "| time | pairs | rank correlation | gate / probe [95%] |"]
        lines += ["|---|---|---|---|"]
        for name, (of_probe, of_gate) in TIMES.items():
            pairs = [(value_at(row["probe"], of_probe), value_at(row["gate"], of_gate)) for row in mine]
            known = [pair for pair in pairs if all(map(math.isfinite, pair))]
            if len(known) < 3:
                lines.append(f"| {name} | {len(known)} | – | – |")
                continue
            first, second = zip(*known, strict=True)
            middle, low, high = ratio(first, second)
            correlation = stats.spearmanr(first, second).statistic
            lines.append(f"| {name} | {len(known)} | {correlation:.3f} | {middle:.3f} [{low:.3f}, {high:.3f}] |")
        counts = agreement(mine)
        judged = sum(counts.values()) - counts["INVALID"]
        same = counts["admitted, PASS"] + counts["refused, FAIL"]
        lines += ["", "; ".join(f"{name}: {count}" for name, count in counts.items())]
        if judged:
            interval = stats.binomtest(same, judged).proportion_ci(0.95, "exact")
            lines.append(
                f"The probe (p99 within {HEADROOM} of the limit) and the gate agree on {same} of {judged}: "
                f"{same / judged:.1%} [{interval.low:.1%}, {interval.high:.1%}]."
            )
        for row in mine:
            admitted = value_at(row["probe"], ("p99_ms",)) <= row["bound_ms"]
            if row["gate"]["verdict"] == ("FAIL" if admitted else "PASS"):
                lines.append(
                    f"* {row['key']}, {row['engine']}: probe p99 {row['probe']['p99_ms'] or math.inf:.1f} ms, "
                    f"{'admitted' if admitted else 'refused'}; gate {row['gate']['verdict']}: {row['gate']['reason']}"
                )
        lines.append("")
    if failed := [row for row in rows if "failed" in row]:
        lines += ["Failed: " + ", ".join(f"{row['key']} {row['engine']}" for row in failed), ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kit", type=Path, nargs="?")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--engine", default="all")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--min-fps", type=float, default=64.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    if options.report is not None:
        print(report(rows_of(options.report)))
        return
    if options.kit is None or options.out is None:
        parser.error("KIT and --out, or --report FILE")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    precisions = options.precision.split(",")
    kit = ProbeKit.load(options.kit)
    measure(kit, options.out, engines_named(options.engine), precisions, options.min_fps, options.rounds)
    print(report(rows_of(options.out)))


if __name__ == "__main__":
    main()
