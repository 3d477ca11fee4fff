"""One run: from a folder of images to a run folder with one fused, scored and timed network."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gensoup.bench.dataset import LabelledFolder
from gensoup.bench.roles import ROLES_FILE, read_roles, write_roles
from gensoup.export.run_files import METRICS_FILE, MODEL_FILE, check_finished
from gensoup.runtime.console import StageProgress
from gensoup.runtime.errors import GenSoupError, UsageError, WriteError
from gensoup.runtime.files import write_atomic
from gensoup.runtime.preprocess import Preprocess
from gensoup.train.conclusion import conclude
from gensoup.train.constraint import Admission, admit
from gensoup.train.database import Database, PostgresStudy, database_of
from gensoup.train.executor import Executor, Inline
from gensoup.train.finish import finish
from gensoup.train.image_cache import ImageCache
from gensoup.train.individual import RoleData, Trainer
from gensoup.train.ledger import Ledger
from gensoup.train.meter import ImageMeter
from gensoup.train.remarks import remarks, remarks_on_alphabet
from gensoup.train.run_folder import CACHE, CONFIG_FILE, check_out, held
from gensoup.train.run_profile import GIVEN_FILE, PROFILE_FILE, RunProfile
from gensoup.train.search import evolve
from gensoup.train.settings import Settings
from gensoup.train.split import split_folder

ALPHABET_FILE = "alphabet.json"


def train_run(
    settings: Settings,
    out: Path,
    *,
    resume: bool = False,
    profile: Path | None = None,
    cache: ImageCache | None = None,
    executor: Executor | None = None,
    ledger: str | None = None,
    progress: StageProgress,
) -> dict[str, Any]:
    """Search, fuse, score and time; returns what ``metrics.json`` holds.

    out: the run folder, new or empty, unless ``resume``; a finished run is returned as it is. profile: a device profile
    to take instead of probing this machine. cache: where decoded images are kept for later runs; None keeps none.
    executor: what trains a generation's individuals, None: this process, one after the other. ledger: address of a
    PostgreSQL database, None: as the run began, else the run folder. Raises GenSoupError and
    its kinds for whatever a user can mend; of them WriteError leaves a run to go on with once there is room, as far as
    it came. On a CPU the same settings, threads and build of PyTorch give the same weights bit for bit, resumed or not;
    on a GPU within rounding.
    """
    folder = LabelledFolder.open(settings.data)
    check_out(out, resume)
    database = database_of(out, ledger)
    if isinstance(database, PostgresStudy):
        database.reach()  # now, and not only once images are decoded and networks probed
    made = not out.exists()
    with held(out):
        return _train(settings, out, folder, resume, made, profile, cache, executor or Inline(), database, progress)


def _train(
    settings: Settings,
    out: Path,
    folder: LabelledFolder,
    resume: bool,
    made: bool,
    profile: Path | None,
    cache: ImageCache | None,
    executor: Executor,
    database: Database,
    progress: StageProgress,
) -> dict[str, Any]:
    """The run itself, in a folder that this process holds. made: whether the folder is this call's own."""
    new, fingerprint = not (out / CONFIG_FILE).exists(), folder.fingerprint()
    _open_run_folder(settings, out, fingerprint, resume)
    if (out / METRICS_FILE).exists() and (out / MODEL_FILE).exists():
        return read_metrics(out)
    started = time.monotonic()
    torch.set_num_threads(settings.threads)
    try:
        try:
            run_profile = RunProfile(out, settings, profile)
            admission = admit(settings, len(folder.labels), run_profile, progress)
            _same_alphabet(out, admission)
            steps = _steps(settings, admission)
            split = split_folder(folder, steps, settings.roles, settings.seed, out / CACHE, progress, cache)
        except WriteError:
            raise
        except GenSoupError:
            if new:
                _clear(out, made)
            raise
        _same_roles(out, split.files_of_roles())
        data = RoleData(split.examples, len(folder.labels))
        about = {
            "labels": list(folder.labels),
            "data_fingerprint": fingerprint,
            "settings": settings.to_dict(),
        }
        notes = [*remarks(settings), *remarks_on_alphabet(settings, admission), *run_profile.notes]
        with ImageMeter(one.name for one in admission.candidates) as meter:
            trainer = Trainer(settings, admission, data, Ledger(out, about, started, database), meter)
            ranked = evolve(trainer, executor, progress)
            finished = finish(trainer, executor, ranked, run_profile, progress)
            metrics = conclude(out, split, trainer, finished, fingerprint, notes, run_profile, progress)
        metrics["device"] = dict(run_profile.profile.device)
        metrics["seconds"] = round(trainer.ledger.seconds, 1)
        write_atomic(out / METRICS_FILE, json.dumps(metrics, indent=1, ensure_ascii=False))
    finally:
        shutil.rmtree(out / CACHE, ignore_errors=True)  # patients' images; decoded again when resumed
    return read_metrics(out)


