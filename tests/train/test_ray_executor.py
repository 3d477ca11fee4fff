"""Workers on a Ray cluster: two nodes on this machine, one of which dies; a cluster of a command's own, interrupted."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from gensoup.export.trained import MODEL_FILE
from gensoup.runtime.private_cache import cache_root
from gensoup.train import ray_crew, ray_executor
from gensoup.train.breeding import Plan
from gensoup.train.individual import Trainer
from gensoup.train.learner import Examples
from gensoup.train.ledger import FOLDER, Ledger, Record
from gensoup.train.ray_cluster import import_ray, token
from gensoup.train.ray_share import Share
from gensoup.train.run import train_run
from gensoup.train.run_folder import CONFIG_FILE
from gensoup.train.settings import Settings
from gensoup.train.shipping import ShippedExamples, shipped
from gensoup.train.task import Task

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ordeal,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs gensoup[ray]"),
]

# A node that cannot be reached is dead after 2 s; by default that takes half a minute.
HEALTH_CHECK = {"initial_delay_ms": "500", "period_ms": "500", "timeout_ms": "5000", "failure_threshold": "4"}
STORE_BYTES = 80 << 20  # about the least that Ray takes


def silent(stage: str, done: int, total: int) -> None:
    """Shows nothing."""


class Nodes:
    """A cluster on this machine: a head without a place for workers, and nodes that can be killed."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._others = descendants()
        self._processes: set[psutil.Process] = set()
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
        self._remember()
        self._cluster.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        self._remember()
        self._cluster.shutdown()
        end(self._processes)

    def _remember(self) -> None:
        """Before something is killed: what it leaves is nobody's child any more."""
        self._processes |= descendants() - self._others

    def _options(self, cpus: int) -> dict[str, Any]:
        return {
            "num_cpus": cpus,
            "object_store_memory": STORE_BYTES,
            "include_dashboard": False,
        }


def descendants() -> set[psutil.Process]:
    """Every process below this one."""
    return set(psutil.Process().children(recursive=True))


def end(processes: set[psutil.Process]) -> None:
    """What trains, or gives work to who trains, must have ended by itself; of agents, which try for a minute to reach a
    head that is dead, nothing is left behind."""
    workers = {process for process in processes if works(process)}
    _, alive = psutil.wait_procs(workers, 60)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    assert not alive


