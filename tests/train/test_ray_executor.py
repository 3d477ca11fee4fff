"""Workers on a Ray cluster: two nodes on this machine, one of which dies; a cluster of a command's own, interrupted."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gensoup.export.trained import MODEL_FILE
from gensoup.runtime.private_cache import cache_root
from gensoup.train import ray_crew, ray_executor
from gensoup.train.individual import Trainer
from gensoup.train.learner import Examples
from gensoup.train.ledger import FOLDER, Ledger, Record
from gensoup.train.ray_cluster import import_ray
from gensoup.train.ray_share import Share
from gensoup.train.run import train_run
from gensoup.train.run_folder import CONFIG_FILE
from gensoup.train.settings import Settings
from gensoup.train.shipping import ShippedExamples, shipped
from gensoup.train.task import Task

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs gensoup[ray]"),
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc"),
]

STORE_BYTES = 80 << 20  # about the least that Ray takes


def silent(stage: str, done: int, total: int) -> None:
    """Shows nothing."""


class Nodes:
    """A cluster on this machine: a head without a place for workers, and nodes that can be killed."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self._folder = folder
        self._cluster = Cluster(initialize_head=True, head_node_args=self._options(0))

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self, started_in: Path) -> Any:
        """A node with a place for one worker, whose working directory is ``started_in``."""
        before = Path.cwd()
        os.chdir(started_in)
        try:
            return self._cluster.add_node(**self._options(1))
        finally:
            os.chdir(before)

    def kill(self, node: Any) -> None:
        """As if its plug were pulled."""
        self._cluster.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        self._cluster.shutdown()

    def _options(self, cpus: int) -> dict[str, Any]:
        return {
            "num_cpus": cpus,
            "object_store_memory": STORE_BYTES,
            "include_dashboard": False,
            "temp_dir": str(self._folder),
        }


def processes_with(mark: str) -> dict[int, str]:
    """Processes whose environment holds ``mark``: Ray's rename themselves, which hides their arguments."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (path / "environ").read_bytes():
                found[int(path.name)] = (path / "comm").read_text(encoding="utf-8").strip()
        except OSError:
            continue
    return found


def works(name: str) -> bool:
    """Whether a process of Ray's trains, or gives work to who trains."""
    return name in ("raylet", "gcs_server") or name.startswith("ray::Worker")


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A temporary folder of a short name: sockets lie in it, whose paths may have no more than 107 letters."""
    with tempfile.TemporaryDirectory(prefix="gs-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def nodes(short_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # read when Ray is imported
    token = secrets.token_hex(32)
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    import_ray()
    cluster = Nodes(short_folder)
    yield cluster
    cluster.close()
    until(lambda: not processes_with(token), 30)


def until(true: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def settings(shapes: Path, make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(shapes, epochs=0.5, branches=2, branch_epochs=0.5, refit_epochs=0.0)


@pytest.fixture(scope="module")
def inline(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run by one process."""
    run = tmp_path_factory.mktemp("inline") / "run"
    train_run(settings, run, progress=silent)
    return run


def outcome(run: Path) -> tuple[Any, ...]:
    """All that a run leaves but times: final weights, those of individuals, the records in the order of commits."""
    weights = {path.name: path.read_bytes() for path in (run / FOLDER).iterdir()}
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    images = {name: metrics[name] for name in ("images", "images_trained", "soup", "scores")}
    records = [replace(record, seconds=0) for record in committed(run)]
    return (run / MODEL_FILE).read_bytes(), weights, images, records


def committed(run: Path) -> list[Record]:
    return list(Ledger(run)._records.values())


class Poison:
    """Kills the process that unpacks it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (1,)


def test_two_nodes_of_which_one_dies(
    nodes: Nodes, settings: Settings, inline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One node has the images by their path, the other gets them sent, for there the path leads nowhere. Ctrl-C in
    generation 0; resumed, the first node dies in the middle. Then an individual kills whoever trains it."""
    ray = import_ray()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def relative(examples: Examples) -> ShippedExamples:
        found = shipped(examples)
        return replace(found, path=os.path.relpath(found.path))

    monkeypatch.setattr(ray_executor, "shipped", relative)
    here, _ = nodes.add(tmp_path), nodes.add(elsewhere)
    run, sent = tmp_path / "run", set[str]()

    def interrupt(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("search", 1):  # in a moment, when workers are waited for
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

    def kill(stage: str, done: int, total: int) -> None:
        if stage == "search":
            sent.update(path.name for path in (cache_root() / "shipped").glob("*.npy"))
            if done == 2:
                nodes.kill(here)

    with ray_executor.ray_executor(nodes.address, Share(), threads=1) as executor:
        held = ray.put(np.zeros(STORE_BYTES * 3 // 4, np.uint8))  # little room is left in the object store
        with pytest.raises(KeyboardInterrupt):
            train_run(settings, run, executor=executor, progress=interrupt)
        assert 1 <= len(committed(run)) < settings.population + 1
        train_run(settings, run, resume=True, executor=executor, progress=kill)
        del held
        until(lambda: sum(node["Alive"] for node in ray.nodes()) == 2, 60)
        assert sent, "no images were sent"
        assert outcome(run) == outcome(inline)

        task = Trainer.task
        poisoned = ("search", 0, 1)

        def poison(trainer: Trainer, plan: Any) -> Task:
            made = task(trainer, plan)
            return replace(made, course=Poison()) if plan.place == poisoned else made

        monkeypatch.setattr(Trainer, "task", poison)
        monkeypatch.setattr(ray_crew, "TRIES", 2)
        quick = replace(settings, generations=1, population=2, epochs=0.2, branches=0, refit_epochs=0.0)
        train_run(quick, tmp_path / "poisoned", executor=executor, progress=silent)
    first, second = committed(tmp_path / "poisoned")
    assert first.complete and second.place == poisoned
    assert second.reason is not None and second.reason.startswith("its worker died 2 times (")
    assert not list((cache_root() / "shipped").glob("*.npy")), "images of patients were left behind"


def test_killed_with_its_head_it_goes_on(settings: Settings, inline: Path, tmp_path: Path, short_folder: Path) -> None:
    """A cluster of the command's own, killed with it, costs nothing that is in the ledger. What was begun by workers
    ends inline in the same bytes."""
    config, run = tmp_path / "config.yaml", tmp_path / "run"
    config.write_text((inline / CONFIG_FILE).read_text(encoding="utf-8"), encoding="utf-8")
    command = [sys.executable, "-m", "gensoup", "train", settings.data, "--out", str(run), "--config", str(config)]
    environment = {**os.environ, "TMPDIR": str(short_folder), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([*command, "--executor", "ray", "--no-cache"], env=environment) as process:
        try:
            until(lambda: len(list(run.glob("individuals/*.safetensors"))) >= 2, 120)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    until(lambda: not any(works(name) for name in processes_with(str(short_folder)).values()), 60)
    for process_id in processes_with(str(short_folder)):  # agents, which try for minutes to reach the dead head
        with contextlib.suppress(ProcessLookupError):
            os.kill(process_id, signal.SIGKILL)
    assert not (run / MODEL_FILE).exists()
    train_run(settings, run, resume=True, progress=silent)
    assert outcome(run) == outcome(inline)
