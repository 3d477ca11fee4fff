"""Reaching a Ray cluster, or starting one on this machine for the time of a command; imports no PyTorch."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from gensoup.runtime.device import usable_cores
from gensoup.runtime.errors import GenSoupError, MissingDependencyError, UsageError

CONNECT_S = 5.0
# Enough for weights under way; what is more goes to the disk. By default Ray would take a third of the memory.
LOCAL_STORE_BYTES = 512 << 20
# Letters: a path of a Unix socket, made below it, may have no more than 107; where it is longer, the other is taken.
LONGEST_TEMPORARY, SHORT_TEMPORARY = 28, "/tmp"
# No reports to Ray's makers, no warning of what a later version will do, and nothing of what it prints of each death on
# the terminal: dozens of lines of a log, which we say in one.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
}


def import_ray() -> Any:
    """Ray, told to report nothing to its makers and to keep its own log for itself.

    Raises MissingDependencyError when it is not installed.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingDependencyError("ray", "ray") from error
    return ray


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Ray, connected to the cluster at ``address`` or, None, to one started here, which ends with the block.

    address: ``HOST:PORT`` of the head or ``auto`` for the cluster that this machine is part of. Raises UsageError when
    it cannot be reached, GenSoupError when it cannot be used.
    """
    ray = import_ray()
    if ray.is_initialized():  # a Python program that has done so itself
        yield ray
        return
    with contextlib.ExitStack() as stack:
        if address is None:
            stack.enter_context(own_token())
            folder = stack.enter_context(_temporary_folder())
            options: dict[str, Any] = {
                "address": "local",
                "num_cpus": usable_cores(),
                "object_store_memory": LOCAL_STORE_BYTES,
                "include_dashboard": False,
                "_temp_dir": str(folder / "r"),  # Ray lets everyone into that, but nobody gets to it
            }
        else:
            check_address(address)
            host, _, port = address.rpartition(":")
            if host == "localhost" or host.startswith("127."):  # Ray takes this machine's own address then
                check_address(f"{ray.util.get_node_ip_address()}:{port}")
            options = {"address": address}
            os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "3")  # tries, each of which may take 30 s
        heed_sigterm = stack.enter_context(_sigterm())
        stack.callback(ray.shutdown, wait_for_processes=True)  # also of what an interrupted start has started
        try:
            ray.init(**options, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # of many kinds, RuntimeError, ConnectionError, ValueError and Ray's own
            raise refusal(address, error) from error
        heed_sigterm()
        yield ray


def check_address(address: str) -> None:
    """Raise UsageError unless ``address`` is of the right form and something answers there: Ray itself would try for
    minutes."""
    if address == "auto":
        return
    if address.startswith("ray://"):
        raise UsageError(
            f"--ray-address {address}: is for clients outside of the cluster; call gensoup on a machine of the cluster "
            "and name the head's HOST:PORT, or auto"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"--ray-address {address}: must be HOST:PORT of the cluster's head, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except OSError as error:
        raise UsageError(
            f"--ray-address {address}: nothing answers there ({error.strerror or error}); start the head with "
            f"ray start --head --port {port}, or see whether a firewall is between"
        ) from error


def refusal(address: str | None, error: Exception) -> GenSoupError:
    """What Ray says when it cannot be reached or started, in one line with the way out."""
    text = " ".join(str(error).split())
    where = "Ray cannot be started here" if address is None else f"--ray-address {address}"
    if "ersion mismatch" in text:
        versions = text[text.index("ersion mismatch") :].partition(":")[2].strip()
        return UsageError(
            f"{where}: other versions of Ray or Python there ({versions}); install the same on every machine"
        )
    if "uthentication" in text or "AuthToken" in text:
        return UsageError(
            f"{where}: the cluster wants its token; put the head's ~/.ray/auth_token there on this machine, or its "
            "content into RAY_AUTH_TOKEN, and set RAY_AUTH_MODE=token"
        )
    if address is None:
        return GenSoupError(f"{where} ({_first(text)}); --executor inline does without")
    if "ould not find any running Ray instance" in text:
        return UsageError(f"{where}: this machine is in no cluster; call ray start --address HEAD:PORT here first")
    if "raylet" in text.lower() or "node_ip_address" in text or "Can't find" in text:
        return UsageError(
            f"{where}: answers, but this machine is not in that cluster; call ray start --address {address} here first"
        )
    return UsageError(f"{where}: cannot be used ({_first(text)})")


def _first(text: str, most: int = 160) -> str:
    return text if len(text) <= most else text[:most].rsplit(" ", 1)[0] + " …"


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder for sockets, logs and what does not fit into the object store; nothing of it is left."""
    root = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="gs-", dir=root if len(root) <= LONGEST_TEMPORARY else SHORT_TEMPORARY))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def own_token() -> Iterator[None]:
    """A token that the processes of a cluster of this command's own share, unless the user has said otherwise; Ray
    would write one into the home folder."""
    if any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")):
        yield
        return
    os.environ["RAY_AUTH_TOKEN"] = token()
    try:
        yield
    finally:
        for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):  # Ray sets the mode
            os.environ.pop(name, None)


@cache
def token() -> str:
    """One for all clusters that this process starts, for Ray reads it once."""
    return secrets.token_hex(32)


@contextlib.contextmanager
def _sigterm() -> Iterator[Callable[[], None]]:
    """Yield what lets SIGTERM end the block as Ctrl-C does; afterwards it does again what it did before. Ray's own
    answer ends its processes before anything is given back, and this one with 1, the code of a verdict."""
    main = threading.current_thread() is threading.main_thread()  # in others signals are not Python's to answer
    before = signal.getsignal(signal.SIGTERM)

    def heed() -> None:
        if main:
            signal.signal(signal.SIGTERM, signal.default_int_handler)

    try:
        yield heed
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)