def works(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.name() in ("raylet", "gcs_server") or process.name().startswith("ray::Worker")
    return False


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A temporary folder of a short name: sockets lie in it, whose paths may have no more than 107 letters."""
    with tempfile.TemporaryDirectory(prefix="gs-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def nodes(short_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_TMPDIR", str(short_folder))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", token())
    for name, value in HEALTH_CHECK.items():
        monkeypatch.setenv(f"RAY_health_check_{name}", value)
    import_ray()
    from ray._raylet import Config

    Config.initialize("")  # in case that Ray was imported before all this was set
    answer = signal.getsignal(signal.SIGTERM)  # a node takes it to itself
    try:
        cluster = Nodes()
        try:
            yield cluster
        finally:
            cluster.close()
    finally:
        signal.signal(signal.SIGTERM, answer)


def until(true: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def settings(shapes: Path, make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(shapes, epochs=0.5, branches=1, branch_epochs=0.5, refit_epochs=0.0)


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
    nodes: Nodes,
    settings: Settings,
    inline: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One node could find the images by their path, the other gets them sent, for there the path leads nowhere; the
    first dies as it trains one of generation 0. After the run the other's worker dies of itself, and a further
    individual kills the next."""
    ray = import_ray()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def relative(examples: Examples) -> ShippedExamples:
        found = shipped(examples)
        return replace(found, path=os.path.relpath(found.path))

    monkeypatch.setattr(ray_executor, "shipped", relative)
    doomed, _ = nodes.add(tmp_path), nodes.add(elsewhere)
    told, processes, tasks = list[str](), dict[str, int](), list[tuple[Trainer, Plan]]()
    give, make = ray_crew.Crew._give, Trainer.task

    def give_and_kill(crew: ray_crew.Crew, station: ray_crew.Station, *job: Any) -> None:
        """Both nodes get one of the first; the first node's is lost with it, for its worker stands still before."""
        if not processes:
            ray.wait(list(crew._starting), num_returns=len(crew._starting), timeout=120)
        process = ray.get(station.worker.__ray_call__.remote(lambda _: os.getpid()))
        processes[station.node] = process
        if station.node != doomed.node_id:
            give(crew, station, *job)
            return
        os.kill(process, signal.SIGSTOP)
        give(crew, station, *job)
        nodes.kill(doomed)
        os.kill(process, signal.SIGKILL)

    def note(trainer: Trainer, plan: Plan) -> Task:
        tasks.append((trainer, plan))
        return make(trainer, plan)

    with ray_executor.ray_executor(nodes.address, Share(), threads=1, tell=told.append) as executor:
        held = ray.put(np.zeros(STORE_BYTES * 3 // 4, np.uint8))  # little room is left in the object store
        with monkeypatch.context() as patch:
            patch.setattr(ray_crew.Crew, "_give", give_and_kill)
            patch.setattr(Trainer, "task", note)
            train_run(settings, tmp_path / "run", executor=executor, progress=silent)
        del held
        assert any(re.fullmatch(r"a worker died \(.+\); search-00-0\d is run again", line) for line in told), told
        assert outcome(tmp_path / "run") == outcome(inline)
        until(lambda: sum(node["Alive"] for node in ray.nodes()) == 2, 60)
        assert copies(), "no images were sent"

        told.clear()
        (idle,) = (process for node, process in processes.items() if node != doomed.node_id)
        os.kill(idle, signal.SIGKILL)
        trainer, plan = tasks[0]
        monkeypatch.setattr(Trainer, "task", lambda *made: replace(make(*made), course=Poison()))
        monkeypatch.setattr(ray_crew, "TRIES", 1)
        (lost,) = executor.train(trainer, [replace(plan, place=("search", 9, 0))])
    assert lost == committed(tmp_path / "run")[-1] and lost.images == 0
    assert lost.reason is not None and lost.reason.startswith("its worker died 1 times (")
    first, last = told
    assert re.fullmatch(r"a worker that had nothing to do died \(.+\)", first)
    assert re.fullmatch(r"a worker died \(.+\); search-09-00 has lost 1 and is given up", last)
    assert not copies(), "images of patients were left behind"
    assert "raylet" not in capsys.readouterr().out


def copies() -> list[Path]:
    """Of images that were sent; all nodes share this user's cache."""
    return list((cache_root() / "shipped").glob("*"))


def test_killed_with_its_head_it_goes_on(settings: Settings, inline: Path, tmp_path: Path, short_folder: Path) -> None:
    """A cluster of the command's own, killed with it, costs nothing that is in the ledger. What was begun by workers
    ends inline in the same bytes."""
    config, run = tmp_path / "config.yaml", tmp_path / "run"
    config.write_text((inline / CONFIG_FILE).read_text(encoding="utf-8"), encoding="utf-8")
    command = [sys.executable, "-m", "gensoup", "train", settings.data, "--out", str(run), "--config", str(config)]
    environment = {**os.environ, "TMPDIR": str(short_folder), "OMP_NUM_THREADS": "1"}
    others = descendants()
    with subprocess.Popen([*command, "--executor", "ray", "--no-cache"], env=environment) as process:
        try:
            until(lambda: len(list(run.glob("individuals/*.safetensors"))) >= 2, 120)
        finally:
            of_ray = descendants() - others - {psutil.Process(process.pid)}
            process.kill()
    assert process.returncode == -signal.SIGKILL
    assert len(list(filter(works, of_ray))) >= 3  # or nothing was looked for
    end(of_ray)
    assert not (run / MODEL_FILE).exists()
    train_run(settings, run, resume=True, progress=silent)
    assert outcome(run) == outcome(inline)
