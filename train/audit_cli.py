"""``gensoup data audit``: what is wrong, or only looks right, with a dataset folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from gensoup.train.audit import Audit
    from gensoup.train.duplicates import Pair
    from gensoup.train.findings import Finding

_PAIRS_SHOWN = 5
_COLOURS = {"problem": "bold red", "warning": "yellow", "note": "dim"}
EXIT_PROBLEMS = 1


def audit_command(
    data: Annotated[Path, typer.Argument(help="Labelled folder: one sub-folder a class, optionally groups.csv.")],
    seed: Annotated[int, typer.Option(min=0, help="Deals the roles as gensoup train --seed does.")] = 0,
    json: Annotated[Path | None, typer.Option("--json", help="Write everything measured to this file.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 on a leak, look-alikes in two classes or a broken file.")
    ] = False,
) -> None:
    """Report broken files, duplicates, leaks between groups, imbalance, and borders that give the class away."""
    from json import dumps

    from rich.console import Console

    from gensoup.bench.dataset import LabelledFolder
    from gensoup.runtime.console import stage_bars
    from gensoup.runtime.errors import MissingDependencyError, UsageError
    from gensoup.runtime.files import write_atomic

    try:
        import imagehash  # noqa: F401  used deep inside, where its absence would be told too late
        import sklearn  # noqa: F401

        from gensoup.train.audit import audit
        from gensoup.train.findings import THRESHOLDS, findings_of
    except ModuleNotFoundError as error:
        raise MissingDependencyError(error.name or "scikit-learn", "train") from error

    folder = LabelledFolder.open(data)
    if json is not None and json.resolve().is_relative_to(data.resolve()):
        raise UsageError(f"--json {json}: lies in the dataset folder, which is never written to; name another place")
    with stage_bars() as progress:
        result = audit(folder, seed, progress)
    findings = findings_of(result)
    console = Console()
    _show(console, result, findings, THRESHOLDS)
    if json is not None:
        report = {
            **result.to_dict(),
            "findings": [vars(finding) for finding in findings],
            "thresholds": list(THRESHOLDS),
        }
        write_atomic(json, dumps(report, indent=2, ensure_ascii=False) + "\n")
    if strict and any(finding.level == "problem" for finding in findings):
        raise typer.Exit(EXIT_PROBLEMS)


def _show(console: Console, audit: Audit, findings: tuple[Finding, ...], thresholds: tuple[str, ...]) -> None:
    from rich.markup import escape
    from rich.table import Table

    classes = Table("Class", title=f"{audit.files:,} images in {len(audit.classes)} classes")
    for name in ("Images", "Share", f"Groups ({audit.grouped_by})", "Broken", "Median size"):
        classes.add_column(name, justify="right")
    usable = sum(count.images for count in audit.classes.values())
    for label, count in audit.classes.items():
        height, width = count.median_size
        cells = (f"{count.images:,}", f"{count.images / usable:.1%}", f"{count.groups:,}", f"{count.broken:,}")
        classes.add_row(escape(label), *cells, f"{width} × {height}")
    console.print(classes)
    ratio = "no ratio (a class has no images)" if audit.imbalance is None else f"{audit.imbalance:.1f} : 1"
    _line(console, f"imbalance {ratio}; as spread as {audit.effective_classes:.1f} equal classes")
    _line(console, f"look-alikes: {audit.look_alikes:,} pairs, equal files: {len(audit.same_bytes):,} sets")

    if not isinstance(audit.roles, str):
        roles = Table("Role", title=f"Roles that training would deal (seed {audit.seed})")
        roles.add_column("Images", justify="right")
        roles.add_column("Fewest groups of a class", justify="right")
        for role, dealt in audit.roles.items():
            roles.add_row(role, f"{dealt.images:,}", f"{dealt.fewest_groups:,}")
        console.print(roles)
    if not isinstance(audit.border, str):
        _show_border(console, audit)
    for title, apart in (("in two classes", audit.across_classes), ("in two groups", audit.across_groups)):
        if apart.pairs:
            _show_pairs(
                console, f"Look-alikes {title} ({apart.pairs:,}), with the correlation of their middles", apart.nearest
            )
    if len(audit.broken) > 1:
        for file, reason in list(audit.broken.items())[:_PAIRS_SHOWN]:
            _line(console, f"broken: {file} ({reason})")
    for finding in findings:
        console.print(f"[{_COLOURS[finding.level]}]{finding.level}[/] ", end="")
        _line(console, f"{finding.kind}: {finding.text}")
    console.print("A line is a warning or problem from these thresholds on:", style="dim", highlight=False)
    for threshold in thresholds:
        console.print(f"  {threshold}", style="dim", markup=False, highlight=False, soft_wrap=True)


def _show_border(console: Console, audit: Audit) -> None:
    from rich.markup import escape
    from rich.table import Table

    reading = audit.border
    assert not isinstance(reading, str)
    table = Table("Seen by the model", "MCC", "95% interval", "Accuracy", title="Does the border give the class away?")
    table.add_row("always the commonest class", "0.00", "—", f"{reading.majority_accuracy:.3f}")
    for name, score in (("border alone", reading.border), ("whole thumbnail", reading.whole)):
        table.add_row(name, f"{score.mcc:.2f}", f"{score.low:.2f} … {score.high:.2f}", f"{score.accuracy:.3f}")
    for name, mcc in sorted(reading.parts.items(), key=lambda item: -item[1]):
        table.add_row(f"  border: {name} alone", f"{mcc:.2f}", "", "")
    for label, score in sorted(reading.classes.items(), key=lambda item: -item[1].mcc):
        name = f"  border: '{escape(label)}' against all others"
        table.add_row(name, f"{score.mcc:.2f}", f"{score.low:.2f} … {score.high:.2f}", f"{score.accuracy:.3f}")
    console.print(table)
    how = f"{reading.folds}-fold cross-validation that never splits a group or look-alikes"
    _line(console, f"{reading.images:,} images, {how}")
    if reading.left_out:
        _line(console, f"without classes of too few groups: {', '.join(reading.left_out)}")


def _show_pairs(console: Console, title: str, pairs: tuple[Pair, ...]) -> None:
    """Whole names, for a table would cut them."""
    console.print(title, style="bold", highlight=False)
    for pair in pairs[:_PAIRS_SHOWN]:
        how = "equal bytes" if pair.same_bytes else f"{pair.correlation:.3f}"
        _line(console, f"  {how}  {pair.first}  {pair.second}")
    if len(pairs) > _PAIRS_SHOWN:
        _line(console, "  … more with --json FILE")


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
