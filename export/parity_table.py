"""Parity on the terminal: a row an engine and precision, then what was built of what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from gensoup.export.parity_page import ParityReport


def show_parity(console: Console, report: ParityReport, refitted: bool = False) -> None:
    """Print it. refitted: whether the network was trained on the role ``soup`` in the end."""
    from rich.box import SIMPLE
    from rich.table import Table

    first = report.compared[0].parity
    console.print(f"parity with {first.reference} on {first.frames} validation images", markup=False, highlight=False)
    table = Table(box=SIMPLE)
    for heading in (
        "",
        "engine",
        "apart:\nlargest,\nmean",
        "labels\nagree",
        f"MCC on soup ({first.soup_frames}):\ntrained,\nengine",
    ):
        table.add_column(heading, overflow="fold")
    table.add_column("loss\n(95%)", justify="right")
    for parity in (one.parity for one in report.compared):
        before = _interval(parity.soup_mcc_reference, parity.soup_mcc_reference_interval)
        after = _interval(parity.soup_mcc_engine, parity.soup_mcc_engine_interval)
        table.add_row(
            parity.precision,
            parity.engine + (f"\nruns {_counts(parity.ran)}" if parity.ran else ""),
            f"{parity.largest_difference:.1e}\n{parity.mean_difference:.1e}",
            f"{parity.label_agreement:.1%}",
            f"{before}\n{after}",
            f"{parity.mcc_loss_upper:+.4f}",
        )
    console.print(table)
    if refitted:
        console.print(
            "the refit has trained on soup since: its MCC here compares engines, the report's is from before",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    for precision, built in report.built.items():
        kept = built.get("kept_in_fp32")
        console.print(
            f"{precision}: built with layers of {_counts(built['built'])}"
            + (f"; left in fp32: {', '.join(kept)}" if kept else ""),
            markup=False,
            highlight=False,
        )


def _counts(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items())


def _interval(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:.3f}" + ("" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]")
