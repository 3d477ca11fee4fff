"""What ``gensoup train`` and the demo print of a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def print_notes(metrics: dict[str, Any], console: Any, said: Sequence[str] = ()) -> None:
    """Name what of the folder was left out, and what may not be as the user thinks, but for what was said before."""
    lines = [f"skipped {file}: {reason}" for file, reason in metrics["skipped"].items()]
    for line in [*lines, *(note for note in metrics["notes"] if note not in said)]:
        console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)


def result_table(metrics: dict[str, Any]) -> Any:
    """A rich table of a run's result: what was excluded and why, the network, its scores with intervals."""
    from rich.markup import escape
    from rich.table import Table

    from gensoup.bench.same_device import device_name
    from gensoup.train.remarks import by_reason

    table = Table(show_header=False, title="Result of the search")
    for title, excluded in (("", metrics["excluded"]), (" when fused", metrics["over_the_limit_when_fused"])):
        for names, reason in by_reason(excluded):
            table.add_row(f"excluded{title}", escape(f"{names}: {reason}"))
    table.add_row("network", f"{metrics['architecture']} at {metrics['size']} px")
    table.add_row("multiply-adds, parameters", f"{metrics['macs'] / 1e6:.1f} M, {metrics['parameters'] / 1e6:.2f} M")
    table.add_row("soup", ", ".join(metrics["soup"]["ingredients"]))
    for role in ("search", "test"):
        scores = metrics["scores"][role]
        low, high = scores["intervals"]["mcc"]
        table.add_row(f"MCC on {role} ({scores['n']} images)", f"{scores['mcc']:.3f} [{low:.3f}, {high:.3f}]")
    if latency := metrics["latency_ms"]:
        text = ", ".join(f"{name[:3]} {latency[name]:.1f} ms" for name in ("p50_ms", "p95_ms", "p99_ms"))
        table.add_row("probed, a whole frame", text)
        table.add_row("probed on", escape(device_name(metrics.get("device") or {})))
    table.add_row("images through a network", f"{metrics['images_trained']:,} in {metrics['seconds']:.0f} s")
    return table


def ablation_notes(result: dict[str, Any]) -> list[str]:
    """The notes of each arm, and where the astrocytes never acted, that nothing was compared."""
    arms = result["arms"]
    lines = [f"{name}: {note}" for name, arm in arms.items() for note in arm["notes"]]
    if not arms["with"]["potentiated"] and not arms["with"]["attenuated"]:
        lines.append("with: no filter passed the threshold, so the three runs are the same; train longer")
    return lines


def ablation_table(result: dict[str, Any]) -> Any:
    """A rich table of the three runs and how they differ."""
    from rich.table import Table

    table = Table(title="Ablation: astrocytes")
    for column in ("arm", "network", "MCC on search", "MCC on test", "images", "strengthened", "weakened"):
        table.add_column(column)
    for name, arm in result["arms"].items():
        low, high = arm["test_interval"]
        table.add_row(
            name,
            arm["architecture"],
            f"{arm['search_mcc']:.3f}",
            f"{arm['test_mcc']:.3f} [{low:.3f}, {high:.3f}]",
            f"{arm['images']:,}",
            f"{arm['potentiated']:.1%}",
            f"{arm['attenuated']:.1%}",
        )
    shown = "; ".join(f"{value:+.3f} against {name}" for name, value in result["differences"].items())
    table.caption = f"MCC on test with astrocytes: {shown}. One run each: repeat with other seeds."
    return table
