"""What an audit's numbers mean: one plain line each, and the thresholds behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gensoup.train.audit import ASPECT_FACTOR, SMALL_SHARE, Audit
from gensoup.train.border import BORDER_SHARE, BorderReading
from gensoup.train.duplicates import LEAST_CORRELATION, Pair
from gensoup.train.roles import NEAR_DUPLICATE_BITS

IMBALANCE_LIMIT = 10.0
LARGEST_GROUP_LIMIT = 0.1
BORDER_LIMIT = 0.2
CLASS_LIMIT = 0.3

THRESHOLDS = (
    f"look-alikes: perceptual hashes at most {NEAR_DUPLICATE_BITS} of 64 bits apart, and a correlation of at least "
    f"{LEAST_CORRELATION:g} between the middles of the frames",
    f"imbalance: largest class at least {IMBALANCE_LIMIT:g} × the smallest",
    f"sizes: aspect ratio {ASPECT_FACTOR:g} × off the median, or shorter side under {SMALL_SHARE:g} × the median",
    f"groups: one of them holds over {LARGEST_GROUP_LIMIT:.0%} of the images",
    f"border: the 95% interval of its MCC lies above {BORDER_LIMIT:g}, or above {CLASS_LIMIT:g} for one class against "
    "all others",
)


@dataclass(frozen=True)
class Finding:
    """One thing to know. ``problem`` (a broken file, a pair in two classes, a leak) fails ``--strict``."""

    kind: Literal["broken", "cross-class", "leak", "roles", "groups", "imbalance", "duplicates", "sizes", "border"]
    level: Literal["problem", "warning", "note"]
    text: str


def findings_of(audit: Audit) -> tuple[Finding, ...]:
    """Everything in an audit that is worth a line, the gravest first."""
    found = [*_problems(audit), *_warnings(audit), *_sizes(audit), *_border(audit.border)]
    order = ("problem", "warning", "note")
    return tuple(sorted(found, key=lambda finding: order.index(finding.level)))


def _problems(audit: Audit) -> list[Finding]:
    found = []
    if audit.broken:
        file, reason = next(iter(audit.broken.items()))
        text = f"{_count(len(audit.broken), 'image')} cannot be read and would be skipped: {file} ({reason})"
        found.append(Finding("broken", "problem", text))
    if audit.across_classes.pairs:
        text = (
            f"{_count(audit.across_classes.pairs, 'pair')} of look-alikes in two classes, where one label must be "
            f"wrong or the classes cannot be told apart: {_named(audit.across_classes.nearest)}"
        )
        found.append(Finding("cross-class", "problem", text))
    if audit.across_groups.pairs:
        text = (
            f"{_count(audit.across_groups.pairs, 'pair')} of look-alikes in different groups of groups.csv, "
            f"{audit.across_roles.pairs:,} of them in different roles (seed {audit.seed}), so scores flatter; "
            f"give each pair one group: {_named(audit.across_groups.nearest)}"
        )
        found.append(Finding("leak", "problem", text))
    return found


def _warnings(audit: Audit) -> list[Finding]:
    found = []
    if isinstance(audit.roles, str):
        found.append(Finding("roles", "warning", f"training would refuse this folder: {audit.roles}"))
    usable = sum(count.images for count in audit.classes.values())
    if audit.largest_group > LARGEST_GROUP_LIMIT * usable:
        text = (
            f"one group ({audit.grouped_by}) holds {audit.largest_group:,} of {usable:,} images, "
            "so scores hang on where it falls"
        )
        found.append(Finding("groups", "warning", text))
    if audit.imbalance is not None and audit.imbalance >= IMBALANCE_LIMIT:
        text = (
            f"the largest class has {audit.imbalance:.1f} × the images of the smallest; "
            f"the {len(audit.classes)} classes are as spread as {audit.effective_classes:.1f} equal ones"
        )
        found.append(Finding("imbalance", "warning", text))
    if audit.same_bytes:
        extra = sum(len(cluster) - 1 for cluster in audit.same_bytes)
        text = f"{_count(extra, 'file')} more than once, byte for byte: {', '.join(audit.same_bytes[0][:2])}"
        found.append(Finding("duplicates", "warning", text))
    if audit.unmatched_groups:
        lines = _count(audit.unmatched_groups, "line")
        found.append(Finding("groups", "warning", f"{lines} of groups.csv name no image of this folder"))
    if audit.ungrouped:
        images = _count(audit.ungrouped, "image")
        found.append(Finding("groups", "note", f"{images} in no line of groups.csv, each counts as a group of its own"))
    return found


def _sizes(audit: Audit) -> list[Finding]:
    found = []
    sizes = audit.sizes
    if sizes.odd_aspect:
        text = (
            f"{_count(len(sizes.odd_aspect), 'image')} with an aspect ratio far from the median "
            f"{sizes.median_aspect:.2f} ({sizes.aspects[0]:.2f} to {sizes.aspects[1]:.2f}), "
            f"and stretching makes that visible: {sizes.odd_aspect[0]}"
        )
        found.append(Finding("sizes", "warning", text))
    if sizes.small:
        text = f"{_count(len(sizes.small), 'image')} much smaller than the median: {sizes.small[0]}"
        found.append(Finding("sizes", "warning", text))
    if sizes.distinct > 1:
        height, width, count = sizes.commonest[0]
        text = f"{sizes.distinct:,} image sizes; {width} × {height} is the commonest ({_count(count, 'image')})"
        found.append(Finding("sizes", "note", text))
    return found


def _border(reading: BorderReading | str) -> list[Finding]:
    if isinstance(reading, str):
        return [Finding("border", "note", f"border {reading}")]
    border, whole = reading.border, reading.whole
    numbers = (
        f"MCC {border.mcc:.2f} [{border.low:.2f}, {border.high:.2f}] from the outer {BORDER_SHARE:.0%} of the frame "
        f"alone (0 is guessing; the whole thumbnail gives {whole.mcc:.2f} to the same model)"
    )
    label, clearest = max(reading.classes.items(), key=lambda item: item[1].low)
    if border.low <= BORDER_LIMIT and clearest.low <= CLASS_LIMIT:
        return [Finding("border", "note", f"{numbers}: no sign that the border gives the class away")]
    part, part_mcc = max(reading.parts.items(), key=lambda item: item[1])
    text = (
        f"{numbers}: the border gives the class away, most of all {part} ({part_mcc:.2f}) and '{label}' "
        f"({clearest.mcc:.2f} against all others). Unless the finding itself lies there, a network can read overlays "
        "or the frame's shape instead of the mucosa and fail on another endoscope: mask or crop them alike in every "
        "class, and look at saliency maps"
    )
    return [Finding("border", "warning", text)]


def _named(pairs: tuple[Pair, ...]) -> str:
    pair = pairs[0]
    how = "equal bytes" if pair.same_bytes else f"correlation {pair.correlation:.2f}"
    return f"{pair.first} and {pair.second} ({how})"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
