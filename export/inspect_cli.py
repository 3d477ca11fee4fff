"""``gensoup export --inspect``: what is in a bundle, on the terminal and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gensoup.export.stated import PARITY, built_of, flat, metric_rows, parity_rows

if TYPE_CHECKING:
    from rich.console import Console

    from gensoup.export.inspection import Inspection


def show_bundle(path: Path, json_out: Path | None, require_signature: Path | None) -> None:
    """Print what :func:`gensoup.export.inspection.inspect_bundle` finds, and write it to ``json_out``."""
    from rich.console import Console

    from gensoup.export.inspection import inspect_bundle
    from gensoup.runtime.files import check_outputs, write_atomic

    check_outputs({"--json": json_out}, (path, require_signature))
    found = inspect_bundle(path, require_signature)
    if json_out is not None:
        write_atomic(json_out, json.dumps(found.to_dict(), indent=2, ensure_ascii=False) + "\n")
    console = Console()
    _line(console, f"{path}: {found.bundle.size / 1e6:.2f} MB, sha256 {found.bundle.sha256}")
    _show_signatures(console, found)
    _show_members(console, found)
    _show_manifest(console, found)
    _show_graphs(console, found)
    if found.card_head:
        _line(console, f"\ncard.md begins\n\n{found.card_head}")


def _show_signatures(console: Console, found: Inspection) -> None:
    if not found.signatures:
        _line(console, "not signed: its hashes show damage, not tampering")
    states = {
        True: "holds",
        False: "DOES NOT HOLD: altered after signing",
        None: "not checked, pip install 'gensoup[sign]'",
    }
    for signature in found.signatures:
        _line(console, f"signed by {signature.key}: {states[signature.holds]}")
    if any(signature.holds for signature in found.signatures):
        _line(console, "whose key that is, --require-signature KEY.pub tells, not the bundle")


def _show_members(console: Console, found: Inspection) -> None:
    table = _table("member", "bytes", "SHA-256")
    for name, (size, digest) in found.bundle.members.items():
        table.add_row(name, f"{size:,}", digest)
    console.print(table)


def _show_manifest(console: Console, found: Inspection) -> None:
    from gensoup.bench.claims import CLAIM, claim_line

    manifest = found.bundle.manifest
    steps = manifest.preprocess
    rows = {
        "schema version": str(manifest.schema_version),
        "architecture": manifest.architecture,
        "labels": ", ".join(manifest.labels),
        "preprocess": f"{steps.size} px, {steps.fit}, {steps.resize}, crop box {list(steps.crop_box)}",
        "multiply-adds": f"{manifest.macs:,}",
        "parameters": f"{manifest.parameters:,}",
        "thresholds": ", ".join(f"{label} {value:.3f}" for label, value in manifest.thresholds.items()) or "none",
        **dict(flat(manifest.saliency, "saliency")),
    }
    provenance = dict(manifest.provenance)
    if isinstance(claim := provenance.pop(CLAIM, None), dict):
        rows["chosen for"] = claim_line(claim)
    _print_rows(console, ("manifest", ""), rows.items())
    _print_rows(console, ("metrics", "value", "95% interval"), metric_rows(manifest.metrics))
    _print_rows(console, ("provenance", ""), flat(provenance))
    _print_rows(console, ("parity", *PARITY.values()), parity_rows(manifest.precisions))
    for precision, reached in manifest.precisions.items():
        _print_rows(console, (f"precision: {precision}", ""), flat(built_of(reached)))


def _print_rows(console: Console, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table, unless it would be empty."""
    table = _table(*head)
    for row in rows:
        table.add_row(*map(_plain, row))
    if table.row_count:
        console.print(table)


def _show_graphs(console: Console, found: Inspection) -> None:
    if found.graphs_missing:
        _line(console, f"the graphs are not shown: {found.graphs_missing}")
    for precision, graph in found.graphs.items():
        table = _table(f"graph: {precision}", "")
        table.add_row("inputs", _plain(_pairs(graph.inputs)))
        table.add_row("outputs", _plain(_pairs(graph.outputs)))
        table.add_row("operators", _plain(_pairs(graph.operators)))
        macs = "unknown (a shape is not static)" if graph.macs is None else f"{graph.macs:,}"
        table.add_row("multiply-adds", f"{macs}, of convolutions and matrix products")
        table.add_row("numbers in weights", f"{graph.parameters:,}")
        for group, counts in graph.groups.items():
            table.add_row(_plain(group), _plain(_pairs(counts)))
        console.print(table)


def _table(*columns: str) -> Any:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE)
    for column in columns:
        table.add_column(column, overflow="fold", justify="right" if column == "bytes" else "left")
    return table


def _line(console: Console, text: str) -> None:
    clean = "\n".join("".join(sign for sign in line if sign.isprintable()) for line in text.split("\n"))
    console.print(clean, markup=False, highlight=False, soft_wrap=True)


def _plain(text: str) -> Any:
    """Foreign text as it is: neither markup nor anything that steers the terminal."""
    from rich.text import Text

    return Text("".join(sign if sign.isprintable() else " " for sign in text))


def _pairs(values: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