def read_metrics(run: Path) -> dict[str, Any]:
    """``metrics.json`` of a finished run. Raises DataError when it is not finished, GenSoupError when it is damaged."""
    check_finished(run, METRICS_FILE)
    try:
        values: dict[str, Any] = json.loads((run / METRICS_FILE).read_text(encoding="utf-8"))
        return values
    except (OSError, ValueError) as error:
        raise GenSoupError(f"{run / METRICS_FILE}: cannot be read ({error}); put a copy back or train again") from error


def _open_run_folder(settings: Settings, out: Path, fingerprint: str, resume: bool) -> None:
    check_out(out, resume)  # again: another process may have begun one before this one held the folder
    if (out / CONFIG_FILE).exists():
        before, seen = Settings.load(out)
        if seen != fingerprint:
            raise UsageError(
                f"--resume: the images in {settings.data} have changed since the run began; start a new one"
            )
        # Where images and weights lie may change: what is in them is checked by fingerprint and digest.
        placed = replace(settings, data=before.data, weights_dir=before.weights_dir)
        if different := before.differences(placed):
            raise UsageError(f"--resume: the run in {out} has other settings ({'; '.join(different)})")
        return
    settings.save(out, fingerprint)


def _same_alphabet(out: Path, admission: Admission) -> None:
    """Keep what the genes stand for; refuse to go on where other architectures or weights are found than then."""
    path, found = out / ALPHABET_FILE, admission.identity()
    if not path.exists():
        write_atomic(path, json.dumps(found, indent=1))
        return
    try:
        before = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise GenSoupError(f"{path}: cannot be read ({error}); put a copy back or start a new run") from error
    if found != before:
        changed = sorted(name for name in {*found, *before} if found.get(name) != before.get(name))
        raise UsageError(
            f"--resume: {', '.join(changed)} came with other initial weights, or none, when the run began; "
            "give the same --weights-dir and network, or start a new run"
        )


def _same_roles(out: Path, found: dict[str, tuple[str, ...]]) -> None:
    """Keep which image serves for what; refuse to go on where an image that was usable then is not now, or the other
    way round: groups would be dealt anew, and what was trained on could become the test."""
    path = out / ROLES_FILE
    if not path.exists():
        write_roles(path, found)
        return
    before = read_roles(path)
    if before != found:
        was, now = ({file for files in roles.values() for file in files} for roles in (before, found))
        changed = ", ".join(sorted(was ^ now)[:3]) or "their groups"
        raise UsageError(f"--resume: other images can be read than when the run began ({changed}); start a new run")


def _clear(out: Path, made: bool) -> None:
    """Take back a run that ended before anything was trained, so that it is not in a corrected call's way."""
    for name in (CONFIG_FILE, PROFILE_FILE, GIVEN_FILE, ALPHABET_FILE):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / CACHE, ignore_errors=True)
    if made:
        with contextlib.suppress(OSError):
            out.rmdir()


def _steps(settings: Settings, admission: Admission) -> list[Preprocess]:
    """Every preprocessing of the run: to each deploy size and to the sizes that grow to it."""
    return [settings.preprocess(size) for size in settings.image_sizes(one.size for one in admission.candidates)]
