"""A run that is killed at any instant or runs out of disk goes on with ``--resume`` and ends in the same bytes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from tensorboard.compat.proto.event_pb2 import Event

from gensoup.bench.roles import ROLES_FILE
from gensoup.export.run_files import METRICS_FILE, MODEL_FILE
from gensoup.runtime.files import is_temporary
from gensoup.train.conclusion import PREDICTIONS_FILE
from gensoup.train.database import DATABASE, STUDY
from gensoup.train.ledger import FOLDER
from gensoup.train.report import REPORT_FILE
from gensoup.train.run_folder import CACHE, CONFIG_FILE
from gensoup.train.tensorboard import FOLDER as EVENTS

ERROR, KILLED = 70, -signal.SIGKILL
KILLS, CHAIN, WRITE_KILLS = 20, 5, 8
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
CONFIG = "tiny.yaml"
TINY = """
sizes: 32
architectures: shufflenet_v2_x0_5
init: random
generations: 2
population: 2
branches: 2
branch_epochs: 1
refit_epochs: 1
batch_size: 16
threads: 1
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux: forks, mounts, /proc")


class ForkServer:
    """Runs the command line in copies of a process that has imported everything."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fork_server.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **ONE_THREAD},
        )
        assert self._answer() == "ready"

    def __call__(
        self, arguments: list[Any], log: Path, after: float | None = None, at: dict[str, Any] | None = None
    ) -> tuple[int, int]:
        """Exit status and operations on files (see there). after: seconds after which the run is killed."""
        request = {"arguments": [str(argument) for argument in arguments], "log": str(log)}
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({**request, **({"at": at} if at else {})}).encode() + b"\n")
        self._process.stdin.flush()
        pid = int(self._answer())
        if after is not None and not select.select([self._process.stdout], [], [], after)[0]:
            with contextlib.suppress(ProcessLookupError):  # it may end in this very instant
                os.kill(pid, signal.SIGKILL)
        status, count = self._answer().split()
        return int(status), int(count)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):  # unbuffered, for select to tell what has not been read
            byte = os.read(self._process.stdout.fileno(), 1)
            assert byte, "the fork server died"
            line += byte
        return line.decode().strip()


@pytest.fixture(scope="module")
def forked() -> Iterator[ForkServer]:
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, make_shapes: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("images")
    (folder / CONFIG).write_text(TINY, encoding="utf-8")
    return make_shapes(folder / "shapes", per_class=20)


@pytest.fixture(scope="module")
def whole(forked: ForkServer, images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float, int]:
    """An uninterrupted run, the seconds it took and its operations on files."""
    folder = tmp_path_factory.mktemp("whole")
    run = folder / "run"
    started = time.monotonic()
    status, count = forked(arguments(images, run), folder / "log", at={"folder": str(run)})
    assert status == 0, (folder / "log").read_text(encoding="utf-8")
    return run, time.monotonic() - started, count


def arguments(images: Path, run: Path) -> list[Any]:
    """``gensoup train``, going on with the run if it has begun."""
    options = ["--config", images.parent / CONFIG, *(["--resume"] if (run / CONFIG_FILE).exists() else [])]
    return ["train", images, "--out", run, "--no-cache", *options]  # so that a kill hits the decoding, too


def without_times(metrics: dict[str, Any]) -> dict[str, Any]:
    for one in metrics["individuals"]:
        del one["seconds"]
    del metrics["seconds"], metrics["summary"]["cost"]
    return metrics


def trials(run: Path) -> list[tuple[Any, ...]]:
    """What the ledger says but for times, by place; none twice, none unfinished."""
    found = optuna.load_study(study_name=STUDY, storage=f"sqlite:///{run / DATABASE}").trials
    assert {trial.state for trial in found} <= {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}
    names = [trial.user_attrs["name"] for trial in found]
    assert len(names) == len(set(names))
    kept = [{key: value for key, value in trial.user_attrs.items() if key != "seconds"} for trial in found]
    return sorted((one["name"], trial.value, trial.params, one) for one, trial in zip(kept, found, strict=True))


def points(run: Path) -> dict[str, list[tuple[int, list[str]]]]:
    """Step and tags of every event, by file: their values hold times."""
    found: dict[str, list[tuple[int, list[str]]]] = {}
    for path in sorted((run / EVENTS).rglob("events.*")):
        content, events = path.read_bytes(), []
        while content:  # length, its checksum, the event, its checksum
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            events.append((event.step, [value.tag for value in event.summary.value]))
            content = content[16 + length :]
        found[path.relative_to(run).as_posix()] = events
    return found


def assert_same(run: Path, whole: Path) -> None:
    for name in (MODEL_FILE, ROLES_FILE, PREDICTIONS_FILE):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    one, other = (
        without_times(json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))) for folder in (run, whole)
    )
    assert one == other
    assert trials(run) == trials(whole)
    assert points(run) == points(whole)
    weights = [
        {path.name: path.read_bytes() for path in (folder / FOLDER).glob("*.safetensors")} for folder in (run, whole)
    ]
    assert weights[0] == weights[1]
    assert (run / REPORT_FILE).stat().st_size > 10_000
    left = {path.name for path in run.iterdir()}
    assert left == {path.name for path in whole.iterdir()} and CACHE not in left
    assert not [path for path in run.rglob("*") if is_temporary(path)]


@pytest.mark.ordeal
@pytest.mark.slow
def test_killed_at_random_instants_it_ends_in_the_same_bytes(
    forked: ForkServer, whole: tuple[Path, float, int], images: Path, tmp_path: Path
) -> None:
    """Chains of five kills: the first process of a chain dies anywhere in the run, those that go on with it sooner."""
    done, seconds, _ = whole
    instants = random.Random(0)
    kills = chain = 0
    while kills < KILLS:
        run, status, chain, left = tmp_path / f"run{chain}", KILLED, chain + 1, min(CHAIN, KILLS - kills)
        while status == KILLED:
            life = instants.uniform(0, seconds if left == CHAIN else seconds / 2) if left else None
            status, _ = forked(arguments(images, run), tmp_path / "log", after=life)
            kills, left = kills + (status == KILLED), left - 1
        assert status == 0, (tmp_path / "log").read_text(encoding="utf-8")
        assert_same(run, done)
        shutil.rmtree(run)


@pytest.mark.ordeal
@pytest.mark.slow
def test_killed_before_random_writes_it_ends_in_the_same_bytes(
    forked: ForkServer, whole: tuple[Path, float, int], images: Path, tmp_path: Path
) -> None:
    """A write takes too short a time for a clock to hit: these processes die before the N-th change of a file."""
    done, _, count = whole
    assert count > 80
    writes = sorted(random.Random(1).sample(range(1, count + 1), WRITE_KILLS))
    run = tmp_path / "run"
    # Every process of the chain sets up the run first, so each write is counted from its own process' start.
    for number in [1, 2, *writes]:
        at = {"folder": str(run), "kill": number}
        status, _ = forked(arguments(images, run), tmp_path / "log", at=at)
        if status != KILLED:  # it had fewer left to do
            assert status == 0, (tmp_path / "log").read_text(encoding="utf-8")
            assert_same(run, done)
            shutil.rmtree(run)
    if run.exists():
        assert forked(arguments(images, run), tmp_path / "log") == (0, 0)
        assert_same(run, done)


@pytest.mark.ordeal
@pytest.mark.slow
def test_the_command_line_itself_killed_twice(
    forked: ForkServer, whole: tuple[Path, float, int], images: Path, tmp_path: Path
) -> None:
    done, seconds, _ = whole
    run, instants = tmp_path / "run", random.Random(2)
    for _ in range(2):
        shutil.rmtree(run / CACHE, ignore_errors=True)  # the last one's, so that this one's tells that it is at work
        with subprocess.Popen(
            [sys.executable, "-m", "gensoup", *map(str, arguments(images, run))],
            env={**os.environ, **ONE_THREAD},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            while process.poll() is None and not (run / CACHE).exists():
                time.sleep(0.01)
            time.sleep(instants.uniform(0, seconds / 6))
            process.kill()
        assert process.returncode == KILLED
    assert forked(arguments(images, run), tmp_path / "log")[0] == 0
    assert_same(run, done)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, 24 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("mounting a small disk needs the superuser")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def complaint(log: Path) -> str:
    """The one line that says what is wrong; progress may stand before it, nothing after."""
    lines = log.read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith("error:") for line in lines) == 1 and lines[-1].startswith("error:"), lines
    assert "defect" not in lines[-1]
    return lines[-1]


@pytest.mark.slow
def test_a_full_disk_is_one_line_at_every_write_and_the_run_goes_on_when_there_is_room(
    forked: ForkServer, whole: tuple[Path, float, int], images: Path, small_disk: Path, tmp_path: Path
) -> None:
    """The disk fills up before the first write of each kind in turn, in one chain of runs."""
    done, _, _ = whole
    run, log, filler = small_disk / "run", tmp_path / "log", small_disk / "filler"
    finished = 0
    for pattern, named in (
        (CONFIG_FILE, CONFIG_FILE),
        (f"{CACHE}/32", CACHE),
        (ROLES_FILE, ROLES_FILE),
        (DATABASE, DATABASE),  # as it is made
        (r"search-00-00\.safetensors\.", "search-00-00.safetensors"),
        (r"/search-00-01\.safetensors$", DATABASE),  # the weights are there, the commit is not
        (EVENTS, EVENTS),
        (r"branch-\d+-00\.safetensors\.", "branch-"),
        (MODEL_FILE, MODEL_FILE),
        (METRICS_FILE, METRICS_FILE),
        (REPORT_FILE, REPORT_FILE),
    ):
        status, _ = forked(arguments(images, run), log, at={"folder": str(run), "fill": pattern})
        assert filler.exists(), pattern
        line = complaint(log)
        assert status == ERROR and f"{run}/" in line and named in line and "free some space" in line, line
        assert ("--resume goes on" in line) == (run / CONFIG_FILE).exists(), line
        assert not (run / CACHE).exists()
        filler.unlink()
        kept = len(list((run / FOLDER).glob("*.safetensors"))) if (run / FOLDER).exists() else 0
        assert kept >= finished, pattern  # what was finished is not lost
        finished = min(kept, 2)  # but to pruning, later
    assert forked(arguments(images, run), log) == (0, 0)
    assert_same(run, done)


@pytest.mark.slow
def test_a_disk_that_cannot_be_written_is_one_line(
    forked: ForkServer, images: Path, small_disk: Path, tmp_path: Path
) -> None:
    run, log = small_disk / "run", tmp_path / "log"
    at = {"folder": str(run), "kill": 40}
    assert forked(arguments(images, run), log, at=at)[0] == KILLED
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for out in (run, small_disk / "new", small_disk / "deep" / "new"):
        assert forked(arguments(images, out), log)[0] == ERROR
        line = complaint(log)
        assert "Read-only file system" in line and str(out) in line and "check its permissions" in line, line


@pytest.mark.slow
def test_two_processes_never_share_a_run_folder(
    forked: ForkServer, whole: tuple[Path, float, int], images: Path, tmp_path: Path
) -> None:
    from gensoup.train.run_folder import held

    run = whole[0]
    with held(run):
        status, _ = forked(arguments(images, run), tmp_path / "log")
    assert status == 64 and "another process trains there" in complaint(tmp_path / "log")
    assert forked(arguments(images, run), tmp_path / "log")[0] == 0
