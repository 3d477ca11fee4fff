"""A run's events for TensorBoard, written from the ledger.

Each file is a pure function of the records, and what is written later only adds to its end. So a run that was killed
and resumed has neither lost nor repeated points, and a TensorBoard that is open meanwhile goes on where it was.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import histogram, hparams, scalar

from gensoup.runtime.files import write_atomic, write_error
from gensoup.train.ledger import Record
from gensoup.train.settings import HEAT

FOLDER = "tensorboard"
POPULATION = "population"
EVENTS_FILE = "events.out.tfevents.0.gensoup"
FILE_VERSION = "brain.Event:2"
SCORES = ("mcc", "accuracy", "macro_recall", "macro_specificity", "macro_f1", "calibration_error")


def write_events(run: Path, records: Sequence[Record], scores: Mapping[str, Mapping[str, Any]] | None = None) -> Path:
    """Write what ``records`` tell under ``run/tensorboard`` and return that folder.

    ``population``: by generation the best, median and worst MCC, the best likelihood loss, histograms of MCC and of
    each gene; by individual, in the order of places, MCC, loss and genes; branches one generation after the last; at
    the end ``final/ROLE/…`` from ``scores`` (role → metrics). A folder for each individual holds its recipe and
    outcome for the HParams tab. Give only records of finished generations. Times are seconds of training.
    Raises WriteError when the folder cannot be written.
    """
    ordered = sorted(records, key=_order)
    folder = run / FOLDER
    _extend(folder / POPULATION / EVENTS_FILE, _encoded(_population(ordered, scores or {})))
    for record in ordered:
        path = folder / record.name / EVENTS_FILE
        if not path.exists():  # a finished individual never changes
            write_atomic(path, _encoded(_individual(record)))
    return folder


def _order(record: Record) -> tuple[bool, tuple[str, int, int]]:
    return (record.place[0] not in (HEAT, "search"), record.place)


def _population(ordered: Sequence[Record], scores: Mapping[str, Mapping[str, Any]]) -> Iterator[Event]:
    seconds, images, best = 0.0, 0, -1.0
    last = max((record.place[1] for record in ordered if record.place[0] == "search"), default=-1)
    of_phase = {HEAT: lambda number: 0, "search": lambda number: number}
    steps = [of_phase.get(phase, lambda _: last + 1)(number) for phase, number, _ in (one.place for one in ordered)]
    for step in sorted(set(steps)):
        numbered = [(number, record) for number, record in enumerate(ordered) if steps[number] == step]
        mine = [record for _, record in numbered]
        for number, record in numbered:
            seconds += record.seconds
            for tag, value in _values(record).items():
                yield _event(scalar(f"individual/{tag}", value), number, seconds)
        images += sum(record.images for record in mine)
        done = [record for record in mine if record.scored and record.place[0] != HEAT]
        found: dict[str, float] = {"images": images, "failed": sum(not record.complete for record in mine)}
        if done:
            mcc = np.array([record.mcc for record in done])
            best = max(best, float(mcc.max()))
            found |= {"best mcc": best, "median mcc": float(np.median(mcc)), "worst mcc": float(mcc.min())}
            found |= {"best nll": min(record.nll for record in done)}
            yield _event(histogram("distribution/mcc", mcc, "auto"), step, seconds)
        for name in mine[0].genes:
            genes = np.array([record.genes[name] for record in mine if name in record.genes])
            yield _event(histogram(f"distribution/{name}", genes, "auto"), step, seconds)
        for name, value in found.items():
            yield _event(scalar(f"generation/{name}", value), step, seconds)
    for role, values in scores.items():
        for name in SCORES:
            yield _event(scalar(f"final/{role}/{name}", values[name]), last + 1, seconds)


def _individual(record: Record) -> Iterator[Event]:
    """The recipe and the outcome of one, as a session of the HParams tab."""
    outcome = {f"outcome/{name}": value for name, value in _values(record).items() if not name.startswith("gene/")}
    recipe = {**record.recipe, "size": record.size, "generation": record.place[1], "phase": record.place[0]}
    for summary in hparams(recipe, outcome):
        yield _event(summary, 0, 0.0)
    for name, value in outcome.items():
        yield _event(scalar(name, value), record.place[1], record.seconds)


def _values(record: Record) -> dict[str, float]:
    """What is drawn of one individual; no score of a failed one, which would look like one."""
    values = {f"gene/{name}": value for name, value in record.genes.items()}
    if record.scored:
        values |= {"mcc": record.mcc, "nll": record.nll, "temperature": record.temperature}
    return values | {"images": record.images, "seconds": record.seconds}


def _event(summary: Summary, step: int, seconds: float) -> Event:
    return Event(wall_time=seconds, step=step, summary=summary)


def _encoded(events: Iterator[Event]) -> bytes:
    """Events in TensorFlow's record format, after the header that TensorBoard asks for."""
    content = io.BytesIO()
    writer = RecordWriter(content)
    writer.write(Event(wall_time=0.0, file_version=FILE_VERSION).SerializeToString(deterministic=True))
    for event in events:
        writer.write(event.SerializeToString(deterministic=True))
    return content.getvalue()


def _extend(path: Path, content: bytes) -> None:
    """Make the file hold ``content``: what is missing is appended, since an open TensorBoard keeps reading the file
    that it opened. A file that already holds more (a resumed run's later generations) is left alone."""
    try:
        there = path.read_bytes() if path.exists() else b""
        if there.startswith(content):
            return
        if there and content.startswith(there):
            with path.open("ab") as file:
                file.write(content[len(there) :])
            return
    except OSError as error:
        raise write_error(path, error) from error
    write_atomic(path, content)
