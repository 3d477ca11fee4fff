"""What is said of a Ray cluster that cannot be used, before anything is trained."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from gensoup.runtime.errors import GenSoupError, UsageError
from gensoup.train import ray_cluster
from gensoup.train.ray_cluster import connected, refusal
from gensoup.train.ray_crew import lost_cluster
from gensoup.train.ray_share import Share

USAGE = 64
Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ray-address", "h:1"], "--ray-address h:1: is for --executor ray; give that too"),
        (["--worker-gpus", "1"], "--worker-gpus 1.0: is for --executor ray"),
        (["--executor", "ray", "--ray-address", "nonsense"], "must be HOST:PORT of the cluster's head, or auto"),
        (["--executor", "ray", "--ray-address", "ray://h:10001"], "is for clients outside of the cluster"),
        (
            ["--executor", "ray", "--ray-address", "127.0.0.1:1"],
            "nothing answers there (Connection refused);",
        ),
        (
            ["--executor", "ray", "--worker-gpus", "1.5"],
            "--worker-gpus 1.5: must be a share of one, as 0.5",
        ),
        (["--executor", "ray", "--worker-cpus", "0"], "--worker-cpus 0: must be at least 1"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    gensoup: Run, shapes: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    code, _, complaint = gensoup("train", shapes, "--out", tmp_path / "run", *options)
    assert code == USAGE and complaint.count("\n") == 1 and message in complaint
    assert not (tmp_path / "run").exists()


def test_without_ray_the_extra_is_named(
    gensoup: Run, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, complaint = gensoup("train", shapes, "--out", tmp_path / "run", "--executor", "ray")
    assert code and complaint == "error: 'ray' is not installed: pip install 'gensoup[ray]'\n"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "Version mismatch: The cluster was started with:\n    Ray: 2.52.0\n    Python: 3.10.1\nThis process was "
            "started with:\n    Ray: 2.60.0",
            "other versions of Ray or Python there (The cluster was started with: Ray: 2.52.0 Python: 3.10.1",
        ),
        ("RPC error: InvalidAuthToken: Authentication token is missing or incorrect.", "the cluster wants its token"),
        ("Could not find any running Ray instance. Please specify", "this machine is in no cluster;"),
        (
            "Can't find a `node_ip_address.json` file from /tmp/ray",
            "this machine is not in that cluster;",
        ),
        ("Something else\nin lines " + "x " * 200, "cannot be used (Something else in lines"),
    ],
)
def test_what_ray_says_becomes_one_line(said: str, told: str) -> None:
    error = refusal("head:6379", RuntimeError(said))
    assert isinstance(error, UsageError) and str(error).startswith("--ray-address head:6379: ")
    assert told in str(error) and "\n" not in str(error) and len(str(error)) < 350


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "The actor died unexpectedly before finishing this task.\n\tclass_name: Worker\nThe actor is dead because "
            "its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits "
            "with a connection error code 2. End of file. Some",
            "Worker unexpectedly exits with a connection error code 2",
        ),
        (
            "The actor died because of an error raised in its creation task, ray::Worker.__init__() (pid=1, ip=h)\n"
            "Traceback:\n  File\nModuleNotFoundError: No module named 'gensoup'\n",
            "ModuleNotFoundError: No module named 'gensoup'",
        ),
        ("The actor died because its node has died. Node Id: 5f\nmore", "The actor died because its node has died"),
    ],
)
def test_of_rays_many_lines_the_one_that_says_why(said: str, told: str) -> None:
    error = lost_cluster(RuntimeError(said))
    assert str(error) == f"the Ray cluster was lost ({told}); --resume goes on"


def test_a_cluster_that_cannot_be_started_is_no_mistake_of_options() -> None:
    error = refusal(None, RuntimeError("no\nsockets"))
    assert not isinstance(error, UsageError) and isinstance(error, GenSoupError)
    assert str(error) == "Ray cannot be started here (no sockets); --executor inline does without"


def test_a_workers_share() -> None:
    machine, cart = {"CPU": 8.0}, {"CPU": 8.0, "GPU": 2.0}
    assert Share().resources(machine, threads=4) == {"num_gpus": 0, "num_cpus": 4}
    assert Share().resources(cart, threads=4) == {"num_gpus": 1, "num_cpus": 0}
    assert Share(cpus=2, gpus=0.5).resources(cart, threads=4) == {"num_gpus": 0.5, "num_cpus": 2}
    assert Share(gpus=0).resources(cart, threads=4) == {"num_gpus": 0, "num_cpus": 4}
    with pytest.raises(UsageError, match="--worker-gpus 1: the cluster offers 0 GPUs"):
        Share(gpus=1).resources(machine, threads=4)
    with pytest.raises(UsageError, match="--threads 16: the cluster offers 8 cores"):
        Share().resources(machine, threads=16)
    assert Share(gpus=0).notes(cart) == [
        "--worker-gpus 0: the cluster offers 2 GPUs, none of which is used; leave the option out to use them"
    ]
    assert Share().notes(cart) == Share(gpus=0).notes(machine) == []


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs gensoup[ray]")
def test_a_cluster_of_a_commands_own_ends_with_it_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service manager's request to end is as good as Ctrl-C."""
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray would write a token
    folder, here = tmp_path / "t", psutil.Process()
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(ray_cluster, "LONGEST_TEMPORARY", len(str(folder)) - 1)  # so that another place is taken
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setattr(ray_cluster, "SHORT_TEMPORARY", short)
        answer, others = signal.getsignal(signal.SIGTERM), set(here.children(recursive=True))
        with pytest.raises(KeyboardInterrupt), connected(None) as ray:
            assert ray.get(ray.put(7)) == 7 and os.environ["RAY_AUTH_MODE"] == "token"
            (private,) = Path(short).iterdir()
            assert private.stat().st_mode & 0o077 == 0 and set(here.children(recursive=True)) - others
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        assert not list(Path(short).iterdir()) and not set(here.children(recursive=True)) - others
    assert signal.getsignal(signal.SIGTERM) is answer and not {"RAY_AUTH_TOKEN", "RAY_AUTH_MODE"} & set(os.environ)
    assert list(tmp_path.iterdir()) == [folder] and not list(folder.iterdir())


def test_every_cluster_of_a_process_has_one_token_for_ray_reads_it_once() -> None:
    seen = []
    for _ in range(2):
        with ray_cluster.own_token():
            seen.append(os.environ["RAY_AUTH_TOKEN"])
            os.environ["RAY_AUTH_MODE"] = "token"  # as Ray does
        assert not {"RAY_AUTH_TOKEN", "RAY_AUTH_MODE"} & set(os.environ)
    assert seen[0] == seen[1] and len(seen[0]) == 64
